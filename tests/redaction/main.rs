//! The redaction engine from outside: quality floors, properties, an independent phone matcher.

mod corpus;
mod differential;
mod generator;
mod policies;
mod properties;
mod regressions;
mod subject;
mod unseen;

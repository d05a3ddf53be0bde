//! The redaction engine from outside: quality floors, properties, an independent phone matcher.

mod corpus;

//! Seconds, no broker.

mod tidy;

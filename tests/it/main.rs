//! Tests in seconds, without a broker.

mod chain_tamper;

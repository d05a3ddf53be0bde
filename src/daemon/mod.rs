//! The room `daemon`.

pub mod http;
pub mod metrics;
mod openmetrics;
pub mod telemetry;

//! The pure floor: no clock, socket, file, task, lock or logger. Arrows point down this list only.

pub mod record;

pub mod limits;

pub mod metric;

pub mod ingest;

pub mod redact;

pub mod audit;

pub mod measure;

pub mod alert;

pub mod emit;

pub mod step;

pub mod scrub;

pub mod watch;

//! Signals, deltas, buckets, windows, watermarks, ratios: what SCRUB sends to WATCH and what WATCH
//! keeps of it.
//!
//! SCRUB fills a [`DeltaBook`] from redacted facts and drains it into measure records, one Kafka
//! partition per tenant hash. WATCH decodes them ([`MeasureRecord`]), keeps 10-second buckets
//! ([`SeriesTable`]), counts each session once ([`SessionSet`]) and decides what time it is
//! ([`Clock`], [`EventTime`]). Nothing here reads a clock.

mod book;
mod event_time;
mod place;
mod series;
mod sessions;
mod signal;
mod window;
mod wire;

pub use book::{BookOverflow, DeltaBook, MeasureOutput};
pub use event_time::{Clock, ClockChange, EventTime, SourceMark};
pub use place::{Place, Places};
pub use series::{OVERFLOW, Scope, Series, murmur2, partition_of, service_text};
pub use sessions::{Session, SessionChange, SessionSet};
pub use signal::{BotFacts, Bucket, Counts, Fact, SIGNALS, SessionTag, Signal, SignalKind};
pub use window::{Placed, Retention, SeriesTable};
pub use wire::{Delta, Mark, MeasureError, MeasureRecord, SessionFact};

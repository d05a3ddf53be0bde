//! Rules, the state machine of alerts, and the messages it emits.
//!
//! A [`Rule`] reads windows of [`measure`](crate::pipeline::measure); an [`AlertTable`] holds one
//! [`Instance`] per rule and group that is not inactive; every transition, lease and resolve is an
//! [`Emission`]: an Alertmanager alert with our fields beside it.

mod built_in;
mod duration;
mod message;
mod rule;
mod state;
mod system;
mod table;

pub use duration::{format_duration, parse_duration};
pub use message::{Emission, EmissionKind, Fingerprint, Labels, Moment, fingerprint};
pub use rule::{
    AlertSeverity, Group, GroupBy, Measure, RawRatio, RawRule, Reading, Rule, RuleError, Rules,
};
pub use state::{Instance, InstanceKey, State};
pub use system::{SYSTEM_ALERTS, SystemAlert};
pub use table::{AlertTable, Condition, StormState};

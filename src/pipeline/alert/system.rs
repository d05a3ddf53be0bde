//! Alerts the daemon raises about itself.

use super::rule::AlertSeverity;
use crate::pipeline::limits::{LEASE_REFRESH_MS, WATCHDOG_REFRESH_MS};

/// One alert about the daemon itself, per measures partition.
#[derive(Debug, PartialEq, Eq)]
pub struct SystemAlert {
    /// The alert's name.
    pub name: &'static str,
    /// How bad it is; `None` for one that only shows life.
    pub severity: Option<AlertSeverity>,
    /// One sentence.
    pub summary: &'static str,
    /// Its lease is refreshed this often.
    pub refresh_ms: i64,
}

/// Always firing: while it is fresh, this partition's alerts are being evaluated.
pub(super) const WATCHDOG: SystemAlert = SystemAlert {
    name: "BlotterWatchdog",
    severity: None,
    summary: "Alerts of this measures partition are being evaluated; this one always fires",
    refresh_ms: WATCHDOG_REFRESH_MS,
};

/// New alerts wait in the queue because the storm cap was reached.
pub(super) const STORM: SystemAlert = SystemAlert {
    name: "BlotterAlertStorm",
    severity: Some(AlertSeverity::Sev1),
    summary: "More alerts start than are let through in a minute; the others wait in a queue",
    refresh_ms: LEASE_REFRESH_MS,
};

/// Measures were deleted before they were read.
pub(super) const MEASURES_LOST: SystemAlert = SystemAlert {
    name: "BlotterMeasuresLost",
    severity: Some(AlertSeverity::Sev1),
    summary: "Retention deleted measures that had not been read; alerts may have been missed",
    refresh_ms: LEASE_REFRESH_MS,
};

/// The table of them.
pub const SYSTEM_ALERTS: [&SystemAlert; 3] = [&WATCHDOG, &STORM, &MEASURES_LOST];

impl SystemAlert {
    /// The one called `name`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        SYSTEM_ALERTS.into_iter().find(|alert| alert.name == name)
    }
}

//! The rules that run unless they are switched off or replaced by name.

use super::rule::{RawRatio, RawRule, Rules};

impl Rules {
    /// The rules that run when none are written: error ratio per tenant and service and over all,
    /// handover ratio per tenant; leaks, stopped partitions, tokens under the default key.
    #[must_use]
    pub fn default_raw() -> Vec<RawRule> {
        let ratio = |name: &str, of: &str, per: &str, group_by: &[&str]| RawRule {
            name: name.to_owned(),
            ratio: Some(RawRatio { of: of.to_owned(), per: per.to_owned() }),
            rate: None,
            group_by: group_by.iter().map(|&text| text.to_owned()).collect(),
            window: "5m".to_owned(),
            threshold: 0.05,
            clear_threshold: Some(0.03),
            pending_for: "2m".to_owned(),
            keep_firing_for: "2m".to_owned(),
            samples_min: 20,
            severity: "SEV-2".to_owned(),
            runbook: None,
            channel: None,
        };
        let any = |name: &str, signal: &str, severity: &str| RawRule {
            ratio: None,
            rate: Some(signal.to_owned()),
            window: "10m".to_owned(),
            threshold: 0.0,
            clear_threshold: None,
            pending_for: "0s".to_owned(),
            keep_firing_for: "0s".to_owned(),
            samples_min: 1,
            severity: severity.to_owned(),
            ..ratio(name, "", "", &[])
        };
        let per_service = &["tenant", "service"];
        vec![
            RawRule {
                threshold: 0.25,
                clear_threshold: Some(0.15),
                pending_for: "1m".to_owned(),
                samples_min: 50,
                severity: "SEV-1".to_owned(),
                ..ratio("ErrorRateCritical", "errors", "records", per_service)
            },
            ratio("ErrorRateHigh", "errors", "records", per_service),
            RawRule {
                threshold: 0.10,
                clear_threshold: Some(0.06),
                pending_for: "1m".to_owned(),
                samples_min: 100,
                severity: "SEV-1".to_owned(),
                ..ratio("ErrorRateOverall", "errors", "records", &[])
            },
            RawRule {
                window: "30m".to_owned(),
                threshold: 0.30,
                clear_threshold: Some(0.20),
                pending_for: "5m".to_owned(),
                keep_firing_for: "5m".to_owned(),
                ..ratio("HandoverRateHigh", "sessions_handed_over", "sessions", &["tenant"])
            },
            any("LeakFound", "leaks", "SEV-1"),
            any("PartitionStopped", "stops", "SEV-1"),
            any("DefaultKeyInUse", "default_key_tokens", "SEV-3"),
        ]
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::check("alerts.rules", &Self::default_raw()).expect("the default rules are sound")
    }
}

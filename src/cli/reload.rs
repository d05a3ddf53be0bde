//! What SIGHUP does: the settings are read and checked again, and the redaction rules among them
//! replace those in force. On any error everything stays as it is.

use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Common;
use super::exit::{Exit, Failure};
use crate::daemon::clock::{Clock, SystemClock};
use crate::daemon::metrics::Metrics;
use crate::daemon::policy::{PolicyCell, PolicyChange};
use crate::pipeline::metric::{Metric, MetricUpdate};
use crate::settings::Settings;
use crate::settings::load::Loaded;

/// SIGHUPs, which end the process no longer once this is there.
pub(super) struct HangUps(Signal);

impl HangUps {
    pub(super) fn listen(runtime: &Runtime) -> Result<Self, Failure> {
        let _context = runtime.enter();
        let signals = signal(SignalKind::hangup());
        signals.map(Self).map_err(|error| Failure::io("SIGHUP", &error))
    }
}

/// Reads the settings again, as the command line named them.
pub(super) struct Reload {
    common: Common,
    flags: Vec<(String, String)>,
    /// What the process was started with.
    started: Loaded,
    policy: PolicyCell,
}

impl Reload {
    pub(super) fn new(
        common: Common,
        flags: Vec<(String, String)>,
        started: Loaded,
        policy: PolicyCell,
    ) -> Self {
        Self { common, flags, started, policy }
    }

    /// Reads the rules again whenever SIGHUP comes.
    pub(super) fn on_hang_up(
        mut self,
        HangUps(mut signals): HangUps,
        runtime: &Runtime,
        metrics: Arc<Metrics>,
        clock: SystemClock,
    ) {
        let good = Metric::PolicyReloadSuccessful.update(&[], 1.0);
        // A series that begins with 1 is no increase: the first loosening would go unseen.
        let none = Metric::PolicyReloads.update(&[PolicyChange::Loosened.name()], 0.0);
        metrics.apply(&[good, none], clock.now());
        runtime.spawn(async move {
            while signals.recv().await.is_some() {
                metrics.apply(&self.read_again(), clock.now());
            }
        });
    }

    /// Puts the redaction rules as they are written now into force; says how that went.
    fn read_again(&mut self) -> Vec<MetricUpdate> {
        let outcome = match self.take_over() {
            Ok(PolicyChange::Loosened) => {
                tracing::warn!("redaction rules read again: they may let more pass than before");
                PolicyChange::Loosened.name()
            }
            Ok(change) => {
                tracing::info!(outcome = change.name(), "redaction rules read again");
                change.name()
            }
            Err(failure) => {
                tracing::error!(
                    reason = failure.message,
                    "redaction rules not taken over: those before stay in force"
                );
                "refused"
            }
        };
        let good = if outcome == "refused" { 0.0 } else { 1.0 };
        vec![
            Metric::PolicyReloads.update(&[outcome], 1.0),
            Metric::PolicyReloadSuccessful.update(&[], good),
        ]
    }

    fn take_over(&mut self) -> Result<PolicyChange, Failure> {
        let loaded = self.common.load(self.flags.clone())?;
        let settings = Settings::new(&loaded)?;
        let change = self.policy.replace(settings.policy);
        let change =
            change.map_err(|error| Failure::new(Exit::Config, format!("redact: {error}")))?;
        let others: Vec<String> = loaded
            .differences(&self.started)
            .into_iter()
            .filter(|key| !key.starts_with("redact."))
            .collect();
        if !others.is_empty() {
            tracing::warn!(settings = others.join(", "), "changed too; they need a restart");
        }
        Ok(change)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn outcome(reload: &mut Reload) -> (String, f64) {
        let updates = reload.read_again();
        (updates[0].labels[0].to_string(), updates[1].value)
    }

    #[test]
    fn the_rules_in_force_are_those_of_the_last_good_reading() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("blotter.toml");
        fs::write(&file, "[redact]\nregions = [\"IN\"]\n").unwrap();
        let common = Common { config: vec![file.clone()], ..Common::default() };
        let started = common.load(Vec::new()).unwrap();
        let policy = Settings::new(&started).unwrap().policy;
        let cell = PolicyCell::new(Arc::clone(&policy)).unwrap();
        let mut reload = Reload::new(common, Vec::new(), started, cell.clone());
        assert_eq!(outcome(&mut reload), ("unchanged".to_owned(), 1.0));
        for broken in ["\n[redact]\nregions = [\"UK\"]\n", "\n\n[redact\n", "\n\n[redakt]\n"] {
            fs::write(&file, broken).unwrap();
            let told = reload.take_over().unwrap_err().message;
            assert!(told.contains("blotter.toml:3: "), "{told}");
            assert_eq!(outcome(&mut reload), ("refused".to_owned(), 0.0));
            assert_eq!(cell.read().policy.identity(), policy.identity());
        }
        fs::write(&file, "[run]\nshards = 3\n[redact]\nregions = [\"IN\", \"DE\"]\n").unwrap();
        assert_eq!(outcome(&mut reload), ("applied".to_owned(), 1.0));
        fs::write(&file, "[redact]\nregions = [\"DE\"]\n").unwrap();
        assert_eq!(outcome(&mut reload), ("loosened".to_owned(), 1.0));
        assert_ne!(cell.read().policy.identity(), policy.identity());
    }
}

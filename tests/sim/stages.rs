//! The stages as the simulated processes run them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use blotter::daemon::broker::SlotConfig;
use blotter::pipeline::alert::{RawRule, Rules};
use blotter::pipeline::audit::{
    CommitmentKey, Deployment, DeploymentKey, InstanceKey, InstanceName, KeyringId,
};
use blotter::pipeline::ingest::{Ingest, IngestRules};
use blotter::pipeline::redact::Redactor;
use blotter::pipeline::redact::sentinel::Sampling;
use blotter::pipeline::scrub::{
    AuditConfig, Canaries, MeasuresTarget, NoRestarts, Scrub, ScrubConfig,
};
use blotter::pipeline::watch::{Watch, WatchConfig};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::copier::Copier;
use crate::reloading::{self, Simulated};

pub(crate) const SOURCE: &str = "app.logs";
pub(crate) const REDACTED: &str = "app.logs.redacted";
pub(crate) const AUDIT: &str = "app.logs.audit";
pub(crate) const DEAD_LETTERS: &str = "blotter.dead-letters";
pub(crate) const MEASURES: &str = "blotter.measures";
pub(crate) const WATCH_STATE: &str = "blotter.watch-state";
pub(crate) const ALERTS: &str = "blotter.alerts";

/// Largest redacted record.
const RECORD_BYTES_MAX: usize = 1 << 20;

static INGEST: LazyLock<IngestRules> = LazyLock::new(IngestRules::default);

/// The stand-in for SCRUB.
pub(crate) fn copier() -> Box<dyn Simulated> {
    Box::new(Copier::new(REDACTED, AUDIT))
}

/// SCRUB, whose policy changes now and then, with measures when `measures` partitions are given.
pub(crate) fn scrub(slot: &SlotConfig, measures: Option<i32>) -> Box<dyn Simulated> {
    let deployment_key = DeploymentKey::from_seed(&[1; 32]);
    let deployment = Deployment::parse("sim").expect("a good name");
    let seed = Sha256::digest(slot.transactional_id.as_bytes()).into();
    let certificate =
        deployment_key.certify(deployment.as_str(), InstanceKey::public_of_seed(&seed));
    let instance_key = InstanceKey::from_seed(&seed, certificate).expect("it is the key's own");
    let instance_key = Arc::new(instance_key);
    let keyring = KeyringId::from_bytes([7; 8]);
    let (policy, told) = reloading::first();
    let config = ScrubConfig {
        names: Arc::default(),
        record_bytes_max: RECORD_BYTES_MAX,
        sentinel: Sampling::new(1_000),
        canaries: Canaries::default(),
        deployment,
        deployment_key: deployment_key.public(),
        keyring,
        commitment_keys: CommitmentKey::from_bytes(&[5; 32]).into(),
        instance_key: Arc::clone(&instance_key),
        starts: BTreeMap::new(),
        adopt: Vec::new(),
        restart: Arc::new(NoRestarts),
        audit: Some(AuditConfig {
            key: instance_key,
            instance: InstanceName::new(&slot.transactional_id),
            keyring,
            policy: told.clone(),
            heartbeat_ms: 5_000,
            receipts: true,
        }),
        measures: measures
            .map(|partitions| MeasuresTarget { topic: Arc::from(MEASURES), partitions }),
    };
    let redactor = Redactor::new(Arc::clone(policy));
    Box::new(Scrub::new(config, Ingest::new(INGEST.clone()), redactor))
}

/// WATCH with one rule that an incident of the simulated services breaks.
pub(crate) fn watch() -> Box<dyn Simulated> {
    let rule: RawRule = serde_json::from_value(json!({
        "name": "Errors",
        "ratio": {"of": "errors", "per": "records"},
        "group_by": ["tenant", "service"],
        "window": "30s",
        "threshold": 0.5,
        "clear_threshold": 0.25,
        "for": "3s",
        "keep_firing_for": "5s",
        "samples_min": 4,
        "severity": "SEV-2",
    }))
    .expect("the rule's keys are known");
    let config = WatchConfig {
        rules: Rules::check("rules", &[rule]).expect("the rule is sound"),
        error_window_ms: 60_000,
        handover_window_ms: 60_000,
        ..WatchConfig::default()
    };
    Box::new(Watch::new(config))
}

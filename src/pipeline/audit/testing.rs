//! Keys and names shared by this room's tests.

use super::super::record::TopicPartition;
use super::chain::{Deployment, Origin};
use super::commitment::Commitment;
use super::entry::PolicyHash;
use super::keys::{DeploymentKey, InstanceKey};
use super::seal::{InstanceName, Sealer};

pub(super) struct Scene {
    pub(super) deployment: Deployment,
    pub(super) source: TopicPartition,
    pub(super) deployment_key: DeploymentKey,
    pub(super) instance_key: InstanceKey,
    pub(super) instance: InstanceName,
}

impl Scene {
    pub(super) fn new() -> Self {
        let deployment_key = DeploymentKey::from_seed(&[1; 32]);
        Self {
            deployment: Deployment::parse("salon").unwrap(),
            source: TopicPartition::new("app.logs", 3),
            instance_key: instance_key(&deployment_key, 2),
            deployment_key,
            instance: InstanceName::new("blotter-0"),
        }
    }

    pub(super) fn origin(&self, incarnation: u32) -> Origin {
        Origin::new(&self.deployment, &self.source, incarnation)
    }

    pub(super) fn sealer(&self) -> Sealer<'_> {
        Sealer {
            key: &self.instance_key,
            instance: &self.instance,
            policy: PolicyHash::of("{}").short(),
        }
    }
}

pub(super) fn instance_key(deployment_key: &DeploymentKey, seed: u8) -> InstanceKey {
    let public = InstanceKey::public_of_seed(&[seed; 32]);
    InstanceKey::from_seed(&[seed; 32], deployment_key.certify("salon", public)).unwrap()
}

pub(super) fn commitment(seed: u8) -> Commitment {
    Commitment::from_bytes([seed; 32])
}

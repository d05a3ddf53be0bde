//! Who decides, at every call of a client, when time passes and what goes wrong. In production
//! nobody does; the simulation chooses by seed.

use std::time::Duration;

use super::cluster::Cluster;
use crate::daemon::broker::LookupFailure;
use crate::pipeline::record::{Timestamp, TopicPartition};

/// One call of one client, on its way to the brokers or on its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// The `transactional.id` of the caller.
    pub slot: &'a str,
    /// The group member, once there is one; [`Cluster::freeze_member`] takes it.
    pub member: Option<u64>,
    /// The call: the names of [`Broker`](crate::daemon::broker::Broker)'s methods, `connect`, and
    /// `produce` for each request that carries records.
    pub operation: &'static str,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It takes place.
    Proceed,
    /// The request never arrives: the caller's time-out passes without effect.
    LoseRequest,
    /// It takes effect, and the caller's time-out passes without an answer.
    LoseAnswer,
    /// A commit stays on its way until [`Cluster::deliver_kept`]; the caller's time-out passes
    /// without an answer. Any other call is lost.
    Keep,
    /// The brokers refuse it for a passing reason of their own (`produce`: a failed delivery).
    Refuse,
}

/// What becomes of a look-up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LookupFate {
    /// How long the answer takes.
    pub delay: Duration,
    /// Whether the answer says how things were when it was asked, not how they are when it comes.
    pub stale: bool,
    /// Fails instead.
    pub failure: Option<LookupFailure>,
}

/// Decides about calls and waits. Called without any lock held; it may block, and it may unwind
/// the caller's thread, which then is dead as after `kill -9`.
pub trait Conductor: Send + Sync {
    /// Before a call.
    fn before(&self, _call: &Call<'_>) -> Verdict {
        Verdict::Proceed
    }

    /// After the call's effect, before its answer.
    fn after(&self, _call: &Call<'_>) {}

    /// At each look-up.
    fn lookup(&self, _call: &Call<'_>, _asked: &TopicPartition) -> LookupFate {
        LookupFate::default()
    }

    /// How many of `queued` records the next produce request carries; at least one goes.
    fn batch(&self, _call: &Call<'_>, queued: usize) -> usize {
        queued
    }

    /// Waits until the cluster is no longer at version `seen`, or until `until` has come.
    fn wait(&self, _call: &Call<'_>, cluster: &Cluster, seen: u64, until: Timestamp) {
        cluster.wait(seen, until);
    }

    /// Waits until `until`, whatever happens.
    fn sleep(&self, call: &Call<'_>, cluster: &Cluster, until: Timestamp) {
        while cluster.now() < until {
            self.wait(call, cluster, cluster.version(), until);
        }
    }
}

/// Lets everything proceed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Undisturbed;

impl Conductor for Undisturbed {}

//! One alert: its state, when it next has something to do, and how it moves.

use serde::{Deserialize, Serialize};

use std::sync::Arc;

use super::message::Labels;
use super::rule::{AlertSeverity, Group};
use crate::pipeline::limits::{
    ALERT_FORGOTTEN_AFTER_MS, RESOLVED_REPEAT_MS, RESOLVED_REPEATED_FOR_MS,
};
use crate::pipeline::record::Timestamp;

/// Which alert: rule and group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceKey {
    /// Name of the rule.
    pub rule: Arc<str>,
    /// What it was read for.
    pub group: Group,
}

/// An alert that is not inactive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its labels, from which its fingerprint follows.
    pub labels: Labels,
    /// How bad it is; `None` for one that only shows life.
    pub severity: Option<AlertSeverity>,
    /// Where it stands.
    pub state: State,
    /// The alert that ended before it, while its resolve is still repeated. None with the labels of
    /// one that fires, nor beside one that is itself resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Box<Self>>,
}

/// Where an alert stands. Inactive alerts are not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Breached, but not for long enough.
    Pending {
        /// Since when.
        since_ms: i64,
        /// It fires when still breached then.
        until_ms: i64,
    },
    /// Firing.
    Firing {
        /// Since when.
        since_ms: i64,
        /// The firing period's id.
        episode: String,
        /// Messages of this episode so far; 0 while it waits in the storm queue.
        seq: u32,
        /// When its lease is extended next.
        refresh_at_ms: i64,
        /// It is clear and resolves then, unless breached again.
        clear_at_ms: Option<i64>,
    },
    /// Over; the resolve is repeated for a while.
    Resolved {
        /// When it fired.
        since_ms: i64,
        /// When it ended.
        ended_ms: i64,
        /// The firing period's id.
        episode: String,
        /// Messages of this episode so far.
        seq: u32,
        /// When the resolve is next repeated; the tombstone follows the last repetition.
        repeat_at_ms: Option<i64>,
        /// When it is forgotten.
        forget_at_ms: i64,
    },
}

impl Instance {
    /// An alert that starts, before any other.
    pub(super) const fn new(labels: Labels, severity: Option<AlertSeverity>, state: State) -> Self {
        Self { labels, severity, state, ended: None }
    }

    /// The alert that goes on, and the one that has ended.
    pub(super) fn split(mut self) -> (Option<Self>, Option<Self>) {
        match self.state {
            State::Resolved { .. } => (None, Some(self)),
            _ => {
                let ended = self.ended.take();
                (Some(self), ended.map(|ended| *ended))
            }
        }
    }

    /// When time alone next changes something.
    pub(super) fn deadline_ms(&self) -> i64 {
        let ended_ms = self.ended.as_ref().map_or(i64::MAX, |ended| ended.deadline_ms());
        let own_ms = match self.state {
            State::Pending { until_ms, .. } => until_ms,
            // A queued alert is published when the queue moves; only its end has a time.
            State::Firing { seq: 0, clear_at_ms, .. } => clear_at_ms.unwrap_or(i64::MAX),
            State::Firing { refresh_at_ms, clear_at_ms, .. } => {
                clear_at_ms.map_or(refresh_at_ms, |clear| clear.min(refresh_at_ms))
            }
            State::Resolved { repeat_at_ms, forget_at_ms, .. } => {
                repeat_at_ms.unwrap_or(forget_at_ms)
            }
        };
        own_ms.min(ended_ms)
    }

    /// Since when it fires, if it waits in the storm queue.
    pub(super) fn queued_since_ms(&self) -> Option<i64> {
        match self.state {
            State::Firing { seq: 0, since_ms, .. } => Some(since_ms),
            _ => None,
        }
    }

    /// Keeps the remaining time of every timer though `now` was set back.
    pub(super) fn shift(&mut self, by_ms: i64) {
        let back = |time: &mut i64| *time = time.saturating_sub(by_ms);
        match &mut self.state {
            State::Pending { since_ms, until_ms } => {
                back(since_ms);
                back(until_ms);
            }
            State::Firing { since_ms, refresh_at_ms, clear_at_ms, .. } => {
                back(since_ms);
                back(refresh_at_ms);
                clear_at_ms.iter_mut().for_each(back);
            }
            State::Resolved { since_ms, ended_ms, repeat_at_ms, forget_at_ms, .. } => {
                // An end ahead of `now` would be read as firing until then.
                [since_ms, ended_ms, forget_at_ms].into_iter().for_each(back);
                repeat_at_ms.iter_mut().for_each(back);
            }
        }
        if let Some(ended) = &mut self.ended {
            ended.shift(by_ms);
        }
    }

    /// The word in metrics.
    #[must_use]
    pub const fn state_name(&self) -> &'static str {
        match self.state {
            State::Pending { .. } => "pending",
            State::Firing { .. } => "firing",
            State::Resolved { .. } => "resolved",
        }
    }
}

impl State {
    /// The end of an episode.
    pub(super) fn resolved(since_ms: i64, episode: String, seq: u32, now: Timestamp) -> Self {
        Self::Resolved {
            since_ms,
            ended_ms: now.millis(),
            episode,
            seq,
            repeat_at_ms: next_repeat(now, now),
            forget_at_ms: now.plus_millis(ALERT_FORGOTTEN_AFTER_MS).millis(),
        }
    }
}

/// When the resolve of an alert that ended at `ended` is repeated after `now`.
pub(super) fn next_repeat(ended: Timestamp, now: Timestamp) -> Option<i64> {
    let next = now.plus_millis(RESOLVED_REPEAT_MS);
    (next.millis_since(ended) <= RESOLVED_REPEATED_FOR_MS).then(|| next.millis())
}

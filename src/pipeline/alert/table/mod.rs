//! Every alert of one measures partition that is not inactive: transitions, leases, resolves, and
//! the storm cap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::message::{
    Definition, Emission, EmissionKind, Message, Moment, emit, episode_of, fingerprint, labels_of,
    tombstone,
};
use super::rule::{AlertSeverity, Group, Reading, Rule, Rules};
use super::state::{Instance, InstanceKey, State, next_repeat};
use super::system::{STORM, SYSTEM_ALERTS, SystemAlert, WATCHDOG};
use crate::pipeline::limits::{
    ALERT_INSTANCES_MAX, LEASE_MS, LEASE_REFRESH_MS, NEW_ALERTS_PER_MINUTE_MAX,
    SYSTEM_ALERT_HOLD_MS,
};
use crate::pipeline::measure::Scope;
use crate::pipeline::record::Timestamp;

/// What a rule says about a group at this moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition {
    /// Breached, on what has been counted so far.
    pub breached: bool,
    /// Clear, on what every source partition has been read for.
    pub cleared: bool,
    /// The numbers behind it.
    pub reading: Reading,
}

/// What the storm cap and the daemon's own alerts remember.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StormState {
    /// The minute that is being counted.
    minute: i64,
    /// New alerts let through in it.
    used: u32,
    /// `BlotterAlertStorm` fires until then.
    storm_until_ms: i64,
    /// `BlotterMeasuresLost` fires until then.
    lost_until_ms: i64,
    /// Measures were lost and no tick has shown the time since.
    lost_open: bool,
}

/// The alerts of one measures partition.
#[derive(Debug, Default)]
pub struct AlertTable {
    instances: BTreeMap<InstanceKey, Instance>,
    timers: BTreeSet<(i64, InstanceKey)>,
    queue: BTreeSet<(Option<AlertSeverity>, i64, InstanceKey)>,
    storm: StormState,
    touched: BTreeSet<InstanceKey>,
    refused: u64,
}

impl AlertTable {
    /// Moves the alert of `rule` for `key.group`; `None` when the rule is no longer there.
    pub fn step(
        &mut self,
        key: &InstanceKey,
        rule: Option<&Rule>,
        condition: Condition,
        moment: &Moment,
        out: &mut Vec<Emission>,
    ) {
        let definition = rule.map_or(Definition::Gone, Definition::Rule);
        if self.instances.contains_key(key) || (condition.breached && !moment.held) {
            self.advance(key, definition, condition, moment, out);
        }
    }

    /// Moves the daemon's own alerts and lets queued ones through as the storm cap allows. Called
    /// after the rules, for every record; `read` says how a rule reads now.
    pub fn finish(
        &mut self,
        moment: &Moment,
        rules: &Rules,
        read: impl Fn(&Rule, &Group) -> Reading,
        out: &mut Vec<Emission>,
    ) {
        self.publish_queue(moment, rules, read, out);
        let now_ms = moment.now.millis();
        if self.storm.lost_open {
            self.storm.lost_until_ms = moment.now.plus_millis(SYSTEM_ALERT_HOLD_MS).millis();
        }
        let watermark = Some(moment.now);
        let moment = Moment { held: false, watermark, ..moment.clone() };
        for alert in SYSTEM_ALERTS {
            let breached = match alert.name {
                name if name == WATCHDOG.name => true,
                name if name == STORM.name => now_ms < self.storm.storm_until_ms,
                _ => now_ms < self.storm.lost_until_ms,
            };
            let key = system_key(alert);
            let due = self.instances.get(&key).map(|instance| {
                let firing = matches!(instance.state, State::Firing { .. });
                instance.deadline_ms() <= now_ms || firing != breached
            });
            if due.unwrap_or(breached) {
                let reading = Reading::default();
                let condition = Condition { breached, cleared: !breached, reading };
                self.advance(&key, Definition::System(alert), condition, &moment, out);
            }
        }
    }

    /// Measures were lost before they were read: says so from the next record on until well after
    /// the next tick (until then `now` may lag far behind).
    pub fn measures_lost(&mut self) {
        self.storm.lost_open = true;
    }

    /// A tick has been applied: `now` is the time.
    pub fn tick_seen(&mut self) {
        self.storm.lost_open = false;
    }

    /// The alerts of rules that time alone moves at `now`, in order.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Vec<InstanceKey> {
        let now_ms = now.millis();
        let due = self.timers.iter().take_while(|(deadline, _)| *deadline <= now_ms);
        due.map(|(_, key)| key.clone()).filter(|key| !is_system(key)).collect()
    }

    /// The alerts of rules, in order.
    pub fn keys(&self) -> impl Iterator<Item = &InstanceKey> {
        self.instances.keys().filter(|key| !is_system(key))
    }

    /// Follows `now`, which was set back: timers keep their remaining time.
    pub fn set_back(&mut self, by_ms: i64) {
        self.storm.storm_until_ms = self.storm.storm_until_ms.saturating_sub(by_ms);
        self.storm.lost_until_ms = self.storm.lost_until_ms.saturating_sub(by_ms);
        for (key, mut instance) in std::mem::take(&mut self.instances) {
            self.unlink(&key, &instance);
            instance.shift(by_ms);
            self.touched.insert(key.clone());
            self.put(key, instance);
        }
    }

    /// Number of alerts by state and severity.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<(&'static str, &'static str), u32> {
        let mut counts = BTreeMap::new();
        for instance in self.instances.values() {
            let severity = instance.severity.map_or("none", AlertSeverity::name);
            *counts.entry((instance.state_name(), severity)).or_default() += 1;
        }
        counts
    }

    /// Alerts that were not started because there were too many, since last asked.
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// The alerts changed since last asked, in order, for storing them.
    pub fn take_touched(&mut self) -> BTreeSet<InstanceKey> {
        std::mem::take(&mut self.touched)
    }

    /// One alert.
    #[must_use]
    pub fn instance(&self, key: &InstanceKey) -> Option<&Instance> {
        self.instances.get(key)
    }

    /// What the storm cap remembers, for storing it.
    #[must_use]
    pub fn storm(&self) -> StormState {
        self.storm
    }

    /// Puts back what was stored.
    pub fn restore_storm(&mut self, storm: StormState) {
        self.storm = storm;
    }

    /// Puts back an alert as it was stored.
    pub fn restore(&mut self, key: InstanceKey, instance: Option<Instance>) {
        if let Some(old) = self.instances.remove(&key) {
            self.unlink(&key, &old);
        }
        if let Some(instance) = instance {
            self.put(key, instance);
        }
    }

    fn advance(
        &mut self,
        key: &InstanceKey,
        definition: Definition<'_>,
        condition: Condition,
        moment: &Moment,
        out: &mut Vec<Emission>,
    ) {
        let labels = labels_of(definition, &key.rule, &key.group, moment.partition);
        let before = self.instances.remove(key);
        if let Some(before) = &before {
            self.unlink(key, before);
        }
        let (mut live, mut ended) = before.clone().map_or((None, None), Instance::split);
        let mut step = Step { key, definition, condition, moment, out };
        // A rule that is gone, or whose labels changed, has ended what it started.
        if let Some(old) = live.take_if(|live| live.labels != labels) {
            let end = step.end(old);
            ended = step.newest(end, ended);
        }
        let starts = condition.breached && !moment.held && !matches!(definition, Definition::Gone);
        if live.is_none() && starts {
            if self.instances.len() >= ALERT_INSTANCES_MAX && !is_system(key) {
                self.refused += 1;
            } else {
                live = Some(step.pending(labels));
            }
        }
        if live.as_ref().is_some_and(|live| step.fires(live)) {
            let lets_through = is_system(key) || self.storm_lets_through(moment.now);
            live = live.map(|live| step.fire(live, lets_through));
        }
        let live = live.and_then(|live| step.settle(live));
        let kept = step.join(live, ended);
        if kept != before {
            self.touched.insert(key.clone());
        }
        if let Some(instance) = kept {
            self.put(key.clone(), instance);
        }
    }

    /// Counts one new alert against the cap; when it is reached the alert waits and the storm alert
    /// says so. Those that wait go first.
    fn storm_lets_through(&mut self, now: Timestamp) -> bool {
        let free = self.storm_has_room(now) && self.queue.is_empty();
        if free {
            self.storm.used += 1;
        } else {
            self.storm.storm_until_ms = now.plus_millis(SYSTEM_ALERT_HOLD_MS).millis();
        }
        free
    }

    fn storm_has_room(&mut self, now: Timestamp) -> bool {
        let minute = now.millis().div_euclid(60_000);
        if self.storm.minute != minute {
            self.storm.minute = minute;
            self.storm.used = 0;
        }
        self.storm.used < NEW_ALERTS_PER_MINUTE_MAX
    }

    /// The worst and oldest first.
    fn publish_queue(
        &mut self,
        moment: &Moment,
        rules: &Rules,
        read: impl Fn(&Rule, &Group) -> Reading,
        out: &mut Vec<Emission>,
    ) {
        while !self.queue.is_empty() && self.storm_has_room(moment.now) {
            let Some((_, _, key)) = self.queue.first().cloned() else { return };
            let Some(mut instance) = self.instances.remove(&key) else { return };
            self.unlink(&key, &instance);
            let rule = rules.by_name(&key.rule);
            let definition = rule.map_or(Definition::Gone, Definition::Rule);
            let reading = rule.map(|rule| read(rule, &key.group)).unwrap_or_default();
            let condition = Condition { breached: true, cleared: false, reading };
            let mut step = Step { key: &key, definition, condition, moment, out };
            step.publish(&mut instance, EmissionKind::Firing);
            self.storm.used += 1;
            self.touched.insert(key.clone());
            self.put(key, instance);
        }
    }

    fn put(&mut self, key: InstanceKey, instance: Instance) {
        self.timers.insert((instance.deadline_ms(), key.clone()));
        if let Some(since) = instance.queued_since_ms() {
            self.queue.insert((instance.severity, since, key.clone()));
        }
        self.instances.insert(key, instance);
    }

    fn unlink(&mut self, key: &InstanceKey, instance: &Instance) {
        self.timers.remove(&(instance.deadline_ms(), key.clone()));
        if let Some(since) = instance.queued_since_ms() {
            self.queue.remove(&(instance.severity, since, key.clone()));
        }
    }
}

/// One alert being moved by one record.
struct Step<'a> {
    key: &'a InstanceKey,
    definition: Definition<'a>,
    condition: Condition,
    moment: &'a Moment,
    out: &'a mut Vec<Emission>,
}

impl Step<'_> {
    fn now_ms(&self) -> i64 {
        self.moment.now.millis()
    }

    fn pending(&self, labels: super::Labels) -> Instance {
        let (severity, pending_ms) = match self.definition {
            Definition::Rule(rule) => (Some(rule.severity), rule.pending_ms),
            Definition::System(alert) => (alert.severity, 0),
            Definition::Gone => (None, 0),
        };
        let since_ms = self.now_ms();
        let until_ms = since_ms.saturating_add(pending_ms);
        Instance::new(labels, severity, State::Pending { since_ms, until_ms })
    }

    fn fires(&self, instance: &Instance) -> bool {
        matches!(instance.state, State::Pending { until_ms, .. } if until_ms <= self.now_ms())
            && self.condition.breached
            && !self.moment.held
    }

    fn fire(&mut self, instance: Instance, lets_through: bool) -> Instance {
        let print = fingerprint(&instance.labels);
        let mut firing = Instance {
            state: State::Firing {
                since_ms: self.now_ms(),
                episode: episode_of(print, self.moment.partition, self.moment.offset),
                seq: 0,
                refresh_at_ms: i64::MAX,
                clear_at_ms: None,
            },
            ..instance
        };
        if lets_through {
            self.publish(&mut firing, EmissionKind::Firing);
        }
        firing
    }

    /// What the record and the time leave of the alert.
    fn settle(&mut self, mut instance: Instance) -> Option<Instance> {
        match &mut instance.state {
            State::Pending { .. } => {
                (self.condition.breached || self.moment.held).then_some(instance)
            }
            State::Firing { since_ms, clear_at_ms, .. } => {
                if !self.moment.held {
                    *clear_at_ms = self.clear_at(*since_ms, *clear_at_ms);
                }
                let clear_at_ms = *clear_at_ms;
                let clear = clear_at_ms.is_some_and(|at| at <= self.now_ms());
                if clear && !self.moment.held {
                    return self.end(instance);
                }
                self.refresh(&mut instance);
                Some(instance)
            }
            State::Resolved { .. } => Some(instance),
        }
    }

    /// What is kept: the alert that goes on, beside it the one that ended before, whose resolve is
    /// repeated all the same until an alert of the same labels fires.
    fn join(&mut self, live: Option<Instance>, ended: Option<Instance>) -> Option<Instance> {
        let Some(mut live) = live else { return ended.and_then(|ended| self.repeat(ended)) };
        if matches!(live.state, State::Resolved { .. }) {
            return self.newest(Some(live), ended);
        }
        let fires = matches!(live.state, State::Firing { .. });
        let ended = ended.filter(|ended| !fires || ended.labels != live.labels);
        live.ended = ended.and_then(|ended| self.repeat(ended)).map(Box::new);
        Some(live)
    }

    /// The newest of two alerts that have ended. The other is forgotten; a change of labels twice
    /// within a day leaves no more than its tombstone.
    fn newest(&mut self, newest: Option<Instance>, older: Option<Instance>) -> Option<Instance> {
        let Some(newest) = newest else { return older };
        if let Some(older) = older.filter(|older| older.labels != newest.labels) {
            self.out.push(tombstone(&older.labels));
        }
        Some(newest)
    }

    /// When it resolves if it stays clear. Counts are final only up to W, so what fired after W
    /// waits for it.
    fn clear_at(&self, since_ms: i64, already: Option<i64>) -> Option<i64> {
        let settled = self.moment.watermark.is_some_and(|w| w.millis() >= since_ms);
        if self.condition.breached || !self.condition.cleared || !settled {
            return None;
        }
        let keep_ms = match self.definition {
            Definition::Rule(rule) => rule.keep_firing_ms,
            _ => 0,
        };
        already.or_else(|| Some(self.now_ms().saturating_add(keep_ms)))
    }

    fn refresh(&mut self, instance: &mut Instance) {
        let now_ms = self.now_ms();
        if let State::Firing { seq: 1.., refresh_at_ms, .. } = instance.state
            && refresh_at_ms <= now_ms
        {
            self.publish(instance, EmissionKind::Refreshed);
        }
    }

    /// Ends what fires, says so, and keeps it as resolved; what only was pending leaves no trace.
    fn end(&mut self, mut instance: Instance) -> Option<Instance> {
        let now = self.moment.now;
        match instance.state {
            State::Pending { .. } => None,
            State::Firing { since_ms, ref episode, seq, .. } => {
                instance.state = State::resolved(since_ms, episode.clone(), seq, now);
                self.publish(&mut instance, EmissionKind::Resolved);
                Some(instance)
            }
            State::Resolved { .. } => Some(instance),
        }
    }

    /// Repeats the resolve, and forgets it after a day.
    fn repeat(&mut self, mut instance: Instance) -> Option<Instance> {
        let now_ms = self.now_ms();
        let State::Resolved { repeat_at_ms, forget_at_ms, .. } = instance.state else {
            return Some(instance);
        };
        if forget_at_ms <= now_ms {
            self.out.push(tombstone(&instance.labels));
            return None;
        }
        if repeat_at_ms.is_some_and(|at| at <= now_ms) {
            self.publish(&mut instance, EmissionKind::Resolved);
        }
        Some(instance)
    }

    /// Emits a message about `instance` and sets when the next one is due.
    fn publish(&mut self, instance: &mut Instance, kind: EmissionKind) {
        let now = self.moment.now;
        let Instance { labels, state, .. } = instance;
        let (since_ms, ends, episode, seq, first) = match state {
            State::Pending { .. } => return,
            State::Firing { since_ms, episode, seq, refresh_at_ms, .. } => {
                *seq += 1;
                let refresh_ms = match self.definition {
                    Definition::System(alert) => alert.refresh_ms,
                    _ => LEASE_REFRESH_MS,
                };
                *refresh_at_ms = now.plus_millis(refresh_ms).millis();
                let first = kind == EmissionKind::Firing;
                (*since_ms, now.plus_millis(LEASE_MS), episode, *seq, first)
            }
            State::Resolved { since_ms, ended_ms, episode, seq, repeat_at_ms, .. } => {
                *seq += 1;
                let ended = Timestamp::from_millis(*ended_ms);
                *repeat_at_ms = next_repeat(ended, now);
                (*since_ms, ended, episode, *seq, ended == now)
            }
        };
        let message = Message {
            name: &self.key.rule,
            definition: self.definition,
            labels,
            reading: matches!(self.definition, Definition::Rule(_))
                .then_some(self.condition.reading),
            kind,
            first,
            starts: Timestamp::from_millis(since_ms),
            ends,
            episode,
            seq,
        };
        self.out.push(emit(&message, self.moment));
    }
}

fn system_key(alert: &SystemAlert) -> InstanceKey {
    InstanceKey { rule: Arc::from(alert.name), group: Group { scope: Scope::All, service: None } }
}

fn is_system(key: &InstanceKey) -> bool {
    SystemAlert::by_name(&key.rule).is_some()
}

#[cfg(test)]
mod tests;

//! Stopping, pausing and trying again: one partition waits, its neighbours go on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Shard;
use super::partition::{Hold, Phase, Until};
use super::recovery::Mode;
use crate::daemon::broker::{Broker, BrokerError};
use crate::daemon::clock::Clock;
use crate::pipeline::metric::Metric;
use crate::pipeline::record::TopicPartition;
use crate::pipeline::step::{PartitionStop, Stage};

/// Time between two reminders of a partition that is held: well within the window of the rule that
/// alerts of it.
const REMIND_EVERY: Duration = Duration::from_secs(60);

impl<B: Broker, S: Stage, C: Clock> Shard<B, S, C> {
    /// Pauses what the stage asks to be paused.
    pub(super) fn apply_pauses(&mut self) -> Result<(), BrokerError> {
        self.pause_requests.extend(self.stage.pauses());
        for (topic_partition, request) in std::mem::take(&mut self.pause_requests) {
            if self.partitions.get(&topic_partition).is_some_and(super::Partition::is_running) {
                self.pause(&topic_partition, request, Until::Rebuilt)?;
            }
        }
        Ok(())
    }

    /// Stops reading a partition whose state stays whole.
    pub(super) fn pause(
        &mut self,
        topic_partition: &TopicPartition,
        stop: PartitionStop,
        until: Until,
    ) -> Result<(), BrokerError> {
        self.broker.pause(topic_partition).or_else(unless_it_ends)?;
        self.hold(topic_partition, stop, true, until);
        Ok(())
    }

    /// Tries stopped and paused partitions again.
    pub(super) fn retry_held(&mut self) -> Result<(), BrokerError> {
        if !matches!(self.mode, Mode::Running) {
            return Ok(());
        }
        let monotonic = self.clock.monotonic();
        let mut again = Vec::new();
        let mut awaited: BTreeMap<TopicPartition, BTreeSet<_>> = BTreeMap::new();
        for (topic_partition, partition) in &mut self.partitions {
            match &mut partition.phase {
                Phase::Held(hold) if hold.retry_at <= monotonic && hold.state_kept => {
                    again.push((topic_partition.clone(), partition.position));
                }
                Phase::Held(hold) if hold.retry_at <= monotonic => match &hold.awaits {
                    Some(output) => {
                        awaited.entry(output.clone()).or_default().insert(topic_partition.clone());
                        hold.retry_at = monotonic + self.config.check_timeout;
                    }
                    None => partition.restart(None),
                },
                _ => {}
            }
        }
        for (output, sources) in awaited {
            self.ask_for_output(output, sources);
        }
        for (topic_partition, position) in again {
            self.stage.resumed(&topic_partition);
            self.start(&topic_partition, position)?;
        }
        Ok(())
    }

    /// Stops or pauses one partition; its neighbours go on.
    pub(super) fn hold(
        &mut self,
        topic_partition: &TopicPartition,
        stop: PartitionStop,
        state_kept: bool,
        until: Until,
    ) {
        let monotonic = self.clock.monotonic();
        let Some(partition) = self.partitions.get_mut(topic_partition) else { return };
        let factor = 1_u32 << partition.holds.min(16);
        partition.holds = partition.holds.saturating_add(1);
        let pause = self.config.hold_retry.saturating_mul(factor).min(self.config.hold_retry_max);
        let (retry_at, awaits) = match until {
            Until::Retry => (monotonic + pause, None),
            Until::Writable(output) => (monotonic + pause, Some(output)),
            Until::Rebuilt => (Duration::MAX, None),
        };
        partition.phase = Phase::Held(Hold { stop: stop.clone(), retry_at, state_kept, awaits });
        if !state_kept {
            partition.memory = None;
        }
        self.sound(topic_partition, &stop);
    }

    /// Tells of a partition that is held: the stage each time, the log and the gauge once.
    pub(super) fn sound(&mut self, topic_partition: &TopicPartition, stop: &PartitionStop) {
        self.stage.held(topic_partition, self.clock.now());
        let Some(partition) = self.partitions.get_mut(topic_partition) else { return };
        let before = partition.alarm.replace(stop.reason);
        if before == Some(stop.reason) {
            return;
        }
        tracing::error!(partition = %topic_partition, reason = stop.reason, detail = stop.detail,
            command = stop.command, "partition stopped; the others go on");
        self.alarm(topic_partition, before, false);
        self.alarm(topic_partition, Some(stop.reason), true);
    }

    /// Reminds the stage of what is held: an alert goes on for as long as that lasts.
    pub(super) fn remind(&mut self) {
        let monotonic = self.clock.monotonic();
        if monotonic < self.remind_at {
            return;
        }
        self.remind_at = monotonic + REMIND_EVERY;
        for (topic_partition, partition) in &self.partitions {
            if matches!(partition.phase, Phase::Held(_)) {
                self.stage.held(topic_partition, self.clock.now());
            }
        }
    }

    pub(super) fn alarm(
        &self,
        topic_partition: &TopicPartition,
        reason: Option<&'static str>,
        on: bool,
    ) {
        if let Some(reason) = reason {
            let partition = topic_partition.partition.to_string();
            let value = if on { 1.0 } else { 0.0 };
            self.publish(
                Metric::PartitionStopped,
                &[&topic_partition.topic, &partition, reason],
                value,
            );
        }
    }
}

pub(super) fn unless_it_ends(error: BrokerError) -> Result<(), BrokerError> {
    if error.kind.ends_consumer() { Err(error) } else { Ok(()) }
}

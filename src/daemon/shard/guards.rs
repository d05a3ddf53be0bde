//! What watches over the loop: ends, lag, stalls, failing partitions, health.

use std::collections::BTreeSet;
use std::time::Duration;

use super::hold::unless_it_ends;
use super::partition::{Phase, Until};
use super::recovery::Mode;
use super::{Shard, Stop};
use crate::daemon::broker::{
    Broker, BrokerError, BrokerErrorKind, LookupFailure, PartitionFailure,
};
use crate::daemon::clock::Clock;
use crate::pipeline::metric::Metric;
use crate::pipeline::record::TopicPartition;
use crate::pipeline::step::{Lookup, PartitionStop, Stage};

/// What the watchdogs' errors call themselves.
pub(in crate::daemon) const STALL_WATCHDOG: &str = "stall_watchdog";
const MEMBERSHIP_WATCHDOG: &str = "membership_watchdog";

/// The reason of a partition that stalled again. Its alarm stays on while it is tried, until it moves.
pub(super) const STALLED: &str = "stalled";

/// Time between two updates of the gauges.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

impl<B: Broker, S: Stage, C: Clock> Shard<B, S, C> {
    pub(super) fn caught_up(&mut self, topic_partition: &TopicPartition) {
        let monotonic = self.clock.monotonic();
        let now = self.clock.now();
        let running = self.partitions.get_mut(topic_partition).filter(|p| p.is_running());
        if let Some(partition) = running {
            partition.progress_at = monotonic;
            partition.lag = 0;
            self.stage.caught_up(topic_partition, now);
            self.moved(topic_partition);
        }
    }

    pub(super) fn lag(&mut self, topic_partition: &TopicPartition, records: u64) {
        let monotonic = self.clock.monotonic();
        if let Some(partition) = self.partitions.get_mut(topic_partition) {
            partition.lag = records;
            if records == 0 {
                partition.progress_at = monotonic;
            }
        }
    }

    /// A partition can't be read: it alone waits. An error that names none has each one probed.
    pub(super) fn partition_failed(
        &mut self,
        topic_partition: Option<TopicPartition>,
        failure: &PartitionFailure,
        stop: &Stop,
    ) -> Result<(), BrokerError> {
        let Some(topic_partition) = topic_partition else {
            self.probe();
            return Ok(());
        };
        if !self.partitions.get(&topic_partition).is_some_and(super::Partition::is_running) {
            return Ok(());
        }
        let reason = match failure {
            PartitionFailure::OffsetOutOfRange => {
                return self.restore_again(&topic_partition, stop);
            }
            PartitionFailure::UnknownPartition => "partition_missing",
            PartitionFailure::NotAuthorized => "not_authorized",
            PartitionFailure::Corrupt => "batch_corrupt",
            PartitionFailure::Other(_) => "partition_failed",
        };
        self.pause(
            &topic_partition,
            failed(&topic_partition, reason, &failure.to_string()),
            Until::Retry,
        )
    }

    /// The position is no longer in the log: the restore decides what that means. What is open is
    /// committed first, because the restore drops the partition's state.
    fn restore_again(
        &mut self,
        topic_partition: &TopicPartition,
        stop: &Stop,
    ) -> Result<(), BrokerError> {
        let committed = self.commit(stop);
        self.settle(committed)?;
        if !matches!(self.mode, Mode::Running) {
            return Ok(());
        }
        self.broker.pause(topic_partition).or_else(unless_it_ends)?;
        self.stage.revoke(topic_partition);
        let at = self.clock.monotonic() + self.config.restore.retry_min;
        if let Some(partition) = self.partitions.get_mut(topic_partition) {
            partition.restart(Some(at));
        }
        Ok(())
    }

    fn probe(&mut self) {
        if !self.probes.is_empty() {
            return;
        }
        let running: Vec<TopicPartition> = self
            .partitions
            .iter()
            .filter(|(_, partition)| partition.is_running())
            .map(|(topic_partition, _)| topic_partition.clone())
            .collect();
        for topic_partition in running {
            let ticket = self.ticket();
            self.broker.lookup(ticket, &topic_partition, Lookup::Range(topic_partition.clone()));
            self.probes.insert(ticket, topic_partition);
        }
    }

    pub(super) fn probed(
        &mut self,
        topic_partition: &TopicPartition,
        failure: Option<LookupFailure>,
    ) -> Result<(), BrokerError> {
        let reason = match failure {
            Some(LookupFailure::UnknownPartition) => "partition_missing",
            Some(LookupFailure::NotAuthorized) => "not_authorized",
            None
            | Some(
                LookupFailure::TimedOut
                | LookupFailure::OffsetOutOfRange
                | LookupFailure::Corrupt
                | LookupFailure::Other(_),
            ) => return Ok(()),
        };
        if !self.partitions.get(topic_partition).is_some_and(super::Partition::is_running) {
            return Ok(());
        }
        self.pause(
            topic_partition,
            failed(topic_partition, reason, "found by a probe"),
            Until::Retry,
        )
    }

    /// A partition with lag that gives nothing for long: the client is stuck, and the shard is built
    /// anew. One that stalls again while a neighbour is well is stopped alone.
    pub(super) fn watch_stalls(&mut self) -> Result<(), BrokerError> {
        let monotonic = self.clock.monotonic();
        let running = self.partitions.iter().filter(|(_, partition)| partition.is_running());
        let (stalled, well): (Vec<_>, Vec<_>) = running.partition(|(_, partition)| {
            partition.lag > 0
                && monotonic.saturating_sub(partition.progress_at) > self.config.stall_timeout
        });
        let Some((first, partition)) = stalled.first() else { return Ok(()) };
        let detail = format!("{first} has {} records and gives none", partition.lag);
        let stalled: BTreeSet<TopicPartition> =
            stalled.iter().map(|(topic_partition, _)| (*topic_partition).clone()).collect();
        if well.is_empty() || !stalled.is_subset(&self.stalled) {
            self.health.update(|health| health.stalled = stalled);
            return Err(BrokerError::new(BrokerErrorKind::Fatal, STALL_WATCHDOG, detail));
        }
        for topic_partition in stalled {
            let stop = PartitionStop {
                reason: STALLED,
                detail: format!("{topic_partition} gives nothing in spite of its lag"),
                command: "kafka-topics.sh --describe; see to the leader of the partition"
                    .to_owned(),
            };
            self.pause(&topic_partition, stop, Until::Retry)?;
        }
        Ok(())
    }

    /// A client that was thrown out of its group joins again by itself, but now and then never does.
    pub(super) fn watch_membership(&self) -> Result<(), BrokerError> {
        let monotonic = self.clock.monotonic();
        match self.outside_since {
            Some(since) if monotonic.saturating_sub(since) > self.config.outside_timeout => {
                let detail = format!("no place in the group for {:?}", monotonic - since);
                Err(BrokerError::new(BrokerErrorKind::Fatal, MEMBERSHIP_WATCHDOG, detail))
            }
            _ => Ok(()),
        }
    }

    /// A partition gave a record or was seen at its end.
    pub(super) fn moved(&mut self, topic_partition: &TopicPartition) {
        if self.stalled.remove(topic_partition) {
            self.health.update(|health| health.stalled.clone_from(&self.stalled));
        }
        let Some(partition) = self.partitions.get_mut(topic_partition) else { return };
        if let Some(alarm) = partition.alarm.take_if(|alarm| *alarm == STALLED) {
            self.alarm(topic_partition, Some(alarm), false);
        }
    }

    /// Tells health, and once a second the gauges.
    pub(super) fn report(&mut self) {
        let monotonic = self.clock.monotonic();
        let age = self.transaction.since().map(|since| monotonic.saturating_sub(since));
        let held = |phase: &Phase| matches!(phase, Phase::Held(_));
        let ready = self.partitions.values().filter(|p| p.is_running()).count();
        self.health.update(|health| {
            health.last_tick = monotonic;
            health.joined = self.outside_since.is_none();
            health.assigned = self.partitions.len();
            health.stopped.clear();
            health.stopped.extend(self.partitions.iter().filter_map(
                |(topic_partition, partition)| match &partition.phase {
                    Phase::Held(hold) => Some((topic_partition.clone(), hold.stop.clone())),
                    _ => None,
                },
            ));
            let stopped = self.partitions.values().filter(|p| held(&p.phase)).count();
            health.restoring = self.partitions.len() - ready - stopped;
            health.transaction_age = age;
            health.failures = self.failures;
            health.last_failure.clone_from(&self.last_failure);
        });
        if monotonic < self.gauges_at {
            return;
        }
        self.gauges_at = monotonic + GAUGES_EVERY;
        let shard = self.config.shard.as_str();
        let mut updates = vec![
            Metric::TransactionAge.update(&[shard], age.unwrap_or_default().as_secs_f64()),
            Metric::PartitionsReady.update(&[self.config.stage, shard], count(ready)),
        ];
        updates.extend(self.partitions.iter().map(|(topic_partition, partition)| {
            let number = topic_partition.partition.to_string();
            let lag = count(usize::try_from(partition.lag).unwrap_or(usize::MAX));
            Metric::ConsumerLag.update(&[&topic_partition.topic, &number], lag)
        }));
        self.metrics.publish(updates);
    }
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn failed(topic_partition: &TopicPartition, reason: &'static str, detail: &str) -> PartitionStop {
    PartitionStop {
        reason,
        detail: format!("{topic_partition} can't be read: {detail}"),
        command: match reason {
            "batch_corrupt" => "kafka-dump-log.sh; let an intact replica lead".to_owned(),
            _ => "blotter topics check".to_owned(),
        },
    }
}

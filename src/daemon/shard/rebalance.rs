//! A rebalance is an event of the loop: commit, then give back.

use super::partition::Partition;
use super::recovery::{Failure, Mode};
use super::{FaultPoint, Shard, Stop};
use crate::daemon::broker::{Broker, BrokerError};
use crate::daemon::clock::Clock;
use crate::pipeline::metric::Metric;
use crate::pipeline::record::TopicPartition;
use crate::pipeline::step::Stage;

impl<B: Broker, S: Stage, C: Clock> Shard<B, S, C> {
    /// Takes partitions over; each begins with its restore.
    pub(super) fn assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        self.outside_since = None;
        self.publish(Metric::Rebalances, &[self.config.stage, "assigned"], 1.0);
        self.broker.accept(partitions)?;
        for topic_partition in partitions {
            if self.partitions.contains_key(topic_partition) {
                self.drop_partition(topic_partition);
            }
            tracing::info!(partition = %topic_partition, shard = self.config.shard, "assigned");
            self.partitions.insert(topic_partition.clone(), Partition::assigned());
        }
        Ok(())
    }

    /// Commits what is done, unless the assignment is lost already, and gives partitions back.
    pub(super) fn revoked(
        &mut self,
        partitions: &[TopicPartition],
        lost: bool,
        stop: &Stop,
    ) -> Result<(), BrokerError> {
        let event = if lost { "lost" } else { "revoked" };
        if lost {
            self.outside_since = Some(self.clock.monotonic());
        }
        self.publish(Metric::Rebalances, &[self.config.stage, event], 1.0);
        if !partitions.is_empty() && matches!(self.mode, Mode::Running) {
            let result = if lost {
                Err(Failure::new("assignment_lost", "thrown out of the group"))
            } else {
                self.commit(stop)
            };
            self.settle(result)?;
        }
        if !partitions.is_empty() {
            self.suspend_unknown();
            self.pass(FaultPoint::DuringRebalance, 0);
        }
        for topic_partition in partitions {
            tracing::info!(partition = %topic_partition, shard = self.config.shard, lost, "revoked");
            self.drop_partition(topic_partition);
        }
        self.broker.release(partitions)
    }

    /// What another owner will show is no longer shown here.
    pub(super) fn drop_partitions(&mut self) {
        let all: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        for topic_partition in all {
            self.drop_partition(&topic_partition);
        }
    }

    fn drop_partition(&mut self, topic_partition: &TopicPartition) {
        self.stage.revoke(topic_partition);
        let mut shown = self.stage.withdraw(topic_partition);
        let number = topic_partition.partition.to_string();
        shown.push(Metric::ConsumerLag.series(&[&topic_partition.topic, &number]));
        self.metrics.withdraw(&shown);
        self.isolation.forget(topic_partition);
        self.unwritable.forget(topic_partition);
        if let Some(partition) = self.partitions.remove(topic_partition) {
            self.alarm(topic_partition, partition.alarm, false);
        }
    }
}

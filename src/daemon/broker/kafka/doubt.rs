//! A damaged batch: the client skips it, with an error that names no partition.

use super::super::{BrokerError, Event, PartitionFailure, TopicPartition};
use super::lookups::{Helper, Task};
use super::member::Member;
use super::partitions::State;

impl Member {
    /// One of the partitions has a damaged batch, which the client skips; the error names none. Until
    /// it is known which, no partition is read over a hole.
    pub(super) fn doubt(&mut self, helper: &mut Helper) {
        for partition in &mut self.partitions {
            partition.is_doubted |= matches!(partition.state, State::Running { .. });
        }
        match &mut self.inspecting {
            Some(again) => *again = true,
            None => self.inspect(helper),
        }
    }

    fn inspect(&mut self, helper: &mut Helper) {
        helper.ask(Task::Inspect(self.positions()));
        self.inspecting = Some(false);
    }

    /// Fails the partitions found damaged; the others go on where they stand.
    pub(super) fn inspected(
        &mut self,
        damaged: Vec<TopicPartition>,
        helper: &mut Helper,
        events: &mut Vec<Event>,
    ) -> Result<(), BrokerError> {
        for topic_partition in damaged {
            let Ok(partition) = self.partition(&topic_partition, "inspect") else { continue };
            if partition.is_doubted {
                partition.state = State::Paused;
                partition.is_doubted = false;
                let failure = PartitionFailure::Corrupt;
                let topic_partition = Some(topic_partition);
                events.push(Event::PartitionFailed { topic_partition, failure });
            }
        }
        if self.inspecting.take() == Some(true) {
            self.inspect(helper);
            return Ok(());
        }
        let mut again = Vec::new();
        for partition in &mut self.partitions {
            partition.is_doubted = false;
            if let State::Waiting { next } = partition.state {
                again.push((partition.topic_partition.clone(), next));
            }
        }
        again.iter().try_for_each(|(topic_partition, next)| self.start(topic_partition, *next))
    }

    pub(super) fn positions(&self) -> Vec<(TopicPartition, i64)> {
        let running = self.partitions.iter().filter_map(|partition| match partition.state {
            State::Running { next, .. } | State::Waiting { next } => {
                Some((partition.topic_partition.clone(), next))
            }
            State::Paused | State::Failed => None,
        });
        running.collect()
    }
}

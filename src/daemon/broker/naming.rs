//! Which records name their writer: the first of a transaction in each partition, and every one
//! that is not forwarded.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::pipeline::record::TopicPartition;
use crate::pipeline::step::OutputRecord;

/// The partitions in which the open transaction has named its writer.
#[derive(Default)]
pub(super) struct Naming {
    partitions: BTreeSet<TopicPartition>,
    /// The one asked for last: records of one partition come one after another.
    last: Option<TopicPartition>,
}

impl Naming {
    /// A transaction begins, or a record was not taken and comes again.
    pub(super) fn clear(&mut self) {
        self.partitions.clear();
        self.last = None;
    }

    /// Whether `record`, the next of the transaction, carries the writer's name.
    pub(super) fn names(&mut self, record: &OutputRecord<'_>) -> bool {
        let Some(partition) = record.partition.filter(|_| record.forwarded) else { return true };
        let is_last = |last: &TopicPartition| {
            last.partition == partition && Arc::ptr_eq(&last.topic, record.topic)
        };
        if self.last.as_ref().is_some_and(is_last) {
            return false;
        }
        let topic_partition = TopicPartition { topic: Arc::clone(record.topic), partition };
        self.last = Some(topic_partition.clone());
        self.partitions.insert(topic_partition)
    }
}

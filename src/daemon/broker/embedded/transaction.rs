//! The transaction coordinator: producer ids and epochs, open transactions and their time-out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ModelError;
use super::cluster::State;
use super::group::{CommittedOffset, GroupMetadata, METADATA_BYTES_MAX};
use super::log::{Body, ProducerId};
use crate::pipeline::record::{Timestamp, TopicPartition};
use crate::pipeline::step::OffsetCommit;

/// One incarnation of a transactional producer: what `InitProducerId` answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerHandle {
    /// The `transactional.id`.
    pub transactional_id: Arc<str>,
    epoch: i32,
}

#[derive(Debug)]
pub(super) struct Producer {
    id: ProducerId,
    epoch: i32,
    timeout_ms: i64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    since: Timestamp,
    partitions: BTreeSet<TopicPartition>,
    offsets: BTreeMap<(Arc<str>, TopicPartition), CommittedOffset>,
}

impl Producer {
    /// When the coordinator aborts the open transaction.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.open.as_ref().map(|open| open.since.plus_millis(self.timeout_ms))
    }
}

impl State {
    /// `InitProducerId`: fences every earlier incarnation and aborts what it left open.
    pub(super) fn init_producer(
        &mut self,
        transactional_id: &Arc<str>,
        timeout_ms: i64,
    ) -> ProducerHandle {
        if self.producers.contains_key(transactional_id) {
            self.end_transaction(transactional_id, false);
        }
        let next_id = ProducerId(i64::try_from(self.producers.len()).expect("few producers"));
        let producer = self.producers.entry(Arc::clone(transactional_id)).or_insert(Producer {
            id: next_id,
            epoch: -1,
            timeout_ms,
            open: None,
        });
        producer.epoch += 1;
        producer.timeout_ms = timeout_ms;
        ProducerHandle { transactional_id: Arc::clone(transactional_id), epoch: producer.epoch }
    }

    /// Appends a record to the producer's transaction, which begins with its first one.
    pub(super) fn append_transactional(
        &mut self,
        handle: &ProducerHandle,
        topic_partition: &TopicPartition,
        timestamp: Option<Timestamp>,
        body: Body,
    ) -> Result<i64, ModelError> {
        let now = self.now;
        let id = self.checked_producer(handle)?.id;
        let (topic, partition) = self.topic_mut(topic_partition)?;
        let offset = topic.append(partition, Some(id), timestamp, now, body)?;
        let open = self.open_transaction(handle);
        if !open.partitions.contains(topic_partition) {
            open.partitions.insert(topic_partition.clone());
        }
        Ok(offset)
    }

    /// `AddOffsetsToTxn` and `TxnOffsetCommit`: checks the member and its generation, not whether
    /// it owns the partitions.
    pub(super) fn send_offsets(
        &mut self,
        handle: &ProducerHandle,
        group: &Arc<str>,
        metadata: &GroupMetadata,
        offsets: &[OffsetCommit],
    ) -> Result<(), ModelError> {
        let id = self.checked_producer(handle)?.id;
        // The coordinator has taken the group into the transaction before the group refuses.
        self.open_transaction(handle);
        self.group_mut(group).validate_transactional_commit(metadata)?;
        if offsets.iter().any(|offset| offset.metadata.len() > METADATA_BYTES_MAX) {
            return Err(ModelError::OffsetMetadataTooLarge);
        }
        for commit in offsets {
            let key = (Arc::clone(group), commit.topic_partition.clone());
            let offset =
                CommittedOffset { offset: commit.offset, metadata: commit.metadata.clone() };
            self.open_transaction(handle).offsets.insert(key, offset);
            self.group_mut(group).hold(&commit.topic_partition, id);
        }
        Ok(())
    }

    /// `EndTxn`. Without anything in it a transaction ends without trace.
    pub(super) fn end(&mut self, handle: &ProducerHandle, commit: bool) -> Result<(), ModelError> {
        self.checked_producer(handle)?;
        self.end_transaction(&handle.transactional_id, commit);
        Ok(())
    }

    /// Aborts the transactions that have been open for longer than their time-out and fences their
    /// producers.
    pub(super) fn abort_timed_out(&mut self) {
        let now = self.now;
        let due: Vec<_> = self
            .producers
            .iter()
            .filter(|(_, producer)| producer.deadline().is_some_and(|deadline| deadline <= now))
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for transactional_id in due {
            self.end_transaction(&transactional_id, false);
            if let Some(producer) = self.producers.get_mut(&transactional_id) {
                producer.epoch += 1;
            }
        }
    }

    fn checked_producer(&self, handle: &ProducerHandle) -> Result<&Producer, ModelError> {
        let producer = self.producers.get(&handle.transactional_id);
        producer.filter(|own| own.epoch == handle.epoch).ok_or(ModelError::ProducerFenced)
    }

    fn open_transaction(&mut self, handle: &ProducerHandle) -> &mut Open {
        let since = self.now;
        self.touch();
        let producer = self.producers.get_mut(&handle.transactional_id);
        let producer = producer.expect("the handle was checked");
        producer.open.get_or_insert_with(|| Open {
            since,
            partitions: BTreeSet::new(),
            offsets: BTreeMap::new(),
        })
    }

    fn end_transaction(&mut self, transactional_id: &Arc<str>, commit: bool) {
        let now = self.now;
        let Some(producer) = self.producers.get_mut(transactional_id) else { return };
        let id = producer.id;
        let Some(open) = producer.open.take() else { return };
        for topic_partition in &open.partitions {
            // A topic deleted meanwhile has nothing to mark.
            if let Ok((topic, partition)) = self.topic_mut(topic_partition)
                && let Some(log) = topic.partitions.get_mut(partition)
            {
                log.end_transaction(id, commit, now);
            }
        }
        for ((group, topic_partition), offset) in open.offsets {
            let offset = commit.then_some(offset);
            self.group_mut(&group).unhold(&topic_partition, id, offset);
        }
    }
}

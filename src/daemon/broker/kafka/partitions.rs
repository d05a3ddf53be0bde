//! The partitions of a member: which of them run, and how far they were handed out.

use rdkafka::message::{BorrowedMessage, Headers, Message};

use super::super::{Event, RecordBatch, TopicPartition};
use super::context::PartitionStatistics;
use crate::pipeline::record::{Header, Timestamp};

/// Statistics emitted before a seek took effect may still be on their way: of a partition that has
/// given no record since its start the third ones (2 s) are the first to be believed.
const STATISTICS_UNTRUSTED: u8 = 2;

pub(super) struct Partition {
    pub(super) topic_partition: TopicPartition,
    pub(super) state: State,
    /// Index of its batch in the poll under way.
    pub(super) batch: Option<usize>,
    /// A damaged batch was met in one of the partitions, and it may be this one: the client skips
    /// it, so that only a record that follows on the last one is taken.
    pub(super) is_doubted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Paused,
    Running {
        next: i64,
        gave_records: bool,
        believed: bool,
        statistics_seen: u8,
    },
    /// Doubted, and the client has gone past `next`: waits for what is found there.
    Waiting {
        next: i64,
    },
    Failed,
}

pub(super) struct Taken {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

pub(super) fn take(
    partitions: &mut [Partition],
    message: &BorrowedMessage<'_>,
    taken: &mut Taken,
    batches: &mut Vec<RecordBatch>,
    spare: &mut Vec<RecordBatch>,
) {
    let Some(partition) = find(partitions, message.topic(), message.partition()) else { return };
    let State::Running { next, gave_records, .. } = &mut partition.state else { return };
    let offset = message.offset();
    // The client has been seen to deliver an offset twice right after an assignment.
    if offset < *next {
        return;
    }
    if partition.is_doubted && offset > *next {
        partition.state = State::Waiting { next: *next };
        return;
    }
    partition.is_doubted = false;
    *next = offset + 1;
    *gave_records = true;
    let index = *partition.batch.get_or_insert_with(|| {
        let of = partition.topic_partition.clone();
        batches.push(match spare.pop() {
            Some(used) => used.recycled(of),
            None => RecordBatch::new(of),
        });
        batches.len() - 1
    });
    let batch = &mut batches[index];
    let before = batch.size_bytes();
    let headers = message.headers().into_iter().flat_map(|headers| {
        headers.iter().map(|header| Header { name: header.key, value: header.value })
    });
    // Records of the oldest formats carry no timestamp; Kafka writes that as -1.
    let timestamp = Timestamp::from_millis(message.timestamp().to_millis().unwrap_or(-1));
    batch.push(offset, timestamp, message.key(), message.payload(), headers);
    taken.records += 1;
    taken.bytes += batch.size_bytes() - before;
}

pub(super) fn find<'a>(
    partitions: &'a mut [Partition],
    topic: &str,
    number: i32,
) -> Option<&'a mut Partition> {
    partitions.iter_mut().find(|known| {
        known.topic_partition.partition == number && &*known.topic_partition.topic == topic
    })
}

/// The statistics come through the same queue as the records, behind every record that was fetched
/// before them: where the fetcher stood at the end and that end is not above the next offset to
/// hand out, everything visible has been handed out.
pub(super) fn observe(
    partitions: &mut [Partition],
    topic: &str,
    numbers: &PartitionStatistics,
    events: &mut Vec<Event>,
) {
    let Some(partition) = find(partitions, topic, numbers.partition) else { return };
    let is_doubted = partition.is_doubted;
    let State::Running { next, gave_records, believed, statistics_seen } = &mut partition.state
    else {
        return;
    };
    let trusted = *believed || *statistics_seen >= STATISTICS_UNTRUSTED;
    *believed = trusted || *gave_records;
    *statistics_seen = statistics_seen.saturating_add(1);
    let end_offset = numbers.eof_offset;
    if trusted && !is_doubted && end_offset == numbers.next_offset && end_offset >= *next {
        let topic_partition = partition.topic_partition.clone();
        events.push(Event::CaughtUp { topic_partition, end_offset });
    }
    if numbers.ls_offset >= 0 {
        let records = u64::try_from(numbers.ls_offset - *next).unwrap_or(0);
        let topic_partition = partition.topic_partition.clone();
        events.push(Event::Lag { topic_partition, records });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(next: i64, gave_records: bool) -> Vec<Partition> {
        let state = State::Running { next, gave_records, believed: false, statistics_seen: 0 };
        let topic_partition = TopicPartition::new("t", 0);
        vec![Partition { topic_partition, state, batch: None, is_doubted: false }]
    }

    fn caught_up(partitions: &mut [Partition], next_offset: i64, eof_offset: i64) -> bool {
        let numbers =
            PartitionStatistics { partition: 0, next_offset, eof_offset, ls_offset: next_offset };
        let mut events = Vec::new();
        observe(partitions, "t", &numbers, &mut events);
        events.iter().any(|event| matches!(event, Event::CaughtUp { .. }))
    }

    #[test]
    fn statistics_from_before_a_start_are_not_believed() {
        let mut partitions = running(5, false);
        let seen: Vec<_> = (0..4).map(|_| caught_up(&mut partitions, 100, 100)).collect();
        assert_eq!(seen, [false, false, true, true]);
        let mut partitions = running(5, true);
        let seen: Vec<_> = (0..3).map(|_| caught_up(&mut partitions, 5, 5)).collect();
        assert_eq!(seen, [false, true, true]);
    }

    #[test]
    fn an_end_that_was_left_behind_or_not_reached_is_no_end() {
        let mut partitions = running(5, true);
        caught_up(&mut partitions, 5, 5);
        assert!(!caught_up(&mut partitions, 9, 5), "the fetcher has moved on");
        assert!(!caught_up(&mut partitions, 4, 4), "more was handed out since");
        assert!(!caught_up(&mut partitions, -1001, -1001), "unknown");
        assert!(caught_up(&mut partitions, 6, 6), "control records stand between");
    }
}

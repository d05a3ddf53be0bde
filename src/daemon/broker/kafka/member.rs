//! The group member of a slot: records, rebalances, positions.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::super::{
    BrokerError, BrokerErrorKind, Event, LookupFailure, PartitionFailure, RecordBatch, SlotConfig,
    Subscription, TopicPartition, TopicPattern,
};
use super::config::KafkaConfig;
use super::context::{MemberContext, Rebalance};
use super::errors::{by_code, classify, partition_failure};
use super::hand_over::{GroupRest, HandOver, Step};
use super::lookups::{Answer, Helper, Task};
use super::partitions::{self, Partition, State, Taken, find, take};
use crate::daemon::clock::{Clock, SystemClock};

/// Longest wait while a look-up is under way: its answer does not wake the consumer.
const ANSWER_POLL: Duration = Duration::from_millis(5);

/// Time between two tries of a seek that came before the fetcher had started.
const SEEK_RETRY: Duration = Duration::from_millis(2);

/// How long a fetcher may take to start before it is taken to stand still.
const SEEK_PATIENCE: Duration = Duration::from_millis(500);

pub(super) struct Member {
    /// Present until closed.
    consumer: Option<BaseConsumer<MemberContext>>,
    pub(super) partitions: Vec<Partition>,
    metadata: Option<ConsumerGroupMetadata>,
    /// The rebalance handed out and not yet answered.
    unanswered: Option<Rebalance>,
    /// A failed partition was assigned anew since the queue was last empty: a revocation that was
    /// already under way then has been answered by that, so it counts as lost.
    reassigned: bool,
    /// Whether partitions are being looked into for a damaged batch, and whether another one was met
    /// since.
    pub(super) inspecting: Option<bool>,
    /// Batches of earlier polls, to be filled again.
    spare: Vec<RecordBatch>,
    /// A static member's way into the group.
    hand_over: Option<HandOver>,
    topics: Vec<String>,
    clock: SystemClock,
    poll_records_max: usize,
    poll_bytes_max: usize,
    operation_timeout: Duration,
}

impl Member {
    /// A client that joins the group of `slot`: a dynamic one now, a static one as soon as that
    /// orphans no partition.
    pub(super) fn join(config: &KafkaConfig, slot: &SlotConfig) -> Result<Self, BrokerError> {
        let context = MemberContext::default();
        let consumer: BaseConsumer<MemberContext> = config
            .member(slot)
            .create_with_context(context)
            .map_err(|error| classify("create consumer", &error))?;
        let clock = SystemClock::new();
        let outside = || HandOver::outside(slot.session_timeout, clock.monotonic());
        let member = Self {
            consumer: Some(consumer),
            partitions: Vec::new(),
            metadata: None,
            unanswered: None,
            reassigned: false,
            inspecting: None,
            spare: Vec::new(),
            hand_over: slot.instance_id.as_ref().map(|_| outside()),
            topics: subscription(&slot.subscription),
            clock,
            poll_records_max: slot.poll_records_max,
            poll_bytes_max: slot.poll_bytes_max,
            operation_timeout: slot.operation_timeout,
        };
        if member.hand_over.is_none() {
            member.subscribe()?;
        }
        Ok(member)
    }

    fn subscribe(&self) -> Result<(), BrokerError> {
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        self.consumer().subscribe(&topics).map_err(|error| classify("subscribe", &error))
    }

    fn consumer(&self) -> &BaseConsumer<MemberContext> {
        self.consumer.as_ref().expect("present until closed")
    }

    pub(super) fn group_metadata(&self) -> Option<&ConsumerGroupMetadata> {
        self.metadata.as_ref()
    }

    pub(super) fn poll(
        &mut self,
        wait: Duration,
        helper: &mut Helper,
        batches: &mut Vec<RecordBatch>,
        events: &mut Vec<Event>,
    ) -> Result<(), BrokerError> {
        self.spare.append(batches);
        let clock = SystemClock::new();
        let mut taken = Taken { records: 0, bytes: 0 };
        let known = events.len();
        let mut outcome = loop {
            self.look_at_group(helper);
            let left = wait.saturating_sub(clock.monotonic());
            let slice = if helper.is_busy() { left.min(ANSWER_POLL) } else { left };
            let outcome = self.poll_once(whole_millis(slice), &mut taken, helper, batches, events);
            self.collect_events(helper, events)?;
            if outcome.is_err() || taken.records > 0 || events.len() > known {
                break outcome.map(drop);
            }
            if clock.monotonic() >= wait {
                break Ok(());
            }
        };
        while outcome.is_ok()
            && taken.records < self.poll_records_max
            && taken.bytes < self.poll_bytes_max
        {
            match self.poll_once(Duration::ZERO, &mut taken, helper, batches, events) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => outcome = Err(error),
            }
        }
        self.collect_events(helper, events)?;
        for partition in &mut self.partitions {
            partition.batch = None;
        }
        outcome
    }

    /// Takes what the client has next; `false` when there was neither a record nor an error.
    fn poll_once(
        &mut self,
        wait: Duration,
        taken: &mut Taken,
        helper: &mut Helper,
        batches: &mut Vec<RecordBatch>,
        events: &mut Vec<Event>,
    ) -> Result<bool, BrokerError> {
        let consumer = self.consumer.as_ref().expect("present until closed");
        match consumer.poll(wait) {
            None => Ok(false),
            Some(Ok(message)) => {
                take(&mut self.partitions, &message, taken, batches, &mut self.spare);
                Ok(true)
            }
            Some(Err(error)) => self.read_error(&error, helper, events).map(|()| true),
        }
    }

    fn read_error(
        &mut self,
        error: &KafkaError,
        helper: &mut Helper,
        events: &mut Vec<Event>,
    ) -> Result<(), BrokerError> {
        if let Some((code, detail)) = self.consumer().client().fatal_error() {
            let kind = match by_code(code) {
                Some(BrokerErrorKind::InstanceFenced) => BrokerErrorKind::InstanceFenced,
                _ => BrokerErrorKind::Fatal,
            };
            return Err(BrokerError::new(kind, "poll", detail));
        }
        let Some(code) = error.rdkafka_error_code() else { return Ok(()) };
        if code == RDKafkaErrorCode::GroupAuthorizationFailed {
            return Err(classify("poll", error));
        }
        match partition_failure(code) {
            // The error names no partition; the watermarks tell which one it is.
            Some(PartitionFailure::OffsetOutOfRange) => helper.ask(Task::Probe(self.positions())),
            Some(PartitionFailure::Corrupt) => self.doubt(helper),
            Some(failure) => events.push(Event::PartitionFailed { topic_partition: None, failure }),
            None => tracing::debug!(target: "librdkafka", %error, "passing fault"),
        }
        Ok(())
    }

    fn look_at_group(&mut self, helper: &mut Helper) {
        let now = self.clock.monotonic();
        if self.hand_over.as_mut().is_some_and(|hand_over| hand_over.takes_look(now)) {
            helper.ask(Task::Group);
        }
    }

    fn take_look(&mut self, look: Result<GroupRest, LookupFailure>) -> Result<(), BrokerError> {
        let now = self.clock.monotonic();
        let Some(hand_over) = &mut self.hand_over else { return Ok(()) };
        match hand_over.judge(look, now) {
            Step::Stay => Ok(()),
            Step::Join => self.subscribe(),
            Step::Leave(orphan) => {
                let detail = format!("{orphan} was left to nobody by a rebalance cut short");
                Err(BrokerError::new(BrokerErrorKind::Fatal, "join", detail))
            }
        }
    }

    fn collect_events(
        &mut self,
        helper: &mut Helper,
        events: &mut Vec<Event>,
    ) -> Result<(), BrokerError> {
        self.hand_out_rebalance(events);
        if let Some(statistics) = self.consumer().context().take_statistics() {
            for (topic, of_topic) in &statistics.topics {
                for numbers in of_topic.partitions.values() {
                    partitions::observe(&mut self.partitions, topic, numbers, events);
                }
            }
        }
        while let Some(answer) = helper.answer() {
            match answer {
                Answer::Event(event) => events.push(event),
                Answer::Failed(failed) => self.fail(failed, events),
                Answer::Inspected(damaged) => self.inspected(damaged, helper, events)?,
                Answer::Group(look) => self.take_look(look)?,
            }
        }
        Ok(())
    }

    /// One at a time: the next one comes when this one has been answered.
    fn hand_out_rebalance(&mut self, events: &mut Vec<Event>) {
        if self.unanswered.is_some() {
            return;
        }
        let Some(mut rebalance) = self.consumer().context().take_rebalance() else {
            self.reassigned = false;
            return;
        };
        if let Rebalance::Revoked { lost, .. } = &mut rebalance {
            *lost |= self.reassigned;
        }
        // Taken here and nowhere else: a member that slept presents its old generation. One that
        // was thrown out presents none: without a member the broker would not fence it.
        let lost = matches!(rebalance, Rebalance::Revoked { lost: true, .. });
        self.metadata = if lost { None } else { self.consumer().group_metadata() };
        events.push(self.announce(&rebalance));
        self.unanswered = Some(rebalance);
    }

    fn announce(&mut self, rebalance: &Rebalance) -> Event {
        match rebalance {
            Rebalance::Assigned(partitions) => {
                let now = self.clock.monotonic();
                self.hand_over.iter_mut().for_each(|hand_over| hand_over.assigned(now));
                Event::Assigned(partitions.clone())
            }
            Rebalance::Revoked { partitions, lost } => {
                for partition in &mut self.partitions {
                    if partitions.contains(&partition.topic_partition) {
                        partition.state = State::Paused;
                    }
                }
                Event::Revoked { partitions: partitions.clone(), lost: *lost }
            }
        }
    }

    fn fail(&mut self, failed: Vec<(TopicPartition, PartitionFailure)>, events: &mut Vec<Event>) {
        if failed.is_empty() {
            let failure = PartitionFailure::OffsetOutOfRange;
            events.push(Event::PartitionFailed { topic_partition: None, failure });
        }
        for (topic_partition, failure) in failed {
            let partition =
                find(&mut self.partitions, &topic_partition.topic, topic_partition.partition);
            if let Some(partition) = partition
                && matches!(partition.state, State::Running { .. })
            {
                partition.state = State::Failed;
                let topic_partition = Some(topic_partition);
                events.push(Event::PartitionFailed { topic_partition, failure });
            }
        }
    }

    pub(super) fn accept(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        self.unanswered = None;
        // Paused before, so that nothing is fetched from the offset it is assigned with (a pause
        // outlives an assignment), and after, for partitions the client did not know before. That
        // offset must be absolute: the answer to a query for a logical one, when a seek has
        // overtaken it, makes the client ask again and go there (librdkafka 2.12.1).
        let list = list(partitions, Offset::Offset(0))?;
        self.consumer().pause(&list).map_err(|error| classify("pause", &error))?;
        let outcome = match self.consumer().rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer().incremental_assign(&list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => self.consumer().assign(&list),
        };
        outcome.map_err(|error| classify("assign", &error))?;
        self.consumer().pause(&list).map_err(|error| classify("pause", &error))?;
        for topic_partition in partitions {
            self.partitions.retain(|known| known.topic_partition != *topic_partition);
            let topic_partition = topic_partition.clone();
            let state = State::Paused;
            let partition = Partition { topic_partition, state, batch: None, is_doubted: false };
            self.partitions.push(partition);
        }
        Ok(())
    }

    pub(super) fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        self.unanswered = None;
        let held: Vec<_> = partitions
            .iter()
            .filter(|gone| self.partitions.iter().any(|known| known.topic_partition == **gone))
            .cloned()
            .collect();
        self.partitions.retain(|known| !partitions.contains(&known.topic_partition));
        let outcome = match self.consumer().rebalance_protocol() {
            RebalanceProtocol::Cooperative => {
                self.consumer().incremental_unassign(&list(&held, Offset::Invalid)?)
            }
            RebalanceProtocol::Eager | RebalanceProtocol::None => self.consumer().unassign(),
        };
        outcome.map_err(|error| classify("unassign", &error))
    }

    pub(super) fn start(
        &mut self,
        topic_partition: &TopicPartition,
        position: i64,
    ) -> Result<(), BrokerError> {
        let state = self.partition(topic_partition, "start")?.state;
        let one = std::slice::from_ref(topic_partition);
        if state == State::Failed {
            self.assign_anew(one, position)?;
        } else {
            self.pause(topic_partition)?;
            if !self.seek(one, position)? {
                self.assign_anew(one, position)?;
            }
        }
        let resumed = self.consumer().resume(&list(one, Offset::Invalid)?);
        resumed.map_err(|error| classify("resume", &error))?;
        let partition = self.partition(topic_partition, "start")?;
        partition.is_doubted = false;
        partition.state = State::Running {
            next: position,
            gave_records: false,
            believed: false,
            statistics_seen: 0,
        };
        Ok(())
    }

    /// `false` when the fetcher of the partition stands still.
    fn seek(&self, one: &[TopicPartition], position: i64) -> Result<bool, BrokerError> {
        let failed = |error: KafkaError| {
            BrokerError::new(BrokerErrorKind::Retriable, "seek", error.to_string())
        };
        let clock = SystemClock::new();
        loop {
            let wanted = list(one, Offset::Offset(position))?;
            let sought = self.consumer().seek_partitions(wanted, self.operation_timeout);
            let sought = sought.map_err(failed)?;
            let outcome = sought.elements().first().map_or(Ok(()), |element| element.error());
            let Err(error) = outcome else { return Ok(true) };
            // The fetcher of a partition just assigned may not have started yet.
            let early = matches!(
                error.rdkafka_error_code(),
                Some(RDKafkaErrorCode::State | RDKafkaErrorCode::PreviousInProgress)
            );
            if !early {
                return Err(failed(error));
            }
            if clock.monotonic() >= SEEK_PATIENCE {
                return Ok(false);
            }
            std::thread::park_timeout(SEEK_RETRY);
        }
    }

    /// The fetcher of a partition whose offset was out of range stands still for good, and a seek
    /// is refused: only a new assignment starts it.
    fn assign_anew(&mut self, one: &[TopicPartition], position: i64) -> Result<(), BrokerError> {
        const OPERATION: &str = "start a failed partition";
        let refuse = |kind, detail: &str| Err(BrokerError::new(kind, OPERATION, detail));
        if !matches!(self.consumer().rebalance_protocol(), RebalanceProtocol::Cooperative) {
            return refuse(BrokerErrorKind::Fatal, "an eager member is assigned as a whole");
        }
        if self.unanswered.is_some() {
            return refuse(BrokerErrorKind::Retriable, "a rebalance waits for its answer");
        }
        self.reassigned = true;
        let list = list(one, Offset::Offset(position))?;
        self.consumer()
            .incremental_unassign(&list)
            .and_then(|()| self.consumer().incremental_assign(&list))
            .map_err(|error| classify(OPERATION, &error))
    }

    pub(super) fn pause(&mut self, topic_partition: &TopicPartition) -> Result<(), BrokerError> {
        let one = list(std::slice::from_ref(topic_partition), Offset::Invalid)?;
        let partition = self.partition(topic_partition, "pause")?;
        if partition.state != State::Failed {
            partition.state = State::Paused;
        }
        self.consumer().pause(&one).map_err(|error| classify("pause", &error))
    }

    pub(super) fn partition(
        &mut self,
        wanted: &TopicPartition,
        operation: &'static str,
    ) -> Result<&mut Partition, BrokerError> {
        let found = find(&mut self.partitions, &wanted.topic, wanted.partition);
        found.ok_or_else(|| {
            let detail = format!("{wanted} is not assigned");
            BrokerError::new(BrokerErrorKind::StaleMember, operation, detail)
        })
    }

    /// Leaves (or, as a static member, does not) and waits for that at most `timeout`.
    pub(super) fn close(mut self, timeout: Duration) {
        if let Some(done) = self.shut() {
            // Past the time-out the thread goes on by itself and ends with the process.
            let _ = done.recv_timeout(timeout);
        }
    }

    /// Answers what waits for an answer (closing would wait for it for ever) and drops the client
    /// on a thread of its own, since that may wait for a broker.
    fn shut(&mut self) -> Option<std::sync::mpsc::Receiver<()>> {
        let consumer = self.consumer.take()?;
        consumer.context().close();
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let queued = std::iter::from_fn(|| consumer.context().take_rebalance());
        for rebalance in self.unanswered.take().into_iter().chain(queued) {
            let answered = match (rebalance, cooperative) {
                (Rebalance::Assigned(_), true) => {
                    consumer.incremental_assign(&TopicPartitionList::new())
                }
                (Rebalance::Revoked { partitions, .. }, true) => list(&partitions, Offset::Invalid)
                    .map_or(Ok(()), |gone| consumer.incremental_unassign(&gone)),
                (_, false) => consumer.unassign(),
            };
            if let Err(error) = answered {
                tracing::debug!(target: "librdkafka", %error, "rebalance while closing");
            }
        }
        let (sender, done) = std::sync::mpsc::channel();
        let dropping = std::thread::Builder::new().name("blotter-drop".into());
        let spawned = dropping.spawn(move || {
            drop(consumer);
            // Nobody may be waiting any more.
            let _ = sender.send(());
        });
        spawned.is_ok().then_some(done)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.shut());
    }
}

/// The client waits for whole milliseconds and spins through what is left over.
fn whole_millis(wait: Duration) -> Duration {
    let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    Duration::from_millis(millis)
}

fn list(partitions: &[TopicPartition], offset: Offset) -> Result<TopicPartitionList, BrokerError> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for TopicPartition { topic, partition } in partitions {
        list.add_partition_offset(topic, *partition, offset)
            .map_err(|error| classify("list partitions", &error))?;
    }
    Ok(list)
}

/// librdkafka takes a topic that starts with `^` for a regular expression, and refuses a
/// subscription that names one twice.
fn subscription(subscription: &Subscription) -> Vec<String> {
    let names = subscription.topics.iter().map(|topic| &**topic);
    let patterns = subscription.patterns.iter().map(TopicPattern::posix);
    let all: BTreeSet<&str> = names.chain(patterns).collect();
    all.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_subscribed_to_twice() {
        let topics = vec!["b".into(), "a".into(), "b".into()];
        let patterns = [r"\d", "[0-9]"].map(|text| TopicPattern::new(text).unwrap()).to_vec();
        let twice = Subscription { topics, patterns, excluded: Vec::new() };
        assert_eq!(subscription(&twice), ["^([0123456789])$", "a", "b"]);
    }
}

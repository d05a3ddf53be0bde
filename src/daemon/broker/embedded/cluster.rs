//! The modelled cluster: topics, groups and transactions behind one lock, moved on by its clock.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ModelError;
use super::group::{CommittedOffset, Group, GroupName};
use super::log::{Body, Isolation, StoredRecord};
use super::member::GroupClient;
use super::topic::{Topic, TopicConfig, partition_for_key};
use super::transaction::{Producer, ProducerHandle};
use crate::daemon::clock::Clock;
use crate::pipeline::record::{Timestamp, TopicPartition};

/// Settings of the modelled brokers and of the clients' side of the group protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// `heartbeat.interval.ms` of every member.
    pub heartbeat_interval_ms: i64,
    /// How long a rebalance waits for a member that heartbeats but does not join.
    pub rebalance_timeout_ms: i64,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self { heartbeat_interval_ms: 1_000, rebalance_timeout_ms: 300_000 }
    }
}

/// Everything the brokers know. Time moves in [`State::advance`] only.
pub(super) struct State {
    pub(super) now: Timestamp,
    pub(super) config: ClusterConfig,
    pub(super) topics: BTreeMap<Arc<str>, Topic>,
    pub(super) producers: BTreeMap<Arc<str>, Producer>,
    pub(super) groups: BTreeMap<GroupName, Group>,
    pub(super) clients: BTreeMap<u64, GroupClient>,
    pub(super) clients_seen: u64,
    /// Commits that are on their way still.
    pub(super) kept: VecDeque<ProducerHandle>,
    /// Grows with everything a waiting client may want to see.
    pub(super) version: u64,
    next_due: Option<Timestamp>,
    keyless_sent: i32,
}

impl State {
    /// Lets everything happen that is due up to `target`, in the order of its time.
    pub(super) fn advance(&mut self, target: Timestamp) {
        loop {
            let due = match self.next_due {
                Some(due) => due,
                None => self.earliest_due(),
            };
            self.next_due = Some(due);
            if due > target {
                self.now = self.now.max(target);
                return;
            }
            self.now = self.now.max(due);
            self.next_due = None;
            self.tick_due();
            self.expire_members();
            self.abort_timed_out();
        }
    }

    /// Something now has another deadline.
    pub(super) fn touch(&mut self) {
        self.next_due = None;
        self.version += 1;
    }

    pub(super) fn topic_mut(
        &mut self,
        topic_partition: &TopicPartition,
    ) -> Result<(&mut Topic, usize), ModelError> {
        let topic = self.topics.get_mut(&topic_partition.topic);
        let topic = topic.ok_or(ModelError::UnknownTopicOrPartition)?;
        let partition = usize::try_from(topic_partition.partition).unwrap_or(usize::MAX);
        let exists = partition < topic.partitions.len();
        exists.then_some((topic, partition)).ok_or(ModelError::UnknownTopicOrPartition)
    }

    pub(super) fn group_mut(&mut self, group: &GroupName) -> &mut Group {
        self.groups.entry(Arc::clone(group)).or_default()
    }

    /// The partition a record without one goes to.
    pub(super) fn choose_partition(
        &mut self,
        topic: &Arc<str>,
        key: Option<&[u8]>,
    ) -> Result<i32, ModelError> {
        let count = self.topics.get(topic).map(|topic| topic.partitions.len());
        let count = count.ok_or(ModelError::UnknownTopicOrPartition)?;
        let count = i32::try_from(count).expect("counts are i32");
        Ok(match key {
            Some(key) => partition_for_key(key, count),
            None => {
                self.keyless_sent = self.keyless_sent.wrapping_add(1) & i32::MAX;
                self.keyless_sent % count.max(1)
            }
        })
    }

    pub(super) fn next_due(&mut self) -> Timestamp {
        let due = self.next_due.unwrap_or_else(|| self.earliest_due());
        self.next_due = Some(due);
        due
    }

    fn earliest_due(&self) -> Timestamp {
        let heartbeats = self.clients.values().filter_map(GroupClient::next_heartbeat);
        let groups = self.groups.values().filter_map(Group::deadline);
        let transactions = self.producers.values().filter_map(Producer::deadline);
        let due = heartbeats.chain(groups).chain(transactions).min();
        due.unwrap_or(Timestamp::from_millis(i64::MAX))
    }

    fn expire_members(&mut self) {
        let (now, timeout_ms) = (self.now, self.config.rebalance_timeout_ms);
        let groups = self.groups.values_mut();
        let due = groups.filter(|group| group.deadline().is_some_and(|due| due <= now));
        let synced: Vec<_> = due.flat_map(|group| group.expire(now, timeout_ms)).collect();
        self.deliver(synced);
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    clock: Arc<dyn Clock + Send + Sync>,
    /// Wall time of the clock's monotonic zero: the brokers' time never runs backwards.
    origin: Timestamp,
}

/// A cluster in memory. Clones share it; every method may be called from any thread.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

impl Cluster {
    /// An empty cluster that lives by `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock + Send + Sync>, config: ClusterConfig) -> Self {
        let origin = clock.now().plus_millis(-millis(clock.monotonic()));
        let state = State {
            now: clock.now(),
            config,
            topics: BTreeMap::new(),
            producers: BTreeMap::new(),
            groups: BTreeMap::new(),
            clients: BTreeMap::new(),
            clients_seen: 0,
            kept: VecDeque::new(),
            version: 0,
            next_due: None,
            keyless_sent: 0,
        };
        let shared = Shared { state: Mutex::new(state), changed: Condvar::new(), clock, origin };
        Self(Arc::new(shared))
    }

    /// The brokers' time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.origin.plus_millis(millis(self.0.clock.monotonic()))
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// It exists, or has no partition.
    pub fn create_topic(&self, name: &str, config: TopicConfig) -> Result<(), ModelError> {
        let mut state = self.lock();
        if state.topics.contains_key(name) {
            return Err(ModelError::TopicExists);
        }
        if config.partitions < 1 {
            return Err(ModelError::InvalidPartitions);
        }
        state.topics.insert(Arc::from(name), Topic::new(config));
        self.changed(state);
        Ok(())
    }

    /// Deletes a topic with its records and the offsets committed for it.
    ///
    /// # Errors
    /// It does not exist.
    pub fn delete_topic(&self, name: &str) -> Result<(), ModelError> {
        let mut state = self.lock();
        state.topics.remove(name).ok_or(ModelError::UnknownTopicOrPartition)?;
        state.groups.values_mut().for_each(|group| group.forget_topic(name));
        self.changed(state);
        Ok(())
    }

    /// Adds partitions up to `partitions`.
    ///
    /// # Errors
    /// The topic does not exist or has that many or more.
    pub fn grow_topic(&self, name: &str, partitions: i32) -> Result<(), ModelError> {
        let mut state = self.lock();
        let topic = state.topics.get_mut(name).ok_or(ModelError::UnknownTopicOrPartition)?;
        if partitions <= topic.config.partitions {
            return Err(ModelError::InvalidPartitions);
        }
        topic.config.partitions = partitions;
        let count = usize::try_from(partitions).map_err(|_| ModelError::InvalidPartitions)?;
        topic.partitions.resize_with(count, Default::default);
        self.changed(state);
        Ok(())
    }

    /// Names and configurations of the topics.
    #[must_use]
    pub fn topics(&self) -> Vec<(Arc<str>, TopicConfig)> {
        let state = self.lock();
        state.topics.iter().map(|(name, topic)| (Arc::clone(name), topic.config.clone())).collect()
    }

    /// Appends a record outside any transaction; gives its offset.
    ///
    /// # Errors
    /// What the brokers refuse.
    pub fn produce(
        &self,
        topic_partition: &TopicPartition,
        timestamp: Option<Timestamp>,
        body: Body,
    ) -> Result<i64, ModelError> {
        let mut state = self.lock();
        let now = state.now;
        let (topic, partition) = state.topic_mut(topic_partition)?;
        let offset = topic.append(partition, None, timestamp, now, body)?;
        self.changed(state);
        Ok(offset)
    }

    /// The partition of `topic` that a record with this key goes to.
    ///
    /// # Errors
    /// The topic does not exist.
    pub fn partition_for(&self, topic: &Arc<str>, key: Option<&[u8]>) -> Result<i32, ModelError> {
        self.lock().choose_partition(topic, key)
    }

    /// Every record that `isolation` shows from `from` on, and where to go on.
    ///
    /// # Errors
    /// Unknown partition, or `from` lies outside the log.
    pub fn read(
        &self,
        topic_partition: &TopicPartition,
        isolation: Isolation,
        from: i64,
    ) -> Result<(Vec<StoredRecord>, i64), ModelError> {
        let mut state = self.lock();
        let (topic, partition) = state.topic_mut(topic_partition)?;
        let log = topic.partitions.get(partition).ok_or(ModelError::UnknownTopicOrPartition)?;
        let mut records = Vec::new();
        let next = log.read(isolation, from, i64::MAX, |record| {
            records.push(record.clone());
            true
        })?;
        Ok((records, next))
    }

    /// Low watermark, high watermark, last stable offset.
    ///
    /// # Errors
    /// Unknown partition.
    pub fn watermarks(&self, partition: &TopicPartition) -> Result<(i64, i64, i64), ModelError> {
        let mut state = self.lock();
        let (topic, index) = state.topic_mut(partition)?;
        let log = topic.partitions.get(index).ok_or(ModelError::UnknownTopicOrPartition)?;
        Ok((log.low(), log.high(), log.last_stable()))
    }

    /// The first offset whose record's time is at or after `time`.
    ///
    /// # Errors
    /// Unknown partition.
    pub fn offset_at(
        &self,
        partition: &TopicPartition,
        time: Timestamp,
    ) -> Result<Option<i64>, ModelError> {
        let mut state = self.lock();
        let (topic, index) = state.topic_mut(partition)?;
        Ok(topic.partitions.get(index).and_then(|log| log.offset_at(time)))
    }

    /// Retention: deletes the records below `before`.
    ///
    /// # Errors
    /// Unknown partition.
    pub fn delete_records(
        &self,
        partition: &TopicPartition,
        before: i64,
    ) -> Result<(), ModelError> {
        self.with_log(partition, |log| log.delete_before(before))
    }

    /// Loses the records from `end` on, as an unclean leader election does.
    ///
    /// # Errors
    /// Unknown partition.
    pub fn truncate(&self, partition: &TopicPartition, end: i64) -> Result<(), ModelError> {
        self.with_log(partition, |log| log.truncate(end))
    }

    /// Compacts a partition now.
    ///
    /// # Errors
    /// Unknown partition.
    pub fn compact(&self, partition: &TopicPartition) -> Result<(), ModelError> {
        self.with_log(partition, super::log::PartitionLog::compact)
    }

    /// The group's offset.
    ///
    /// # Errors
    /// [`ModelError::UnstableOffset`] while an open transaction holds one.
    pub fn committed(
        &self,
        group: &str,
        partition: &TopicPartition,
    ) -> Result<Option<CommittedOffset>, ModelError> {
        let state = self.lock();
        state.groups.get(group).map_or(Ok(None), |group| group.committed(partition))
    }

    /// What an operator's tool does: sets (or, with `None`, deletes) a group's offset.
    ///
    /// # Errors
    /// [`ModelError::NonEmptyGroup`] while the group has members.
    pub fn alter_offset(
        &self,
        group: &str,
        partition: &TopicPartition,
        offset: Option<CommittedOffset>,
    ) -> Result<(), ModelError> {
        let mut state = self.lock();
        let own = state.group_mut(&Arc::from(group));
        if !own.is_empty() {
            return Err(ModelError::NonEmptyGroup);
        }
        own.set_offset(partition, offset);
        self.changed(state);
        Ok(())
    }

    /// The group's generation and whether it has members.
    #[must_use]
    pub fn group(&self, group: &str) -> (i32, bool) {
        let state = self.lock();
        state.groups.get(group).map_or((0, false), |own| (own.generation(), !own.is_empty()))
    }

    /// `InitProducerId` with another's transactional id: aborts what it left open and fences it.
    #[must_use]
    pub fn init_producer(&self, transactional_id: &str, timeout: Duration) -> ProducerHandle {
        let mut state = self.lock();
        let handle = state.init_producer(&Arc::from(transactional_id), millis(timeout));
        self.changed(state);
        handle
    }

    /// Lets the commit arrive that has been [kept](super::Verdict::Keep) longest, and gives what
    /// the brokers answer it; nobody else hears of that. `None` when no commit is on its way.
    #[must_use]
    pub fn deliver_kept(&self) -> Option<Result<(), ModelError>> {
        let mut state = self.lock();
        let handle = state.kept.pop_front()?;
        let outcome = state.end(&handle, true);
        self.changed(state);
        Some(outcome)
    }

    /// Stops or continues a member's heartbeats, as SIGSTOP and SIGCONT of its process do.
    pub fn freeze_member(&self, member: u64, frozen: bool) {
        let mut state = self.lock();
        state.freeze_client(member, frozen);
        self.changed(state);
    }

    /// Asks every member of the group to join again: a new generation, as after a change of topics.
    pub fn rebalance(&self, group: &str) {
        let mut state = self.lock();
        let (now, timeout_ms) = (state.now, state.config.rebalance_timeout_ms);
        state.group_mut(&Arc::from(group)).rebalance(now, timeout_ms);
        self.changed(state);
    }

    /// The members of all groups and their clients, for the report of a stuck run.
    #[must_use]
    pub fn describe_groups(&self) -> String {
        let state = self.lock();
        format!("{:#?} {:#?}", state.groups, state.clients)
    }

    /// A number that grows with everything a waiting client may want to see.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// When the brokers or the members' heartbeats do something next by themselves.
    #[must_use]
    pub fn next_due(&self) -> Timestamp {
        self.lock().next_due()
    }

    /// The state with everything done that is due by now.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.version;
        state.advance(self.now());
        if state.version != before {
            self.0.changed.notify_all();
        }
        state
    }

    /// Tells the waiting clients that something changed.
    pub(super) fn changed(&self, mut state: MutexGuard<'_, State>) {
        state.touch();
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until something changes or `until` has come, in the clock's own time.
    pub fn wait(&self, seen: u64, until: Timestamp) {
        let mut state = self.lock();
        if state.version != seen {
            return;
        }
        let due = state.next_due().min(until);
        let left_ms = due.millis_since(self.now()).max(0);
        let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
        drop(self.0.changed.wait_timeout(state, left));
    }

    fn with_log(
        &self,
        partition: &TopicPartition,
        change: impl FnOnce(&mut super::log::PartitionLog),
    ) -> Result<(), ModelError> {
        let mut state = self.lock();
        let (topic, index) = state.topic_mut(partition)?;
        let log = topic.partitions.get_mut(index).ok_or(ModelError::UnknownTopicOrPartition)?;
        change(log);
        self.changed(state);
        Ok(())
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Cluster")
    }
}

/// Whole milliseconds of `duration`.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

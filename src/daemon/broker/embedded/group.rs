//! The group coordinator (classic protocol) as the broker sees it: members, generations, static
//! instances, session time-outs, committed and pending offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ModelError;
use super::assignor::{self, Claim};
use super::log::ProducerId;
use crate::pipeline::record::{Timestamp, TopicPartition};

/// `offset.metadata.max.bytes`.
pub const METADATA_BYTES_MAX: usize = 4096;

/// Names a group in the model's tables.
pub(super) type GroupName = Arc<str>;

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Next offset to read.
    pub offset: i64,
    /// The metadata committed with it.
    pub metadata: String,
}

/// Who commits, as a consumer presents itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    /// Member id; empty before the first join and after the member was thrown out.
    pub member_id: String,
    /// Generation; -1 likewise.
    pub generation: i32,
    /// `group.instance.id`.
    pub instance_id: Option<String>,
}

/// How a member joins.
#[derive(Clone, Debug)]
pub(super) struct Join {
    pub(super) client: u64,
    pub(super) member_id: Option<String>,
    pub(super) instance_id: Option<String>,
    pub(super) session_timeout_ms: i64,
    pub(super) claim: Claim,
}

/// What a member learns when a rebalance has ended.
#[derive(Clone, Debug)]
pub(super) struct Synced {
    pub(super) client: u64,
    pub(super) member_id: String,
    pub(super) generation: i32,
    pub(super) assigned: BTreeSet<TopicPartition>,
}

#[derive(Debug)]
struct Member {
    client: u64,
    instance_id: Option<String>,
    session_timeout_ms: i64,
    last_heard: Timestamp,
    joined: bool,
    claim: Claim,
    assigned: BTreeSet<TopicPartition>,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    generation: i32,
    members: BTreeMap<String, Member>,
    /// Set while the group waits for its members to join: when it stops waiting.
    preparing_until: Option<Timestamp>,
    members_seen: u64,
    offsets: BTreeMap<TopicPartition, CommittedOffset>,
    pending: BTreeMap<TopicPartition, BTreeSet<ProducerId>>,
}

impl Group {
    /// A heartbeat; `Ok(true)` asks the member to join again.
    pub(super) fn heartbeat(
        &mut self,
        metadata: &GroupMetadata,
        now: Timestamp,
    ) -> Result<bool, ModelError> {
        self.validate_member(metadata)?;
        let preparing = self.preparing_until.is_some();
        let generation = self.generation;
        let member = self.members.get_mut(&metadata.member_id).ok_or(ModelError::UnknownMember)?;
        if metadata.generation != generation && !member.joined {
            return Err(ModelError::IllegalGeneration);
        }
        member.last_heard = now;
        Ok(preparing && !member.joined)
    }

    /// `JoinGroup`; gives the member's id, and what everybody learns when this was the last join the
    /// group waited for. A static member that comes back with a new process keeps its assignment
    /// and its generation.
    pub(super) fn join(
        &mut self,
        join: Join,
        now: Timestamp,
        rebalance_timeout_ms: i64,
    ) -> Result<(String, Vec<Synced>), ModelError> {
        let same_instance = join.instance_id.as_ref().and_then(|instance| {
            let mut members = self.members.iter();
            members.find(|(_, member)| member.instance_id.as_ref() == Some(instance))
        });
        let old_id = same_instance.map(|(id, _)| id.clone());
        let new_id = format!("member-{}", self.members_seen + 1);
        let (member_id, known) = match (join.member_id, old_id) {
            (Some(own), Some(old)) if own != old => return Err(ModelError::FencedInstance),
            (Some(own), _) if !self.members.contains_key(&own) => {
                return Err(ModelError::UnknownMember);
            }
            (Some(own), _) => (own, None),
            (None, old) => {
                self.members_seen += 1;
                (new_id, old.and_then(|old| self.members.remove(&old)))
            }
        };
        let same_topics =
            known.as_ref().is_some_and(|member| member.claim.wanted == join.claim.wanted);
        let came_back = self.preparing_until.is_none() && same_topics;
        let assigned = known.map_or_else(BTreeSet::new, |member| member.assigned);
        let assigned = self.members.remove(&member_id).map_or(assigned, |own| own.assigned);
        let member = Member {
            client: join.client,
            instance_id: join.instance_id,
            session_timeout_ms: join.session_timeout_ms,
            last_heard: now,
            joined: !came_back,
            claim: join.claim,
            assigned: assigned.clone(),
        };
        let client = member.client;
        self.members.insert(member_id.clone(), member);
        if came_back {
            let generation = self.generation;
            let synced = Synced { client, member_id: member_id.clone(), generation, assigned };
            return Ok((member_id, vec![synced]));
        }
        self.preparing_until.get_or_insert_with(|| now.plus_millis(rebalance_timeout_ms));
        Ok((member_id, self.try_complete()))
    }

    /// Whether a static member that came back now would be handed an assignment that leaves some
    /// of `wanted` to nobody: its old process died between the two rounds of a rebalance.
    pub(super) fn would_orphan(
        &self,
        instance_id: Option<&String>,
        wanted: &BTreeSet<TopicPartition>,
    ) -> bool {
        let known = self.knows_instance(instance_id);
        let owned = |partition| self.members.values().any(|m| m.assigned.contains(partition));
        known && self.preparing_until.is_none() && !wanted.iter().all(owned)
    }

    /// Whether a static member of this instance is in the group, joined or not.
    pub(super) fn knows_instance(&self, instance_id: Option<&String>) -> bool {
        let mut members = self.members.values();
        instance_id.is_some() && members.any(|member| member.instance_id.as_ref() == instance_id)
    }

    /// `LeaveGroup` of a dynamic member.
    pub(super) fn leave(
        &mut self,
        member_id: &str,
        now: Timestamp,
        timeout_ms: i64,
    ) -> Vec<Synced> {
        if self.members.remove(member_id).is_some() {
            self.preparing_until.get_or_insert_with(|| now.plus_millis(timeout_ms));
        }
        self.try_complete()
    }

    /// Asks the members to join again.
    pub(super) fn rebalance(&mut self, now: Timestamp, timeout_ms: i64) {
        if !self.members.is_empty() {
            self.preparing_until.get_or_insert_with(|| now.plus_millis(timeout_ms));
        }
    }

    /// Throws out members whose session has ended, and those a rebalance waited for in vain.
    pub(super) fn expire(&mut self, now: Timestamp, timeout_ms: i64) -> Vec<Synced> {
        let overdue = self.preparing_until.is_some_and(|until| until <= now);
        let before = self.members.len();
        self.members.retain(|_, member| {
            let session_end = member.last_heard.plus_millis(member.session_timeout_ms);
            session_end > now && (member.joined || !overdue)
        });
        if self.members.len() < before {
            self.preparing_until.get_or_insert_with(|| now.plus_millis(timeout_ms));
        }
        self.try_complete()
    }

    /// When [`Group::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let sessions = self
            .members
            .values()
            .map(|member| member.last_heard.plus_millis(member.session_timeout_ms));
        sessions.chain(self.preparing_until).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn generation(&self) -> i32 {
        self.generation
    }

    /// `TxnOffsetCommit`: refuses another generation and another member. As in Apache Kafka the
    /// ownership isn't checked, and a commit that names neither member nor generation passes.
    pub(super) fn validate_transactional_commit(
        &self,
        metadata: &GroupMetadata,
    ) -> Result<(), ModelError> {
        let nobody = metadata.generation < 0
            && metadata.member_id.is_empty()
            && metadata.instance_id.is_none();
        if nobody {
            return Ok(());
        }
        self.validate_member(metadata)?;
        let current = metadata.generation == self.generation;
        current.then_some(()).ok_or(ModelError::IllegalGeneration)
    }

    pub(super) fn hold(&mut self, topic_partition: &TopicPartition, producer: ProducerId) {
        self.pending.entry(topic_partition.clone()).or_default().insert(producer);
    }

    pub(super) fn unhold(
        &mut self,
        topic_partition: &TopicPartition,
        producer: ProducerId,
        commit: Option<CommittedOffset>,
    ) {
        if let Some(holders) = self.pending.get_mut(topic_partition) {
            holders.remove(&producer);
        }
        self.pending.retain(|_, holders| !holders.is_empty());
        if let Some(offset) = commit {
            self.offsets.insert(topic_partition.clone(), offset);
        }
    }

    /// `OffsetFetch` that requires stable offsets.
    pub(super) fn committed(
        &self,
        topic_partition: &TopicPartition,
    ) -> Result<Option<CommittedOffset>, ModelError> {
        if self.pending.contains_key(topic_partition) {
            return Err(ModelError::UnstableOffset);
        }
        Ok(self.offsets.get(topic_partition).cloned())
    }

    pub(super) fn set_offset(
        &mut self,
        topic_partition: &TopicPartition,
        offset: Option<CommittedOffset>,
    ) {
        match offset {
            Some(offset) => drop(self.offsets.insert(topic_partition.clone(), offset)),
            None => drop(self.offsets.remove(topic_partition)),
        }
    }

    pub(super) fn forget_topic(&mut self, topic: &str) {
        self.offsets.retain(|topic_partition, _| &*topic_partition.topic != topic);
    }

    fn validate_member(&self, metadata: &GroupMetadata) -> Result<(), ModelError> {
        if let Some(instance) = &metadata.instance_id {
            let holder =
                self.members.iter().find(|(_, m)| m.instance_id.as_ref() == Some(instance));
            return match holder {
                None => Err(ModelError::UnknownMember),
                Some((id, _)) if *id != metadata.member_id => Err(ModelError::FencedInstance),
                Some(_) => Ok(()),
            };
        }
        let known = self.members.contains_key(&metadata.member_id);
        known.then_some(()).ok_or(ModelError::UnknownMember)
    }

    fn try_complete(&mut self) -> Vec<Synced> {
        let waiting = self.members.values().any(|member| !member.joined);
        if self.preparing_until.is_none() || waiting {
            return Vec::new();
        }
        self.preparing_until = None;
        self.generation += 1;
        let claims: BTreeMap<String, Claim> =
            self.members.iter().map(|(id, member)| (id.clone(), member.claim.clone())).collect();
        let mut assigned = assignor::assign(&claims);
        let generation = self.generation;
        let synced = self.members.iter_mut().map(|(id, member)| {
            member.joined = false;
            member.assigned = assigned.remove(id).unwrap_or_default();
            Synced {
                client: member.client,
                member_id: id.clone(),
                generation,
                assigned: member.assigned.clone(),
            }
        });
        synced.collect()
    }
}

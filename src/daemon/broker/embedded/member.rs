//! The group member inside a client: heartbeats, joins, and rebalances as events that the
//! application answers. It lives beside the application, as librdkafka's own thread does.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::ModelError;
use super::assignor::Claim;
use super::cluster::State;
use super::group::{Group, GroupMetadata, GroupName, Join, Synced};
use crate::daemon::broker::Subscription;
use crate::pipeline::record::{Timestamp, TopicPartition};

/// A rebalance as the application sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rebalance {
    Assigned(Vec<TopicPartition>),
    Revoked { partitions: Vec<TopicPartition>, lost: bool },
}

#[derive(Debug)]
pub(super) struct GroupClient {
    group: GroupName,
    session_timeout_ms: i64,
    subscription: Subscription,
    metadata: GroupMetadata,
    next_heartbeat: Timestamp,
    frozen: bool,
    fenced: bool,
    owned: BTreeSet<TopicPartition>,
    wanted: BTreeSet<TopicPartition>,
    events: VecDeque<Rebalance>,
    unanswered: bool,
    rejoin: bool,
}

impl GroupClient {
    fn busy(&self) -> bool {
        self.unanswered || !self.events.is_empty()
    }

    pub(super) fn next_heartbeat(&self) -> Option<Timestamp> {
        let silent = self.frozen || self.fenced;
        (!silent).then_some(self.next_heartbeat)
    }
}

/// How a client takes part in its group.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    pub(super) group: GroupName,
    pub(super) instance_id: Option<String>,
    pub(super) session_timeout_ms: i64,
    pub(super) subscription: Subscription,
}

impl State {
    /// A new client joins its group.
    pub(super) fn add_client(&mut self, membership: Membership) -> u64 {
        self.clients_seen += 1;
        let client = self.clients_seen;
        let metadata = GroupMetadata {
            member_id: String::new(),
            generation: -1,
            instance_id: membership.instance_id,
        };
        self.clients.insert(
            client,
            GroupClient {
                group: membership.group,
                session_timeout_ms: membership.session_timeout_ms,
                subscription: membership.subscription,
                metadata,
                next_heartbeat: self.now,
                frozen: false,
                fenced: false,
                owned: BTreeSet::new(),
                wanted: BTreeSet::new(),
                events: VecDeque::new(),
                unanswered: false,
                rejoin: false,
            },
        );
        self.tick(client);
        client
    }

    /// The client is gone without a word: its member stays until its session ends.
    pub(super) fn drop_client(&mut self, client: u64) {
        self.clients.remove(&client);
        self.touch();
    }

    /// The client says good-bye: a dynamic member leaves, a static one stays.
    pub(super) fn close_client(&mut self, client: u64) {
        let Some(own) = self.clients.remove(&client) else { return };
        if own.metadata.instance_id.is_none() && !own.metadata.member_id.is_empty() {
            let (now, timeout_ms) = (self.now, self.config.rebalance_timeout_ms);
            let synced = self.group_mut(&own.group).leave(&own.metadata.member_id, now, timeout_ms);
            self.deliver(synced);
        }
        self.touch();
    }

    /// Stops or continues the client's heartbeats, as SIGSTOP and SIGCONT do.
    pub(super) fn freeze_client(&mut self, client: u64, frozen: bool) {
        if let Some(own) = self.clients.get_mut(&client) {
            own.frozen = frozen;
        }
        self.touch();
        if !frozen {
            self.tick(client);
        }
    }

    /// Hands out the next rebalance, with the group metadata of that moment.
    pub(super) fn next_rebalance(&mut self, client: u64) -> Option<(Rebalance, GroupMetadata)> {
        let own = self.clients.get_mut(&client)?;
        if own.unanswered {
            return None;
        }
        let mut event = own.events.pop_front()?;
        own.unanswered = true;
        if let Rebalance::Revoked { partitions, lost: true } = &mut event {
            *partitions = own.owned.iter().cloned().collect();
        }
        Some((event, own.metadata.clone()))
    }

    pub(super) fn is_fenced(&self, client: u64) -> bool {
        self.clients.get(&client).is_none_or(|own| own.fenced)
    }

    pub(super) fn current_metadata(&self, client: u64) -> Option<GroupMetadata> {
        self.clients.get(&client).map(|own| own.metadata.clone())
    }

    /// The application's `incremental_assign`.
    pub(super) fn accept(&mut self, client: u64, partitions: &[TopicPartition]) {
        if let Some(own) = self.clients.get_mut(&client) {
            own.owned.extend(partitions.iter().cloned());
        }
        self.answered(client);
    }

    /// The application's `incremental_unassign`.
    pub(super) fn release(&mut self, client: u64, partitions: &[TopicPartition]) {
        if let Some(own) = self.clients.get_mut(&client) {
            own.owned.retain(|partition| !partitions.contains(partition));
        }
        self.answered(client);
    }

    pub(super) fn tick_due(&mut self) {
        let now = self.now;
        let due = self
            .clients
            .iter()
            .filter(|(_, own)| own.next_heartbeat().is_some_and(|heartbeat| heartbeat <= now));
        let due: Vec<u64> = due.map(|(client, _)| *client).collect();
        due.into_iter().for_each(|client| self.tick(client));
    }

    /// Tells the clients what a finished rebalance gave them.
    pub(super) fn deliver(&mut self, synced: Vec<Synced>) {
        for sync in synced {
            let Some(own) = self.clients.get_mut(&sync.client) else { continue };
            own.metadata.member_id = sync.member_id;
            own.metadata.generation = sync.generation;
            let revoked: Vec<_> = own.owned.difference(&sync.assigned).cloned().collect();
            let added: Vec<_> = sync.assigned.difference(&own.owned).cloned().collect();
            if !revoked.is_empty() {
                own.events.push_back(Rebalance::Revoked { partitions: revoked, lost: false });
                own.rejoin = true;
            }
            if !added.is_empty() || !own.rejoin {
                own.events.push_back(Rebalance::Assigned(added));
            }
            self.version += 1;
        }
        self.touch();
    }

    fn answered(&mut self, client: u64) {
        let Some(own) = self.clients.get_mut(&client) else { return };
        own.unanswered = false;
        let joins = own.metadata.member_id.is_empty() || own.rejoin;
        if joins && !own.busy() && !own.fenced {
            self.join(client);
        }
    }

    fn tick(&mut self, client: u64) {
        let (now, interval_ms) = (self.now, self.config.heartbeat_interval_ms);
        let Some(own) = self.clients.get_mut(&client) else { return };
        if own.frozen || own.fenced {
            return;
        }
        own.next_heartbeat = now.plus_millis(interval_ms);
        let (metadata, group, busy) = (own.metadata.clone(), Arc::clone(&own.group), own.busy());
        if metadata.member_id.is_empty() {
            if !busy {
                self.join(client);
            }
            return;
        }
        match self.group_mut(&group).heartbeat(&metadata, now) {
            Ok(asked) => {
                if !busy && (asked || self.topics_changed(client)) {
                    self.join(client);
                }
            }
            Err(ModelError::FencedInstance) => self.fence_client(client),
            Err(_) => self.lose(client),
        }
    }

    fn topics_changed(&self, client: u64) -> bool {
        let own = self.clients.get(&client);
        own.is_some_and(|own| own.wanted != self.wanted(&own.subscription))
    }

    fn join(&mut self, client: u64) {
        let Some(own) = self.clients.get(&client) else { return };
        let wanted = self.wanted(&own.subscription);
        let group = Arc::clone(&own.group);
        let member_id = Some(own.metadata.member_id.clone()).filter(|id| !id.is_empty());
        let instance_id = own.metadata.instance_id.clone();
        let orphans = |group: &Group| group.would_orphan(instance_id.as_ref(), &wanted);
        if member_id.is_none() && self.groups.get(&group).is_some_and(orphans) {
            // The broker would hand back what the old process held, and call no rebalance. Staying
            // out until the old session has ended does.
            return;
        }
        let Some(own) = self.clients.get(&client) else { return };
        let join = Join {
            client,
            member_id,
            instance_id,
            session_timeout_ms: own.session_timeout_ms,
            claim: Claim { owned: own.owned.clone(), wanted: wanted.clone() },
        };
        if let Some(own) = self.clients.get_mut(&client) {
            own.wanted = wanted;
            own.rejoin = false;
        }
        let (now, timeout_ms) = (self.now, self.config.rebalance_timeout_ms);
        match self.group_mut(&group).join(join, now, timeout_ms) {
            Ok((member_id, synced)) => {
                if let Some(own) = self.clients.get_mut(&client) {
                    // The member's id is known as soon as it has joined; its generation is not.
                    own.metadata.member_id = member_id;
                }
                self.deliver(synced);
            }
            Err(ModelError::FencedInstance) => self.fence_client(client),
            Err(_) => self.lose(client),
        }
    }

    fn fence_client(&mut self, client: u64) {
        if let Some(own) = self.clients.get_mut(&client) {
            own.fenced = true;
        }
        self.version += 1;
    }

    /// The group does not know the member any more: everything it held is lost.
    fn lose(&mut self, client: u64) {
        let Some(own) = self.clients.get_mut(&client) else { return };
        own.metadata.member_id.clear();
        own.metadata.generation = -1;
        own.events.clear();
        own.rejoin = false;
        let holds = own.unanswered || !own.owned.is_empty();
        if holds {
            own.events.push_back(Rebalance::Revoked { partitions: Vec::new(), lost: true });
        }
        self.version += 1;
        if !holds {
            self.join(client);
        }
    }

    fn wanted(&self, subscription: &Subscription) -> BTreeSet<TopicPartition> {
        let topics = self.topics.iter().filter(|(name, _)| subscription.matches(name));
        let partitions = topics.flat_map(|(name, topic)| {
            let count = i32::try_from(topic.partitions.len()).expect("counts are i32");
            (0..count).map(|partition| TopicPartition::new(Arc::clone(name), partition))
        });
        partitions.collect()
    }
}

//! Each bot session counted once, over all partitions and instances, in bounded memory.

use std::collections::{BTreeSet, HashMap};

use super::series::Scope;
use super::signal::SessionTag;
use super::wire::SessionFact;
use crate::pipeline::limits::{
    SESSION_KEPT_MS, SESSIONS_PER_PARTITION_MAX, SESSIONS_PER_TENANT_MAX,
};
use crate::pipeline::record::Timestamp;

/// What is remembered of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// `now` when it was first heard of; it is forgotten a day later.
    pub known_since: Timestamp,
    /// Whether it has been handed over.
    pub handed_over: bool,
}

/// What a fact changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionChange {
    /// The session is new: count it at this event time.
    pub started: Option<Timestamp>,
    /// It was handed over for the first time: count it at this event time.
    pub handed_over: Option<Timestamp>,
    /// What has to be stored anew: the session itself, and one a cap pushed out.
    pub touched: Vec<(Scope, SessionTag)>,
    /// A cap pushed a session out.
    pub overflowed: bool,
}

/// The sessions of the tenants of one measures partition.
#[derive(Debug, Default)]
pub struct SessionSet {
    scopes: HashMap<Scope, ScopeSessions>,
    by_age: BTreeSet<(Timestamp, Scope, SessionTag)>,
}

#[derive(Debug, Default)]
struct ScopeSessions {
    by_tag: HashMap<SessionTag, Session>,
    by_age: BTreeSet<(Timestamp, SessionTag)>,
}

impl SessionSet {
    /// Takes in one fact.
    pub fn apply(&mut self, fact: &SessionFact, now: Timestamp) -> SessionChange {
        let mut change = SessionChange::default();
        let handed_over = fact.handed_over.is_some();
        let key = (fact.scope.clone(), fact.tag);
        if let Some(session) = self.session_mut(&key) {
            if handed_over && !session.handed_over {
                session.handed_over = true;
                change.handed_over = fact.handed_over;
                change.touched.push(key);
            }
            return change;
        }
        change.started = Some(fact.seen);
        change.handed_over = fact.handed_over;
        if let Some((scope, tag)) = self.pushed_out(&fact.scope) {
            change.overflowed = true;
            self.remove(&scope, tag);
            change.touched.push((scope, tag));
        }
        self.restore(&fact.scope, fact.tag, Some(Session { known_since: now, handed_over }));
        change.touched.push(key);
        change
    }

    /// What is remembered of a session, for storing it.
    #[must_use]
    pub fn session(&self, scope: &Scope, tag: SessionTag) -> Option<Session> {
        self.scopes.get(scope)?.by_tag.get(&tag).copied()
    }

    /// Puts back a session as it was stored.
    pub fn restore(&mut self, scope: &Scope, tag: SessionTag, session: Option<Session>) {
        self.remove(scope, tag);
        if let Some(session) = session {
            let sessions = self.scopes.entry(scope.clone()).or_default();
            sessions.by_tag.insert(tag, session);
            sessions.by_age.insert((session.known_since, tag));
            self.by_age.insert((session.known_since, scope.clone(), tag));
        }
    }

    /// Forgets what has been known for a day; returns it, the oldest first.
    pub fn expire(&mut self, now: Timestamp) -> Vec<(Scope, SessionTag)> {
        let before = now.plus_millis(-SESSION_KEPT_MS);
        let old = self.by_age.iter().take_while(|(since, ..)| *since <= before);
        let expired: Vec<_> = old.map(|(_, scope, tag)| (scope.clone(), *tag)).collect();
        for (scope, tag) in &expired {
            self.remove(scope, *tag);
        }
        expired
    }

    /// Number of sessions remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_age.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }

    fn session_mut(&mut self, (scope, tag): &(Scope, SessionTag)) -> Option<&mut Session> {
        self.scopes.get_mut(scope)?.by_tag.get_mut(tag)
    }

    /// What a new session of `scope` takes the place of: the tenant's own oldest when it has too
    /// many, the oldest of all when all have. What was heard of first is the least likely to be
    /// heard of again, and to be counted again then.
    fn pushed_out(&self, scope: &Scope) -> Option<(Scope, SessionTag)> {
        let own = self.scopes.get(scope);
        if let Some(own) = own.filter(|own| own.by_tag.len() >= SESSIONS_PER_TENANT_MAX) {
            return own.by_age.first().map(|&(_, tag)| (scope.clone(), tag));
        }
        let oldest = self.by_age.first().filter(|_| self.len() >= SESSIONS_PER_PARTITION_MAX);
        oldest.map(|(_, scope, tag)| (scope.clone(), *tag))
    }

    fn remove(&mut self, scope: &Scope, tag: SessionTag) {
        let Some(sessions) = self.scopes.get_mut(scope) else { return };
        if let Some(session) = sessions.by_tag.remove(&tag) {
            sessions.by_age.remove(&(session.known_since, tag));
            self.by_age.remove(&(session.known_since, scope.clone(), tag));
        }
        if sessions.by_tag.is_empty() {
            self.scopes.remove(scope);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::record::TenantId;

    fn fact(tenant: &str, tag: u32, seen: i64, handed_over: Option<i64>) -> SessionFact {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&tag.to_be_bytes());
        SessionFact {
            scope: Scope::Tenant(TenantId::new(tenant).unwrap()),
            tag: SessionTag(bytes),
            seen: Timestamp::from_millis(seen),
            handed_over: handed_over.map(Timestamp::from_millis),
        }
    }

    #[test]
    fn a_session_counts_once_whatever_is_seen_of_it() {
        let mut set = SessionSet::default();
        let now = Timestamp::from_millis(50);
        let first = set.apply(&fact("t", 1, 10, None), now);
        assert_eq!((first.started, first.handed_over), (Some(Timestamp::from_millis(10)), None));
        let second = set.apply(&fact("t", 1, 5, Some(20)), now);
        assert_eq!((second.started, second.handed_over), (None, Some(Timestamp::from_millis(20))));
        let third = set.apply(&fact("t", 1, 5, Some(15)), now);
        assert_eq!(third, SessionChange::default());
        assert!(set.apply(&fact("u", 1, 5, None), now).started.is_some());
    }

    #[test]
    fn a_session_is_forgotten_after_a_day() {
        let mut set = SessionSet::default();
        let now = Timestamp::from_millis(50);
        set.apply(&fact("t", 1, 10, None), now);
        assert_eq!(set.expire(now.plus_millis(SESSION_KEPT_MS - 1)), vec![]);
        assert_eq!(set.expire(now.plus_millis(SESSION_KEPT_MS)).len(), 1);
        assert!(set.is_empty());
    }

    #[test]
    fn a_cap_costs_the_tenant_its_own_oldest_session() {
        let mut set = SessionSet::default();
        set.apply(&fact("good", 7, 1, None), Timestamp::EPOCH);
        let cap = u32::try_from(SESSIONS_PER_TENANT_MAX).unwrap();
        for tag in 0..cap {
            let at = Timestamp::from_millis(i64::from(tag));
            assert!(!set.apply(&fact("bad", tag, 1, None), at).overflowed);
        }
        let change = set.apply(&fact("bad", cap, 1, None), Timestamp::from_millis(1 << 40));
        assert!(change.overflowed && change.started.is_some());
        assert_eq!(change.touched[0].1, fact("bad", 0, 0, None).tag);
        assert_eq!(set.len(), SESSIONS_PER_TENANT_MAX + 1);
        assert!(set.apply(&fact("good", 7, 1, None), Timestamp::EPOCH).started.is_none());
    }

    #[test]
    fn with_every_place_taken_a_new_session_counts_once_all_the_same() {
        let mut set = SessionSet::default();
        let tenants = u32::try_from(SESSIONS_PER_PARTITION_MAX / SESSIONS_PER_TENANT_MAX).unwrap();
        let each = u32::try_from(SESSIONS_PER_TENANT_MAX).unwrap();
        for tag in 0..tenants * each {
            let tenant = format!("t{}", tag / each);
            set.apply(&fact(&tenant, tag, 1, None), Timestamp::from_millis(i64::from(tag)));
        }
        assert_eq!(set.len(), SESSIONS_PER_PARTITION_MAX);
        let now = Timestamp::from_millis(1 << 40);
        let first = set.apply(&fact("new", 1, 1, None), now);
        assert!(first.overflowed && first.started.is_some());
        assert_eq!(set.apply(&fact("new", 1, 1, None), now), SessionChange::default());
        assert!(set.apply(&fact("new", 2, 1, None), now).started.is_some());
        assert!(set.apply(&fact("new", 1, 1, Some(2)), now).started.is_none());
        assert_eq!(set.len(), SESSIONS_PER_PARTITION_MAX);
    }
}

//! Keeps a static member out of its group while its return would leave a partition to nobody.
//!
//! Kafka hands a static member that comes back the assignment of its old process, without a
//! rebalance (KIP-345). When that process died between the two rounds of a cooperative rebalance
//! (KIP-429), a partition taken from it in the first round has no owner, and nothing would start
//! the second. Staying out until the old session has ended does.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::groups::{GroupInfo, GroupList};

use super::super::{LookupFailure, SlotConfig, TopicPartition};
use super::context::PlainContext;
use super::errors::lookup_failure;

/// Pause between two looks at the group.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Past the session time-out the broker takes this long at most to notice that it has passed.
const SESSION_GRACE: Duration = Duration::from_secs(2);

/// Looks in a row that must find an orphan before a member inside leaves for it, and the pause
/// between them: partitions of a topic that has just grown are nobody's until the group's leader
/// has seen them, which takes half a minute.
const ORPHANED_LOOKS: u32 = 8;
const CONFIRM_EVERY: Duration = Duration::from_secs(5);

/// Failed looks after which the member joins unseen: it is looked again once it is inside.
const FAILED_LOOKS_MAX: u32 = 3;

/// What a group looks like to a static member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GroupRest {
    /// Joining orphans nothing.
    Free,
    /// A rebalance is about to end.
    Unsettled,
    /// At rest, the member known, and these partitions nobody's.
    Orphans(Vec<TopicPartition>),
}

/// What the member does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Stay,
    Join,
    /// Inside a group that is at rest and leaves this partition to nobody: leave, and wait outside.
    Leave(TopicPartition),
}

/// A static member's way into its group.
#[derive(Debug)]
pub(super) struct HandOver {
    /// When the group is looked at next; none while a look is under way or none is needed.
    look_at: Option<Duration>,
    /// From then on it joins whatever the group looks like. None once it has joined.
    join_at: Option<Duration>,
    failed_looks: u32,
    orphaned_looks: u32,
    session_timeout: Duration,
    assigned: bool,
    told: bool,
}

impl HandOver {
    /// A member that stands outside at `now`.
    pub(super) fn outside(session_timeout: Duration, now: Duration) -> Self {
        Self {
            look_at: Some(now),
            join_at: Some(now + session_timeout + SESSION_GRACE),
            failed_looks: 0,
            orphaned_looks: 0,
            session_timeout,
            assigned: false,
            told: false,
        }
    }

    /// Whether it is time to look; the look is then taken to be under way.
    pub(super) fn takes_look(&mut self, now: Duration) -> bool {
        self.look_at.take_if(|at| *at <= now).is_some()
    }

    /// The first assignment has come: one more look, after everybody has had the time to answer
    /// the rebalance it may be a part of, finds what happened between the look and the join.
    pub(super) fn assigned(&mut self, now: Duration) {
        if !self.assigned {
            self.assigned = true;
            self.look_at = Some(now + self.session_timeout + SESSION_GRACE);
        }
    }

    /// What follows from a look.
    pub(super) fn judge(&mut self, look: Result<GroupRest, LookupFailure>, now: Duration) -> Step {
        let again = Some(now + LOOK_EVERY);
        match (self.join_at, look) {
            (Some(_), Ok(GroupRest::Free)) => self.join(),
            (Some(join_at), _) if now >= join_at => self.join(),
            (Some(_), Ok(rest)) => {
                if let GroupRest::Orphans(orphans) = rest
                    && !std::mem::replace(&mut self.told, true)
                {
                    tracing::info!(?orphans, "joins when the session of its old process is over");
                }
                self.look_at = again;
                Step::Stay
            }
            (Some(_), Err(failure)) => {
                self.failed_looks += 1;
                tracing::debug!(target: "librdkafka", ?failure, "look at the group");
                if self.failed_looks >= FAILED_LOOKS_MAX {
                    return self.join();
                }
                self.look_at = again;
                Step::Stay
            }
            (None, Ok(GroupRest::Orphans(orphans))) => {
                self.orphaned_looks += 1;
                if self.orphaned_looks >= ORPHANED_LOOKS {
                    return orphans.into_iter().next().map_or(Step::Stay, Step::Leave);
                }
                self.look_at = Some(now + CONFIRM_EVERY);
                Step::Stay
            }
            (None, _) => Step::Stay,
        }
    }

    fn join(&mut self) -> Step {
        self.join_at = None;
        Step::Join
    }
}

/// Looks at the group of `slot`.
pub(super) fn look(
    reader: &BaseConsumer<PlainContext>,
    slot: &SlotConfig,
    timeout: Duration,
) -> Result<GroupRest, LookupFailure> {
    let groups = described(reader, slot, timeout).map_err(|error| lookup_failure(&error))?;
    let Some(group) = groups.groups().iter().find(|group| knows(group, slot)) else {
        return Ok(GroupRest::Free);
    };
    match group.state() {
        // A join is a part of the round that is being prepared.
        "PreparingRebalance" => Ok(GroupRest::Free),
        "Stable" => {
            let owned = owned(group).ok_or_else(unreadable)?;
            let orphans = wanted(reader, slot, timeout)?.difference(&owned).cloned().collect();
            Ok(settled(orphans))
        }
        _ => Ok(GroupRest::Unsettled),
    }
}

/// Whether the slot's instance has a member in its group, whoever that is.
pub(super) fn knows_instance(
    reader: &BaseConsumer<PlainContext>,
    slot: &SlotConfig,
    timeout: Duration,
) -> Result<bool, KafkaError> {
    let groups = described(reader, slot, timeout)?;
    Ok(groups.groups().iter().any(|group| knows(group, slot)))
}

fn described(
    reader: &BaseConsumer<PlainContext>,
    slot: &SlotConfig,
    timeout: Duration,
) -> Result<GroupList, KafkaError> {
    reader.fetch_group_list(Some(&slot.group), timeout)
}

fn knows(group: &GroupInfo, slot: &SlotConfig) -> bool {
    let mut members = group.members().iter();
    let own = |id: &str| slot.instance_id.as_ref().is_some_and(|own| is_of_instance(id, own));
    group.name() == slot.group && members.any(|member| own(member.id()))
}

fn settled(orphans: Vec<TopicPartition>) -> GroupRest {
    if orphans.is_empty() { GroupRest::Free } else { GroupRest::Orphans(orphans) }
}

fn unreadable() -> LookupFailure {
    LookupFailure::Other("an assignment of the group can't be read".to_owned())
}

/// The id that Kafka gives a static member is its instance id, `-` and a UUID.
fn is_of_instance(member_id: &str, instance_id: &str) -> bool {
    const UUID_CHARS: usize = 36;
    let rest = member_id.strip_prefix(instance_id).and_then(|rest| rest.strip_prefix('-'));
    rest.is_some_and(|uuid| uuid.len() == UUID_CHARS)
}

fn owned(group: &GroupInfo) -> Option<BTreeSet<TopicPartition>> {
    let mut owned = BTreeSet::new();
    for member in group.members() {
        owned.extend(assignment(member.assignment().unwrap_or_default())?);
    }
    Some(owned)
}

/// Reads a `ConsumerProtocolAssignment` (Apache Kafka, `ConsumerProtocolAssignment.json`):
/// version, then topics with their partitions; what follows is not needed. Empty before the first
/// assignment.
fn assignment(bytes: &[u8]) -> Option<Vec<TopicPartition>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let (_version, mut rest) = bytes.split_first_chunk::<2>()?;
    let mut partitions = Vec::new();
    for _ in 0..take_i32(&mut rest)? {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (topic, after) = after.split_at_checked(length)?;
        let topic = std::str::from_utf8(topic).ok()?;
        rest = after;
        for _ in 0..take_i32(&mut rest)? {
            partitions.push(TopicPartition::new(topic, take_i32(&mut rest)?));
        }
    }
    Some(partitions)
}

fn take_i32(bytes: &mut &[u8]) -> Option<i32> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(i32::from_be_bytes(*number))
}

/// Every partition of the topics that the slot reads.
fn wanted(
    reader: &BaseConsumer<PlainContext>,
    slot: &SlotConfig,
    timeout: Duration,
) -> Result<BTreeSet<TopicPartition>, LookupFailure> {
    let metadata = reader.fetch_metadata(None, timeout).map_err(|error| lookup_failure(&error))?;
    let topics = metadata.topics().iter().filter(|topic| slot.subscription.matches(topic.name()));
    let partitions = topics.flat_map(|topic| {
        let of = |partition: i32| TopicPartition::new(topic.name(), partition);
        topic.partitions().iter().map(move |partition| of(partition.id()))
    });
    Ok(partitions.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn orphans() -> GroupRest {
        GroupRest::Orphans(vec![TopicPartition::new("logs", 1)])
    }

    #[test]
    fn a_member_stays_out_until_nothing_is_orphaned_or_its_session_is_over() {
        let mut door = HandOver::outside(SESSION, at(1));
        assert!(door.takes_look(at(1)) && !door.takes_look(at(2)), "one look at a time");
        assert_eq!(door.judge(Ok(orphans()), at(2)), Step::Stay);
        assert!(!door.takes_look(at(2)) && door.takes_look(at(3)));
        assert_eq!(door.judge(Ok(GroupRest::Unsettled), at(3)), Step::Stay);
        assert_eq!(door.judge(Ok(GroupRest::Free), at(4)), Step::Join);
        let mut door = HandOver::outside(SESSION, at(1));
        assert_eq!(door.judge(Ok(orphans()), at(12)), Step::Stay);
        assert_eq!(door.judge(Ok(orphans()), at(13)), Step::Join);
    }

    #[test]
    fn a_group_that_can_not_be_seen_is_joined() {
        let mut door = HandOver::outside(SESSION, at(0));
        let looks = (0..3).map(|_| door.judge(Err(LookupFailure::TimedOut), at(1)));
        assert_eq!(looks.collect::<Vec<_>>(), [Step::Stay, Step::Stay, Step::Join]);
    }

    #[test]
    fn an_orphan_found_after_the_first_assignment_sends_it_out_again() {
        let mut door = HandOver::outside(SESSION, at(0));
        assert!(door.takes_look(at(0)));
        assert_eq!(door.judge(Ok(GroupRest::Free), at(0)), Step::Join);
        assert!(!door.takes_look(at(100)), "nothing to see before the assignment");
        door.assigned(at(1));
        assert!(!door.takes_look(at(12)) && door.takes_look(at(13)));
        for look in 1..ORPHANED_LOOKS {
            let now = at(13 + 5 * u64::from(look - 1));
            assert_eq!(door.judge(Ok(orphans()), now), Step::Stay);
            assert!(door.takes_look(now + CONFIRM_EVERY));
        }
        let leave = Step::Leave(TopicPartition::new("logs", 1));
        assert_eq!(door.judge(Ok(orphans()), at(60)), leave);
        door.assigned(at(61));
        assert!(!door.takes_look(at(100)), "later assignments are rebalances of the group");
    }

    #[test]
    fn an_assignment_is_read_as_kafka_writes_it() {
        let bytes = b"\0\x01\0\0\0\x01\0\x02ab\0\0\0\x02\0\0\0\0\0\0\0\x07\xff\xff\xff\xff";
        let read = assignment(bytes).expect("whole");
        assert_eq!(read, [TopicPartition::new("ab", 0), TopicPartition::new("ab", 7)]);
        assert_eq!(assignment(b"").expect("none yet"), []);
        assert_eq!(assignment(&bytes[..bytes.len() - 6]), None);
        assert_eq!(assignment(b"\0\0\x7f\xff\xff\xff"), None);
    }

    #[test]
    fn a_member_id_belongs_to_one_instance() {
        let uuid = "1f1e7e4c-9d3b-4a3f-9a57-0c6a7e6a1a11";
        assert!(is_of_instance(&format!("logs-a-{uuid}"), "logs-a"));
        assert!(!is_of_instance(&format!("logs-a-1-{uuid}"), "logs-a"));
        assert!(!is_of_instance("logs-a", "logs-a"));
    }
}

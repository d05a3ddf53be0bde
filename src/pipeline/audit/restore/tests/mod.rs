mod restart;
mod world;

use super::super::super::record::Timestamp;
use super::super::entry::{Gap, GapReason, Recovery, RecoveryReason};
use super::super::testing::instance_key;
use super::super::{CommitmentKey, KeyringId, StoredAt};
use super::*;
use world::World;

fn pending(restored: &Restored) -> &[PendingEntry] {
    match &restored.audit {
        RestoredAudit::On(chain) => &chain.pending,
        RestoredAudit::Off(_) => panic!("the audit is on"),
    }
}

fn alerts(restored: &Restored) -> Vec<&'static str> {
    restored.alerts.iter().map(|alert| alert.name).collect()
}

fn genesis(start: StartKind, offset: i64) -> PendingEntry {
    PendingEntry::Genesis { start, offset }
}

fn gap(from: i64, to: i64, reason: GapReason) -> PendingEntry {
    PendingEntry::Gap(Gap { from, to, reason })
}

fn lost(position: i64) -> PendingEntry {
    PendingEntry::Recovery(Recovery { reason: RecoveryReason::OffsetLost, position })
}

// Row: otherwise, go on.

#[test]
fn an_ordinary_restart_goes_on() {
    let world = World::after_two_transactions();
    let restored = world.ready();
    assert_eq!((restored.position, restored.transactions), (110, 2));
    assert_eq!(pending(&restored), []);
    assert_eq!(alerts(&restored), Vec::<&str>::new());
    world.assert_chain_verifies();
}

#[test]
fn an_idle_heartbeat_is_a_head_too() {
    let mut world = World::after_two_transactions();
    world.transaction(110);
    assert_eq!(world.ready().position, 110);
    world.transaction(115);
    world.assert_chain_verifies();
}

#[test]
fn an_exact_head_offset_goes_on_too() {
    let mut world = World::after_two_transactions();
    let mut metadata = OffsetMetadata::parse(&world.metadata).unwrap();
    let AuditState::On(head) = &mut metadata.audit else { panic!("on") };
    head.stored = StoredAt::Exact(world.audit.last().unwrap().0);
    world.metadata = metadata.encode();
    assert_eq!(world.ready().position, 110);
}

#[test]
fn an_open_transaction_is_waited_for() {
    let world = World::after_two_transactions();
    world.open_transaction.set(true);
    let (mut restore, _) = Restore::begin(world.context.clone());
    let step = restore.next(world.answer(Ask::Committed));
    assert_eq!(step, Step::Ask(Ask::Range(Role::Audit)));
    // Asked again, and the end is the one of the first answer: what comes later is not awaited.
    let step = restore.next(Answer::Range { low: 0, high: world.audit_high, lso: 1 });
    assert_eq!(step, Step::Ask(Ask::Range(Role::Audit)));
    let step = restore.next(Answer::Range { low: 0, high: 1_000, lso: world.audit_high });
    assert!(matches!(step, Step::Ask(Ask::Read { to, .. }) if to == world.audit_high));
}

#[test]
fn an_answer_to_another_question_repeats_the_question() {
    let (mut restore, step) = Restore::begin(World::new().context);
    assert_eq!(step, Step::Ask(Ask::Committed));
    assert_eq!(restore.next(Answer::OffsetAt(3)), Step::Ask(Ask::Committed));
}

#[test]
fn another_instance_key_is_announced() {
    let mut world = World::after_two_transactions();
    world.scene.instance_key = instance_key(&world.scene.deployment_key, 33);
    world.context.instance_key = world.scene.instance_key.id();
    assert_eq!(pending(&world.ready()), [PendingEntry::Rotate]);
    world.transaction(112);
    assert_eq!(pending(&world.ready()), []);
    world.assert_chain_verifies();
}

// Row: chain broken, head absent, or committed entries after the head.

#[test]
fn a_head_that_is_gone_stops() {
    let mut world = World::after_two_transactions();
    world.audit.pop();
    assert_eq!(world.stopped(), StopKind::HeadAbsent);
    // Truncated below the head's offset, as an unclean election does.
    world.audit_high = 1;
    assert_eq!(world.stopped(), StopKind::HeadAbsent);
}

#[test]
fn a_head_that_retention_deleted_stops() {
    let mut world = World::after_two_transactions();
    // All that the lower bound tells is that the head is not before it.
    world.audit_low = world.audit.last().unwrap().0;
    assert_eq!(world.ready().position, 110);
    world.audit_low = world.audit_high;
    assert_eq!(world.stopped(), StopKind::HeadAbsent);
    let mut metadata = OffsetMetadata::parse(&world.metadata).unwrap();
    let AuditState::On(head) = &mut metadata.audit else { panic!("on") };
    head.stored = StoredAt::Exact(head.stored.offset());
    world.metadata = metadata.encode();
    assert_eq!(world.stopped(), StopKind::HeadAbsent);
}

#[test]
fn an_altered_head_stops() {
    let mut world = World::after_two_transactions();
    let (_, seal) = world.audit.last_mut().unwrap();
    seal[130] ^= 1;
    assert_eq!(world.stopped(), StopKind::HeadAbsent);
}

#[test]
fn a_forged_head_in_the_metadata_stops() {
    let mut world = World::after_two_transactions();
    let mut metadata = OffsetMetadata::parse(&world.metadata).unwrap();
    let AuditState::On(head) = &mut metadata.audit else { panic!("on") };
    let (_, seal) = world.audit.last_mut().unwrap();
    let forged = String::from_utf8(seal.clone()).unwrap().replace("\"at\":0", "\"at\":1");
    *seal = forged.into_bytes();
    head.head.leaf = leaf_hash(seal);
    world.metadata = metadata.encode();
    assert_eq!(world.stopped(), StopKind::ChainBroken);
}

#[test]
fn a_rolled_back_offset_stops() {
    let mut world = World::new();
    world.transaction(105);
    let (committed, metadata) = (world.committed, world.metadata.clone());
    world.transaction(110);
    (world.committed, world.metadata) = (committed, metadata);
    assert_eq!(world.stopped(), StopKind::EntriesAfterHead);
}

#[test]
fn a_stop_names_the_place_and_the_command() {
    let mut world = World::after_two_transactions();
    world.audit.pop();
    let Step::Stop(stop) = world.restore() else { panic!("a stop") };
    assert_eq!(stop.command, "blotter run --set audit.restart=app.logs/3@110");
    assert!(stop.detail.contains("seq 2"), "{}", stop.detail);
}

// Row: offset without metadata.

#[test]
fn an_offset_set_by_a_tool_stops_until_it_is_adopted() {
    let mut world = World::after_two_transactions();
    (world.committed, world.metadata) = (Some(115), String::new());
    assert_eq!(world.stopped(), StopKind::OffsetWithoutMetadata);
    world.context.permission = Permission::Adopt;
    let restored = world.ready();
    assert_eq!(restored.position, 115);
    let reason = RecoveryReason::OffsetAdopted;
    let recovery = PendingEntry::Recovery(Recovery { reason, position: 115 });
    assert_eq!(pending(&restored), [gap(110, 115, GapReason::Adopted), recovery]);
    world.transaction(117);
    world.assert_chain_verifies();
}

#[test]
fn an_offset_set_back_is_never_adopted() {
    let mut world = World::after_two_transactions();
    (world.committed, world.metadata) = (Some(103), String::new());
    world.context.permission = Permission::Adopt;
    assert_eq!(world.stopped(), StopKind::OffsetDiffers);
}

#[test]
fn foreign_metadata_and_another_keyring_stop() {
    let mut world = World::after_two_transactions();
    world.context.keyring = KeyringId::from_bytes([8; 8]);
    assert_eq!(world.stopped(), StopKind::OtherKeyring);
    world.metadata = "{\"v\":2}".to_owned();
    assert_eq!(world.stopped(), StopKind::MetadataUnreadable);
}

// Row: no offset, neither audit nor redacted records.

#[test]
fn a_partition_never_read_starts_where_it_is_told() {
    let mut world = World::new();
    let starts = [
        (StartPosition::Earliest, StartKind::Earliest, 100),
        (StartPosition::Latest, StartKind::Latest, 120),
        (
            StartPosition::Time(Timestamp::from_millis(111)),
            StartKind::Time(Timestamp::from_millis(111)),
            111,
        ),
    ];
    for (start, kind, offset) in starts {
        world.context.start = start;
        let restored = world.ready();
        assert_eq!((restored.position, restored.partitions), (offset, 6));
        assert_eq!(pending(&restored), [genesis(kind, offset)]);
        assert_eq!(alerts(&restored), Vec::<&str>::new());
    }
    // Aborted transactions leave offsets, but no records.
    world.audit_high = 9;
    assert_eq!(world.ready().position, 111);
}

// Row: no offset (expired, group reset).

#[test]
fn a_lost_offset_is_found_again() {
    let mut world = World::after_two_transactions();
    (world.committed, world.metadata) = (None, String::new());
    let restored = world.ready();
    assert_eq!((restored.position, restored.transactions), (110, 0));
    assert_eq!(pending(&restored), [lost(110)]);
    assert_eq!(alerts(&restored), ["offset_recovered"]);
    world.transaction(112);
    world.assert_chain_verifies();
}

#[test]
fn a_lost_offset_goes_behind_what_was_redacted() {
    let mut world = World::after_two_transactions();
    (world.committed, world.metadata) = (None, String::new());
    world.redacted.push((500, Some(112)));
    let restored = world.ready();
    assert_eq!(restored.position, 113);
    assert_eq!(pending(&restored), [gap(110, 113, GapReason::Unaudited), lost(113)]);
    world.transaction(114);
    world.assert_chain_verifies();
}

#[test]
fn a_lost_offset_and_a_lost_audit_begin_a_chain_behind_what_was_redacted() {
    let mut world = World::after_two_transactions();
    (world.committed, world.metadata) = (None, String::new());
    world.audit.clear();
    let restored = world.ready();
    assert_eq!(restored.position, 110);
    assert_eq!(pending(&restored), [genesis(StartKind::Recovered, 110), lost(110)]);
    assert_eq!(alerts(&restored), ["offset_recovered", "audit_empty"]);
    world.transaction(112);
    world.assert_chain_verifies();
}

#[test]
fn a_lost_offset_over_a_broken_chain_stops() {
    let mut world = World::after_two_transactions();
    (world.committed, world.metadata) = (None, String::new());
    world.audit[0].1[150] ^= 1;
    assert_eq!(world.stopped(), StopKind::ChainBroken);
}

#[test]
fn a_lost_offset_with_an_old_audit_needs_a_known_key() {
    let mut world = World::after_two_transactions();
    (world.committed, world.metadata) = (None, String::new());
    world.audit_low = 1;
    assert_eq!(world.ready().position, 110);
    world.context.signers.clear();
    assert_eq!(world.stopped(), StopKind::ChainBroken);
}

#[test]
fn a_lost_offset_over_another_source_stops() {
    let mut world = World::after_two_transactions();
    (world.committed, world.metadata) = (None, String::new());
    world.source[9].1 = "another".to_owned();
    assert_eq!(world.stopped(), StopKind::SourceReplaced);
    world.source_high = 109;
    assert_eq!(world.stopped(), StopKind::SourceShorter);
}

#[test]
fn a_redacted_record_without_coordinates_stops() {
    let mut world = World::new();
    world.redacted.push((0, None));
    assert_eq!(world.stopped(), StopKind::RedactedUnreadable);
}

#[test]
fn the_last_redacted_record_is_found_behind_many_holes() {
    let mut world = World::new();
    world.context.audit = false;
    world.redacted.push((3, Some(104)));
    world.redacted.push((4, Some(105)));
    // Nothing but aborted records for a long way.
    struct Far(World);
    let far = Far(world);
    let (mut restore, mut step) = Restore::begin(far.0.context.clone());
    let restored = loop {
        step = match step {
            Step::Ask(Ask::Range(Role::Redacted)) => {
                restore.next(Answer::Range { low: 0, high: 1_000, lso: 1_000 })
            }
            Step::Ask(Ask::Read { role: Role::Redacted, from, to }) => {
                let batch = far.0.read(Role::Redacted, from, to);
                restore.next(Answer::Records { batch, next: to })
            }
            Step::Ask(ask) => restore.next(far.0.answer(ask)),
            Step::Ready(restored) => break restored,
            Step::Stop(stop) => panic!("{stop:?}"),
        };
    };
    assert_eq!(restored.position, 106);
    assert_eq!(restored.audit, RestoredAudit::Off(None));
}

// Row: metadata says audit off, audit now on.

#[test]
fn an_audit_switched_on_later_begins_at_the_committed_offset() {
    let mut world = World::new();
    world.context.audit = false;
    world.transaction(105);
    assert_eq!(world.audit, []);
    world.context.audit = true;
    let restored = world.ready();
    assert_eq!((restored.position, restored.transactions), (105, 1));
    assert_eq!(pending(&restored), [genesis(StartKind::Committed, 105)]);
    world.transaction(107);
    world.assert_chain_verifies();
}

#[test]
fn an_audit_switched_off_and_on_leaves_a_gap() {
    let mut world = World::after_two_transactions();
    world.context.audit = false;
    world.transaction(112);
    world.transaction(113);
    world.context.audit = true;
    let restored = world.ready();
    assert_eq!(restored.position, 113);
    assert_eq!(pending(&restored), [gap(110, 113, GapReason::AuditOff)]);
    world.transaction(115);
    world.assert_chain_verifies();
}

#[test]
fn entries_where_the_audit_was_always_off_stop() {
    let mut world = World::after_two_transactions();
    let mut metadata = OffsetMetadata::parse(&world.metadata).unwrap();
    metadata.audit = AuditState::Off(None);
    world.metadata = metadata.encode();
    assert_eq!(world.stopped(), StopKind::EntriesAfterHead);
}

// Row: `to` differs, source end below `to`, last sealed record differs.

#[test]
fn an_offset_that_is_not_the_last_seals_end_stops() {
    let mut world = World::after_two_transactions();
    for offset in [109, 111] {
        world.committed = Some(offset);
        assert_eq!(world.stopped(), StopKind::OffsetDiffers);
    }
}

#[test]
fn a_shorter_or_replaced_source_stops() {
    let mut world = World::after_two_transactions();
    world.source[9].1 = "another".to_owned();
    assert_eq!(world.stopped(), StopKind::SourceReplaced);
    // With the key destroyed the commitment says nothing.
    world.context.commitment_keys = CommitmentKey::from_bytes(&[6; 32]).into();
    assert_eq!(world.ready().position, 110);
    // A record that can't be read any more says nothing either.
    world.context.commitment_keys = world.commitment_key.clone().into();
    world.source.remove(9);
    assert_eq!(world.ready().position, 110);
    world.source_high = 109;
    assert_eq!(world.stopped(), StopKind::SourceShorter);
    world.context.audit = false;
    assert_eq!(world.stopped(), StopKind::SourceShorter);
}

// Row: source low watermark above `to`.

#[test]
fn retention_that_overran_us_leaves_a_gap() {
    let mut world = World::after_two_transactions();
    world.source_low = 114;
    let restored = world.ready();
    assert_eq!(restored.position, 114);
    assert_eq!(pending(&restored), [gap(110, 114, GapReason::Retention)]);
    assert_eq!(alerts(&restored), ["source_gap"]);
    assert_eq!(restored.alerts[0].severity, 1);
    world.transaction(116);
    world.assert_chain_verifies();
    assert_eq!(world.ready().position, 116);
}

#[test]
fn retention_that_overran_an_unaudited_partition_is_told() {
    let mut world = World::after_two_transactions();
    world.source_low = 114;
    world.context.audit = false;
    let restored = world.ready();
    assert_eq!((restored.position, alerts(&restored)), (114, vec!["source_gap"]));
    assert!(matches!(restored.audit, RestoredAudit::Off(Some(_))));
}

#[test]
fn a_lost_offset_under_another_keyring_stops() {
    let mut world = World::after_two_transactions();
    (world.committed, world.metadata) = (None, String::new());
    world.context.partitions = 99;
    assert_eq!(world.ready().partitions, 6);
    world.context.keyring = KeyringId::from_bytes([8; 8]);
    assert_eq!(world.stopped(), StopKind::OtherKeyring);
}

//! Stops, and restarts on an operator's word.

use super::super::super::entry::GapReason;
use super::super::super::keys::KeyringId;
use super::super::{
    PendingEntry, Permission, RestartFrom, RestoredAudit, StartKind, Step, StopKind,
};
use super::world::World;
use super::{alerts, gap, genesis, pending};

fn at(offset: i64) -> RestartFrom {
    RestartFrom { offset, again: false }
}

fn again(offset: i64) -> RestartFrom {
    RestartFrom { offset, again: true }
}

fn restart(world: &mut World, from: RestartFrom) {
    world.context.permission = Permission::Restart { from, reason: "because".to_owned() };
}

fn end() -> PendingEntry {
    PendingEntry::End { reason: "because".to_owned() }
}

#[test]
fn a_restart_records_what_it_leaves_out() {
    let mut world = World::after_two_transactions();
    world.committed = Some(111);
    assert_eq!(world.stopped(), StopKind::OffsetDiffers);
    restart(&mut world, at(115));
    let left_out = gap(110, 115, GapReason::Repaired);
    assert_eq!(pending(&world.ready()), [end(), genesis(StartKind::Repaired, 110), left_out]);
    assert_eq!(world.ready().position, 115);
    // What retention took is told apart.
    world.source_low = 117;
    let taken = gap(115, 117, GapReason::Retention);
    assert_eq!(pending(&world.ready())[3..], [taken]);
    world.transaction(119);
    let report = world.assert_chain_verifies();
    assert_eq!((report.to, report.gap_offsets, report.overlap_offsets), (Some(119), 7, 0));
}

#[test]
fn a_restart_behind_an_audit_that_was_off_tells_both_gaps() {
    let mut world = World::after_two_transactions();
    world.context.audit = false;
    world.transaction(112);
    world.context.audit = true;
    world.source_high = 111;
    assert_eq!(world.stopped(), StopKind::SourceShorter);
    world.source_high = 120;
    world.committed = Some(109);
    restart(&mut world, at(113));
    let gaps = [gap(110, 112, GapReason::AuditOff), gap(112, 113, GapReason::Repaired)];
    assert_eq!(pending(&world.ready())[2..], gaps);
    world.transaction(114);
    world.assert_chain_verifies();
}

#[test]
fn a_restart_redacts_nothing_twice_unless_that_is_said() {
    let mut world = World::after_two_transactions();
    world.committed = Some(111);
    restart(&mut world, at(105));
    let Step::Stop(stop) = world.restore() else { panic!("a stop") };
    assert_eq!(stop.kind, StopKind::OffsetDiffers);
    assert!(stop.detail.contains("up to 110") && stop.detail.contains("105:again"), "{stop:?}");
    assert!(stop.command.ends_with("app.logs/3@110"), "{}", stop.command);
    restart(&mut world, again(105));
    assert_eq!(pending(&world.ready()), [end(), genesis(StartKind::Repaired, 105)]);
    world.transaction(112);
    assert_eq!(world.assert_chain_verifies().overlap_offsets, 5);
    // Nor does one begin where the source has no record yet.
    world.committed = Some(111);
    restart(&mut world, at(121));
    assert_eq!(world.stopped(), StopKind::OffsetDiffers);
}

#[test]
fn a_stop_names_where_the_redacted_topic_ends() {
    // The offsets were set back with all they say; the chain's end can't be believed.
    let mut world = World::new();
    world.transaction(105);
    let (committed, metadata) = (world.committed, world.metadata.clone());
    world.transaction(110);
    (world.committed, world.metadata) = (committed, metadata);
    let Step::Stop(stop) = world.restore() else { panic!("a stop") };
    assert!(stop.command.ends_with("app.logs/3@110"), "{}", stop.command);
    restart(&mut world, at(105));
    assert_eq!(world.stopped(), StopKind::EntriesAfterHead);
    // Of a new source all is to be read, under offsets that were redacted before.
    let mut world = World::after_two_transactions();
    world.source_high = 105;
    let Step::Stop(stop) = world.restore() else { panic!("a stop") };
    assert!(stop.command.ends_with("app.logs/3@100:again"), "{}", stop.command);
}

#[test]
fn an_operator_restarts_a_whole_chain_with_an_end() {
    let mut world = World::after_two_transactions();
    world.source_high = 105;
    assert_eq!(world.stopped(), StopKind::SourceShorter);
    let reason = "topic re-created".to_owned();
    world.context.permission = Permission::Restart { from: again(100), reason: reason.clone() };
    let restored = world.ready();
    assert_eq!(restored.position, 100);
    let expected = [PendingEntry::End { reason }, genesis(StartKind::Repaired, 100)];
    assert_eq!(pending(&restored), expected);
    assert_eq!(alerts(&restored), ["chain_restarted"]);
    world.transaction(102);
    world.context.permission = Permission::None;
    world.assert_chain_verifies();
    assert_eq!(world.ready().position, 102);
}

#[test]
fn an_operator_restarts_a_broken_chain_in_a_new_incarnation() {
    let mut world = World::after_two_transactions();
    world.audit.pop();
    let reason = "unclean election".to_owned();
    world.context.permission = Permission::Restart { from: at(110), reason };
    world.transaction(112);
    world.context.permission = Permission::None;
    let restored = world.ready();
    assert_eq!((restored.position, restored.transactions), (112, 3));
    let RestoredAudit::On(chain) = restored.audit else { panic!("on") };
    assert_eq!(chain.origin.incarnation(), 1);
    world.transaction(115);
}

#[test]
fn a_restart_leaves_alone_what_can_go_on() {
    let mut world = World::after_two_transactions();
    let ordinary = world.ready();
    let reason = "left in the settings".to_owned();
    world.context.permission = Permission::Restart { from: at(100), reason };
    assert_eq!(world.ready(), ordinary);
    (world.committed, world.metadata) = (None, String::new());
    let recovered = world.ready();
    assert_eq!((recovered.position, alerts(&recovered)), (110, vec!["offset_recovered"]));
    // Another keyring is no matter of a new chain.
    world.context.keyring = KeyringId::from_bytes([8; 8]);
    assert_eq!(world.stopped(), StopKind::OtherKeyring);
}

#[test]
fn an_operator_restarts_where_the_offset_has_no_metadata() {
    let mut world = World::after_two_transactions();
    (world.committed, world.metadata) = (Some(103), String::new());
    let reason = "replay".to_owned();
    world.context.permission = Permission::Restart { from: again(103), reason };
    world.transaction(106);
    world.context.permission = Permission::None;
    world.assert_chain_verifies();
    assert_eq!(world.ready().position, 106);
    // A chain that can't be read goes on in the next incarnation all the same.
    world.audit[0].1[150] ^= 1;
    (world.committed, world.metadata) = (None, String::new());
    world.context.permission = Permission::Restart { from: at(110), reason: String::new() };
    let RestoredAudit::On(chain) = world.ready().audit else { panic!("on") };
    let repaired = [genesis(StartKind::Repaired, 106), gap(106, 110, GapReason::Repaired)];
    assert_eq!(chain.pending, repaired);
    assert_eq!(chain.origin.incarnation(), 2);
}

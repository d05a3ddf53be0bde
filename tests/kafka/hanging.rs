//! A transaction that its coordinator has forgotten: no end marker ever comes.
//!
//! Kafka makes one when its only broker stops at the wrong moment. Here it is made on purpose: on a
//! broker that does not verify, requests of aborted transactions are sent once more, as if they were
//! of the producer's present epoch.

use std::time::Duration;

use blotter::daemon::broker::{Broker, BrokerErrorKind, SlotConfig, TopicPattern};
use blotter::pipeline::record::TopicPartition;
use blotter::pipeline::step::{Lookup, LookupAnswer};

use crate::harness::{Admin, Cluster, Seen};
use crate::slots::{CALL, Slot, commit_of, connector, slot};

const PRODUCE: i16 = 0;
const TXN_OFFSET_COMMIT: i16 = 28;

/// How long the client waits for an answer that does not come.
const IN_VAIN: Duration = Duration::from_secs(2);

#[test]
fn a_forgotten_transaction_is_aborted_whole_by_its_writers_id() {
    let cluster = Cluster::single_unverified();
    let (forwarder, proxied) = cluster.forwarder();
    let admin = Admin { brokers: cluster.brokers() };
    for topic in ["source", "output"] {
        admin.create_topic(topic, 1, &[]);
    }
    let (source, output) = (TopicPartition::new("source", 0), TopicPartition::new("output", 0));
    let wanted = SlotConfig {
        transactional_id: "writer".to_owned(),
        written: vec![TopicPattern::new("output").expect("a pattern")],
        ..slot("readers", "a", "source")
    };
    let mut member = Slot::connect(&connector(&proxied, &[]), &wanted).owning(1);
    member.transact(&output, "before", &source, 1).expect("nothing disturbs it");

    forwarder.keep_next(PRODUCE);
    member.broker.begin().expect("none is open");
    member.send(&output, None, b"forgotten", true).expect("queued");
    let error = member.broker.drain(IN_VAIN).expect_err("no answer");
    assert_eq!(error.kind, BrokerErrorKind::TimedOut);
    let mut produce = forwarder.take_kept();
    member.broker.reset_producer(CALL).expect("a reset leads on");

    forwarder.keep_next(TXN_OFFSET_COMMIT);
    member.begin_with(&output, "aborted").expect("stored");
    member.broker.send_offsets(&[commit_of(&source, 2)], IN_VAIN).expect_err("no answer");
    let mut offsets = forwarder.take_kept();
    member.broker.reset_producer(CALL).expect("a reset leads on");

    let log = std::fs::read(cluster.segment(1, "output", 0)).expect("the log is there");
    let epoch = epoch_of_last_batch(&log) + 1;
    move_produce(&mut produce, epoch);
    forwarder.deliver(&produce);
    member.fence(&source, "writer");
    assert!(is_open(&mut member, &source, &output), "its offset may have been committed");

    // The epoch has moved on since; unverified, an older one is taken too.
    move_offsets(&mut offsets, epoch);
    forwarder.deliver(&offsets);
    member.broker.reset_producer(CALL).expect("a reset leads on");
    assert!(is_open(&mut member, &source, &output), "the coordinator knows of nothing to end");
    member.ask(&source, Lookup::Committed).expect_err("it stays pending");

    member.fence(&source, "writer");
    assert!(!is_open(&mut member, &source, &output));
    match member.ask(&source, Lookup::Committed) {
        Ok(LookupAnswer::Committed { offset: Some(1), .. }) => {}
        other => panic!("not what stood before: {other:?}"),
    }
    member.broker.reset_producer(CALL).expect("a reset leads on");
    member.transact(&output, "after", &source, 2).expect("nothing disturbs it");
    let seen: Vec<_> = admin.read("output", 0).iter().map(Seen::text).collect();
    assert_eq!(seen, ["before", "after"]);
}

fn is_open(member: &mut Slot, source: &TopicPartition, of: &TopicPartition) -> bool {
    match member.ask(source, Lookup::Range(of.clone())) {
        Ok(LookupAnswer::Range { high, lso, .. }) => lso < high,
        other => panic!("the partition can be asked: {other:?}"),
    }
}

/// Offsets into a record batch of version 2: length, checksum, attributes, producer epoch, first
/// sequence number; its header takes 61 bytes.
const LENGTH: usize = 8;
const CHECKSUM: usize = 17;
const ATTRIBUTES: usize = 21;
const EPOCH: usize = 51;
const SEQUENCE: usize = 53;
const HEADER: usize = 61;

fn epoch_of_last_batch(log: &[u8]) -> i16 {
    let (mut at, mut last) = (0, None);
    while let Some(batch) = log.get(at..).filter(|rest| rest.len() >= HEADER) {
        last = Some(i16::from_be_bytes([batch[EPOCH], batch[EPOCH + 1]]));
        at += end_of(batch);
    }
    last.expect("something was written")
}

/// Gives the batch in a Produce request another epoch, in which it comes first.
fn move_produce(request: &mut [u8], epoch: i16) {
    let is_batch = |at: &usize| {
        let rest = &request[*at..];
        let end = end_of(rest);
        end >= HEADER
            && rest
                .get(ATTRIBUTES..end)
                .is_some_and(|body| rest[CHECKSUM..ATTRIBUTES] == crc32c(body).to_be_bytes())
    };
    let at = (0..request.len() - HEADER).find(is_batch).expect("there is a batch");
    let batch = &mut request[at..];
    batch[EPOCH..EPOCH + 2].copy_from_slice(&epoch.to_be_bytes());
    batch[SEQUENCE..SEQUENCE + 4].fill(0);
    let checksum = crc32c(&batch[ATTRIBUTES..end_of(batch)]);
    batch[CHECKSUM..ATTRIBUTES].copy_from_slice(&checksum.to_be_bytes());
}

/// A TxnOffsetCommit names the producer's id and epoch behind the group.
fn move_offsets(request: &mut [u8], epoch: i16) {
    let group = b"readers";
    let at = request.windows(group.len()).position(|bytes| bytes == group).expect("it is named");
    let at = at + group.len() + size_of::<i64>();
    request[at..at + 2].copy_from_slice(&epoch.to_be_bytes());
}

fn end_of(batch: &[u8]) -> usize {
    let length = batch[LENGTH..LENGTH + 4].try_into().expect("four bytes");
    usize::try_from(i32::from_be_bytes(length)).unwrap_or(0) + LENGTH + 4
}

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 }
        })
    })
}

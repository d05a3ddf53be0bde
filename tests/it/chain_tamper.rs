//! Tampering with a stored chain: each attack, the fault that names it, and what a chain alone can
//! NOT see (asserted too, so that the claims stay honest: those need the head kept in the committed
//! offset, or a checkpoint kept elsewhere).

use blotter::pipeline::audit::{
    Action, ActorFact, Assurance, Certificate, Commitment, CommitmentKey, Deployment,
    DeploymentKey, Disposition, Fate, Fault, FaultKind, Gap, GapReason, Genesis, HeadRef,
    InstanceKey, InstanceName, KeyringId, Ledger, Origin, PolicyHash, Redaction, Report, Rotate,
    SealedPosition, Sealer, Start, StartKind, TenantFact, Trust, Verifier, check_seal_root,
    leaf_hash,
};
use blotter::pipeline::record::{SourceRecord, Timestamp, TopicPartition};

const DEPLOYMENT_SEED: [u8; 32] = [1; 32];
const FIRST_KEY: u8 = 2;
const SECOND_KEY: u8 = 3;
/// Where the attacks strike: an action in the middle of the second transaction.
const TARGET: usize = 8;

/// A chain of five transactions: genesis and records, records, a heartbeat, a gap and records, a
/// rotated key and records. 4 records, 2 entries for each, per transaction with records.
struct Written {
    entries: Vec<Vec<u8>>,
    seals: Vec<usize>,
}

struct Writer {
    ledger: Ledger,
    keys: [InstanceKey; 2],
    key: usize,
    instance: InstanceName,
    entries: Vec<Vec<u8>>,
    seals: Vec<usize>,
    clock: i64,
}

impl Writer {
    fn new(partition: i32) -> Self {
        let source = TopicPartition::new("app.logs", partition);
        Self {
            ledger: Ledger::begin(Origin::new(&deployment(), &source, 0), 100),
            keys: [instance_key(FIRST_KEY), instance_key(SECOND_KEY)],
            key: 0,
            instance: InstanceName::new("blotter-0"),
            entries: Vec::new(),
            seals: Vec::new(),
            clock: 1_700_000_000_000,
        }
    }

    fn genesis(&mut self) {
        let origin = self.ledger.origin().clone();
        let genesis = Genesis {
            origin: origin.as_str(),
            start: StartKind::Earliest,
            offset: 100,
            partitions: 6,
            keyring: KeyringId::from_bytes([9; 8]),
            signer: self.keys[self.key].certificate(),
            policy: PolicyHash::of("{}").short(),
            after: None,
        };
        let mut out = Vec::new();
        self.ledger.append_genesis(&genesis, &mut out);
        self.entries.push(out);
    }

    fn records(&mut self, from: i64, count: i64) {
        for offset in from..from + count {
            let raw = commitment(offset);
            self.ledger.record(offset, Fate::Forwarded, &raw);
            let action = Action {
                offset,
                timestamp: Timestamp::from_millis(offset),
                event_time: None,
                tenant: Some(TenantFact { id: "salon-7", assurance: Assurance::Claimed }),
                actor: Some(ActorFact {
                    id: "tokabc",
                    kind: Some("staff"),
                    assurance: Assurance::Claimed,
                }),
                action: "booking.cancel",
                object: Some("booking/77"),
                outcome: Some("success"),
                reason: None,
                service: Some("booking"),
                raw: &raw,
                redactions: &[],
            };
            let mut out = Vec::new();
            self.ledger.append(&action, &mut out);
            self.entries.push(out);
            let receipt = Redaction {
                offset,
                timestamp: Timestamp::from_millis(offset),
                tenant: None,
                policy: PolicyHash::of("{}").short(),
                counts: &[],
                disposition: Disposition::Redacted,
                raw: &raw,
                redacted: &commitment(offset + 1_000),
            };
            let mut out = Vec::new();
            self.ledger.append(&receipt, &mut out);
            self.entries.push(out);
        }
    }

    fn seal(&mut self, to: i64) {
        self.clock += 100;
        let sealer = Sealer {
            key: &self.keys[self.key],
            instance: &self.instance,
            policy: PolicyHash::of("{}").short(),
        };
        let mut out = Vec::new();
        self.ledger.seal(to, Timestamp::from_millis(self.clock), &sealer, &mut out);
        self.seals.push(self.entries.len());
        self.entries.push(out);
    }

    fn rotate(&mut self) {
        self.key = 1;
        let mut out = Vec::new();
        self.ledger.append(&Rotate { signer: self.keys[1].certificate() }, &mut out);
        self.entries.push(out);
    }

    fn gap(&mut self, from: i64, to: i64) {
        let mut out = Vec::new();
        self.ledger.append_gap(&Gap { from, to, reason: GapReason::Retention }, &mut out);
        self.entries.push(out);
    }

    fn finish(self) -> Written {
        Written { entries: self.entries, seals: self.seals }
    }
}

fn written(partition: i32) -> Written {
    let mut writer = Writer::new(partition);
    writer.genesis();
    writer.records(100, 2);
    writer.seal(102);
    writer.records(102, 4);
    writer.seal(106);
    writer.seal(106);
    writer.gap(106, 110);
    writer.records(110, 2);
    writer.seal(112);
    writer.rotate();
    writer.records(112, 2);
    writer.seal(114);
    writer.finish()
}

fn verify(entries: &[Vec<u8>]) -> Result<Report, Fault> {
    verify_from(Start::Genesis, entries)
}

fn verify_from(start: Start, entries: &[Vec<u8>]) -> Result<Report, Fault> {
    let mut verifier = Verifier::new(trust(0), start);
    for (place, entry) in entries.iter().enumerate() {
        verifier.push(i64::try_from(place).unwrap(), entry)?;
    }
    verifier.finish()
}

/// Kind, seq and place of the fault.
fn fault_of(entries: &[Vec<u8>]) -> (FaultKind, Option<u64>, Option<i64>) {
    let fault = verify(entries).expect_err("the attack is detected");
    (fault.kind, fault.seq, fault.place)
}

fn found(kind: FaultKind, seq: usize, place: usize) -> (FaultKind, Option<u64>, Option<i64>) {
    (kind, Some(seq as u64), Some(i64::try_from(place).unwrap()))
}

fn deployment() -> Deployment {
    Deployment::parse("salon").unwrap()
}

fn trust(partition: i32) -> Trust {
    Trust {
        deployment: deployment(),
        source: TopicPartition::new("app.logs", partition),
        deployment_key: DeploymentKey::from_seed(&DEPLOYMENT_SEED).public(),
    }
}

fn certificate(seed: u8, issuer: &DeploymentKey) -> Certificate {
    issuer.certify("salon", InstanceKey::public_of_seed(&[seed; 32]))
}

fn instance_key(seed: u8) -> InstanceKey {
    let issuer = DeploymentKey::from_seed(&DEPLOYMENT_SEED);
    InstanceKey::from_seed(&[seed; 32], certificate(seed, &issuer)).unwrap()
}

fn commitment(offset: i64) -> Commitment {
    let source = TopicPartition::new("app.logs", 0);
    CommitmentKey::from_bytes(&[5; 32]).commit_raw(&SourceRecord {
        topic_partition: &source,
        offset,
        timestamp: Timestamp::EPOCH,
        key: None,
        value: Some(b"raw"),
        headers: &[],
    })
}

/// Recomputes seq and prev of every entry from `from` on, as an attacker without a key can.
fn rechain(entries: &mut [Vec<u8>], from: usize) {
    for index in from.max(1)..entries.len() {
        let prev = data_encoding::HEXLOWER.encode(&leaf_hash(&entries[index - 1]));
        let entry = &mut entries[index];
        entry[24..44].copy_from_slice(format!("{index:020}").as_bytes());
        entry[54..118].copy_from_slice(prev.as_bytes());
    }
}

fn replace(entry: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(entry.clone()).unwrap();
    assert!(text.contains(from), "{from} is in {text}");
    *entry = text.replacen(from, to, 1).into_bytes();
}

#[test]
fn the_untouched_chain_verifies() {
    let written = written(0);
    let report = verify(&written.entries).unwrap();
    assert_eq!(report.entries_total(), written.entries.len() as u64);
    assert_eq!((report.from, report.to), (Some(100), Some(114)));
    assert_eq!((report.fates.read(), report.gap_offsets, report.heartbeats), (10, 4, 1));
    assert!(report.from_genesis);
}

#[test]
fn a_flipped_bit_in_any_byte_is_found_where_it_is() {
    let written = written(0);
    let mut targets = vec![0, TARGET, TARGET + 1];
    targets.extend(&written.seals);
    for target in targets {
        for byte in 0..written.entries[target].len() {
            let mut entries = written.entries.clone();
            entries[target][byte] ^= 1 << (byte % 8);
            let fault = verify(&entries).expect_err("a flipped bit is found");
            assert_eq!(fault.place, Some(target as i64), "byte {byte} of {target}: {fault}");
            assert!(fault.seq == Some(target as u64) || target == 0, "{fault}");
        }
    }
}

#[test]
fn dropped_doubled_and_swapped_entries_are_found() {
    let entries = written(0).entries;
    let mut dropped = entries.clone();
    dropped.remove(TARGET);
    assert_eq!(fault_of(&dropped), found(FaultKind::WrongSeq, TARGET, TARGET));

    let mut doubled = entries.clone();
    doubled.insert(TARGET, entries[TARGET].clone());
    assert_eq!(fault_of(&doubled), found(FaultKind::WrongSeq, TARGET + 1, TARGET + 1));

    let mut swapped = entries.clone();
    swapped.swap(TARGET, TARGET + 1);
    assert_eq!(fault_of(&swapped), found(FaultKind::WrongSeq, TARGET, TARGET));

    let mut without_genesis = entries.clone();
    without_genesis.remove(0);
    assert_eq!(fault_of(&without_genesis).0, FaultKind::StartAbsent);
}

#[test]
fn an_edited_last_entry_is_found() {
    let mut entries = written(0).entries;
    let last = entries.len() - 1;
    replace(&mut entries[last], "\"from\":112", "\"from\":111");
    assert_eq!(fault_of(&entries), found(FaultKind::WrongSignature, last, last));
}

#[test]
fn entries_of_another_chain_are_found() {
    let (own, foreign) = (written(0), written(1));
    let mut spliced = own.entries.clone();
    spliced[TARGET] = foreign.entries[TARGET].clone();
    assert_eq!(fault_of(&spliced), found(FaultKind::WrongPrev, TARGET, TARGET));
    // With the chain recomputed around it, its coordinates tell.
    rechain(&mut spliced, TARGET);
    assert_eq!(fault_of(&spliced), found(FaultKind::WrongOrigin, TARGET, TARGET));
    // A whole other chain in the place of ours.
    assert_eq!(fault_of(&foreign.entries), found(FaultKind::WrongOrigin, 0, 0));
    // With its origin renamed, the first signature tells: it covers the origin.
    let mut renamed = foreign.entries.clone();
    for entry in &mut renamed {
        let text = String::from_utf8(entry.clone()).unwrap();
        let text = text.replace("app.logs/1/0", "app.logs/0/0");
        *entry = text.replace("\"partition\":1,", "\"partition\":0,").into_bytes();
    }
    rechain(&mut renamed, 1);
    let seal = foreign.seals[0];
    assert_eq!(fault_of(&renamed), found(FaultKind::WrongSignature, seal, seal));
}

#[test]
fn a_cut_end_is_found_inside_a_transaction_and_not_at_a_seal() {
    let written = written(0);
    let last_seal = written.seals[written.seals.len() - 2];
    for cut in last_seal + 2..written.entries.len() {
        let kept = &written.entries[..cut];
        assert_eq!(fault_of(kept), found(FaultKind::Unsealed, cut - 1, cut - 1));
    }
    // NOT detected by the chain alone: a chain cut at a seal, which is also an older valid copy.
    let rolled_back = &written.entries[..=last_seal];
    verify(rolled_back).expect("a chain alone can't see this");
    // The head in the committed offset's metadata can.
    let head = newest_head(&written.entries);
    let fault = verify_from(Start::Head(head), &rolled_back[last_seal..]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::StartAbsent);
    verify_from(Start::Head(head), &written.entries[written.entries.len() - 1..]).unwrap();
}

fn newest_head(entries: &[Vec<u8>]) -> HeadRef {
    let mut verifier = Verifier::new(trust(0), Start::Genesis);
    for (place, entry) in entries.iter().enumerate() {
        verifier.push(i64::try_from(place).unwrap(), entry).unwrap();
    }
    verifier.newest_seal().unwrap().head
}

/// The shape of CVE-2023-31438: cut, then go on as if nothing had happened.
#[test]
fn a_chain_cut_and_continued_is_found() {
    let written = written(0);
    let (first, second) = (written.seals[0], written.seals[1]);
    let mut entries = written.entries[..=first].to_vec();
    entries.extend_from_slice(&written.entries[second + 1..]);
    assert_eq!(fault_of(&entries), found(FaultKind::WrongSeq, first + 1, first + 1));
    rechain(&mut entries, first + 1);
    let fault = verify(&entries).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::WrongSignature | FaultKind::WrongCoverage), "{fault}");
}

#[test]
fn a_chain_recomputed_without_the_key_fails_at_its_next_seal() {
    let written = written(0);
    let mut entries = written.entries.clone();
    replace(&mut entries[TARGET], "booking.cancel", "booking.create");
    assert_eq!(fault_of(&entries), found(FaultKind::WrongPrev, TARGET, TARGET));
    rechain(&mut entries, TARGET + 1);
    let seal = *written.seals.iter().find(|seal| **seal > TARGET).unwrap();
    assert_eq!(fault_of(&entries), found(FaultKind::WrongSignature, seal, seal));
}

#[test]
fn a_key_that_the_deployment_did_not_certify_is_refused() {
    let mut writer = Writer::new(0);
    let own_issuer = DeploymentKey::from_seed(&[66; 32]);
    let own = InstanceKey::from_seed(&[67; 32], certificate(67, &own_issuer)).unwrap();
    writer.keys = [own, instance_key(SECOND_KEY)];
    writer.genesis();
    writer.seal(100);
    assert_eq!(fault_of(&writer.finish().entries), found(FaultKind::WrongCertificate, 0, 0));
}

/// The shape of CVE-2023-31439: a valid seal by a key of another time.
#[test]
fn a_seal_by_a_key_not_in_force_is_refused() {
    let mut writer = Writer::new(0);
    writer.genesis();
    writer.records(100, 1);
    writer.key = 1;
    writer.seal(101);
    assert_eq!(fault_of(&writer.finish().entries), found(FaultKind::WrongSigner, 3, 3));
    let mut writer = Writer::new(0);
    writer.genesis();
    writer.rotate();
    writer.seal(100);
    writer.key = 0;
    writer.seal(100);
    assert_eq!(fault_of(&writer.finish().entries), found(FaultKind::WrongSigner, 3, 3));
}

/// With the signing key, what a seal says must still agree with the entries and the source.
#[test]
fn forged_counts_and_coverage_are_found_even_with_the_key() {
    // A record counted without an offset for it.
    let mut writer = Writer::new(0);
    writer.genesis();
    writer.ledger.record(100, Fate::Forwarded, &commitment(100));
    writer.ledger.record(101, Fate::DeadLettered, &commitment(101));
    writer.seal(101);
    assert_eq!(fault_of(&writer.finish().entries), found(FaultKind::WrongCounts, 1, 1));
    // An entry for an offset that the seal doesn't cover.
    let mut writer = Writer::new(0);
    writer.genesis();
    writer.records(100, 2);
    writer.seal(101);
    assert_eq!(fault_of(&writer.finish().entries), found(FaultKind::WrongSource, 5, 5));
    // A transaction left out: the range before ends where the next does not begin.
    let mut writer = Writer::new(0);
    writer.genesis();
    writer.seal(100);
    let head = writer.ledger.head();
    let sealed = SealedPosition { to: 105, last: None };
    writer.ledger = Ledger::resume(writer.ledger.origin().clone(), head, sealed);
    writer.records(105, 1);
    writer.seal(106);
    assert_eq!(fault_of(&writer.finish().entries), found(FaultKind::WrongCoverage, 4, 4));
}

#[test]
fn a_seal_root_binds_every_record_of_the_source() {
    let written = written(0);
    let seal = &written.entries[written.seals[1]];
    let records: Vec<Commitment> = (102..106).map(commitment).collect();
    assert_eq!(check_seal_root(seal, &records), Ok(()));
    assert_eq!(check_seal_root(seal, &records[1..]), Err(FaultKind::WrongRoot));
    let swapped = [records[1], records[0], records[2], records[3]];
    assert_eq!(check_seal_root(seal, &swapped), Err(FaultKind::WrongRoot));
    assert_eq!(check_seal_root(b"{}", &records), Err(FaultKind::Malformed));
}

/// NOT detected by the chain alone: the holder of the signing key writes another, consistent
/// history, or turns its clock back. The head kept elsewhere differs; the clock is counted.
#[test]
fn a_rewrite_by_the_key_holder_shows_only_against_a_head_kept_elsewhere() {
    let before = newest_head(&written(0).entries);
    let mut writer = Writer::new(0);
    writer.genesis();
    writer.seal(100);
    writer.clock -= 3_600_000;
    writer.records(100, 1);
    writer.seal(114);
    let rewritten = writer.finish().entries;
    let report = verify(&rewritten).expect("a chain alone can't see this");
    assert_eq!(report.clock_steps_back, 1);
    let last = rewritten.len() - 1;
    let fault = verify_from(Start::Head(before), &rewritten[last..]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::StartAbsent);
}

#[test]
fn nothing_unknown_is_skipped() {
    let attack = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut entries = written(0).entries;
        change(&mut entries[TARGET]);
        let (kind, seq, place) = fault_of(&entries);
        assert_eq!((seq, place), (Some(TARGET as u64), Some(TARGET as i64)));
        kind
    };
    let version = attack(&|entry| replace(entry, "{\"v\":1", "{\"v\":2"));
    assert_eq!(version, FaultKind::UnknownVersion);
    let kind = attack(&|entry| replace(entry, "\"act\"", "\"xyz\""));
    assert_eq!(kind, FaultKind::UnknownKind);
    assert_eq!(attack(&|entry| entry[200] = 0xff), FaultKind::NotUtf8);
    assert_eq!(attack(&|entry| entry.truncate(118)), FaultKind::Malformed);
    assert_eq!(attack(&|entry| entry.clear()), FaultKind::Malformed);
    let long = |entry: &mut Vec<u8>| {
        entry.pop();
        entry.resize(70_000, b' ');
        entry.push(b'}');
    };
    assert_eq!(attack(&long), FaultKind::TooLong);
}

#[test]
fn an_empty_chain_and_one_without_seals_do_not_pass() {
    assert_eq!(verify(&[]).unwrap_err().kind, FaultKind::Empty);
    let written = written(0);
    let mut unsealed = written.entries.clone();
    let mut index = 0;
    unsealed.retain(|_| {
        index += 1;
        !written.seals.contains(&(index - 1))
    });
    rechain(&mut unsealed, 1);
    assert!(verify(&unsealed).is_err());
}

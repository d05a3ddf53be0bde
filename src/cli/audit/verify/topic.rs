//! The chains of a topic, as the brokers hold them.

use std::collections::BTreeMap;

use super::super::super::exit::Failure;
use super::super::super::preview::{connect, partitions};
use super::Scene;
use super::verdict::{Problem, Verdict};
use super::walk::Run;
use crate::daemon::reader::TopicReader;
use crate::pipeline::audit::{AuditState, HeadRef, OffsetMetadata, Trust};
use crate::pipeline::limits::TOPIC_PARTITIONS_MAX;
use crate::pipeline::record::TopicPartition;
use crate::settings::Settings;

/// Committed source offsets and their metadata by partition, or why they can't be had.
type Committed = Result<BTreeMap<i32, (i64, String)>, String>;

pub(super) fn verify(
    scene: &Scene,
    settings: &Settings,
    topic: &str,
    tell: &mut dyn FnMut(&Verdict) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut reader = connect(settings)?;
    let audit_topic = settings.names.audit.topic(topic);
    let stored = partitions(&mut reader, &audit_topic)?;
    let read = reader.topics()?.get(topic).copied().unwrap_or_default();
    let most = stored.max(read).max(i32::from(TOPIC_PARTITIONS_MAX));
    // Before any end is fixed: what is committed by now must stand in front of it.
    let committed = reader.committed(topic, 0..most).map_err(|error| error.to_string());
    verify_chains(scene, &mut reader, topic, &audit_topic, &committed, tell)
}

fn verify_chains(
    scene: &Scene,
    reader: &mut impl TopicReader,
    topic: &str,
    audit_topic: &str,
    committed: &Committed,
    tell: &mut dyn FnMut(&Verdict) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let counts = reader.topics()?;
    let count = |topic: &str| counts.get(topic).copied().unwrap_or_default();
    let stored = count(audit_topic);
    for partition in 0..stored.max(count(topic)).max(known_partitions(committed)) {
        let trust = Trust {
            deployment: scene.deployment.clone(),
            source: TopicPartition::new(topic, partition),
            deployment_key: scene.deployment_key,
        };
        let audit = TopicPartition::new(audit_topic, partition);
        let head = head_of(committed, partition);
        let mut run = Run::new(head.as_ref().ok().copied().flatten());
        let mut is_empty = true;
        if partition < stored {
            let (low, end) = reader.range(&audit)?;
            is_empty = end == 0;
            reader.read(&audit, low, end, &mut |record| {
                run.push(scene, &trust, record.offset, record.value.unwrap_or_default());
            })?;
        }
        let mut verdict = run.finish(&trust, |offset| match offset {
            Some(offset) => format!("{audit}/{offset}"),
            None => audit.to_string(),
        });
        match head {
            Ok(Some(_)) => {}
            Ok(None) if is_empty && is_untouched(reader, &trust.source) => {
                verdict.fault = None;
                verdict.notes = vec!["nothing was written to the source partition yet".to_owned()];
            }
            Ok(None) => not_compared(scene, &audit, "no committed offset", &mut verdict),
            Err(why) => not_compared(scene, &audit, &why, &mut verdict),
        }
        tell(&verdict)?;
    }
    Ok(())
}

/// Whether nothing was ever written to a source partition.
fn is_untouched(reader: &mut impl TopicReader, source: &TopicPartition) -> bool {
    reader.range(source).is_ok_and(|(_, end)| end == 0)
}

/// Partitions of the source as far as committed offsets tell: the topics may have been made anew.
fn known_partitions(committed: &Committed) -> i32 {
    let Ok(committed) = committed else { return 0 };
    let told = committed.iter().map(|(partition, (_, metadata))| {
        let first = OffsetMetadata::parse(metadata).map_or(0, |metadata| metadata.partitions);
        first.max(partition.saturating_add(1))
    });
    told.max().unwrap_or_default()
}

/// The head of the chain that the daemon committed with its offset, if it committed one; or why that
/// is not known.
fn head_of(committed: &Committed, partition: i32) -> Result<Option<HeadRef>, String> {
    let Some((_, metadata)) = committed.as_ref().map_err(Clone::clone)?.get(&partition) else {
        return Ok(None);
    };
    match OffsetMetadata::parse(metadata).map_err(|error| error.to_string())?.audit {
        AuditState::On(head) | AuditState::Off(Some(head)) => Ok(Some(head)),
        AuditState::Off(None) => Err("the audit was off at the committed offset".to_owned()),
    }
}

/// A trail can be rolled back or cut at a seal where nothing says how far it went.
fn not_compared(scene: &Scene, audit: &TopicPartition, why: &str, verdict: &mut Verdict) {
    if scene.accept_unknown_head {
        verdict.notes.push(format!("not compared with a committed head: {why}"));
        return;
    }
    verdict.fault.get_or_insert_with(|| Problem {
        place: audit.to_string(),
        kind: "committed_head_unknown",
        seq: None,
        expected: "the head that the daemon committed".to_owned(),
        found: why.to_owned(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::broker::BrokerError;
    use crate::pipeline::audit::{
        Certificate, Deployment, DeploymentKey, Genesis, InstanceKey, InstanceName, KeyringId,
        Ledger, Origin, PolicyHash, Sealer, StartKind, StoredAt,
    };
    use crate::pipeline::record::{SourceRecord, Timestamp};

    /// What the brokers hold: ends of source partitions, entries of audit partitions.
    struct Held {
        source: Vec<i64>,
        audit: Vec<Vec<Vec<u8>>>,
    }

    impl TopicReader for Held {
        fn topics(&mut self) -> Result<BTreeMap<String, i32>, BrokerError> {
            let count = |count: usize| i32::try_from(count).unwrap();
            Ok(BTreeMap::from([
                ("t".to_owned(), count(self.source.len())),
                ("t.audit".to_owned(), count(self.audit.len())),
            ]))
        }

        fn range(&mut self, of: &TopicPartition) -> Result<(i64, i64), BrokerError> {
            let index = usize::try_from(of.partition).unwrap();
            let is_source = &*of.topic == "t";
            let audit = || i64::try_from(self.audit[index].len()).unwrap();
            Ok((0, if is_source { self.source[index] } else { audit() }))
        }

        fn read(
            &mut self,
            of: &TopicPartition,
            _from: i64,
            _to: i64,
            visit: &mut dyn FnMut(SourceRecord<'_>),
        ) -> Result<(), BrokerError> {
            for (offset, entry) in (0..).zip(&self.audit[usize::try_from(of.partition).unwrap()]) {
                visit(SourceRecord {
                    topic_partition: of,
                    offset,
                    timestamp: Timestamp::EPOCH,
                    key: None,
                    value: Some(entry),
                    headers: &[],
                });
            }
            Ok(())
        }
    }

    fn deployment() -> Deployment {
        Deployment::parse("salon").unwrap()
    }

    fn certificate() -> Certificate {
        let key = DeploymentKey::from_seed(&[1; 32]);
        key.certify("salon", InstanceKey::public_of_seed(&[2; 32]))
    }

    /// A chain of a genesis and two seals, and what was committed with the second.
    fn chain(partition: i32) -> (Vec<Vec<u8>>, (i64, String)) {
        let key = InstanceKey::from_seed(&[2; 32], certificate()).unwrap();
        let origin = Origin::new(&deployment(), &TopicPartition::new("t", partition), 0);
        let (instance, policy) = (InstanceName::new("i"), PolicyHash::of("{}").short());
        let keyring = KeyringId::from_bytes([9; 8]);
        let mut ledger = Ledger::begin(origin.clone(), 0);
        let mut entries = vec![Vec::new(), Vec::new(), Vec::new()];
        let genesis = Genesis {
            origin: origin.as_str(),
            start: StartKind::Earliest,
            offset: 0,
            partitions: 1,
            keyring,
            signer: key.certificate(),
            policy,
            after: None,
        };
        ledger.append_genesis(&genesis, &mut entries[0]);
        let sealer = Sealer { key: &key, instance: &instance, policy };
        for entry in &mut entries[1..] {
            ledger.seal(0, Timestamp::EPOCH, &sealer, entry);
        }
        let head = HeadRef {
            incarnation: 0,
            head: ledger.head().unwrap(),
            stored: StoredAt::Exact(2),
            signer: certificate(),
        };
        let metadata = OffsetMetadata {
            transactions: 2,
            partitions: 1,
            keyring,
            commitment_key: key.id(),
            audit: AuditState::On(head),
        };
        (entries, (0, metadata.encode()))
    }

    /// The kind of fault of each partition, if it has one.
    fn faults(held: &mut Held, committed: &Committed, accept: bool) -> Vec<Option<&'static str>> {
        let scene = Scene {
            deployment: deployment(),
            deployment_key: DeploymentKey::from_seed(&[1; 32]).public(),
            signers_of_suffix: None,
            accept_unknown_head: accept,
        };
        let mut told = Vec::new();
        let mut tell = |verdict: &Verdict| {
            told.push(verdict.fault.as_ref().map(|fault| fault.kind));
            Ok(())
        };
        verify_chains(&scene, held, "t", "t.audit", committed, &mut tell).unwrap();
        told
    }

    #[test]
    fn every_chain_that_was_committed_must_be_there() {
        let ((first, of_first), (second, of_second)) = (chain(0), chain(1));
        let committed = Ok(BTreeMap::from([(0, of_first), (1, of_second)]));
        let mut held = Held { source: vec![5, 5], audit: vec![first.clone(), second] };
        assert_eq!(faults(&mut held, &committed, false), [None, None]);
        // Both topics made anew with fewer partitions, the first one's trail copied back.
        let mut held = Held { source: vec![0], audit: vec![first.clone()] };
        let absent = Some("committed_head_absent");
        let told = faults(&mut held, &committed, false);
        assert_eq!(told[0], None);
        assert!(told[1].is_some(), "{told:?}");
        // Rolled back to an older copy; emptied with its source.
        let mut held = Held { source: vec![5, 5], audit: vec![first[..2].to_vec(), Vec::new()] };
        assert_eq!(faults(&mut held, &committed, false)[0], absent);
        let mut held = Held { source: vec![0, 0], audit: vec![first, Vec::new()] };
        assert!(faults(&mut held, &committed, false)[1].is_some());
    }

    #[test]
    fn a_comparison_that_could_not_be_made_is_a_fault_unless_accepted() {
        let (entries, last) = chain(0);
        let unknown = [Some("committed_head_unknown")];
        for committed in [
            Err("not authorized".to_owned()),
            Ok(BTreeMap::new()),
            Ok(BTreeMap::from([(0, (0, String::new()))])),
        ] {
            let mut held = Held { source: vec![5], audit: vec![entries.clone()] };
            assert_eq!(faults(&mut held, &committed, false), unknown, "{committed:?}");
            assert_eq!(faults(&mut held, &committed, true), [None], "{committed:?}");
        }
        // A partition that nothing was written to yet has nothing to compare.
        let committed = Ok(BTreeMap::from([(0, last)]));
        let mut held = Held { source: vec![5, 0], audit: vec![entries, Vec::new()] };
        assert_eq!(faults(&mut held, &committed, false), [None, None]);
    }
}

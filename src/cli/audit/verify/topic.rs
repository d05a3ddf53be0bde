//! The chains of a topic, as the brokers hold them.

use super::super::super::exit::Failure;
use super::super::super::preview::{connect, partitions};
use super::Scene;
use super::verdict::Verdict;
use super::walk::Run;
use crate::daemon::reader::{KafkaReader, TopicReader};
use crate::pipeline::audit::{AuditState, HeadRef, OffsetMetadata, Trust};
use crate::pipeline::record::TopicPartition;

pub(super) fn verify(
    scene: &Scene,
    topic: &str,
    tell: &mut dyn FnMut(&Verdict) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut reader = connect(&scene.settings)?;
    let audit_topic = scene.settings.names.audit.topic(topic);
    for partition in 0..partitions(&mut reader, &audit_topic)? {
        let trust = Trust {
            deployment: scene.settings.deployment.clone(),
            source: TopicPartition::new(topic, partition),
            deployment_key: scene.deployment_key,
        };
        let audit = TopicPartition::new(audit_topic.as_str(), partition);
        // Before the end is fixed: what is committed by now must stand in front of it.
        let (committed, note) = committed_head(&reader, &trust.source);
        let (low, end) = reader.range(&audit)?;
        let mut run = Run::new(committed);
        reader.read(&audit, low, end, &mut |record| {
            run.push(scene, &trust, record.offset, record.value.unwrap_or_default());
        })?;
        let mut verdict = run.finish(&trust, |offset| match offset {
            Some(offset) => format!("{audit}/{offset}"),
            None => audit.to_string(),
        });
        verdict.notes.extend(note);
        if verdict.report.entries_total() == 0
            && end == 0
            && is_untouched(&mut reader, &trust.source)
        {
            verdict.fault = None;
            verdict.notes = vec!["nothing was written to the source partition yet".to_owned()];
        }
        tell(&verdict)?;
    }
    Ok(())
}

/// Whether nothing was ever written to a source partition.
fn is_untouched(reader: &mut KafkaReader, source: &TopicPartition) -> bool {
    reader.range(source).is_ok_and(|(_, end)| end == 0)
}

/// The head of the chain that the daemon committed with its offset, or why there is none.
fn committed_head(
    reader: &KafkaReader,
    source: &TopicPartition,
) -> (Option<HeadRef>, Option<String>) {
    let none = |why: String| (None, Some(format!("not compared with a committed head: {why}")));
    match reader.committed(source) {
        Err(error) => none(error.to_string()),
        Ok(None) => none("the group has committed no offset".to_owned()),
        Ok(Some((_, metadata))) => {
            match OffsetMetadata::parse(&metadata).map(|found| found.audit) {
                Ok(AuditState::On(head) | AuditState::Off(Some(head))) => (Some(head), None),
                Ok(AuditState::Off(None)) => none("the audit was off".to_owned()),
                Err(error) => none(error.to_string()),
            }
        }
    }
}

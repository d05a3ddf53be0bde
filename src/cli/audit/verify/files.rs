//! Exported chains, one partition per file.

use std::io::BufReader;
use std::path::Path;

use serde::Deserialize;

use super::super::super::exit::{Exit, Failure};
use super::super::super::records::{read_line, split_end};
use super::Scene;
use super::verdict::Verdict;
use super::walk::Run;
use crate::pipeline::audit::{Deployment, Trust};
use crate::pipeline::limits::AUDIT_ENTRY_BYTES_MAX;
use crate::pipeline::record::TopicPartition;

/// Entries looked through for the source of a file that does not begin at a genesis.
const SOURCE_LOOK_ENTRIES: usize = 10_000;

pub(super) fn verify(scene: &Scene, path: &Path, source: Option<&str>) -> Result<Verdict, Failure> {
    let shown = path.display().to_string();
    let at = |error: std::io::Error| Failure::io(&shown, &error);
    let (deployment, source) = match source {
        Some(text) => (scene.settings.deployment.clone(), parse_source(text)?),
        None => origin_of(scene, path)?,
    };
    let trust = Trust { deployment, source, deployment_key: scene.deployment_key };
    let mut reader = BufReader::new(std::fs::File::open(path).map_err(at)?);
    let mut run = Run::new(None);
    let (mut line, mut number) = (Vec::new(), 0);
    while read_line(&mut reader, &mut line, AUDIT_ENTRY_BYTES_MAX).map_err(at)? {
        number += 1;
        run.push(scene, &trust, number, split_end(&line).0);
    }
    Ok(run.finish(&trust, |line| match line {
        Some(line) => format!("{shown}:{line}"),
        None => shown.clone(),
    }))
}

/// Deployment and source partition of a file: from its genesis, else from its first entry that
/// names them. What a file that names none holds fails under any source.
fn origin_of(scene: &Scene, path: &Path) -> Result<(Deployment, TopicPartition), Failure> {
    #[derive(Deserialize)]
    struct Entry {
        origin: Option<String>,
        src: Option<Coordinates>,
    }
    #[derive(Deserialize)]
    struct Coordinates {
        topic: String,
        partition: i32,
    }
    let shown = path.display().to_string();
    let at = |error: std::io::Error| Failure::io(&shown, &error);
    let mut reader = BufReader::new(std::fs::File::open(path).map_err(at)?);
    let mut line = Vec::new();
    for _ in 0..SOURCE_LOOK_ENTRIES {
        if !read_line(&mut reader, &mut line, AUDIT_ENTRY_BYTES_MAX).map_err(at)? {
            break;
        }
        let Ok(entry) = serde_json::from_slice::<Entry>(&line) else { continue };
        if let Some(origin) = entry.origin.as_deref().and_then(parse_origin) {
            return Ok(origin);
        }
        if let Some(src) = entry.src {
            let source = TopicPartition::new(src.topic.as_str(), src.partition);
            return Ok((scene.settings.deployment.clone(), source));
        }
    }
    Ok((scene.settings.deployment.clone(), TopicPartition::new("unknown", 0)))
}

/// `<deployment>/audit/<topic>/<partition>/<incarnation>`
fn parse_origin(text: &str) -> Option<(Deployment, TopicPartition)> {
    let mut parts = text.split('/');
    let (deployment, audit) = (parts.next()?, parts.next()?);
    let (topic, partition) = (parts.next()?, parts.next()?);
    let source = TopicPartition::new(topic, partition.parse().ok()?);
    (audit == "audit").then_some((Deployment::parse(deployment)?, source))
}

fn parse_source(text: &str) -> Result<TopicPartition, Failure> {
    let parts =
        text.rsplit_once('/').and_then(|(topic, number)| Some((topic, number.parse().ok()?)));
    let (topic, partition) =
        parts.ok_or_else(|| Failure::new(Exit::Usage, "--source: expected TOPIC/PARTITION"))?;
    Ok(TopicPartition::new(topic, partition))
}

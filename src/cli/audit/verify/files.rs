//! Exported chains, one partition per file.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::super::exit::{Exit, Failure};
use super::super::super::records::{read_line, split_end};
use super::Scene;
use super::verdict::{Problem, Verdict};
use super::walk::Run;
use crate::pipeline::audit::{Deployment, Trust};
use crate::pipeline::limits::AUDIT_ENTRY_BYTES_MAX;
use crate::pipeline::record::TopicPartition;

/// Entries looked through for the source of a file that does not begin at a genesis.
const SOURCE_LOOK_ENTRIES: usize = 10_000;

pub(super) fn verify(
    scene: &Scene,
    files: &[PathBuf],
    source: Option<&str>,
    tell: &mut dyn FnMut(&Verdict) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut seen: Vec<(Trust, &Path)> = Vec::new();
    for path in files {
        let trust = trust_of(scene, path, source)?;
        let mut verdict = verify_file(scene, path, &trust)?;
        let named = source_in_name(path).filter(|_| source.is_none());
        let is_same =
            |other: &Trust| other.source == trust.source && other.deployment == trust.deployment;
        let twice = seen.iter().find(|(other, _)| is_same(other)).map(|(_, path)| *path);
        let wrong = if let Some(other) = twice {
            Some((
                "same_source",
                "a file per partition".to_owned(),
                format!("{} too", other.display()),
            ))
        } else {
            named.filter(|named| *named != trust.source).map(|named| {
                (
                    "other_source",
                    format!("the trail of {named}"),
                    format!("that of {}", trust.source),
                )
            })
        };
        if let Some((kind, expected, found)) = wrong {
            let place = path.display().to_string();
            verdict.fault.get_or_insert(Problem { place, kind, seq: None, expected, found });
        }
        tell(&verdict)?;
        seen.push((trust, path));
    }
    Ok(())
}

fn verify_file(scene: &Scene, path: &Path, trust: &Trust) -> Result<Verdict, Failure> {
    let shown = path.display().to_string();
    let at = |error: std::io::Error| Failure::io(&shown, &error);
    let mut reader = BufReader::new(std::fs::File::open(path).map_err(at)?);
    let mut run = Run::new(None);
    let (mut line, mut number) = (Vec::new(), 0);
    while read_line(&mut reader, &mut line, AUDIT_ENTRY_BYTES_MAX).map_err(at)? {
        number += 1;
        run.push(scene, trust, number, split_end(&line).0);
    }
    Ok(run.finish(trust, |line| match line {
        Some(line) => format!("{shown}:{line}"),
        None => shown.clone(),
    }))
}

fn trust_of(scene: &Scene, path: &Path, source: Option<&str>) -> Result<Trust, Failure> {
    let (deployment, source) = match source {
        Some(text) => (scene.deployment.clone(), parse_source(text)?),
        None => origin_of(scene, path)?,
    };
    Ok(Trust { deployment, source, deployment_key: scene.deployment_key })
}

/// The partition that an export's file name tells: `TOPIC-PARTITION.jsonl`.
fn source_in_name(path: &Path) -> Option<TopicPartition> {
    let name = path.file_name()?.to_str()?.strip_suffix(".jsonl")?;
    let (topic, partition) = name.rsplit_once('-')?;
    Some(TopicPartition::new(topic, partition.parse().ok()?))
}

/// Deployment and source partition of a file: from its genesis, else from its first entry that
/// names them, else from its name. What a file that names none holds fails under any source.
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
            return Ok((scene.deployment.clone(), source));
        }
    }
    let named = source_in_name(path);
    Ok((scene.deployment.clone(), named.unwrap_or_else(|| TopicPartition::new("unknown", 0))))
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

//! From merged settings to [`Settings`]: every value is parsed once, every refusal names its place.

mod kafka;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::load::{Loaded, SettingsError};
use super::raw::Secret;
use super::{
    Audit, Fault, Group, Input, Keys, Log, Measure, Repairs, Run, Settings, StartPosition, Topics,
};
use crate::daemon::broker::TopicPattern;
use crate::daemon::telemetry::{LogFormat, check_filter};
use crate::pipeline::alert::Rules;
use crate::pipeline::audit::{Deployment, RestartFrom};
use crate::pipeline::emit::{TopicNames, TopicTemplate, TopicTemplateError, topic_name};
use crate::pipeline::ingest::IngestRules;
use crate::pipeline::limits::{
    AUDIT_HEARTBEAT_MS_MAX, CANARIES_MAX, SHARDS_MAX, TOPIC_PARTITIONS_MAX,
};
use crate::pipeline::record::{TenantId, Timestamp, TopicPartition};
use crate::pipeline::redact::Policy;
use crate::pipeline::scrub::AuditPolicy;

type Checked<T> = Result<T, SettingsError>;

pub(super) fn settings(loaded: &Loaded) -> Checked<Settings> {
    let raw = &loaded.raw;
    let names = Arc::new(names(loaded)?);
    let policy = Policy::new(&raw.redact)
        .map_err(|error| loaded.error(&error.key, error.fault.to_string()))?;
    if raw.audit.enabled {
        AuditPolicy::new(&policy).map_err(|error| loaded.error("redact", error.to_string()))?;
    }
    let ingest = IngestRules::new(&raw.ingest).map_err(|error| {
        loaded.error(&format!("ingest.{}", error.path), error.problem.to_string())
    })?;
    let http = if raw.http.enabled {
        let address = raw.http.listen.parse();
        Some(address.map_err(|_| loaded.error("http.listen", "expected ADDRESS:PORT"))?)
    } else {
        None
    };
    Ok(Settings {
        kafka: kafka::kafka(loaded)?,
        input: input(loaded, &names)?,
        names,
        topics: topics(loaded)?,
        group: group(loaded)?,
        run: run(loaded)?,
        ingest,
        policy: Arc::new(policy),
        sentinel_per_mille: raw.sentinel.per_mille.min(1_000),
        canaries: canaries(loaded)?,
        deployment: deployment(loaded)?,
        audit: audit(loaded)?,
        repairs: repairs(loaded)?,
        measure: measure(loaded)?,
        alert: alert(loaded)?,
        keys: keys(loaded)?,
        http,
        log: log(loaded)?,
        fault: fault(loaded)?,
    })
}

fn canaries(loaded: &Loaded) -> Checked<Vec<TenantId>> {
    let raw = &loaded.raw.sentinel.canaries;
    if raw.len() > CANARIES_MAX {
        return Err(loaded.error("sentinel.canaries", format!("at most {CANARIES_MAX} tenants")));
    }
    let tenants: Option<Vec<_>> = raw.iter().map(|tenant| TenantId::new(tenant)).collect();
    tenants.ok_or_else(|| loaded.error("sentinel.canaries", "an entry is no tenant id"))
}

fn names(loaded: &Loaded) -> Checked<TopicNames> {
    let output = &loaded.raw.output;
    let at =
        |key: &'static str| move |error: TopicTemplateError| loaded.error(key, error.to_string());
    let names = TopicNames {
        redacted: TopicTemplate::parse(&output.redacted).map_err(at("output.redacted"))?,
        audit: TopicTemplate::parse(&output.audit).map_err(at("output.audit"))?,
        measures: topic_name(&output.measures).map_err(at("output.measures"))?,
        dead_letters: topic_name(&output.dead_letters).map_err(at("output.dead_letters"))?,
        alerts: topic_name(&output.alerts).map_err(at("output.alerts"))?,
        watch_state: topic_name(&output.watch_state).map_err(at("output.watch_state"))?,
    };
    if names.redacted == names.audit {
        return Err(loaded.error("output.audit", "names the same topics as output.redacted"));
    }
    let mut fixed = [&names.measures, &names.dead_letters, &names.alerts, &names.watch_state];
    fixed.sort();
    if let Some(pair) = fixed.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(loaded.error("output", format!("two outputs share the topic `{}`", pair[0])));
    }
    Ok(names)
}

fn input(loaded: &Loaded, names: &TopicNames) -> Checked<Input> {
    let raw = &loaded.raw.input;
    let mut topics = Vec::new();
    for topic in &raw.topics {
        let name =
            topic_name(topic).map_err(|error| loaded.error("input.topics", error.to_string()))?;
        if names.is_own(topic) {
            let message =
                format!("`{topic}` is one of blotter's own outputs: it would read what it writes");
            return Err(loaded.error("input.topics", message));
        }
        topics.push(name);
    }
    let mut patterns = Vec::new();
    for (index, text) in raw.patterns.iter().enumerate() {
        let pattern = TopicPattern::new(text).map_err(|error| {
            loaded.error(&format!("input.patterns[{index}]"), error.to_string())
        })?;
        patterns.push(pattern);
    }
    let start = match raw.start.as_str() {
        "earliest" => StartPosition::Earliest,
        "latest" => StartPosition::Latest,
        time => {
            let parsed: Result<jiff::Timestamp, _> = time.parse();
            let message =
                "expected earliest, latest or an RFC 3339 time such as 2026-01-31T00:00:00Z";
            let time = parsed.map_err(|_| loaded.error("input.start", message))?;
            StartPosition::Time(Timestamp::from_millis(time.as_millisecond()))
        }
    };
    Ok(Input { topics, patterns, start })
}

fn topics(loaded: &Loaded) -> Checked<Topics> {
    let raw = &loaded.raw.topics;
    for (key, count) in [
        ("topics.measures_partitions", raw.measures_partitions),
        ("topics.alerts_partitions", raw.alerts_partitions),
    ] {
        if count == 0 || count > TOPIC_PARTITIONS_MAX {
            return Err(loaded.error(key, format!("must be 1 to {TOPIC_PARTITIONS_MAX}")));
        }
    }
    if raw.replication > 0 && raw.min_insync_replicas > raw.replication {
        let message = "is greater than topics.replication: nothing could be written";
        return Err(loaded.error("topics.min_insync_replicas", message));
    }
    let some = |count: u16| (count > 0).then_some(count);
    Ok(Topics {
        create: raw.create,
        replication: some(raw.replication),
        min_insync_replicas: some(raw.min_insync_replicas),
        measures_partitions: raw.measures_partitions,
        alerts_partitions: raw.alerts_partitions,
    })
}

fn group(loaded: &Loaded) -> Checked<Group> {
    let raw = &loaded.raw.group;
    topic_name(&raw.id).map_err(|_| loaded.error("group.id", "expected A-Z a-z 0-9 . _ -"))?;
    if !raw.instance.is_empty() {
        topic_name(&raw.instance)
            .map_err(|_| loaded.error("group.instance", "expected A-Z a-z 0-9 . _ -"))?;
    }
    Ok(Group {
        id: raw.id.clone(),
        instance: (!raw.instance.is_empty()).then(|| raw.instance.clone()),
        session_timeout: Duration::from_millis(raw.session_timeout_ms.into()),
    })
}

fn run(loaded: &Loaded) -> Checked<Run> {
    let raw = &loaded.raw.run;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = match raw.shards {
        0 => u16::try_from(cores).unwrap_or(SHARDS_MAX).min(SHARDS_MAX),
        count if count <= SHARDS_MAX => count,
        _ => return Err(loaded.error("run.shards", format!("must be 0 to {SHARDS_MAX}"))),
    };
    if raw.watch_shards == 0 || raw.watch_shards > SHARDS_MAX {
        return Err(loaded.error("run.watch_shards", format!("must be 1 to {SHARDS_MAX}")));
    }
    if raw.commit_interval_ms == 0
        || raw.commit_interval_ms.saturating_mul(2) > raw.transaction_timeout_ms
    {
        let message = "must be above 0 and at most half of run.transaction_timeout_ms";
        return Err(loaded.error("run.commit_interval_ms", message));
    }
    if raw.transaction_timeout_ms > loaded.raw.group.session_timeout_ms {
        let message = "must not exceed group.session_timeout_ms: a dead owner's transaction would \
                       hold its partitions longer than its membership";
        return Err(loaded.error("run.transaction_timeout_ms", message));
    }
    let bytes = |key: &str, value: u64, min: u64| match usize::try_from(value) {
        Ok(bytes) if value >= min => Ok(bytes),
        _ => Err(loaded.error(key, format!("must be at least {min} bytes"))),
    };
    Ok(Run {
        shards,
        watch_shards: raw.watch_shards,
        commit_interval: Duration::from_millis(raw.commit_interval_ms.into()),
        commit_bytes: bytes("run.commit_bytes", raw.commit_bytes, 65_536)?,
        prefetch_bytes: bytes("run.prefetch_bytes", raw.prefetch_bytes, 1 << 20)?,
        send_queue_bytes: bytes("run.send_queue_bytes", raw.send_queue_bytes, 1 << 20)?,
        transaction_timeout: Duration::from_millis(raw.transaction_timeout_ms.into()),
        shutdown_timeout: Duration::from_millis(raw.shutdown_timeout_ms.into()),
    })
}

fn deployment(loaded: &Loaded) -> Checked<Deployment> {
    Deployment::parse(&loaded.raw.audit.deployment)
        .ok_or_else(|| loaded.error("audit.deployment", "expected 1 to 64 of A-Z a-z 0-9 . _ -"))
}

fn audit(loaded: &Loaded) -> Checked<Option<Audit>> {
    let raw = &loaded.raw.audit;
    if !raw.enabled {
        return Ok(None);
    }
    if !(1_000..=AUDIT_HEARTBEAT_MS_MAX).contains(&raw.heartbeat_ms) {
        let message = format!("must be 1000 to {AUDIT_HEARTBEAT_MS_MAX}");
        return Err(loaded.error("audit.heartbeat_ms", message));
    }
    let heartbeat = Duration::from_millis(raw.heartbeat_ms.into());
    Ok(Some(Audit { heartbeat, receipts: raw.receipts }))
}

fn repairs(loaded: &Loaded) -> Checked<Repairs> {
    let raw = &loaded.raw.audit;
    let adopt: Option<Vec<_>> = raw.adopt.iter().map(|written| topic_partition(written)).collect();
    let adopt = adopt.ok_or_else(|| loaded.error("audit.adopt", "expected TOPIC/PARTITION"))?;
    let restart = raw.restart.iter().map(|written| {
        let (partition, place) = written.rsplit_once('@')?;
        let (offset, again) = match place.strip_suffix(":again") {
            Some(offset) => (offset, true),
            None => (place, false),
        };
        let offset = offset.parse().ok().filter(|offset: &i64| *offset >= 0)?;
        Some((topic_partition(partition)?, RestartFrom { offset, again }))
    });
    let restart: Option<BTreeMap<_, _>> = restart.collect();
    let expected = "expected TOPIC/PARTITION@OFFSET or TOPIC/PARTITION@OFFSET:again";
    let restart = restart.ok_or_else(|| loaded.error("audit.restart", expected))?;
    Ok(Repairs { adopt, restart })
}

fn topic_partition(written: &str) -> Option<TopicPartition> {
    let (topic, partition) = written.rsplit_once('/')?;
    let partition = partition.parse().ok().filter(|partition: &i32| *partition >= 0)?;
    Some(TopicPartition::new(topic, partition))
}

fn measure(loaded: &Loaded) -> Checked<Option<Measure>> {
    let raw = &loaded.raw.measure;
    for (key, window_ms) in [
        ("measure.error_window_ms", raw.error_window_ms),
        ("measure.handover_window_ms", raw.handover_window_ms),
    ] {
        if window_ms == 0 || window_ms % 10_000 != 0 {
            return Err(loaded.error(key, "must be a multiple of 10000, the width of a bucket"));
        }
    }
    Ok(raw.enabled.then(|| Measure {
        error_window_ms: raw.error_window_ms.into(),
        handover_window_ms: raw.handover_window_ms.into(),
    }))
}

fn alert(loaded: &Loaded) -> Checked<Option<Rules>> {
    let raw = &loaded.raw.alert;
    if !raw.enabled {
        return Ok(None);
    }
    if !loaded.raw.measure.enabled {
        let message = "alerts need measures: switch measure.enabled on or alert.enabled off";
        return Err(loaded.error("alert.enabled", message));
    }
    let mut rules = if raw.default_rules { Rules::default_raw() } else { Vec::new() };
    rules.retain(|known| !raw.rules.iter().any(|written| written.name == known.name));
    let defaults = rules.len();
    rules.extend(raw.rules.iter().cloned());
    let checked = Rules::check("alert.rules", &rules);
    checked.map(Some).map_err(|error| {
        // The place counts the defaults too; the user counts what is written.
        let index = |text: &str| text.parse::<usize>().ok()?.checked_sub(defaults);
        let written = error.path.split(['[', ']']).nth(1).and_then(index);
        let rest = error.path.split_once(']').map_or("", |(_, rest)| rest);
        let key =
            written.map_or_else(|| error.path.clone(), |at| format!("alert.rules[{at}]{rest}"));
        SettingsError { place: loaded.place(&key), message: error.problem }
    })
}

fn keys(loaded: &Loaded) -> Checked<Keys> {
    let raw = &loaded.raw.keys;
    let folder =
        if raw.folder.is_empty() { default_state_folder() } else { PathBuf::from(&raw.folder) };
    let encryption_key =
        secret(loaded, "keys.encryption_key", &raw.encryption_key, &raw.encryption_key_file)?;
    Ok(Keys { folder, encryption_key })
}

fn default_state_folder() -> PathBuf {
    let environment: BTreeMap<String, String> = super::environment().into_iter().collect();
    let set =
        |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_STATE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("blotter")
}

fn log(loaded: &Loaded) -> Checked<Log> {
    let raw = &loaded.raw.log;
    let format = match raw.format.as_str() {
        "auto" => LogFormat::Auto,
        "json" => LogFormat::Json,
        "pretty" => LogFormat::Pretty,
        other => {
            let message = format!("`{other}` is none of auto, json, pretty");
            return Err(loaded.error("log.format", message));
        }
    };
    check_filter(&raw.filter).map_err(|error| loaded.error("log.filter", error.to_string()))?;
    Ok(Log { format, filter: raw.filter.clone() })
}

fn fault(loaded: &Loaded) -> Checked<Option<Fault>> {
    let raw = &loaded.raw.debug;
    if raw.fault_point.is_empty() {
        return Ok(None);
    }
    let place = raw.fault_point.parse();
    let place = place.map_err(|error| loaded.error("debug.fault_point", format!("{error}")))?;
    Ok(Some(Fault { place, marker: PathBuf::from(&raw.fault_marker) }))
}

/// The value itself, or the content of the file its twin names; both at once are refused.
fn secret(loaded: &Loaded, key: &str, value: &Secret, file: &str) -> Checked<Option<Secret>> {
    let written = !value.reveal().is_empty();
    if written && !file.is_empty() {
        return Err(loaded.error(key, format!("is set and {key}_file too: choose one")));
    }
    if written {
        return Ok(Some(value.clone()));
    }
    if file.is_empty() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(file)
        .map_err(|error| loaded.error(&format!("{key}_file"), format!("{file}: {error}")))?;
    Ok(Some(Secret::from(text.trim_end_matches(['\r', '\n']).to_owned())))
}

#[cfg(test)]
mod tests {
    use super::super::load::{Sources, load};
    use super::*;

    #[test]
    fn outputs_are_named_the_same_without_settings() {
        assert_eq!(names(&load(&Sources::default()).unwrap()).unwrap(), TopicNames::default());
    }
}

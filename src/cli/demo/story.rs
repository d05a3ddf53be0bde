//! What is shown, in order: traffic, an incident, a death in the middle of it, the alert firing and
//! resolving, and the proof.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::PARTITIONS;
use super::proof::{Proof, prove, sessions};
use super::traffic::{INCIDENT_TENANT, Message, Phase, SessionStep, Traffic};
use super::world::World;
use crate::cli::exit::{Exit, Failure};
use crate::cli::print;
use crate::daemon::clock::{Clock, SystemClock};
use crate::daemon::reader::TopicReader;
use crate::pipeline::emit::SOURCE_HEADER;
use crate::pipeline::record::TopicPartition;
use crate::settings::Settings;

const RECORDS_PER_SECOND: u32 = 400;
const TICK: Duration = Duration::from_millis(20);
const SEED: u64 = 20_251_107;

/// When the phases begin.
const INCIDENT_AT: Duration = Duration::from_secs(10);
const KILL_AT: Duration = Duration::from_secs(15);
const RECOVERY_AT: Duration = Duration::from_secs(22);
/// Traffic goes on until the alert has resolved, at most until then.
const END_AT: Duration = Duration::from_secs(75);
/// Time for the last records to come out.
const SETTLE: Duration = Duration::from_secs(60);

/// The telling.
pub(super) struct Story {
    world: Box<dyn World>,
    settings: Settings,
    out: PathBuf,
    clock: SystemClock,
    traffic: Traffic,
    /// Everything produced, by partition, in order.
    produced: BTreeMap<i32, Vec<Message>>,
    alerts_read: i64,
    fired: bool,
    resolved: bool,
}

impl Story {
    pub(super) fn new(world: Box<dyn World>, settings: Settings, out: PathBuf) -> Self {
        Self {
            world,
            settings,
            out,
            clock: SystemClock::new(),
            traffic: Traffic::new(SEED),
            produced: BTreeMap::new(),
            alerts_read: 0,
            fired: false,
            resolved: false,
        }
    }

    /// Runs to the end and says whether everything held.
    pub(super) fn tell(mut self, lines: Option<Vec<String>>) -> Result<Exit, Failure> {
        self.say(&format!("On {}.", self.world.describe()))?;
        self.say(&format!("Metrics: {}\n", self.world.metrics_url()))?;
        let own_lines = lines.is_some();
        match lines {
            Some(lines) => self.feed(lines)?,
            None => self.play()?,
        }
        self.settle()?;
        if own_lines {
            self.show_samples()?;
        }
        let metrics = self.last_metrics(own_lines)?;
        self.world.stop()?;
        self.say("The daemon has stopped. What was written is checked now:")?;
        let proof =
            prove(self.world.reader(), &self.settings, &self.produced, &self.out, &metrics)?;
        self.finish(&proof, own_lines)
    }

    fn play(&mut self) -> Result<(), Failure> {
        let start = self.clock.monotonic();
        let (mut shown, mut killed, mut announced) = (false, false, None);
        let mut next_figures = Duration::from_secs(4);
        let mut made = 0;
        loop {
            let elapsed = self.clock.monotonic() - start;
            if elapsed >= END_AT || (self.resolved && elapsed > RECOVERY_AT) {
                return Ok(());
            }
            let phase = phase_at(elapsed);
            if announced != Some(phase) {
                self.announce(phase, announced.is_some())?;
                announced = Some(phase);
            }
            let due =
                u32::try_from(elapsed.as_millis()).unwrap_or(u32::MAX) * RECORDS_PER_SECOND / 1000;
            while made < due {
                self.produce(phase)?;
                made += 1;
            }
            if !shown && elapsed > Duration::from_secs(5) {
                shown = self.show_samples()?;
            }
            if !killed && elapsed > KILL_AT {
                let how = self.world.kill()?;
                self.say(&format!("\n-- {:>4.1} s  KILL: {how}", elapsed.as_secs_f64()))?;
                killed = true;
            }
            if elapsed >= next_figures {
                self.figures(elapsed)?;
                self.alerts(elapsed)?;
                next_figures += Duration::from_secs(2);
            }
            std::thread::park_timeout(TICK);
        }
    }

    fn feed(&mut self, lines: Vec<String>) -> Result<(), Failure> {
        self.say(&format!("{} lines of your own.", lines.len()))?;
        for (index, line) in lines.into_iter().enumerate() {
            let partition = i32::try_from(index).unwrap_or_default() % PARTITIONS;
            self.world.produce(partition, None, &line)?;
            let message = Message {
                key: None,
                value: line,
                planted: Vec::new(),
                session: None,
                is_error: false,
            };
            self.produced.entry(partition).or_default().push(message);
        }
        Ok(())
    }

    fn announce(&self, phase: Phase, again: bool) -> Result<(), Failure> {
        self.say(match (phase, again) {
            (Phase::Calm, false) => "-- Calm: bookings, bot conversations, staff at work.",
            (Phase::Calm, true) => "\n-- The booking API is mended.",
            (Phase::Incident, _) => "\n-- INCIDENT: the booking API answers 500 to one tenant.",
        })
    }

    fn produce(&mut self, phase: Phase) -> Result<(), Failure> {
        let message = self.traffic.next(phase, self.clock.now());
        let hash = message
            .key
            .as_ref()
            .unwrap_or(&message.value)
            .bytes()
            .fold(17, |hash: u32, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let partition = i32::try_from(hash % PARTITIONS.unsigned_abs()).unwrap_or_default();
        self.world.produce(partition, message.key.as_deref(), &message.value)?;
        self.produced.entry(partition).or_default().push(message);
        Ok(())
    }

    /// Some records before and after, and an audit entry; `false` while nothing has come out yet.
    fn show_samples(&mut self) -> Result<bool, Failure> {
        let source = self.settings.input.topics[0].to_string();
        let redacted = self.settings.names.redacted.topic(&source);
        let audit = self.settings.names.audit.topic(&source);
        let mut after = Vec::new();
        collect(self.world.reader(), &redacted, &mut after, |record| {
            let header = record.headers.iter().find(|header| header.name == SOURCE_HEADER)?;
            let at = String::from_utf8(header.value?.to_vec()).ok()?;
            Some((at, String::from_utf8_lossy(record.value?).into_owned()))
        })?;
        let samples = self.samples(&after);
        if samples.is_empty() {
            return Ok(false);
        }
        self.say("\n   What the services wrote, and what left:")?;
        for (before, after) in samples {
            self.say(&format!("   - {before}\n   + {after}"))?;
        }
        let mut actions = Vec::new();
        collect(self.world.reader(), &audit, &mut actions, |record| {
            let text = String::from_utf8_lossy(record.value?).into_owned();
            text.contains("\"k\":\"act\"").then_some(text)
        })?;
        if let Some(entry) = actions.first() {
            self.say(&format!("\n   An entry of the audit trail:\n   {entry}"))?;
        }
        Ok(true)
    }

    /// One example of every way in which values were written.
    fn samples(&self, after: &[(String, String)]) -> Vec<(String, String)> {
        let mut samples: Vec<(String, String)> = Vec::new();
        let mut kinds = Vec::new();
        for (at, redacted) in after {
            let mut parts = at.rsplitn(3, '/');
            let offset = parts.next().and_then(|text| text.parse::<usize>().ok());
            let partition = parts.next().and_then(|text| text.parse::<i32>().ok());
            let (Some(offset), Some(partition)) = (offset, partition) else { continue };
            let Some(message) = self.produced.get(&partition).and_then(|all| all.get(offset))
            else {
                continue;
            };
            let kind = message
                .value
                .split("service")
                .nth(1)
                .and_then(|rest| rest.get(..12))
                .unwrap_or("")
                .to_owned();
            if message.value != *redacted && !kinds.contains(&kind) {
                kinds.push(kind);
                samples.push((message.value.clone(), redacted.clone()));
            }
        }
        samples.truncate(5);
        samples
    }

    fn figures(&mut self, elapsed: Duration) -> Result<(), Failure> {
        let metrics = self.world.metrics()?;
        let value = |name: &str, labels: &[&str]| {
            metrics
                .lines()
                .filter(|line| {
                    line.starts_with(name) && labels.iter().all(|label| line.contains(label))
                })
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .find(|value| value.is_finite())
        };
        let tenant = format!("tenant=\"{INCIDENT_TENANT}\"");
        let errors = value("blotter_error_ratio{", &[&tenant, "service=\"booking-api\""]);
        let (sessions, handed_over) = sessions(&metrics);
        let percent = |ratio: Option<f64>| {
            ratio.map_or_else(|| "   -".to_owned(), |ratio| format!("{:3.0} %", ratio * 100.0))
        };
        self.say(&format!(
            "   {:>4.1} s  booking-api errors of {INCIDENT_TENANT} (20 s): {}   handovers: {handed_over} of {sessions} sessions",
            elapsed.as_secs_f64(),
            percent(errors),
        ))
    }

    /// New transitions on the alert topic.
    fn alerts(&mut self, elapsed: Duration) -> Result<(), Failure> {
        let topic = TopicPartition::new(&*self.settings.names.alerts, 0);
        let reader = self.world.reader();
        let Ok((low, end)) = reader.range(&topic) else { return Ok(()) };
        let mut found = Vec::new();
        reader.read(&topic, self.alerts_read.max(low), end, &mut |record| {
            found.extend(
                record
                    .value
                    .and_then(|value| serde_json::from_slice::<serde_json::Value>(value).ok()),
            );
        })?;
        self.alerts_read = end;
        for alert in found {
            let text =
                |path: &str| alert.pointer(path).and_then(|v| v.as_str()).unwrap_or("").to_owned();
            if text("/labels/alertname") != "BookingErrors" || text("/reason") != "transition" {
                continue;
            }
            let status = text("/status");
            let tenant = text("/labels/tenant");
            self.say(&format!(
                "   {:>4.1} s  ALERT {} {} tenant={tenant} service={} ({})",
                elapsed.as_secs_f64(),
                status.to_uppercase(),
                text("/labels/alertname"),
                text("/labels/service"),
                text("/annotations/summary"),
            ))?;
            if tenant == INCIDENT_TENANT {
                self.fired |= status == "firing";
                self.resolved |= self.fired && status == "resolved";
            }
        }
        Ok(())
    }

    /// Waits until as much came out as went in, or for a while.
    fn settle(&mut self) -> Result<(), Failure> {
        let produced: usize = self.produced.values().map(Vec::len).sum();
        let produced = u64::try_from(produced).unwrap_or(u64::MAX);
        self.say(&format!(
            "\n-- {produced} records produced; waiting for the last ones to come out."
        ))?;
        let redacted = self.settings.names.redacted.topic(&self.settings.input.topics[0]);
        let deadline = self.clock.monotonic() + SETTLE;
        loop {
            let mut count = 0;
            self.world.reader().read_topic(&redacted, &mut |_| count += 1)?;
            if count >= produced || self.clock.monotonic() > deadline {
                return Ok(());
            }
            std::thread::park_timeout(Duration::from_millis(500));
        }
    }

    /// /metrics once they tell of every session that was produced, or after a while.
    fn last_metrics(&mut self, own_lines: bool) -> Result<String, Failure> {
        let (wanted, deadline) = (self.session_steps(), self.clock.monotonic() + SETTLE);
        loop {
            let metrics = self.world.metrics()?;
            let told = own_lines || sessions(&metrics) == wanted;
            if told || self.clock.monotonic() > deadline {
                return Ok(metrics);
            }
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }

    fn finish(&mut self, proof: &Proof, own_lines: bool) -> Result<Exit, Failure> {
        let mut checks = proof.checks.clone();
        if !own_lines {
            checks.push(("the alert fired during the incident".to_owned(), self.fired));
            checks.push(("the alert resolved after it".to_owned(), self.resolved));
            let sessions = self.session_steps();
            checks.push((
                format!(
                    "bot sessions started {}, handed over {}: both on /metrics",
                    sessions.0, sessions.1
                ),
                proof.sessions == sessions,
            ));
        }
        let mut held = true;
        for (check, ok) in &checks {
            held &= ok;
            self.say(&format!("   [{}] {check}", if *ok { "ok" } else { "FAILED" }))?;
        }
        self.say(&format!(
            "\nTo look at: {} (input, redacted, audit, alerts, metrics, settings)",
            self.out.display()
        ))?;
        self.say(&format!(
            "Check the trail yourself: blotter audit verify --config {0}/demo.toml {0}/{1}-*.jsonl",
            self.out.display(),
            self.settings.input.topics[0]
        ))?;
        Ok(if held { Exit::Success } else { Exit::Failed })
    }

    fn session_steps(&self) -> (u64, u64) {
        let count = |step| {
            let all = self.produced.values().flatten();
            all.filter(|message| message.session == Some(step)).count() as u64
        };
        (count(SessionStep::Started), count(SessionStep::HandedOver))
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        print(&format!("{text}\n"))
    }
}

fn phase_at(elapsed: Duration) -> Phase {
    if elapsed >= INCIDENT_AT && elapsed < RECOVERY_AT { Phase::Incident } else { Phase::Calm }
}

fn collect<T>(
    reader: &mut dyn TopicReader,
    topic: &str,
    into: &mut Vec<T>,
    mut take: impl FnMut(crate::pipeline::record::SourceRecord<'_>) -> Option<T>,
) -> Result<(), Failure> {
    reader.read_topic(topic, &mut |record| into.extend(take(record)))?;
    Ok(())
}

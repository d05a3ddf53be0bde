//! Rules: as written, checked, and read against the windows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::duration::parse_duration;
use crate::pipeline::limits::{
    ALERT_RULES_MAX, BUCKET_MS, RULE_DURATION_MS_MAX, RULE_TEXT_BYTES_MAX, WINDOW_MS_MAX,
};
use crate::pipeline::measure::{Bucket, Retention, Scope, Series, SeriesTable, Signal, SignalKind};

/// A rule as written in the settings; unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRule {
    /// The alert's name: a letter, then letters, digits and underscores.
    pub name: String,
    /// Watch the ratio of two signals ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<RawRatio>,
    /// ... or one signal per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// `tenant`, `service`, both or none.
    #[serde(default)]
    pub group_by: Vec<String>,
    /// Length of the window, a multiple of 10 s: `5m`.
    pub window: String,
    /// Above this the rule is breached.
    pub threshold: f64,
    /// At or below this it is clear again; the threshold when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear_threshold: Option<f64>,
    /// How long it must be breached before the alert fires.
    #[serde(default = "zero_seconds", rename = "for")]
    pub pending_for: String,
    /// How long it must be clear before the alert resolves.
    #[serde(default = "zero_seconds")]
    pub keep_firing_for: String,
    /// With fewer in the denominator (for a rate: events) the rule is not breached.
    #[serde(default = "samples_min")]
    pub samples_min: u32,
    /// `SEV-1`, `SEV-2` or `SEV-3`.
    pub severity: String,
    /// Address of the runbook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// Where the alert should go, for whoever routes it: `pagerduty`, `#ops-alerts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
}

/// The two signals of a ratio.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRatio {
    /// Numerator.
    pub of: String,
    /// Denominator.
    pub per: String,
}

fn zero_seconds() -> String {
    "0s".to_owned()
}

const fn samples_min() -> u32 {
    20
}

/// A rule that can't run, with the key that says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct RuleError {
    /// Path of the key in the settings, such as `alerts.rules[2].window`.
    pub path: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// How bad it is that a rule fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AlertSeverity {
    /// A core flow is down: a person is called.
    #[serde(rename = "SEV-1")]
    Sev1,
    /// Something that matters is broken.
    #[serde(rename = "SEV-2")]
    Sev2,
    /// Minor; a ticket.
    #[serde(rename = "SEV-3")]
    Sev3,
}

impl AlertSeverity {
    /// Every value, the worst first.
    pub const ALL: [Self; 3] = [Self::Sev1, Self::Sev2, Self::Sev3];

    /// `SEV-1`, `SEV-2` or `SEV-3`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sev1 => "SEV-1",
            Self::Sev2 => "SEV-2",
            Self::Sev3 => "SEV-3",
        }
    }

    /// The conventional `severity` label: `critical`, `warning` or `info`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Sev1 => "critical",
            Self::Sev2 => "warning",
            Self::Sev3 => "info",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.name() == text)
    }
}

/// What a rule watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Numerator over denominator.
    Ratio {
        /// Numerator.
        of: Signal,
        /// Denominator.
        per: Signal,
    },
    /// Events per second.
    Rate(Signal),
}

/// What a rule tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupBy {
    /// Tenants.
    pub tenant: bool,
    /// Services.
    pub service: bool,
}

/// One thing a rule is read for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// Whose; `All` when the rule doesn't tell tenants apart.
    pub scope: Scope,
    /// Which service; `None` when the rule doesn't tell services apart.
    pub service: Option<Arc<str>>,
}

/// What a window says about a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The ratio, or events per second.
    pub value: f64,
    /// Events counted.
    pub numerator: u32,
    /// The denominator; for a rate the events.
    pub samples: u32,
}

/// A checked rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The alert's name.
    pub name: Arc<str>,
    /// What it watches.
    pub measure: Measure,
    /// What it tells apart.
    pub group_by: GroupBy,
    /// Length of the window, a multiple of [`BUCKET_MS`].
    pub window_ms: i64,
    /// Above this it is breached.
    pub threshold: f64,
    /// At or below this it is clear.
    pub clear_threshold: f64,
    /// Breached this long before it fires.
    pub pending_ms: i64,
    /// Clear this long before it resolves.
    pub keep_firing_ms: i64,
    /// Fewer samples don't breach it.
    pub samples_min: u32,
    /// How bad it is.
    pub severity: AlertSeverity,
    /// Address of the runbook.
    pub runbook: Option<String>,
    /// Where the alert should go.
    pub channel: Option<String>,
}

impl Rule {
    /// The group of this rule that numbers of `series` belong to, if any.
    #[must_use]
    pub fn group_of(&self, series: &Series) -> Option<Group> {
        let everybody = series.scope == Scope::All;
        (everybody != self.group_by.tenant).then(|| Group {
            scope: series.scope.clone(),
            service: self.group_by.service.then(|| Arc::clone(&series.service)),
        })
    }

    /// Reads the window that ends with the bucket `end`.
    #[must_use]
    pub fn read(&self, table: &SeriesTable, group: &Group, end: Bucket) -> Reading {
        let length = self.window_ms / BUCKET_MS;
        let sum = table.sum(&group.scope, group.service.as_deref(), end, length);
        match self.measure {
            Measure::Ratio { of, per } => {
                let (numerator, samples) = (sum.of(of), sum.of(per));
                let value =
                    if samples == 0 { 0.0 } else { f64::from(numerator) / f64::from(samples) };
                Reading { value, numerator, samples }
            }
            Measure::Rate(signal) => {
                let numerator = sum.of(signal);
                let seconds = f64::from(i32::try_from(self.window_ms / 1_000).unwrap_or(i32::MAX));
                let value = f64::from(numerator) / seconds;
                Reading { value, numerator, samples: numerator }
            }
        }
    }

    /// Whether `reading` breaches the rule.
    #[must_use]
    pub fn is_breached(&self, reading: &Reading) -> bool {
        reading.samples >= self.samples_min && reading.value > self.threshold
    }

    /// Whether `reading` is clear of it.
    #[must_use]
    pub fn is_clear(&self, reading: &Reading) -> bool {
        reading.samples < self.samples_min || reading.value <= self.clear_threshold
    }

    fn signals(&self) -> impl Iterator<Item = Signal> {
        let (first, second) = match self.measure {
            Measure::Ratio { of, per } => (of, Some(per)),
            Measure::Rate(signal) => (signal, None),
        };
        std::iter::once(first).chain(second)
    }
}

/// The rules that run, names unique.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Checks rules as written under the settings key `path` (`alerts.rules`).
    ///
    /// # Errors
    /// The first rule that can't run, with the path of its key.
    pub fn check(path: &str, raw: &[RawRule]) -> Result<Self, RuleError> {
        if raw.len() > ALERT_RULES_MAX {
            return Err(RuleError {
                path: path.to_owned(),
                problem: format!("{} rules; at most {ALERT_RULES_MAX} run", raw.len()),
            });
        }
        let mut rules: Vec<Rule> = Vec::with_capacity(raw.len());
        for (index, raw) in raw.iter().enumerate() {
            let place = Place { path: format!("{path}[{index}]") };
            let rule = check_rule(&place, raw)?;
            if rules.iter().any(|other| other.name == rule.name) {
                return Err(place.error("name", format!("{:?} is taken by a rule above", raw.name)));
            }
            rules.push(rule);
        }
        Ok(Self(rules))
    }

    /// The rules in the order in which they were written.
    pub fn iter(&self) -> std::slice::Iter<'_, Rule> {
        self.0.iter()
    }

    /// The rule called `name`.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Rule> {
        self.0.iter().find(|rule| &*rule.name == name)
    }

    /// Adds the windows the rules need.
    pub fn require(&self, retention: &mut Retention) {
        for rule in &self.0 {
            rule.signals().for_each(|signal| retention.require(signal, rule.window_ms));
        }
    }
}

struct Place {
    path: String,
}

impl Place {
    fn error(&self, key: &str, problem: impl Into<String>) -> RuleError {
        RuleError { path: format!("{}.{key}", self.path), problem: problem.into() }
    }

    fn duration(&self, key: &str, text: &str, max_ms: i64) -> Result<i64, RuleError> {
        parse_duration(text).filter(|&ms| ms <= max_ms).ok_or_else(|| {
            let max = super::format_duration(max_ms);
            self.error(key, format!("{text:?} is no duration such as 30s, 5m or 1h, at most {max}"))
        })
    }

    fn signal(&self, key: &str, name: &str) -> Result<Signal, RuleError> {
        Signal::by_name(name).ok_or_else(|| {
            let known: Vec<_> =
                crate::pipeline::measure::SIGNALS.iter().map(|row| row.name).collect();
            self.error(key, format!("{name:?} is no signal; known are {}", known.join(", ")))
        })
    }
}

fn check_rule(place: &Place, raw: &RawRule) -> Result<Rule, RuleError> {
    check_name(place, &raw.name)?;
    let measure = check_measure(place, raw)?;
    let group_by = check_group_by(place, raw)?;
    let window_ms = place.duration("window", &raw.window, WINDOW_MS_MAX)?;
    if window_ms == 0 || window_ms % BUCKET_MS != 0 {
        return Err(place.error("window", format!("{:?} is no multiple of 10s", raw.window)));
    }
    let clear_threshold = raw.clear_threshold.unwrap_or(raw.threshold);
    check_thresholds(place, measure, raw.threshold, clear_threshold)?;
    let severity = AlertSeverity::parse(&raw.severity).ok_or_else(|| {
        place.error("severity", format!("{:?} is none of SEV-1, SEV-2, SEV-3", raw.severity))
    })?;
    if let Some(runbook) = &raw.runbook
        && !(runbook.starts_with("https://") || runbook.starts_with("http://"))
    {
        return Err(place.error("runbook", "must be an http or https address"));
    }
    for (key, text) in [("runbook", &raw.runbook), ("channel", &raw.channel)] {
        if text.as_ref().is_some_and(|text| text.len() > RULE_TEXT_BYTES_MAX) {
            return Err(place.error(key, format!("is over {RULE_TEXT_BYTES_MAX} bytes")));
        }
    }
    let rule = Rule {
        name: Arc::from(raw.name.as_str()),
        measure,
        group_by,
        window_ms,
        threshold: raw.threshold,
        clear_threshold,
        pending_ms: place.duration("for", &raw.pending_for, RULE_DURATION_MS_MAX)?,
        keep_firing_ms: place.duration(
            "keep_firing_for",
            &raw.keep_firing_for,
            RULE_DURATION_MS_MAX,
        )?,
        samples_min: raw.samples_min.max(1),
        severity,
        runbook: raw.runbook.clone(),
        channel: raw.channel.clone(),
    };
    let sessions = rule.signals().any(|signal| signal.kind() == SignalKind::Sessions);
    if sessions && group_by != (GroupBy { tenant: true, service: false }) {
        let problem = "sessions are counted per tenant: group_by must be [\"tenant\"]";
        return Err(place.error("group_by", problem));
    }
    Ok(rule)
}

fn check_name(place: &Place, name: &str) -> Result<(), RuleError> {
    let mut chars = name.chars();
    let sound = chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.len() <= 64;
    if !sound {
        let problem = "must be a letter, then letters, digits and underscores, at most 64";
        return Err(place.error("name", problem));
    }
    if name.starts_with("Blotter") {
        return Err(place.error("name", "names that start with Blotter are the daemon's own"));
    }
    Ok(())
}

fn check_measure(place: &Place, raw: &RawRule) -> Result<Measure, RuleError> {
    match (&raw.ratio, &raw.rate) {
        (Some(ratio), None) => Ok(Measure::Ratio {
            of: place.signal("ratio.of", &ratio.of)?,
            per: place.signal("ratio.per", &ratio.per)?,
        }),
        (None, Some(rate)) => Ok(Measure::Rate(place.signal("rate", rate)?)),
        (Some(_), Some(_)) => Err(place.error("rate", "a rule has a ratio or a rate, not both")),
        (None, None) => Err(place.error("ratio", "a rule needs a ratio or a rate")),
    }
}

fn check_group_by(place: &Place, raw: &RawRule) -> Result<GroupBy, RuleError> {
    let mut group_by = GroupBy { tenant: false, service: false };
    for name in &raw.group_by {
        match name.as_str() {
            "tenant" => group_by.tenant = true,
            "service" => group_by.service = true,
            _ => {
                let problem = format!("{name:?} is neither tenant nor service");
                return Err(place.error("group_by", problem));
            }
        }
    }
    Ok(group_by)
}

fn check_thresholds(
    place: &Place,
    measure: Measure,
    threshold: f64,
    clear_threshold: f64,
) -> Result<(), RuleError> {
    let sound = |value: f64| value.is_finite() && value >= 0.0;
    if !sound(threshold) {
        return Err(place.error("threshold", "must be a number from 0 up"));
    }
    if matches!(measure, Measure::Ratio { .. }) && threshold > 1.0 {
        return Err(place.error("threshold", "a ratio's threshold lies between 0 and 1"));
    }
    if !sound(clear_threshold) || clear_threshold > threshold {
        return Err(place.error("clear_threshold", "must lie between 0 and the threshold"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::measure::Counts;
    use crate::pipeline::record::TenantId;

    fn raw() -> RawRule {
        Rules::default_raw().remove(1)
    }

    fn path_of(change: impl FnOnce(&mut RawRule)) -> String {
        let mut rule = raw();
        change(&mut rule);
        Rules::check("alerts.rules", &[rule]).unwrap_err().path
    }

    #[test]
    fn a_rule_that_cant_run_names_its_key() {
        let key = |key: &str| format!("alerts.rules[0].{key}");
        assert_eq!(path_of(|r| r.name = "1x".into()), key("name"));
        assert_eq!(path_of(|r| r.name = "BlotterX".into()), key("name"));
        assert_eq!(path_of(|r| r.window = "15s".into()), key("window"));
        assert_eq!(path_of(|r| r.window = "0s".into()), key("window"));
        assert_eq!(path_of(|r| r.window = "2h".into()), key("window"));
        assert_eq!(path_of(|r| r.threshold = 1.5), key("threshold"));
        assert_eq!(path_of(|r| r.threshold = f64::NAN), key("threshold"));
        assert_eq!(path_of(|r| r.clear_threshold = Some(0.5)), key("clear_threshold"));
        assert_eq!(path_of(|r| r.pending_for = "soon".into()), key("for"));
        assert_eq!(path_of(|r| r.keep_firing_for = "400d".into()), key("keep_firing_for"));
        assert_eq!(path_of(|r| r.severity = "high".into()), key("severity"));
        assert_eq!(path_of(|r| r.group_by = vec!["pod".into()]), key("group_by"));
        assert_eq!(path_of(|r| r.runbook = Some("javascript:x".into())), key("runbook"));
        assert_eq!(path_of(|r| r.rate = Some("errors".into())), key("rate"));
        assert_eq!(path_of(|r| r.ratio = None), key("ratio"));
        assert_eq!(path_of(|r| r.ratio.as_mut().unwrap().of = "x".into()), key("ratio.of"));
        let sessions = |r: &mut RawRule| r.ratio.as_mut().unwrap().per = "sessions".into();
        assert_eq!(path_of(sessions), key("group_by"));
        let twice = Rules::check("alerts.rules", &[raw(), raw()]).unwrap_err();
        assert_eq!(twice.path, "alerts.rules[1].name");
    }

    #[test]
    fn unknown_keys_are_refused_and_defaults_filled_in() {
        let written =
            r#"{"name":"X","rate":"errors","window":"1m","threshold":2,"severity":"SEV-3"}"#;
        let rule: RawRule = serde_json::from_str(written).unwrap();
        let rules = Rules::check("r", &[rule]).unwrap();
        let rule = rules.by_name("X").unwrap();
        assert_eq!((rule.pending_ms, rule.samples_min, rule.clear_threshold), (0, 20, 2.0));
        let typo = written.replace("window", "windou");
        assert!(serde_json::from_str::<RawRule>(&typo).is_err());
    }

    #[test]
    fn a_rule_reads_the_groups_it_tells_apart() {
        let tenant = Scope::Tenant(TenantId::new("t").unwrap());
        let mut counts = Counts::default();
        counts.add(Signal::Records, 40);
        counts.add(Signal::Errors, 10);
        let mut table = SeriesTable::default();
        for series in [Series::new(tenant.clone(), "a"), Series::new(tenant.clone(), "b")] {
            table.add(&series, Bucket(7), &counts);
            table.add(&Series::new(Scope::All, series.service), Bucket(7), &counts);
        }
        let rules = Rules::default();
        let read = |name: &str, series: &Series| {
            let rule = rules.by_name(name).unwrap();
            let group = rule.group_of(series)?;
            Some(rule.read(&table, &group, Bucket(8)))
        };
        let of_tenant = Series::new(tenant, "a");
        let of_all = Series::new(Scope::All, "a");
        let reading = read("ErrorRateHigh", &of_tenant).unwrap();
        assert_eq!(reading, Reading { value: 0.25, numerator: 10, samples: 40 });
        assert_eq!(read("ErrorRateHigh", &of_all), None);
        assert_eq!(read("ErrorRateOverall", &of_tenant), None);
        assert_eq!(read("ErrorRateOverall", &of_all).unwrap().samples, 80);
    }
}

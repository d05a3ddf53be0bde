use super::*;
use crate::pipeline::alert::{RawRule, Rules};
use crate::pipeline::limits::{ALERT_FORGOTTEN_AFTER_MS, RESOLVED_REPEATED_FOR_MS};
use crate::pipeline::record::TenantId;

const BREACHED: Condition = Condition {
    breached: true,
    cleared: false,
    reading: Reading { value: 0.5, numerator: 50, samples: 100 },
};
const CLEAR: Condition = Condition {
    breached: false,
    cleared: true,
    reading: Reading { value: 0.0, numerator: 0, samples: 100 },
};
const BETWEEN: Condition = Condition { cleared: false, ..CLEAR };

/// A table and a rule that is pending for 60 s and kept firing for 120 s.
struct Bench {
    table: AlertTable,
    rules: Rules,
    offset: i64,
    watermark: Option<Timestamp>,
    out: Vec<Emission>,
}

impl Bench {
    fn new() -> Self {
        let raw = RawRule {
            pending_for: "1m".to_owned(),
            keep_firing_for: "2m".to_owned(),
            ..Rules::default_raw().remove(1)
        };
        let rules = Rules::check("rules", &[raw]).unwrap();
        Self { table: AlertTable::default(), rules, offset: 0, watermark: None, out: Vec::new() }
    }

    fn moment(&mut self, second: i64, held: bool) -> Moment {
        self.offset += 1;
        let now = Timestamp::from_millis(1_760_000_040_000 + second * 1_000);
        Moment {
            now,
            watermark: Some(self.watermark.unwrap_or(now)),
            topic: Arc::from("m"),
            partition: 2,
            offset: self.offset,
            held,
        }
    }

    fn step(
        &mut self,
        tenant: &str,
        second: i64,
        condition: Condition,
    ) -> Vec<(EmissionKind, u64)> {
        self.step_when(tenant, second, condition, false)
    }

    /// Steps one alert and the daemon's own; gives back the kinds and sequence numbers of what was
    /// emitted about the former.
    fn step_when(
        &mut self,
        tenant: &str,
        second: i64,
        condition: Condition,
        held: bool,
    ) -> Vec<(EmissionKind, u64)> {
        let moment = self.moment(second, held);
        let mut out = Vec::new();
        let rule = self.rules.iter().next();
        self.table.step(&key(tenant), rule, condition, &moment, &mut out);
        self.table.finish(&moment, &self.rules, |_, _| BREACHED.reading, &mut out);
        self.out.extend(out.iter().cloned());
        out.iter()
            .filter(|emission| !text(emission).contains("\"Blotter"))
            .map(|emission| (emission.kind, seq(emission)))
            .collect()
    }

    fn system(&self, name: &str) -> Vec<EmissionKind> {
        let named = |emission: &&Emission| text(emission).contains(&format!("\"{name}\""));
        self.out.iter().filter(named).map(|emission| emission.kind).collect()
    }
}

fn key(tenant: &str) -> InstanceKey {
    let scope = Scope::Tenant(TenantId::new(tenant).unwrap());
    let group = Group { scope, service: Some(Arc::from("s")) };
    InstanceKey { rule: Arc::from("ErrorRateHigh"), group }
}

fn text(emission: &Emission) -> String {
    String::from_utf8(emission.value.clone().unwrap_or_default()).unwrap()
}

fn seq(emission: &Emission) -> u64 {
    let value: Option<serde_json::Value> = serde_json::from_str(&text(emission)).ok();
    value.map_or(0, |value| value["seq"].as_u64().unwrap())
}

use EmissionKind::{Firing, Forgotten, Refreshed, Resolved};

#[test]
fn an_alert_fires_after_its_time_and_resolves_after_being_clear() {
    let mut bench = Bench::new();
    assert_eq!(bench.step("t", 0, BREACHED), []);
    assert_eq!(bench.step("t", 59, BREACHED), []);
    assert_eq!(bench.step("t", 60, BREACHED), [(Firing, 1)]);
    assert_eq!(bench.step("t", 119, BREACHED), []);
    assert_eq!(bench.step("t", 120, BREACHED), [(Refreshed, 2)]);
    assert_eq!(bench.step("t", 130, CLEAR), []);
    assert_eq!(bench.step("t", 140, BETWEEN), []);
    assert_eq!(bench.step("t", 150, CLEAR), []);
    assert_eq!(bench.step("t", 250, CLEAR), [(Refreshed, 3)]);
    assert_eq!(bench.step("t", 269, CLEAR), []);
    assert_eq!(bench.step("t", 270, CLEAR), [(Resolved, 4)]);
}

#[test]
fn a_lease_ends_two_minutes_or_more_after_the_next_message_is_due() {
    let mut bench = Bench::new();
    bench.step("t", 0, BREACHED);
    bench.step("t", 60, BREACHED);
    let fired = bench.out.iter().find(|e| text(e).contains("ErrorRateHigh")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text(fired)).unwrap();
    assert_eq!(value["startsAt"], "2025-10-09T08:55:00.000Z");
    assert_eq!(value["endsAt"], "2025-10-09T08:59:00.000Z");
    assert_eq!(value["samples"], 100);
}

#[test]
fn what_is_only_pending_leaves_no_trace() {
    let mut bench = Bench::new();
    bench.step("t", 0, BREACHED);
    assert_eq!(bench.table.counts()[&("pending", "SEV-2")], 1);
    assert_eq!(bench.step("t", 30, CLEAR), []);
    assert!(bench.table.instance(&key("t")).is_none());
    bench.step("t", 40, BREACHED);
    assert_eq!(bench.step("t", 61, BREACHED), []);
}

#[test]
fn a_resolve_is_repeated_and_forgotten_and_a_new_episode_has_a_new_id() {
    let mut bench = Bench::new();
    bench.step("t", 0, BREACHED);
    bench.step("t", 60, BREACHED);
    bench.step("t", 100, CLEAR);
    assert_eq!(bench.step("t", 220, CLEAR), [(Resolved, 2)]);
    let mut repeats = 0;
    for second in 221..220 + RESOLVED_REPEATED_FOR_MS / 1_000 + 600 {
        repeats += bench.step("t", second, CLEAR).len();
    }
    assert_eq!(repeats, 3);
    let episode = |emission: &Emission| {
        let value: serde_json::Value = serde_json::from_str(&text(emission)).unwrap();
        value["episode"].as_str().unwrap().to_owned()
    };
    let about_rule = |e: &&Emission| text(e).contains("ErrorRateHigh");
    let first = episode(bench.out.iter().find(about_rule).unwrap());
    let end = 220 + ALERT_FORGOTTEN_AFTER_MS / 1_000;
    assert_eq!(bench.step("t", end, CLEAR), [(Forgotten, 0)]);
    assert!(bench.table.instance(&key("t")).is_none());
    bench.step("t", end + 1, BREACHED);
    assert_eq!(bench.step("t", end + 61, BREACHED), [(Firing, 1)]);
    assert_ne!(episode(bench.out.iter().rfind(about_rule).unwrap()), first);
}

#[test]
fn what_breaches_again_for_a_moment_does_not_lose_the_resolve() {
    let mut bench = Bench::new();
    bench.step("t", 0, BREACHED);
    bench.step("t", 60, BREACHED);
    bench.step("t", 100, CLEAR);
    assert_eq!(bench.step("t", 220, CLEAR), [(Resolved, 2)]);
    bench.step("t", 500, BREACHED);
    assert_eq!(bench.table.counts()[&("pending", "SEV-2")], 1);
    assert_eq!(bench.step("t", 520, BREACHED), [(Resolved, 3)], "repeated while pending");
    let stored = serde_json::to_vec(bench.table.instance(&key("t")).unwrap()).unwrap();
    bench.table.restore(key("t"), Some(serde_json::from_slice(&stored).unwrap()));
    assert_eq!(bench.step("t", 530, CLEAR), []);
    assert_eq!(bench.step("t", 820, CLEAR), [(Resolved, 4)]);
    let end = 220 + ALERT_FORGOTTEN_AFTER_MS / 1_000;
    bench.step("t", 1_120, CLEAR);
    bench.step("t", end - 10, BREACHED);
    assert_eq!(bench.step("t", end, BREACHED), [(Forgotten, 0)], "forgotten while pending");
    assert_eq!(bench.step("t", end + 50, BREACHED), [(Firing, 1)]);
}

#[test]
fn an_alert_that_fires_again_takes_back_its_resolve() {
    let mut bench = Bench::new();
    bench.step("t", 0, BREACHED);
    bench.step("t", 60, BREACHED);
    bench.step("t", 100, CLEAR);
    assert_eq!(bench.step("t", 220, CLEAR), [(Resolved, 2)]);
    bench.step("t", 470, BREACHED);
    assert_eq!(bench.step("t", 530, BREACHED), [(Firing, 1)]);
    assert_eq!(bench.step("t", 589, BREACHED), []);
    assert_eq!(bench.step("t", 590, BREACHED), [(Refreshed, 2)]);
}

#[test]
fn while_no_source_counts_rules_are_held_and_leases_refreshed() {
    let mut bench = Bench::new();
    assert_eq!(bench.step_when("t", 0, BREACHED, true), []);
    assert!(bench.table.instance(&key("t")).is_none());
    bench.step("t", 1, BREACHED);
    assert_eq!(bench.step_when("t", 100, BREACHED, true), []);
    assert_eq!(bench.step_when("t", 110, CLEAR, true), []);
    assert_eq!(bench.step("t", 120, BREACHED), [(Firing, 1)]);
    assert_eq!(bench.step_when("t", 500, CLEAR, true), [(Refreshed, 2)]);
    assert_eq!(bench.step_when("t", 900, CLEAR, true), [(Refreshed, 3)]);
}

#[test]
fn the_watchdog_always_fires() {
    let mut bench = Bench::new();
    for second in 0..60 {
        bench.step_when("t", second, CLEAR, true);
    }
    let kinds = bench.system("BlotterWatchdog");
    assert_eq!(kinds, [Firing, Refreshed, Refreshed, Refreshed]);
}

#[test]
fn a_storm_waits_in_the_queue_and_resolves_do_not() {
    let mut bench = Bench::new();
    let cap = usize::try_from(NEW_ALERTS_PER_MINUTE_MAX).unwrap();
    let tenants: Vec<_> = (0..cap + 30).map(|index| format!("t{index:03}")).collect();
    for tenant in &tenants {
        bench.step(tenant, 0, BREACHED);
    }
    let mut fired: Vec<_> = tenants.iter().flat_map(|t| bench.step(t, 60, BREACHED)).collect();
    assert_eq!(fired.len(), cap);
    assert_eq!(bench.system("BlotterAlertStorm"), [Firing]);
    // A waiting alert that ends says so; the others follow in the next minute, oldest first.
    let last = tenants.last().unwrap();
    bench.step(last, 61, CLEAR);
    fired = bench.step("other", 120, CLEAR);
    assert_eq!(fired, vec![(Firing, 1); 30]);
    let queued = bench.step(last, 181, CLEAR);
    assert!(queued.contains(&(Resolved, 2)), "{queued:?}");
    for tenant in &tenants[..cap] {
        bench.step(tenant, 200, CLEAR);
    }
    let resolved: usize = tenants[..cap]
        .iter()
        .flat_map(|tenant| bench.step(tenant, 320, CLEAR))
        .filter(|(kind, _)| *kind == Resolved)
        .count();
    assert_eq!(resolved, cap);
    bench.step("other", 1_000, CLEAR);
    assert_eq!(bench.system("BlotterAlertStorm").last(), Some(&Resolved));
}

#[test]
fn a_rule_that_is_gone_or_has_other_labels_ends_what_it_started() {
    let mut bench = Bench::new();
    bench.step("t", 0, BREACHED);
    bench.step("t", 60, BREACHED);
    let moment = bench.moment(61, false);
    let mut out = Vec::new();
    bench.table.step(&key("t"), None, CLEAR, &moment, &mut out);
    assert_eq!(out.iter().map(|e| e.kind).collect::<Vec<_>>(), [Resolved]);
    assert!(text(&out[0]).contains("no longer there"));

    let mut bench = Bench::new();
    bench.step("t", 0, BREACHED);
    bench.step("t", 60, BREACHED);
    let raw = RawRule { severity: "SEV-1".to_owned(), ..Rules::default_raw().remove(1) };
    bench.rules = Rules::check("rules", &[raw]).unwrap();
    assert_eq!(bench.step("t", 61, BREACHED), [(Resolved, 2)]);
    assert_eq!(bench.step("t", 61 + 120, BREACHED), [(Firing, 1)]);
    let repeated = bench.step("t", 61 + 300, BREACHED);
    assert_eq!(repeated, [(Refreshed, 2), (Resolved, 3)], "what ended had other labels");
}

#[test]
fn timers_keep_their_remaining_time_when_now_is_set_back() {
    let mut bench = Bench::new();
    bench.step("t", 3_600, BREACHED);
    bench.table.set_back(3_590_000);
    assert_eq!(bench.step("t", 69, BREACHED), []);
    assert_eq!(bench.step("t", 70, BREACHED), [(Firing, 1)]);
}

#[test]
fn a_resolve_never_ends_in_the_future() {
    let mut bench = Bench::new();
    bench.step("t", 3_600, BREACHED);
    bench.step("t", 3_660, BREACHED);
    bench.step("t", 3_700, CLEAR);
    assert_eq!(bench.step("t", 3_820, CLEAR), [(Resolved, 2)]);
    bench.table.set_back(3_000_000);
    assert_eq!(bench.step("t", 820 + 299, CLEAR), []);
    assert_eq!(bench.step("t", 820 + 300, CLEAR), [(Resolved, 3)]);
    let resolved = |e: &&Emission| e.kind == Resolved && text(e).contains("ErrorRateHigh");
    let last = bench.out.iter().rfind(resolved).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text(last)).unwrap();
    assert_eq!(value["startsAt"], "2025-10-09T09:05:00.000Z");
    assert_eq!(value["endsAt"], "2025-10-09T09:07:40.000Z");
}

#[test]
fn only_what_changed_is_stored() {
    let mut bench = Bench::new();
    bench.step("t", 0, BREACHED);
    assert_eq!(bench.table.take_touched().len(), 2, "the alert and the watchdog");
    bench.step("t", 1, BREACHED);
    assert_eq!(bench.table.take_touched().len(), 0);
}

#[test]
fn an_alert_that_fired_ahead_of_the_event_time_waits_for_it_to_clear() {
    let mut bench = Bench::new();
    bench.watermark = Some(Timestamp::from_millis(1_760_000_040_000));
    bench.step("t", 0, BREACHED);
    assert_eq!(bench.step("t", 60, BREACHED), [(Firing, 1)]);
    bench.step("t", 70, CLEAR);
    assert_eq!(bench.step("t", 300, CLEAR), [(Refreshed, 2)]);
    bench.watermark = None;
    bench.step("t", 301, CLEAR);
    assert_eq!(bench.step("t", 421, CLEAR), [(Resolved, 3)]);
}

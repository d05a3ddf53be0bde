//! Every maximum of the product, with its reason. Relations between them are asserted at compile
//! time. Sections follow the rooms.

// record

/// Longest tenant id kept as it is; a longer one is no id but an accident (or an attack).
pub const TENANT_ID_BYTES_MAX: usize = 128;

// ingest

// redact

// audit

// measure

/// Width of a bucket of event time: the finest step of every window.
pub const BUCKET_MS: i64 = 10_000;

/// Longest service name kept as it is; a longer one is no name.
pub const SERVICE_BYTES_MAX: usize = 128;

/// How far ahead of SCRUB's clock an event time may lie; beyond it is a wrong clock.
pub const EVENT_TIME_AHEAD_MS_MAX: i64 = 5 * 60_000;

/// Marks of source partitions are sent at least this often.
pub const MARK_INTERVAL_MS: i64 = 1_000;

/// A partition that was read to its end this recently counts as caught up though records came
/// since; well inside [`LATE_AFTER_MS`].
pub const CAUGHT_UP_HOLD_MS: i64 = 3_000;

/// Series one transaction counts apart; a flood of tenants goes to `_other`.
pub const SERIES_PER_TRANSACTION_MAX: usize = 20_000;

/// Services one tenant has apart, so that a tenant inventing names crowds out only itself.
pub const SERVICES_PER_TENANT_MAX: usize = 100;

/// Buckets one transaction keeps apart per series: an hour; records spread wider are a replay and
/// count without their time.
pub const BUCKETS_PER_SERIES_PER_TRANSACTION_MAX: usize = 360;

/// Sessions one transaction passes on.
pub const SESSIONS_PER_TRANSACTION_MAX: usize = 50_000;

/// Entries of one measure record: at 1.7 kB for the worst entry it stays under 1 MB, the default
/// limit of a Kafka record.
pub const MEASURE_ENTRIES_PER_RECORD_MAX: usize = 400;

/// What lies this far behind the event time W is late and counted apart.
pub const LATE_AFTER_MS: i64 = 60_000;

/// A source partition that says nothing for this long no longer holds W back.
pub const SOURCE_SILENT_MS_MAX: i64 = 30_000;

/// A source partition further behind than this is replaying: it adds to totals only.
pub const SOURCE_BEHIND_MS_MAX: i64 = 30 * 60_000;

/// A silent source partition is forgotten after this.
pub const SOURCE_FORGOTTEN_AFTER_MS: i64 = 24 * 3_600_000;

/// How far an append time may run ahead of the latest tick, and lag behind `now`, before it is
/// taken for a wrong clock.
pub const APPEND_TIME_SKEW_MS_MAX: i64 = 5_000;

/// How long append times must stay below `now` before it is set back.
pub const SET_BACK_AFTER_MS: i64 = 10_000;

/// Longest window of a rule: an hour of 10-second buckets.
pub const WINDOW_MS_MAX: i64 = 3_600_000;

/// Series one measures partition keeps; further ones are counted under `_other`.
pub const SERIES_PER_PARTITION_MAX: usize = 50_000;

/// How long a session is remembered: the day in which a customer may write again.
pub const SESSION_KEPT_MS: i64 = 24 * 3_600_000;

/// Sessions one measures partition remembers, at about 150 bytes each.
pub const SESSIONS_PER_PARTITION_MAX: usize = 200_000;

/// Sessions remembered per tenant, so that a tenant inventing sessions crowds out only itself.
pub const SESSIONS_PER_TENANT_MAX: usize = 20_000;

const _: () = assert!(WINDOW_MS_MAX % BUCKET_MS == 0);
const _: () = assert!(LATE_AFTER_MS % BUCKET_MS == 0);
const _: () = assert!(CAUGHT_UP_HOLD_MS * 10 <= LATE_AFTER_MS);
const _: () = assert!(SESSIONS_PER_TENANT_MAX <= SESSIONS_PER_PARTITION_MAX);

// alert

/// Rules that run.
pub const ALERT_RULES_MAX: usize = 200;

/// Longest `for` and `keep_firing_for` of a rule.
pub const RULE_DURATION_MS_MAX: i64 = 24 * 3_600_000;

/// Longest runbook address and channel name of a rule: each is copied into every message.
pub const RULE_TEXT_BYTES_MAX: usize = 512;

/// Alerts one measures partition keeps that are not inactive, at about 1 kB each.
pub const ALERT_INSTANCES_MAX: usize = 20_000;

/// New alerts one measures partition lets through per minute; the others wait.
pub const NEW_ALERTS_PER_MINUTE_MAX: u32 = 60;

/// A firing alert is re-emitted this often ...
pub const LEASE_REFRESH_MS: i64 = 60_000;

/// ... and ends by itself this long after its last message (Prometheus's four times).
pub const LEASE_MS: i64 = 4 * LEASE_REFRESH_MS;

/// The watchdog is re-emitted this often: three chances before it is 45 s old.
pub const WATCHDOG_REFRESH_MS: i64 = 15_000;

/// A resolve is repeated this often ...
pub const RESOLVED_REPEAT_MS: i64 = 5 * 60_000;

/// ... for this long, as Prometheus keeps its resolved alerts.
pub const RESOLVED_REPEATED_FOR_MS: i64 = 15 * 60_000;

/// A resolved alert's key leaves the compacted topic after this.
pub const ALERT_FORGOTTEN_AFTER_MS: i64 = 24 * 3_600_000;

/// The daemon's alerts about a single event fire for this long.
pub const SYSTEM_ALERT_HOLD_MS: i64 = 15 * 60_000;

const _: () = assert!(LEASE_MS - LEASE_REFRESH_MS >= 120_000);
const _: () = assert!(RESOLVED_REPEATED_FOR_MS < ALERT_FORGOTTEN_AFTER_MS);

// emit

// shard

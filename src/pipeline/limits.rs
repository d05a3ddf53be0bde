//! Every maximum of the product, with its reason. Relations between them are asserted at compile
//! time. Sections follow the rooms.

// record

/// Longest tenant id kept as it is; a longer one is no id but an accident (or an attack).
pub const TENANT_ID_BYTES_MAX: usize = 128;

// ingest

/// Objects and arrays nested deeper are stepped over: no logger puts its fields that deep, and it
/// bounds both the stack and the work on hostile pairs.
pub const JSON_DEPTH_MAX: usize = 24;

/// Tenants and services of one OTLP batch that are counted apart; collectors group by resource, and
/// the rest share the last place, without tenant and service.
pub const BATCH_RESOURCES_MAX: usize = 256;

/// Fields are looked for in this much of a value; a logger writes them first, and the rest of a
/// huge record is payload.
pub const SCAN_BYTES_MAX: usize = 1024 * 1024;

/// Longest text of one field: an identity, a name or a reason. Anything longer is a message.
pub const FIELD_BYTES_MAX: usize = 1024;

/// Names of one kind of field in one set of rules; the table's index is 8 bits wide.
pub const FIELD_NAMES_MAX: usize = 200;

/// Longest key path of a rule.
pub const FIELD_NAME_BYTES_MAX: usize = 256;

/// Dotted parts of all key paths in one set of rules. Each is written in up to three ways
/// (`tenant_id`, `tenantId`, `tenant-id`), and 16 bits number what comes of it, with room left for
/// the containers that are built in.
pub const FIELD_SEGMENTS_MAX: usize = 20_000;

/// Topics with rules of their own: each has its own compiled table.
pub const TOPIC_RULES_MAX: usize = 256;

const _: () = assert!(FIELD_NAMES_MAX <= u8::MAX as usize);
const _: () = assert!(3 * FIELD_SEGMENTS_MAX + 1_024 < u16::MAX as usize);

// redact

/// Extra patterns of a policy in all: each is another pass over every record it applies to.
pub const REDACT_PATTERNS_MAX: usize = 32;

/// Bytes of the compiled program of an extra pattern.
pub const REDACT_PATTERN_PROGRAM_BYTES_MAX: usize = 256 * 1024;

/// Topics and tenants with rules of their own, each.
pub const REDACT_OVERRIDES_MAX: usize = 100_000;

/// Trailing characters a policy may leave visible.
pub const REDACT_KEPT_CHARACTERS_MAX: u8 = 4;

/// Characters that stay hidden whenever some are kept.
pub const REDACT_HIDDEN_CHARACTERS_MIN: usize = 6;

/// Entries of a keyring: ten thousand tenants with five kinds of key and twenty epochs.
pub const KEYRING_ENTRIES_MAX: usize = 1_000_000;

/// The fixed number for JSON numbers: one digit less than the shortest phone number.
pub const REDACT_NUMBER_REPLACEMENT_MAX: u32 = 999_999;
/// Longest record that is scanned; a longer one is masked strictly. Kafka's own default for a
/// message is 1 MiB, and offsets into a record are kept as `u32`.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// Layers of encoding (escapes, JSON in strings, percent, entities ...) undone around a value;
/// past it the whole string is masked.
pub const LAYERS_MAX: usize = 12;

/// Longest local part of an address that is looked for: RFC 5321, 4.5.3.1.1. Caps the way back from
/// each `@`, so that a line of `@` stays linear.
pub const EMAIL_LOCAL_BYTES_MAX: usize = 64;

/// Longest domain of an address: RFC 5321, 4.5.3.1.2.
pub const EMAIL_DOMAIN_BYTES_MAX: usize = 255;

/// Tenants with a canary: there are 1,300 different numbers, and every record is searched for all.
pub const CANARIES_MAX: usize = 500;

/// Rounds of redaction until nothing more is found; a record that needs more is masked strictly.
pub const REDACTION_ROUNDS_MAX: usize = 4;

/// Findings in one record; more, and the record is masked strictly.
pub const FINDINGS_MAX: usize = 100_000;

/// Findings that any record may have, and bytes of a longer record for each one more: past them it is
/// a list, not a log line, and costs too much per byte. It is masked strictly.
pub const FINDINGS_FREE: usize = 1_000;
/// See [`FINDINGS_FREE`].
pub const FINDING_BYTES: usize = 128;

/// What weighing stretches of digit groups as phone numbers may cost in any record, and bytes of a
/// longer record for each unit more: past them it is a table of numbers and is masked strictly. A
/// stretch of one group costs 1, of more groups 2, a run written digit by digit 6.
pub const WEIGHED_FREE: usize = 4_000;
/// See [`WEIGHED_FREE`].
pub const WEIGHED_BYTES: usize = 8;

// audit

/// Longest text field of an audit entry, in bytes before escaping; a longer one is cut. Entries
/// hold identifiers and codes, not prose.
pub const AUDIT_TEXT_BYTES_MAX: usize = 256;

/// Longest audit entry: the public bundle format of tiled logs counts entry bytes in 16 bits.
pub const AUDIT_ENTRY_BYTES_MAX: usize = 65_535;

/// Longest policy text in a `policy` entry: an entry less its chain fields and policy hash.
pub const AUDIT_POLICY_BYTES_MAX: usize = AUDIT_ENTRY_BYTES_MAX - 1_023;

/// Longest seal: one is written per transaction and partition, so its bytes are the audit's cost.
pub const AUDIT_SEAL_BYTES_MAX: usize = 512;

/// Most records one seal covers: keeps its counts at seven digits.
pub const AUDIT_SEAL_RECORDS_MAX: u32 = 9_999_999;

/// Chains of one partition, one more for each restart by an operator, among which the first seal of
/// a trail without a beginning is looked for: each try costs a signature.
pub const AUDIT_INCARNATIONS_MAX: u32 = 999;

/// Longest instance name in a seal; a longer one is cut.
pub const AUDIT_INSTANCE_BYTES_MAX: usize = 24;

/// Count lines (surface and kind) in one entry; the rest are summed in the last one.
pub const AUDIT_COUNTS_MAX: usize = 32;

/// Longest metadata of a committed offset: the brokers' default `offset.metadata.max.bytes`.
pub const OFFSET_METADATA_BYTES_MAX: usize = 4_096;

/// Audit records read per look-up of a restore: they are verified on the shard's own thread, at tens
/// of microseconds a seal, and its other partitions wait.
pub const AUDIT_RESTORE_READ_RECORDS_MAX: i64 = 1_000;

/// An idle partition gets a seal at least this often, so that silence and a cut tail look different.
pub const AUDIT_HEARTBEAT_MS_MAX: u32 = 30_000;

const _: () = assert!(AUDIT_SEAL_BYTES_MAX < AUDIT_ENTRY_BYTES_MAX);
// An action has eight text fields whose bytes may each become six; count lines hold short names.
const _: () =
    assert!(8 * 6 * AUDIT_TEXT_BYTES_MAX + AUDIT_COUNTS_MAX * 64 + 2_048 < AUDIT_ENTRY_BYTES_MAX);

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

/// WATCH writes what has changed of its state with each transaction, and the deltas of busy series
/// come with every transaction of SCRUB: five of those in one cost a fifth. Rules are judged each
/// second.
pub const WATCH_COMMIT_INTERVAL_MS_MIN: u64 = 500;

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

/// Sessions one measures partition remembers, at about 250 bytes each; the oldest makes room.
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

/// The owner of a measures partition appends a tick after this much silence ...
pub const TICK_AFTER_SILENCE_MS: i64 = 250;

/// ... and at least this often: append times more than [`APPEND_TIME_SKEW_MS_MAX`] past the latest
/// tick are not believed.
pub const TICK_INTERVAL_MS: i64 = 1_000;

/// Ratio gauges are published at most this often.
pub const GAUGES_PUBLISHED_EVERY_MS: i64 = 1_000;

const _: () = assert!(TICK_INTERVAL_MS * 3 <= APPEND_TIME_SKEW_MS_MAX);
const _: () = assert!(LEASE_MS - LEASE_REFRESH_MS >= 120_000);
const _: () = assert!(RESOLVED_REPEATED_FOR_MS < ALERT_FORGOTTEN_AFTER_MS);

// emit

/// Room for the coordinates header, the writer header and the framing of a record: a redacted
/// record must fit `max.message.bytes` of its topic with them.
pub const EMIT_OVERHEAD_BYTES: usize = 1024;

// shard

// pipe

/// Lines read ahead of what is printed: bounds the memory.
pub const PIPE_RECORDS_AHEAD_MAX: i64 = 20_000;

/// Bytes that `pipe` reads before it waits until all of them are out: bounds the memory where lines
/// are long.
pub const PIPE_BYTES_AHEAD_MAX: usize = 32 << 20;

/// Time without an output line after which `pipe` gives up: many times a restore.
pub const PIPE_STALL_MS_MAX: u64 = 30_000;

// settings

/// Shards of one stage in one process: more threads than any host has cores to spare.
pub const SHARDS_MAX: u16 = 256;

/// Partitions of one of our own topics: beyond it brokers suffer more than we gain.
pub const TOPIC_PARTITIONS_MAX: u16 = 1_000;

// scrub

/// Records of a partition since its assignment that tell whether its topic is text at all.
pub const NOT_TEXT_SAMPLE_RECORDS: u32 = 1_000;

// service

/// `max.message.bytes` of a source topic whose configuration can't be read: Kafka's own default.
pub const SOURCE_RECORD_BYTES_DEFAULT: usize = 1_048_588;

/// Records one poll hands over: enough to amortise a turn of the loop, few enough that they, copied
/// and redacted, stay in a core's own cache until they are sent (5,000 cost over a tenth more).
pub const POLL_RECORDS_MAX: usize = 128;

/// Bytes one poll hands over.
pub const POLL_BYTES_MAX: usize = 4 << 20;

/// Bytes one look-up of a restore answers with.
pub const LOOKUP_BYTES_MAX: usize = 4 << 20;

/// Age of a shard's last turn above which the process counts as hung: far above the longest call.
pub const SHARD_TICK_AGE_MS_MAX: u64 = 60_000;

// metrics and HTTP

/// Series per metric family with one per tenant: 10,000 tenants are a large deployment; past it lies an accident.
pub const METRIC_SERIES_PER_FAMILY_MAX: usize = 10_000;

/// Series in all: about 100 MB and a scrape of some 15 MB.
pub const METRIC_SERIES_TOTAL_MAX: usize = 150_000;

/// Series of a family in which a tenant has several, by service or kind: there are five of them,
/// and they leave room for the others.
pub const METRIC_SERIES_WIDE_FAMILY_MAX: usize = 25_000;

/// Series a tenant has in one family: seven severities of each of its services, and room for
/// records without a service and for the overflow.
pub const METRIC_SERIES_PER_TENANT_MAX: usize = 8 * SERVICES_PER_TENANT_MAX;

const _: () = assert!(METRIC_SERIES_PER_FAMILY_MAX <= METRIC_SERIES_WIDE_FAMILY_MAX);
const _: () = assert!(5 * METRIC_SERIES_WIDE_FAMILY_MAX < METRIC_SERIES_TOTAL_MAX);
const _: () = assert!(METRIC_SERIES_PER_TENANT_MAX * 10 < METRIC_SERIES_WIDE_FAMILY_MAX);

/// Idle time after which a tenant's series is dropped: longer than the longest window of 6 h that shipped
/// rules look back, or `increase()` would lose data.
pub const METRIC_SERIES_IDLE_MS_MAX: i64 = 24 * 60 * 60 * 1000;

/// How often idle series are looked for.
pub const METRIC_EXPIRY_LOOK_MS: u64 = 10 * 60 * 1000;

/// How often the output topics of new and grown sources are looked for: a source without them waits
/// as long.
pub const TOPICS_LOOK_MS: u64 = 10 * 1000;

/// Connections served at once: a handful of scrapers and probes.
pub const HTTP_CONNECTIONS_MAX: usize = 64;

/// Connections that may wait for metrics; the others are free for probes.
pub const HTTP_SCRAPES_MAX: usize = 48;

/// Scrapes rendered or being sent at once: each holds up to some 15 MB until its client has read it.
pub const HTTP_RENDERINGS_MAX: usize = 4;

const _: () = assert!(HTTP_RENDERINGS_MAX <= HTTP_SCRAPES_MAX);
const _: () = assert!(HTTP_SCRAPES_MAX < HTTP_CONNECTIONS_MAX);

/// Time a client has to send its request head; slow ones hold a connection slot.
pub const HTTP_HEADER_READ_MS_MAX: u64 = 5_000;

/// Life of a connection: longer than scrapers wait (10 s by default), and a client that does not
/// read gives its places back.
pub const HTTP_CONNECTION_MS_MAX: u64 = 30_000;

// shard

/// Bytes of input after which a transaction is committed: bounds what a failure repeats, and with
/// it the memory of outputs and pending state.
pub const TRANSACTION_INPUT_BYTES_MAX: usize = 4 << 20;

/// How many times as old and as large a transaction becomes while a backlog is read: a tenth less
/// work per record, and a failure still repeats less than half a second of it.
pub const TRANSACTION_GROWTH_MAX: u32 = 4;

/// Bytes of outputs held before they are handed to the producer.
pub const UNSENT_OUTPUT_BYTES_MAX: usize = 256 << 10;

/// Partitions of one shard restored at the same time: each holds at most one answer in memory.
pub const RESTORES_CONCURRENT_MAX: usize = 8;

/// Largest record the producer takes: a redacted record may be longer than its source, and the
/// topic's own `max.message.bytes` decides in the end.
pub const PRODUCED_RECORD_BYTES_MAX: usize = 32 << 20;

/// How much larger than the source topic's the `max.message.bytes` of an output topic must be:
/// tokens may be longer than what they replace, and headers are added.
pub const OUTPUT_RECORD_HEADROOM_BYTES: u64 = 256 << 10;

// embedded broker

/// Bytes in the producer's queue of the broker in memory, as `queue.buffering.max.kbytes` of the
/// real one: beyond it the shard waits.
pub const EMBEDDED_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Records that the broker in memory appends under one lock, so that readers get their turn.
pub const EMBEDDED_REQUEST_RECORDS_MAX: usize = 1_000;

/// How often a member that has read everything is told so, as by the client's statistics.
pub const EMBEDDED_CAUGHT_UP_MS: i64 = 1_000;

/// How often a member is told its lag.
pub const EMBEDDED_LAG_MS: i64 = 5_000;

//! Every metric the product exports, written down once: name, help, kind, labels. The daemon
//! registers this table and the documentation is made from it.

use std::sync::Arc;

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises; updates add.
    Counter,
    /// Updates set.
    Gauge,
}

/// One row of the table.
#[derive(Debug)]
pub struct MetricRow {
    /// The metric.
    pub metric: Metric,
    /// Full exported name.
    pub name: &'static str,
    /// Help text.
    pub help: &'static str,
    /// Kind.
    pub kind: MetricKind,
    /// Label names in the order in which updates give their values.
    pub labels: &'static [&'static str],
}

/// A change to one series, published after the transaction that caused it has committed.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricUpdate {
    /// The metric.
    pub metric: Metric,
    /// Label values in the table's order.
    pub labels: Vec<Arc<str>>,
    /// Added to a counter, set on a gauge. Counters take whole numbers; what is no number takes the
    /// series off.
    pub value: f64,
}

/// One series: a metric and its label values in the table's order.
pub type MetricSeries = (Metric, Vec<Arc<str>>);

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $variant:ident, $name:literal, $kind:expr, [$($label:literal),*];)+) => {
        /// The metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Metric { $($(#[doc = $help])+ $variant,)+ }

        /// The table, in the order of [`Metric`]'s variants.
        pub const METRICS: &[MetricRow] = &[$(MetricRow {
            metric: Metric::$variant,
            name: $name,
            help: concat!($($help),+),
            kind: $kind,
            labels: &[$($label),*],
        },)+];
    };
}

use MetricKind::{Counter, Gauge};

metrics! {
    #[doc = "Build of the running binary; always 1."]
    BuildInfo, "blotter_build_info", Gauge, ["version", "revision"];
    #[doc = "Log records read, by tenant, service and severity."]
    LogRecords, "blotter_log_records_total", Counter, ["tenant", "service", "severity"];
    #[doc = "Bytes of keys, values and headers, read (in) and written redacted (out)."]
    LogBytes, "blotter_log_bytes_total", Counter, ["direction"];
    #[doc = "Spans redacted, by kind, surface and tenant."]
    Redactions, "blotter_redactions_total", Counter, ["kind", "surface", "tenant"];
    #[doc = "Values, keys and headers with something redacted in which the rule spoke, by rule (the names `blotter explain` shows)."]
    RedactionRules, "blotter_redaction_rules_total", Counter, ["rule"];
    #[doc = "Records masked strictly because they could not be fully scanned, by reason."]
    RecordsMasked, "blotter_records_masked_total", Counter, ["reason"];
    #[doc = "Records whose key (key) or one of whose headers (headers) is no text: a token of all its bytes, for headers a placeholder, stands there."]
    PartsNotText, "blotter_parts_not_text_total", Counter, ["part"];
    #[doc = "Values, keys and headers over the limits even when masked: nothing of them is left."]
    RecordsTruncated, "blotter_records_truncated_total", Counter, [];
    #[doc = "Records sent to the dead letters, by reason."]
    RecordsRejected, "blotter_records_rejected_total", Counter, ["reason"];
    #[doc = "Leaks: values the independent sentinel found in output records (email, phone), and output records in which a planted value came out (canary)."]
    LeaksFound, "blotter_leaks_found_total", Counter, ["kind"];
    #[doc = "Tokens made with the deployment's default key because the tenant has none."]
    DefaultKeyTokens, "blotter_default_key_tokens_total", Counter, [];
    #[doc = "Placeholders in the place of tokens, because the key was destroyed or there is no keyring."]
    UnavailableKeyTokens, "blotter_unavailable_key_tokens_total", Counter, [];
    #[doc = "Times the settings were read again for their redaction rules (SIGHUP), by outcome (applied, loosened, unchanged, refused), and chains that go on under other rules than they name, looser or not (unknown: a restart)."]
    PolicyReloads, "blotter_policy_reloads_total", Counter, ["outcome"];
    #[doc = "1 when the last reading of the redaction rules was good, 0 when it was refused and the rules before stay in force."]
    PolicyReloadSuccessful, "blotter_policy_reload_successful", Gauge, [];
    #[doc = "Audit entries committed, by kind."]
    AuditEntries, "blotter_audit_entries_total", Counter, ["kind"];
    #[doc = "Entries in the audit chain of a source partition."]
    AuditChainHeight, "blotter_audit_chain_height", Gauge, ["topic", "partition"];
    #[doc = "Unix time of the last committed seal of a source partition."]
    AuditSealTimestamp, "blotter_audit_seal_timestamp_seconds", Gauge, ["topic", "partition"];
    #[doc = "Findings of restores that an operator must know (gaps, recoveries), by name and severity."]
    RestoreFindings, "blotter_restore_findings_total", Counter, ["finding", "severity"];
    #[doc = "Bot turns, by tenant."]
    BotTurns, "blotter_bot_turns_total", Counter, ["tenant"];
    #[doc = "Bot turns that ended in a fallback, by tenant."]
    BotFallbacks, "blotter_bot_fallbacks_total", Counter, ["tenant"];
    #[doc = "Bot sessions started, each counted once over all partitions and instances."]
    BotSessions, "blotter_bot_sessions_total", Counter, ["tenant"];
    #[doc = "Bot sessions with at least one handover, each counted once."]
    BotSessionsHandedOver, "blotter_bot_sessions_handed_over_total", Counter, ["tenant"];
    #[doc = "Sessions handed over in the window per session started in it: above 1 when enough of them started before it, absent when none started in it."]
    HandoverRatio, "blotter_handover_ratio", Gauge, ["tenant", "window"];
    #[doc = "Numerator of the handover ratio: sessions handed over in the window."]
    HandoverRatioSessionsHandedOver, "blotter_handover_ratio_sessions_handed_over", Gauge, ["tenant", "window"];
    #[doc = "Denominator of the handover ratio: sessions started in the window."]
    HandoverRatioSessions, "blotter_handover_ratio_sessions", Gauge, ["tenant", "window"];
    #[doc = "Share of records that are errors, over the window."]
    ErrorRatio, "blotter_error_ratio", Gauge, ["tenant", "service", "window"];
    #[doc = "Numerator of the error ratio: error records in the window."]
    ErrorRatioErrors, "blotter_error_ratio_errors", Gauge, ["tenant", "service", "window"];
    #[doc = "Denominator of the error ratio: records in the window."]
    ErrorRatioRecords, "blotter_error_ratio_records", Gauge, ["tenant", "service", "window"];
    #[doc = "Records that came too late for their window and were counted apart."]
    LateRecords, "blotter_late_records_total", Counter, ["tenant"];
    #[doc = "Alerts by state and severity, per measures partition."]
    Alerts, "blotter_alerts", Gauge, ["state", "severity", "partition"];
    #[doc = "1 while a measures partition makes no alert transitions because no source partition counts."]
    AlertsHeld, "blotter_alerts_held", Gauge, ["partition"];
    #[doc = "Event time up to which every source partition has been read, per measures partition."]
    EventTime, "blotter_event_time_timestamp_seconds", Gauge, ["partition"];
    #[doc = "Times the clock of a measures partition was set back because append times had run ahead."]
    ClockSetBack, "blotter_watch_clock_set_back_total", Counter, ["partition"];
    #[doc = "Measure records that could not be read, by reason."]
    MeasuresRejected, "blotter_measures_rejected_total", Counter, ["reason"];
    #[doc = "Measure records deleted by retention before they were read."]
    MeasuresLost, "blotter_measures_lost_total", Counter, ["partition"];
    #[doc = "Alert messages committed to the alert topic, by status."]
    AlertsEmitted, "blotter_alerts_emitted_total", Counter, ["status"];
    #[doc = "Label values replaced by an overflow value because a cap was reached, by label."]
    LabelOverflow, "blotter_label_overflow_total", Counter, ["label"];
    #[doc = "Records between the position and the end of a partition."]
    ConsumerLag, "blotter_kafka_consumer_lag_records", Gauge, ["topic", "partition"];
    #[doc = "Transactions by outcome (committed, failed, unknown)."]
    Transactions, "blotter_kafka_transactions_total", Counter, ["stage", "outcome"];
    #[doc = "Age of the open transaction."]
    TransactionAge, "blotter_kafka_transaction_age_seconds", Gauge, ["shard"];
    #[doc = "Rebalance events, by kind (assigned, revoked, lost)."]
    Rebalances, "blotter_kafka_rebalances_total", Counter, ["stage", "event"];
    #[doc = "Times a shard dropped its producer and went back to the committed offsets, by cause."]
    ShardRebuilds, "blotter_shard_rebuilds_total", Counter, ["stage", "cause"];
    #[doc = "Records handed out again by the client and dropped, because they lay below the position."]
    DuplicatesDropped, "blotter_kafka_duplicates_dropped_total", Counter, ["stage"];
    #[doc = "Partitions that are stopped or paused and wait for an operator, by reason; 1 while so."]
    PartitionStopped, "blotter_partition_stopped", Gauge, ["topic", "partition", "reason"];
    #[doc = "Partitions assigned and restored."]
    PartitionsReady, "blotter_partitions_ready", Gauge, ["stage", "shard"];
}

impl MetricRow {
    /// Where a label of this name stands, if there is one.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<usize> {
        self.labels.iter().position(|label| *label == name)
    }
}

impl Metric {
    /// The metric's row.
    #[must_use]
    pub fn row(self) -> &'static MetricRow {
        &METRICS[self as usize]
    }

    /// The series of this metric with these labels.
    #[must_use]
    pub fn series(self, labels: &[&str]) -> MetricSeries {
        (self, labels.iter().map(|&label| Arc::from(label)).collect())
    }

    /// An update of this metric.
    #[must_use]
    pub fn update(self, labels: &[&str], value: f64) -> MetricUpdate {
        debug_assert_eq!(labels.len(), self.row().labels.len(), "{self:?} takes other labels");
        MetricUpdate { metric: self, labels: labels.iter().map(|&l| Arc::from(l)).collect(), value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for (index, row) in METRICS.iter().enumerate() {
            assert_eq!(row.metric as usize, index);
            assert!(row.name.starts_with("blotter_"), "{}", row.name);
            let counter = row.kind == Counter;
            assert_eq!(row.name.ends_with("_total"), counter, "{}", row.name);
            assert!(row.help.ends_with('.'), "{}", row.name);
        }
    }
}

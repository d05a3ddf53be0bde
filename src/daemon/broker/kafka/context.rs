//! What librdkafka tells beside records and answers: logs, statistics, rebalances, deliveries.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use serde::Deserialize;

use crate::pipeline::record::TopicPartition;

/// A context for clients that only ask.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PlainContext;

impl ClientContext for PlainContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ConsumerContext for PlainContext {}

/// The context of a group member: queues rebalances and statistics, changes nothing.
#[derive(Default)]
pub(super) struct MemberContext {
    rebalances: Mutex<VecDeque<Rebalance>>,
    statistics: Mutex<Option<Statistics>>,
    closing: AtomicBool,
}

/// A rebalance as the client announced it.
#[derive(Debug)]
pub(super) enum Rebalance {
    Assigned(Vec<TopicPartition>),
    Revoked { partitions: Vec<TopicPartition>, lost: bool },
}

/// What the statistics say of the partitions, by topic and partition number.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Statistics {
    #[serde(default)]
    pub(super) topics: BTreeMap<String, TopicStatistics>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TopicStatistics {
    pub(super) partitions: BTreeMap<String, PartitionStatistics>,
}

/// Offsets of one partition; negative when unknown.
#[derive(Debug, Deserialize)]
pub(super) struct PartitionStatistics {
    pub(super) partition: i32,
    /// Next offset to fetch.
    pub(super) next_offset: i64,
    /// End at which the fetcher last stood.
    pub(super) eof_offset: i64,
    /// Last stable offset of the last fetch.
    pub(super) ls_offset: i64,
}

impl MemberContext {
    /// The oldest rebalance not yet taken.
    pub(super) fn take_rebalance(&self) -> Option<Rebalance> {
        locked(&self.rebalances).pop_front()
    }

    /// The newest statistics not yet taken.
    pub(super) fn take_statistics(&self) -> Option<Statistics> {
        locked(&self.statistics).take()
    }

    /// From now on rebalances are answered at once: the member is being closed.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice(statistics) {
            Ok(parsed) => *locked(&self.statistics) = Some(parsed),
            Err(error) => tracing::warn!(target: "librdkafka", %error, "unreadable statistics"),
        }
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let assigned = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            let cooperative =
                matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
            let outcome = match (cooperative, assigned) {
                (true, true) => consumer.incremental_assign(&TopicPartitionList::new()),
                (true, false) => consumer.incremental_unassign(list),
                (false, _) => consumer.unassign(),
            };
            if let Err(error) = outcome {
                tracing::debug!(target: "librdkafka", %error, "rebalance while closing");
            }
            return;
        }
        let partitions = list
            .elements()
            .iter()
            .map(|element| TopicPartition::new(element.topic(), element.partition()))
            .collect();
        locked(&self.rebalances).push_back(if assigned {
            Rebalance::Assigned(partitions)
        } else {
            Rebalance::Revoked { partitions, lost: consumer.assignment_lost() }
        });
    }
}

/// The context of a transactional producer: counts deliveries.
pub(super) struct DeliveryContext {
    pub(super) deliveries: Arc<Deliveries>,
}

/// Deliveries of the open transaction.
#[derive(Default)]
pub(super) struct Deliveries {
    delivered: AtomicU64,
    failure: Mutex<Option<(RDKafkaErrorCode, TopicPartition)>>,
    tracked: Mutex<Vec<Stored>>,
}

/// Where a tracked record was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stored {
    /// The number it was sent with.
    pub(super) number: usize,
    pub(super) partition: i32,
    pub(super) offset: Option<i64>,
}

impl Deliveries {
    /// Forgets everything: a transaction begins.
    pub(super) fn clear(&self) {
        self.delivered.store(0, Ordering::Release);
        *locked(&self.failure) = None;
        locked(&self.tracked).clear();
    }

    /// Records acknowledged since `clear`.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Acquire)
    }

    /// Whether a record was not delivered since `clear`.
    pub(super) fn has_failed(&self) -> bool {
        locked(&self.failure).is_some()
    }

    /// The first failure since `clear`, and the record's way.
    pub(super) fn failure(&self) -> Option<(RDKafkaErrorCode, TopicPartition)> {
        locked(&self.failure).clone()
    }

    /// Where the tracked records were stored, in the order in which they were sent.
    pub(super) fn take_tracked(&self) -> Vec<Stored> {
        let mut tracked = std::mem::take(&mut *locked(&self.tracked));
        tracked.sort_unstable();
        tracked
    }
}

impl ClientContext for DeliveryContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ProducerContext for DeliveryContext {
    /// 0, or one more than the number of a tracked record.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, tracked: usize) {
        match result {
            Ok(message) => {
                if let Some(number) = tracked.checked_sub(1) {
                    let offset = Some(message.offset()).filter(|offset| *offset >= 0);
                    let stored = Stored { number, partition: message.partition(), offset };
                    locked(&self.deliveries.tracked).push(stored);
                }
                self.deliveries.delivered.fetch_add(1, Ordering::AcqRel);
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                let to = || TopicPartition::new(message.topic(), message.partition());
                locked(&self.deliveries.failure).get_or_insert_with(|| (code, to()));
            }
        }
    }
}

/// librdkafka's log lines name brokers, topics and offsets, never what a record holds.
fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        // A consumer's property set for a producer: ours to know, not the operator's.
        _ if facility == "CONFWARN" => tracing::debug!(target: "librdkafka", facility, message),
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(target: "librdkafka", facility, message),
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, message),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, message);
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, message),
    }
}

fn log_error(error: &KafkaError, reason: &str) {
    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
        return;
    }
    tracing::warn!(target: "librdkafka", %error, reason, "client error");
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

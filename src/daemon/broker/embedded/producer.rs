//! The transactional producer inside a client: its queue, what was delivered, what failed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::client::Line;
use super::cluster::millis;
use super::group::GroupMetadata;
use super::log::Body;
use super::transaction::ProducerHandle;
use crate::daemon::broker::naming::Naming;
use crate::daemon::broker::{BrokerError, BrokerErrorKind, SendError, SlotConfig};
use crate::pipeline::limits::{EMBEDDED_QUEUE_BYTES_MAX, EMBEDDED_REQUEST_RECORDS_MAX};
use crate::pipeline::record::{Header, Timestamp, TopicPartition};
use crate::pipeline::step::{Delivery, OffsetCommit, OutputRecord, WRITER_HEADER};

struct Queued {
    topic: Arc<str>,
    partition: Option<i32>,
    timestamp: Option<Timestamp>,
    body: Body,
    tracked: bool,
}

pub(super) struct ProducerClient {
    transactional_id: Arc<str>,
    group: Arc<str>,
    timeout_ms: i64,
    handle: Option<ProducerHandle>,
    in_transaction: bool,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    deliveries: Vec<Delivery>,
    /// The first error of the open transaction: only a reset leads on from there.
    failure: Option<BrokerError>,
    naming: Naming,
}

impl ProducerClient {
    pub(super) fn new(slot: &SlotConfig) -> Self {
        Self {
            transactional_id: Arc::from(slot.transactional_id.as_str()),
            group: Arc::from(slot.group.as_str()),
            timeout_ms: millis(slot.transaction_timeout),
            handle: None,
            in_transaction: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            deliveries: Vec::new(),
            failure: None,
            naming: Naming::default(),
        }
    }

    pub(super) fn reset(
        &mut self,
        line: &Line,
        operation: &'static str,
        timeout: Duration,
    ) -> Result<(), BrokerError> {
        self.handle = None;
        self.in_transaction = false;
        self.queue.clear();
        self.queued_bytes = 0;
        self.deliveries.clear();
        self.failure = None;
        let handle = line.call(operation, timeout, |state| {
            Ok(state.init_producer(&self.transactional_id, self.timeout_ms))
        });
        let retriable = |error: BrokerError| match error.kind {
            BrokerErrorKind::Abortable => BrokerError { kind: BrokerErrorKind::Retriable, ..error },
            _ => error,
        };
        self.handle = Some(handle.map_err(retriable)?);
        Ok(())
    }

    pub(super) fn begin(&mut self) -> Result<(), BrokerError> {
        if self.in_transaction || self.handle.is_none() {
            return Err(misuse("begin", "a transaction is open, or there is no producer"));
        }
        self.in_transaction = true;
        self.deliveries.clear();
        self.naming.clear();
        Ok(())
    }

    pub(super) fn send(&mut self, line: &Line, record: &OutputRecord<'_>) -> Result<(), SendError> {
        line.conductor().before(&line.named("send"));
        if !self.in_transaction {
            return Err(misuse("send", "no transaction is open").into());
        }
        if self.queued_bytes >= EMBEDDED_QUEUE_BYTES_MAX {
            return Err(SendError::QueueFull);
        }
        let mut body = Body::new(record.key, record.value).with_headers(record.headers);
        if self.naming.names(record) {
            let writer = Some(self.transactional_id.as_bytes());
            body = body.with_headers(&[Header { name: WRITER_HEADER, value: writer }]);
        }
        self.queued_bytes += body.size_bytes();
        self.queue.push_back(Queued {
            topic: Arc::clone(record.topic),
            partition: record.partition,
            timestamp: record.timestamp,
            body,
            tracked: record.tracked,
        });
        Ok(())
    }

    /// One produce request, if anything is queued; what fails shows in [`ProducerClient::drain`].
    pub(super) fn deliver_some(&mut self, line: &Line) {
        if self.queue.is_empty() || self.failure.is_some() {
            return;
        }
        if let Err(error) = self.produce(line, Duration::ZERO) {
            self.failure.get_or_insert(error);
        }
    }

    pub(super) fn drain(
        &mut self,
        line: &Line,
        timeout: Duration,
    ) -> Result<Vec<Delivery>, BrokerError> {
        while !self.queue.is_empty() && self.failure.is_none() {
            if let Err(error) = self.produce(line, timeout) {
                self.failure.get_or_insert(error);
            }
        }
        match &self.failure {
            Some(error) => Err(BrokerError { operation: "drain", ..error.clone() }),
            None => Ok(std::mem::take(&mut self.deliveries)),
        }
    }

    pub(super) fn send_offsets(
        &mut self,
        line: &Line,
        metadata: &GroupMetadata,
        offsets: &[OffsetCommit],
        timeout: Duration,
    ) -> Result<(), BrokerError> {
        let handle = self.usable("send_offsets")?;
        let outcome = line.call("send_offsets", timeout, |state| {
            state.send_offsets(&handle, &self.group, metadata, offsets)
        });
        if let Err(error) = &outcome {
            self.failure.get_or_insert_with(|| error.clone());
        }
        outcome
    }

    pub(super) fn commit(&mut self, line: &Line, timeout: Duration) -> Result<(), BrokerError> {
        let handle = self.usable("commit")?;
        let outcome = line.call_or_keep(
            "commit",
            timeout,
            |state| state.end(&handle, true),
            |state| state.kept.push_back(handle.clone()),
        );
        match &outcome {
            Ok(()) => self.in_transaction = false,
            Err(error) => drop(self.failure.get_or_insert_with(|| error.clone())),
        }
        outcome
    }

    fn usable(&self, operation: &'static str) -> Result<ProducerHandle, BrokerError> {
        if let Some(error) = &self.failure {
            let kind = match error.kind {
                BrokerErrorKind::ProducerFenced | BrokerErrorKind::Fatal => error.kind,
                _ => BrokerErrorKind::Abortable,
            };
            return Err(BrokerError::new(kind, operation, error.to_string()));
        }
        let handle = self.handle.clone().filter(|_| self.in_transaction);
        handle.ok_or_else(|| misuse(operation, "no transaction is open"))
    }

    fn produce(&mut self, line: &Line, timeout: Duration) -> Result<(), BrokerError> {
        let Some(handle) = self.handle.clone() else {
            return Err(misuse("produce", "no producer"));
        };
        let asked = line.conductor().batch(&line.named("produce"), self.queue.len());
        let count = asked.clamp(1, self.queue.len().min(EMBEDDED_REQUEST_RECORDS_MAX));
        let request: Vec<Queued> = self.queue.drain(..count).collect();
        let bytes: usize = request.iter().map(|queued| queued.body.size_bytes()).sum();
        self.queued_bytes -= bytes;
        let deliveries = &mut self.deliveries;
        let mut to = None;
        let outcome = line.call("produce", timeout, |state| {
            for queued in request {
                let topic = Arc::clone(&queued.topic);
                let unchosen = TopicPartition { topic, partition: queued.partition.unwrap_or(-1) };
                let topic_partition = to.insert(unchosen);
                if queued.partition.is_none() {
                    topic_partition.partition =
                        state.choose_partition(&queued.topic, queued.body.key.as_deref())?;
                }
                let timestamp = Some(queued.timestamp.unwrap_or(state.now));
                let offset =
                    state.append_transactional(&handle, topic_partition, timestamp, queued.body)?;
                if queued.tracked {
                    let topic_partition = topic_partition.clone();
                    deliveries.push(Delivery { topic_partition, offset: Some(offset) });
                }
            }
            Ok(())
        });
        outcome.map_err(|error| match to {
            Some(to) => error.at(to),
            None => error,
        })
    }
}

fn misuse(operation: &'static str, detail: &str) -> BrokerError {
    BrokerError::new(BrokerErrorKind::Fatal, operation, detail)
}

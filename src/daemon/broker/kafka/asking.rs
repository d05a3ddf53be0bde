//! A client that only asks. When no broker answers it tells why, which the failed call does not.

use std::sync::Mutex;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};

use super::super::{BrokerError, BrokerErrorKind};
use super::context::{PlainContext, locked};
use super::errors::{by_code, classify};

/// What the client has to tell that is heard at once: more comes as long as it tries again.
const HEARD_MAX: usize = 10_000;

/// Keeps why the last connection failed.
#[derive(Default)]
pub(crate) struct AskingContext {
    failure: Mutex<Option<(Code, String)>>,
}

/// A consumer that joins no group.
pub(crate) struct Asker {
    consumer: BaseConsumer<AskingContext>,
    brokers: String,
}

impl ClientContext for AskingContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        PlainContext.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // That all of them are down says less than how the last one went.
        if let Some(code) = error.rdkafka_error_code()
            && code != Code::AllBrokersDown
        {
            *locked(&self.failure) = Some((code, reason.to_owned()));
        }
        PlainContext.error(error, reason);
    }
}

impl ConsumerContext for AskingContext {}

impl Asker {
    /// A client with the properties `config`.
    ///
    /// # Errors
    /// Properties that librdkafka refuses.
    pub(crate) fn connect(config: &ClientConfig) -> KafkaResult<Self> {
        let consumer = config.create_with_context(AskingContext::default())?;
        let brokers = config.get("bootstrap.servers").unwrap_or_default().to_owned();
        Ok(Self { consumer, brokers })
    }

    /// The client.
    pub(crate) fn consumer(&self) -> &BaseConsumer<AskingContext> {
        &self.consumer
    }

    /// Hears what the client has to tell, which it keeps for ever otherwise.
    pub(crate) fn hear(&self) {
        for _ in 0..HEARD_MAX {
            self.consumer.poll(Duration::ZERO);
        }
    }

    /// What the failure of a call means: when nobody answered, why, and of which brokers.
    pub(crate) fn explain(&self, operation: &'static str, error: &KafkaError) -> BrokerError {
        let failed = classify(operation, error);
        let silence = [
            Code::BrokerTransportFailure,
            Code::AllBrokersDown,
            Code::OperationTimedOut,
            Code::LeaderNotAvailable,
        ];
        if !error.rdkafka_error_code().is_some_and(|code| silence.contains(&code)) {
            return failed;
        }
        self.hear();
        let reason = locked(&self.consumer.context().failure).take();
        let kind = match &reason {
            Some((code, _)) if by_code(*code) == Some(BrokerErrorKind::NotAuthorized) => {
                BrokerErrorKind::NotAuthorized
            }
            _ if failed.kind == BrokerErrorKind::Fatal => BrokerErrorKind::Retriable,
            _ => failed.kind,
        };
        let reason = reason.map_or(failed.detail, |(_, reason)| reason);
        let detail = format!("no broker of {} serves this client: {reason}", self.brokers);
        BrokerError::new(kind, operation, detail)
    }
}

//! What librdkafka's errors mean for the shard.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::super::{BrokerError, BrokerErrorKind as Kind, LookupFailure, PartitionFailure};

/// The meaning of a failed call of the transactional producer (or of a client's creation).
///
/// Codes that say what happened go before the flags that say what to do: a fenced producer is
/// "fatal" too, and a refused generation "requires abort".
pub(crate) fn classify(operation: &'static str, error: &KafkaError) -> BrokerError {
    let kind = match error {
        KafkaError::Transaction(error) => by_code(error.code()).unwrap_or_else(|| {
            if error.is_fatal() {
                Kind::Fatal
            } else if error.txn_requires_abort() {
                Kind::Abortable
            } else if error.is_retriable() {
                Kind::Retriable
            } else {
                Kind::Fatal
            }
        }),
        KafkaError::ClientConfig(_, _, property, _) => {
            let detail = format!("librdkafka refuses {property}");
            return BrokerError::new(Kind::SettingRefused, operation, detail);
        }
        other => other.rdkafka_error_code().and_then(by_code).unwrap_or(Kind::Fatal),
    };
    let detail = match error {
        KafkaError::Transaction(error) => format!("{}: {}", error.name(), error.string()),
        other => other.to_string(),
    };
    BrokerError::new(kind, operation, detail)
}

/// The meaning of a record that was not delivered, or not even queued.
pub(super) fn delivery_kind(code: Code) -> Kind {
    match code {
        Code::MessageTimedOut | Code::RequestTimedOut => Kind::TimedOut,
        Code::Fatal => Kind::Fatal,
        other => by_code(other).unwrap_or(Kind::Abortable),
    }
}

/// Why a look-up failed.
pub(super) fn lookup_failure(error: &KafkaError) -> LookupFailure {
    match error.rdkafka_error_code() {
        Some(code) => lookup_failure_code(code),
        None => LookupFailure::Other(error.to_string()),
    }
}

/// Why a look-up failed, from the bare code.
pub(super) fn lookup_failure_code(code: Code) -> LookupFailure {
    match code {
        Code::OffsetOutOfRange | Code::AutoOffsetReset => LookupFailure::OffsetOutOfRange,
        // What the group coordinator answers while a transaction holds an offset.
        Code::UnstableOffsetCommit => LookupFailure::TimedOut,
        code if is_corrupt(code) => LookupFailure::Corrupt,
        code => match by_code(code) {
            Some(Kind::TimedOut) => LookupFailure::TimedOut,
            Some(Kind::UnknownPartition) => LookupFailure::UnknownPartition,
            Some(Kind::NotAuthorized) => LookupFailure::NotAuthorized,
            _ => LookupFailure::Other(code.to_string()),
        },
    }
}

/// Why a partition can't be read; `None` for passing faults, which show as silence.
pub(super) fn partition_failure(code: Code) -> Option<PartitionFailure> {
    match code {
        Code::OffsetOutOfRange | Code::AutoOffsetReset => Some(PartitionFailure::OffsetOutOfRange),
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            Some(PartitionFailure::UnknownPartition)
        }
        Code::TopicAuthorizationFailed => Some(PartitionFailure::NotAuthorized),
        code if is_corrupt(code) => Some(PartitionFailure::Corrupt),
        Code::InvalidMessageSize | Code::MessageSizeTooLarge | Code::UnsupportedFeature => {
            Some(PartitionFailure::Other(code.to_string()))
        }
        _ => None,
    }
}

/// What a reader gets for a batch it can't unpack, `NotImplemented` for an unknown codec or format.
fn is_corrupt(code: Code) -> bool {
    matches!(
        code,
        Code::BadMessage | Code::BadCompression | Code::InvalidMessage | Code::NotImplemented
    )
}

/// Codes that mean one thing wherever they appear.
pub(super) fn by_code(code: Code) -> Option<Kind> {
    let kind = match code {
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Kind::ProducerFenced,
        Code::FencedInstanceId => Kind::InstanceFenced,
        Code::IllegalGeneration | Code::UnknownMemberId | Code::RebalanceInProgress => {
            Kind::StaleMember
        }
        Code::OperationTimedOut | Code::TimedOutQueue => Kind::TimedOut,
        Code::MessageSizeTooLarge
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::MessageBatchTooLarge => Kind::RecordRefused,
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            Kind::UnknownPartition
        }
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication
        | Code::InvalidTransactionTimeout
        | Code::InvalidSessionTimeout
        | Code::InvalidGroupId => Kind::NotAuthorized,
        _ => return None,
    };
    Some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_record_is_told_from_a_lost_transaction() {
        assert_eq!(delivery_kind(Code::MessageSizeTooLarge), Kind::RecordRefused);
        assert_eq!(delivery_kind(Code::InvalidTimestamp), Kind::RecordRefused);
        assert_eq!(delivery_kind(Code::UnknownTopicOrPartition), Kind::UnknownPartition);
        assert_eq!(delivery_kind(Code::MessageTimedOut), Kind::TimedOut);
        assert_eq!(delivery_kind(Code::PurgeQueue), Kind::Abortable);
        assert_eq!(delivery_kind(Code::NotEnoughReplicas), Kind::Abortable);
        assert_eq!(delivery_kind(Code::ProducerFenced), Kind::ProducerFenced);
    }

    #[test]
    fn passing_faults_are_silence_and_failed_partitions_are_not() {
        for code in [Code::AllBrokersDown, Code::BrokerTransportFailure, Code::LeaderNotAvailable] {
            assert_eq!(partition_failure(code), None);
        }
        assert_eq!(
            partition_failure(Code::AutoOffsetReset),
            Some(PartitionFailure::OffsetOutOfRange)
        );
    }

    #[test]
    fn a_pending_offset_is_a_time_out() {
        assert_eq!(lookup_failure_code(Code::UnstableOffsetCommit), LookupFailure::TimedOut);
        assert_eq!(lookup_failure_code(Code::OperationTimedOut), LookupFailure::TimedOut);
        assert_eq!(lookup_failure_code(Code::OffsetOutOfRange), LookupFailure::OffsetOutOfRange);
    }
}

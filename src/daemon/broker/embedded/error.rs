//! What the modelled brokers answer instead of doing what they were asked.

/// An error code of the Kafka protocol, as far as the model knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ModelError {
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    #[error("unknown topic or partition")]
    UnknownTopicOrPartition,
    /// `TOPIC_ALREADY_EXISTS`.
    #[error("topic already exists")]
    TopicExists,
    /// `INVALID_PARTITIONS`: a topic can't shrink.
    #[error("invalid number of partitions")]
    InvalidPartitions,
    /// `OFFSET_OUT_OF_RANGE`.
    #[error("offset out of range")]
    OffsetOutOfRange,
    /// `MESSAGE_TOO_LARGE`.
    #[error("message too large")]
    MessageTooLarge,
    /// `INVALID_TIMESTAMP`.
    #[error("invalid timestamp")]
    InvalidTimestamp,
    /// `INVALID_RECORD`: no key in a compacted topic.
    #[error("invalid record")]
    InvalidRecord,
    /// `PRODUCER_FENCED` or `INVALID_PRODUCER_EPOCH`.
    #[error("producer fenced")]
    ProducerFenced,
    /// `INVALID_TXN_STATE`.
    #[error("invalid transaction state")]
    InvalidTransactionState,
    /// `ILLEGAL_GENERATION`.
    #[error("illegal generation")]
    IllegalGeneration,
    /// `UNKNOWN_MEMBER_ID`.
    #[error("unknown member id")]
    UnknownMember,
    /// `FENCED_INSTANCE_ID`.
    #[error("fenced instance id")]
    FencedInstance,
    /// `NON_EMPTY_GROUP`: offsets of a group with members can't be altered.
    #[error("the group has members")]
    NonEmptyGroup,
    /// `OFFSET_METADATA_TOO_LARGE`.
    #[error("offset metadata too large")]
    OffsetMetadataTooLarge,
    /// `UNSTABLE_OFFSET_COMMIT`: a transaction that holds an offset of the partition is open.
    #[error("a pending transaction holds the offset")]
    UnstableOffset,
}

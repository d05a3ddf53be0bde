//! The bounds of a shard and of its restores.

use std::time::Duration;

use crate::pipeline::limits;

/// The bounds of one shard.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Label of the stage in metrics: `scrub` or `watch`.
    pub stage: &'static str,
    /// Label of the shard in metrics and logs.
    pub shard: String,
    /// The slot's own transactional id.
    pub transactional_id: String,
    /// A transaction is committed when it is this old.
    pub commit_interval: Duration,
    /// A transaction is committed when it has taken this many bytes of input.
    pub commit_bytes_max: usize,
    /// How many times as old and as large it may become while more waits to be read than is taken
    /// and the brokers commit promptly.
    pub commit_growth_max: u32,
    /// Records of a full poll: fewer mean that none was left waiting.
    pub poll_records_max: usize,
    /// Longest wait in one poll; bounds how fast a stop is noticed.
    pub poll_wait_max: Duration,
    /// Time-out of draining, of sending offsets and of committing, each; three of them together
    /// must be below the transaction time-out of the slot.
    pub transaction_step_timeout: Duration,
    /// Time-out of building a new producer.
    pub reset_timeout: Duration,
    /// First pause after a failure that repeats; doubles.
    pub back_off_min: Duration,
    /// Longest pause after a failure.
    pub back_off_max: Duration,
    /// Failed attempts at a new producer after which the shard is built anew.
    pub reset_attempts_max: u32,
    /// How long the check of committed offsets after a failure may hold up the shard.
    pub check_timeout: Duration,
    /// A partition with lag that gives nothing for this long has the shard built anew.
    pub stall_timeout: Duration,
    /// A member without a place in its group for this long has the shard built anew.
    pub outside_timeout: Duration,
    /// How long a stopped or paused partition waits before it is tried again; doubles.
    pub hold_retry: Duration,
    /// Longest such wait: a partition that was repaired goes on by itself.
    pub hold_retry_max: Duration,
    /// Time for leaving politely.
    pub close_timeout: Duration,
    /// Bounds of restores.
    pub restore: RestoreConfig,
}

/// The bounds of restores.
#[derive(Clone, Debug)]
pub struct RestoreConfig {
    /// Partitions restored at once; the others wait their turn.
    pub concurrent_max: usize,
    /// A transaction pending for longer has its writer fenced.
    pub pending_after: Duration,
    /// A transaction of the slot itself that its producer's start left open for longer is hanging.
    pub hanging_after: Duration,
    /// First pause before a question is asked again; doubles on failures.
    pub retry_min: Duration,
    /// Longest pause.
    pub retry_max: Duration,
    /// A restore that gets no further tells the log so often what it waits for.
    pub notice_every: Duration,
    /// A restore that gets no further for so long stops the partition (which is tried again later).
    pub budget: Duration,
}

impl ShardConfig {
    /// The defaults for the shard `shard` of `stage`.
    #[must_use]
    pub fn new(stage: &'static str, shard: String, transactional_id: String) -> Self {
        Self {
            stage,
            shard,
            transactional_id,
            commit_interval: Duration::from_millis(100),
            commit_bytes_max: limits::TRANSACTION_INPUT_BYTES_MAX,
            commit_growth_max: limits::TRANSACTION_GROWTH_MAX,
            poll_records_max: limits::POLL_RECORDS_MAX,
            poll_wait_max: Duration::from_millis(100),
            transaction_step_timeout: Duration::from_secs(3),
            reset_timeout: Duration::from_secs(10),
            back_off_min: Duration::from_millis(100),
            back_off_max: Duration::from_secs(10),
            reset_attempts_max: 6,
            check_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(60),
            outside_timeout: Duration::from_secs(120),
            hold_retry: Duration::from_secs(10),
            hold_retry_max: Duration::from_secs(300),
            close_timeout: Duration::from_secs(5),
            restore: RestoreConfig {
                concurrent_max: limits::RESTORES_CONCURRENT_MAX,
                pending_after: Duration::from_secs(1),
                hanging_after: Duration::from_secs(10),
                retry_min: Duration::from_millis(100),
                retry_max: Duration::from_secs(5),
                notice_every: Duration::from_secs(15),
                budget: Duration::from_secs(300),
            },
        }
    }
}

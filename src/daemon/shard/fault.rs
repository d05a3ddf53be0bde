//! A test aid: named points at which a process can be made to say "I am here" and to wait, so that
//! a test kills or stops it exactly there. Inactive unless the settings name a point.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// A point in the life of a transaction or a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultPoint {
    /// Every output of the transaction is in the producer's queue.
    AfterSend,
    /// The offsets are in the transaction, the commit has not been asked for.
    AfterSendOffsets,
    /// The commit has succeeded, the state has not advanced.
    AfterEndTransaction,
    /// The state has advanced, the counters are not published.
    BeforeCounters,
    /// A partition's restore got an answer.
    DuringRestore,
    /// Partitions were revoked and committed, and are not yet given back.
    DuringRebalance,
}

impl FaultPoint {
    /// Every point.
    pub const ALL: [Self; 6] = [
        Self::AfterSend,
        Self::AfterSendOffsets,
        Self::AfterEndTransaction,
        Self::BeforeCounters,
        Self::DuringRestore,
        Self::DuringRebalance,
    ];

    /// The name used in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AfterSend => "after_send",
            Self::AfterSendOffsets => "after_send_offsets",
            Self::AfterEndTransaction => "after_end_txn",
            Self::BeforeCounters => "before_counters",
            Self::DuringRestore => "during_restore",
            Self::DuringRebalance => "during_rebalance",
        }
    }

    /// Whether only a transaction that holds records comes by: an empty one proves nothing.
    const fn needs_records(self) -> bool {
        !matches!(self, Self::DuringRestore | Self::DuringRebalance)
    }
}

/// A shard at a point.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    /// Where it is.
    pub point: FaultPoint,
    /// Its stage: `scrub` or `watch`.
    pub stage: &'static str,
    /// Records taken by the transaction that is there; 0 outside of one.
    pub records: usize,
}

/// Told whenever a shard passes a point.
pub trait FaultHook: Send + Sync {
    /// The shard goes on when this returns.
    fn reached(&self, passage: Passage);
}

/// What production uses: nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl FaultHook for NoFaults {
    fn reached(&self, _passage: Passage) {}
}

/// Which passage to wait at, written `stage:point` or `stage:point:nth`. Transactions without
/// records are not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultPlace {
    stage: String,
    point: FaultPoint,
    /// From 1.
    nth: u32,
}

/// A place that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not scrub or watch, a colon and one of {names}, or that with :1, :2 ... after it",
    names = FaultPoint::ALL.map(FaultPoint::name).join(", "))]
pub struct NoSuchPlace(String);

impl FromStr for FaultPlace {
    type Err = NoSuchPlace;

    fn from_str(text: &str) -> Result<Self, NoSuchPlace> {
        let parse = || {
            let (stage, rest) = text.split_once(':')?;
            let (name, nth) = rest.split_once(':').unwrap_or((rest, "1"));
            let point = FaultPoint::ALL.into_iter().find(|point| point.name() == name)?;
            let nth = nth.parse().ok().filter(|nth| *nth > 0)?;
            matches!(stage, "scrub" | "watch").then(|| Self { stage: stage.to_owned(), point, nth })
        };
        parse().ok_or_else(|| NoSuchPlace(text.to_owned()))
    }
}

/// Writes a file when the place is reached (`stage point records`, one line) and waits until
/// somebody removes it; once.
#[derive(Debug)]
pub struct MarkerFile {
    place: FaultPlace,
    marker: PathBuf,
    passages_left: AtomicU32,
}

impl MarkerFile {
    /// Waits at `place` as long as the file `marker`, which it writes, exists.
    #[must_use]
    pub fn new(place: FaultPlace, marker: PathBuf) -> Self {
        let passages_left = AtomicU32::new(place.nth);
        Self { place, marker, passages_left }
    }

    /// Counts a passage of the place; whether it is the one to wait at.
    fn is_due(&self, passage: Passage) -> bool {
        let Passage { point, stage, records } = passage;
        point == self.place.point
            && stage == self.place.stage
            && (records > 0 || !point.needs_records())
            && self
                .passages_left
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1))
                == Ok(1)
    }
}

impl FaultHook for MarkerFile {
    fn reached(&self, passage: Passage) {
        if !self.is_due(passage) {
            return;
        }
        let Passage { point, stage, records } = passage;
        tracing::warn!(stage, point = point.name(), records, "debug.fault_point reached: waiting");
        if fs::write(&self.marker, format!("{stage} {} {records}\n", point.name())).is_err() {
            return;
        }
        while self.marker.exists() {
            thread::park_timeout(Duration::from_millis(20));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(stage: &'static str, point: FaultPoint, records: usize) -> Passage {
        Passage { point, stage, records }
    }

    #[test]
    fn a_marker_is_written_once_and_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let marker = folder.path().join("here");
        let place = "watch:after_send:2".parse().unwrap();
        let hook = std::sync::Arc::new(MarkerFile::new(place, marker.clone()));
        // None of these is a transaction of that stage with records; the last one is the first.
        hook.reached(passage("watch", FaultPoint::DuringRestore, 0));
        hook.reached(passage("watch", FaultPoint::BeforeCounters, 5));
        hook.reached(passage("scrub", FaultPoint::AfterSend, 5));
        hook.reached(passage("watch", FaultPoint::AfterSend, 0));
        hook.reached(passage("watch", FaultPoint::AfterSend, 5));
        assert!(!marker.exists());
        let waiting = {
            let hook = std::sync::Arc::clone(&hook);
            thread::spawn(move || hook.reached(passage("watch", FaultPoint::AfterSend, 7)))
        };
        while fs::read_to_string(&marker).unwrap_or_default() != "watch after_send 7\n" {
            thread::yield_now();
        }
        assert!(!waiting.is_finished());
        fs::remove_file(&marker).unwrap();
        waiting.join().unwrap();
        hook.reached(passage("watch", FaultPoint::AfterSend, 7));
        assert!(!marker.exists());
    }

    #[test]
    fn a_restore_needs_no_records() {
        let hook = MarkerFile::new("scrub:during_restore".parse().unwrap(), PathBuf::new());
        assert!(hook.is_due(passage("scrub", FaultPoint::DuringRestore, 0)));
    }

    #[test]
    fn a_place_that_does_not_exist_is_refused_with_those_that_do() {
        for point in FaultPoint::ALL {
            let place: FaultPlace = format!("scrub:{}:3", point.name()).parse().unwrap();
            assert_eq!(place, FaultPlace { stage: "scrub".to_owned(), point, nth: 3 });
        }
        for wrong in ["after_send", "scrub:nowhere", "scrub:after_send:0", "both:after_send"] {
            let refusal = wrong.parse::<FaultPlace>().unwrap_err().to_string();
            assert!(refusal.contains(wrong) && refusal.contains("after_end_txn"), "{refusal}");
        }
    }
}

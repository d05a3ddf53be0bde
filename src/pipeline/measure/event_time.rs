//! What time it is for WATCH: `now` from append times, and the event time W up to which every
//! source partition has been read. Both come from records alone, so that a replay decides the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::wire::Mark;
use crate::pipeline::limits::{
    APPEND_TIME_SKEW_MS_MAX, LATE_AFTER_MS, SET_BACK_AFTER_MS, SOURCE_BEHIND_MS_MAX,
    SOURCE_FORGOTTEN_AFTER_MS, SOURCE_SILENT_MS_MAX,
};
use crate::pipeline::record::{Timestamp, TopicPartition};

/// `now`: the highest append time consumed, held against the owner's ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    now_ms: Option<i64>,
    tick_ms: Option<i64>,
    low_since_ms: Option<i64>,
    low_max_ms: i64,
}

/// What one record did to `now`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockChange {
    /// It stayed or rose.
    Forward,
    /// It was set back by so many milliseconds: what ran ahead was a wrong clock.
    SetBack {
        /// Milliseconds, above zero.
        by_ms: i64,
    },
}

impl Clock {
    /// The time, once a record was seen.
    #[must_use]
    pub fn now(&self) -> Option<Timestamp> {
        self.now_ms.map(Timestamp::from_millis)
    }

    /// Takes in a record's append time and, when it is a tick, the clock it carries.
    ///
    /// An append time more than 5 s past the latest tick raises `now` to those 5 s only. When
    /// append times and ticks stay over 5 s below `now` for 10 s it is set back to their highest.
    pub fn observe(&mut self, appended: Timestamp, tick: Option<Timestamp>) -> ClockChange {
        if let Some(tick) = tick {
            self.tick_ms = Some(tick.millis());
        }
        let appended = appended.millis();
        let bounded = match self.tick_ms {
            Some(tick) => appended.min(tick.saturating_add(APPEND_TIME_SKEW_MS_MAX)),
            None => appended,
        };
        let now = self.now_ms.map_or(bounded, |now| now.max(bounded));
        self.now_ms = Some(now);

        let seen = tick.map_or(appended, |tick| tick.millis().max(appended));
        if seen >= now.saturating_sub(APPEND_TIME_SKEW_MS_MAX) {
            self.low_since_ms = None;
            return ClockChange::Forward;
        }
        let since = *self.low_since_ms.get_or_insert_with(|| {
            self.low_max_ms = seen;
            appended
        });
        self.low_max_ms = self.low_max_ms.max(seen);
        if appended.saturating_sub(since) < SET_BACK_AFTER_MS {
            return ClockChange::Forward;
        }
        self.low_since_ms = None;
        self.now_ms = Some(self.low_max_ms);
        ClockChange::SetBack { by_ms: now.saturating_sub(self.low_max_ms) }
    }
}

/// What a source partition last said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceMark {
    /// Highest event time read, in milliseconds.
    #[serde(rename = "w")]
    pub watermark_ms: Option<i64>,
    /// Whether it was read to its end.
    #[serde(rename = "c")]
    pub caught_up: bool,
    /// `now` when it said so, in milliseconds.
    #[serde(rename = "r")]
    pub reported_ms: i64,
}

/// The event time W over the source partitions.
#[derive(Debug, Default)]
pub struct EventTime {
    watermark: Option<Timestamp>,
    held: bool,
    sources: BTreeMap<TopicPartition, SourceMark>,
}

impl EventTime {
    /// W: every source partition that counts has been read this far. Monotone, except that it
    /// follows `now` when that is set back.
    #[must_use]
    pub fn watermark(&self) -> Option<Timestamp> {
        self.watermark
    }

    /// No source partition counts (all silent or replaying): transitions are held.
    #[must_use]
    pub fn held(&self) -> bool {
        self.held || self.watermark.is_none()
    }

    /// Event times before this are late. Without W, what lies further back than a partition may
    /// be behind.
    #[must_use]
    pub fn late_before(&self, now: Timestamp) -> Timestamp {
        let behind = || now.plus_millis(-SOURCE_BEHIND_MS_MAX);
        self.watermark.unwrap_or_else(behind).plus_millis(-LATE_AFTER_MS)
    }

    /// Takes in what a source partition says.
    pub fn report(&mut self, mark: &Mark, now: Timestamp) {
        let known = self.sources.get(&mark.source).and_then(|source| source.watermark_ms);
        let source = SourceMark {
            watermark_ms: known.max(mark.watermark.map(Timestamp::millis)),
            caught_up: mark.caught_up,
            reported_ms: now.millis(),
        };
        self.sources.insert(mark.source.clone(), source);
    }

    /// Works out W anew after a record.
    pub fn advance(&mut self, now: Timestamp) {
        let now_ms = now.millis();
        let least = self.sources.values().filter_map(|source| source.counted_ms(now_ms)).min();
        self.held = least.is_none();
        self.watermark = self.watermark.max(least.map(Timestamp::from_millis));
    }

    /// Follows `now`, which was set back.
    pub fn set_back(&mut self, now: Timestamp, by_ms: i64) {
        self.watermark = self.watermark.map(|watermark| watermark.min(now));
        for source in self.sources.values_mut() {
            source.reported_ms = source.reported_ms.saturating_sub(by_ms);
        }
    }

    /// Forgets source partitions silent for a day; returns them.
    pub fn forget_silent(&mut self, now: Timestamp) -> Vec<TopicPartition> {
        let before = now.millis().saturating_sub(SOURCE_FORGOTTEN_AFTER_MS);
        let silent = |mark: &SourceMark| mark.reported_ms < before;
        let forgotten: Vec<_> = self
            .sources
            .iter()
            .filter(|(_, mark)| silent(mark))
            .map(|(source, _)| source.clone())
            .collect();
        self.sources.retain(|_, mark| !silent(mark));
        forgotten
    }

    /// What a source partition last said, for storing it.
    #[must_use]
    pub fn source(&self, source: &TopicPartition) -> Option<SourceMark> {
        self.sources.get(source).copied()
    }

    /// The source partitions known.
    pub fn sources(&self) -> impl Iterator<Item = &TopicPartition> {
        self.sources.keys()
    }

    /// Puts back what a source partition said as it was stored.
    pub fn restore_source(&mut self, source: TopicPartition, mark: Option<SourceMark>) {
        match mark {
            Some(mark) => drop(self.sources.insert(source, mark)),
            None => drop(self.sources.remove(&source)),
        }
    }

    /// Puts back W as it was stored.
    pub fn restore_watermark(&mut self, watermark: Option<Timestamp>, held: bool) {
        self.watermark = watermark;
        self.held = held;
    }
}

impl SourceMark {
    /// How far this partition lets W go; `None` when it doesn't count.
    fn counted_ms(&self, now_ms: i64) -> Option<i64> {
        if self.reported_ms < now_ms.saturating_sub(SOURCE_SILENT_MS_MAX) {
            return None;
        }
        if self.caught_up {
            return Some(now_ms);
        }
        let watermark = self.watermark_ms?.min(now_ms);
        (watermark >= now_ms.saturating_sub(SOURCE_BEHIND_MS_MAX)).then_some(watermark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: i64 = 1_760_000_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(T0 + seconds * 1_000)
    }

    fn mark(partition: i32, watermark: Option<Timestamp>, caught_up: bool) -> Mark {
        Mark { source: TopicPartition::new("app.logs", partition), watermark, caught_up }
    }

    #[test]
    fn now_is_the_highest_append_time() {
        let mut clock = Clock::default();
        assert_eq!(clock.now(), None);
        clock.observe(at(5), None);
        clock.observe(at(3), None);
        assert_eq!(clock.now(), Some(at(5)));
    }

    #[test]
    fn an_append_time_far_past_the_tick_raises_now_to_five_seconds_past_it() {
        let mut clock = Clock::default();
        clock.observe(at(0), Some(at(0)));
        clock.observe(at(3_600), None);
        assert_eq!(clock.now(), Some(at(5)));
        clock.observe(at(61), Some(at(60)));
        assert_eq!(clock.now(), Some(at(61)));
    }

    #[test]
    fn now_is_set_back_when_everything_stays_below_it_for_ten_seconds() {
        let mut clock = Clock::default();
        clock.observe(at(3_600), None);
        for second in 0..10 {
            assert_eq!(clock.observe(at(second), Some(at(second))), ClockChange::Forward);
            assert_eq!(clock.now(), Some(at(3_600)));
        }
        assert_eq!(clock.observe(at(10), None), ClockChange::SetBack { by_ms: 3_590_000 });
        assert_eq!(clock.now(), Some(at(10)));
    }

    #[test]
    fn one_record_near_now_ends_the_run_of_low_ones() {
        let mut clock = Clock::default();
        clock.observe(at(100), None);
        clock.observe(at(1), None);
        clock.observe(at(96), None);
        assert_eq!(clock.observe(at(12), None), ClockChange::Forward);
        assert_eq!(clock.now(), Some(at(100)));
    }

    #[test]
    fn the_slowest_partition_holds_the_event_time() {
        let mut time = EventTime::default();
        time.report(&mark(0, Some(at(-20)), false), at(0));
        time.report(&mark(1, Some(at(-600)), false), at(0));
        time.report(&mark(2, None, true), at(0));
        time.advance(at(0));
        assert_eq!((time.watermark(), time.held()), (Some(at(-600)), false));
        time.report(&mark(1, Some(at(-600)), true), at(1));
        time.advance(at(1));
        assert_eq!(time.watermark(), Some(at(-20)));
    }

    #[test]
    fn a_silent_partition_is_left_out_and_a_replaying_one_too() {
        let mut time = EventTime::default();
        time.report(&mark(0, Some(at(-1_900)), false), at(0));
        time.advance(at(0));
        assert_eq!((time.watermark(), time.held()), (None, true));
        time.report(&mark(1, Some(at(-60)), false), at(0));
        time.advance(at(0));
        assert_eq!((time.watermark(), time.held()), (Some(at(-60)), false));
        time.advance(at(31));
        assert_eq!((time.watermark(), time.held()), (Some(at(-60)), true));
    }

    #[test]
    fn the_event_time_never_goes_back_nor_past_now() {
        let mut time = EventTime::default();
        time.report(&mark(0, Some(at(500)), false), at(0));
        time.advance(at(0));
        assert_eq!(time.watermark(), Some(at(0)));
        time.report(&mark(1, Some(at(-100)), false), at(1));
        time.advance(at(1));
        assert_eq!(time.watermark(), Some(at(0)));
        assert_eq!(time.late_before(at(1)), at(-60));
    }

    #[test]
    fn a_new_owner_that_has_read_nothing_yet_keeps_what_the_old_one_said() {
        let mut time = EventTime::default();
        time.report(&mark(0, Some(at(-20)), false), at(0));
        time.report(&mark(0, None, false), at(1));
        time.advance(at(1));
        assert_eq!(time.watermark(), Some(at(-20)));
    }

    #[test]
    fn silent_sources_are_forgotten_after_a_day() {
        let mut time = EventTime::default();
        time.report(&mark(0, None, true), at(0));
        assert_eq!(time.forget_silent(at(86_400)), vec![]);
        assert_eq!(time.forget_silent(at(86_401)).len(), 1);
        assert_eq!(time.sources().count(), 0);
    }
}

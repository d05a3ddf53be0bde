//! The signals: named things to count, as data. A rule names them; a bucket holds one number each.

use super::place::Place;
use crate::pipeline::limits::BUCKET_MS;
use crate::pipeline::record::Timestamp;

/// How a signal is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalKind {
    /// Counted per record by SCRUB and added up.
    Count,
    /// Counted once per session by WATCH, over all partitions and instances.
    Sessions,
}

/// One row of the table of signals.
#[derive(Debug)]
pub struct SignalRow {
    /// The signal.
    pub signal: Signal,
    /// Its name in rules and on the wire.
    pub name: &'static str,
    /// How it is made.
    pub kind: SignalKind,
}

macro_rules! signals {
    ($($(#[doc = $help:literal])+ $variant:ident, $name:literal, $kind:ident;)+) => {
        /// A named thing to count.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Signal { $($(#[doc = $help])+ $variant,)+ }

        /// The table of signals, in the order of [`Signal`]'s variants.
        pub const SIGNALS: &[SignalRow] = &[$(SignalRow {
            signal: Signal::$variant,
            name: $name,
            kind: SignalKind::$kind,
        },)+];

        const SIGNAL_COUNT: usize = [$($name),+].len();
    };
}

signals! {
    #[doc = "Log records."]
    Records, "records", Count;
    #[doc = "Records of severity error or worse."]
    Errors, "errors", Count;
    #[doc = "Bot turns."]
    Turns, "turns", Count;
    #[doc = "Bot turns that ended in a fallback."]
    Fallbacks, "fallbacks", Count;
    #[doc = "Handover events; one session may have several."]
    Handovers, "handovers", Count;
    #[doc = "Leaks: values the sentinel found in output records, and output records with a canary."]
    Leaks, "leaks", Count;
    #[doc = "Tokens made with the default key because the tenant has none."]
    DefaultKeyTokens, "default_key_tokens", Count;
    #[doc = "Source partitions that stopped and wait for an operator."]
    Stops, "stops", Count;
    #[doc = "Bot sessions, each once, when first seen."]
    Sessions, "sessions", Sessions;
    #[doc = "Bot sessions with at least one handover, each once, at the first handover."]
    SessionsHandedOver, "sessions_handed_over", Sessions;
}

impl Signal {
    /// The signal's name in rules and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        SIGNALS[self as usize].name
    }

    /// How the signal is made.
    #[must_use]
    pub const fn kind(self) -> SignalKind {
        SIGNALS[self as usize].kind
    }

    /// The signal called `name`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        SIGNALS.iter().find(|row| row.name == name).map(|row| row.signal)
    }
}

/// One number per signal. Additions saturate: 2^32 in ten seconds is no count but a fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u32; SIGNAL_COUNT]);

impl Counts {
    /// The number of `signal`.
    #[must_use]
    pub const fn of(&self, signal: Signal) -> u32 {
        self.0[signal as usize]
    }

    /// Adds `count` to `signal`.
    pub fn add(&mut self, signal: Signal, count: u32) {
        let slot = &mut self.0[signal as usize];
        *slot = slot.saturating_add(count);
    }

    /// Adds every number of `other`.
    pub fn add_all(&mut self, other: &Self) {
        for (slot, count) in self.0.iter_mut().zip(other.0) {
            *slot = slot.saturating_add(count);
        }
    }

    /// Whether every number is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|&count| count == 0)
    }

    /// The signals with a number above zero.
    pub fn iter(&self) -> impl Iterator<Item = (Signal, u32)> + '_ {
        SIGNALS.iter().map(|row| (row.signal, self.of(row.signal))).filter(|&(_, count)| count > 0)
    }
}

/// Ten seconds of event time: the number of the bucket since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(pub i64);

impl Bucket {
    /// The bucket `time` falls into.
    #[must_use]
    pub const fn of(time: Timestamp) -> Self {
        Self(time.millis().div_euclid(BUCKET_MS))
    }

    /// The bucket `count` buckets earlier.
    #[must_use]
    pub const fn minus(self, count: i64) -> Self {
        Self(self.0.saturating_sub(count))
    }
}

/// A session's keyed tag: a MAC over tenant and session id, so that it says nothing by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionTag(pub [u8; 16]);

/// What a record says about a bot conversation. One record may say several things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BotFacts {
    /// A session starts here.
    pub session_started: bool,
    /// A turn of the bot.
    pub turn: bool,
    /// The turn ended in a fallback (counts as a turn whether or not `turn` is set).
    pub fallback: bool,
    /// The session was handed over to a person.
    pub handover: bool,
}

impl BotFacts {
    /// Whether the record says anything about a bot.
    #[must_use]
    pub const fn any(self) -> bool {
        self.session_started || self.turn || self.fallback || self.handover
    }

    /// Whether it counts as a turn of the bot.
    #[must_use]
    pub const fn is_turn(self) -> bool {
        self.turn || self.fallback
    }
}

/// What measuring needs of one redacted record.
#[derive(Clone, Copy, Debug)]
pub struct Fact {
    /// Tenant and service, as far as the record names them.
    pub place: Place,
    /// Log records: one Kafka record may hold a batch of them.
    pub records: u32,
    /// Those among them of severity error or worse.
    pub errors: u32,
    /// When it happened, as the record says.
    pub event_time: Timestamp,
    /// The conversation's keyed tag.
    pub session: Option<SessionTag>,
    /// What it says about a bot.
    pub bot: BotFacts,
}

impl Fact {
    /// What this record adds to its bucket.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        counts.add(Signal::Records, self.records);
        counts.add(Signal::Errors, self.errors);
        counts.add(Signal::Turns, u32::from(self.bot.is_turn()));
        counts.add(Signal::Fallbacks, u32::from(self.bot.fallback));
        counts.add(Signal::Handovers, u32::from(self.bot.handover));
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_variants() {
        for (index, row) in SIGNALS.iter().enumerate() {
            assert_eq!(row.signal as usize, index);
            assert_eq!(Signal::by_name(row.name), Some(row.signal));
        }
    }

    #[test]
    fn buckets_before_the_epoch_round_down() {
        assert_eq!(Bucket::of(Timestamp::from_millis(-1)), Bucket(-1));
        assert_eq!(Bucket::of(Timestamp::from_millis(19_999)), Bucket(1));
    }
}

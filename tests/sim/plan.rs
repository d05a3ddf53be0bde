//! What a seed makes of a run before it begins.

use std::sync::Arc;
use std::time::Duration;

use blotter::daemon::broker::{SlotConfig, Subscription};

use crate::rng::Rng;
use crate::stages::{MEASURES, SOURCE};

/// Which stages the processes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cast {
    /// The stand-in for SCRUB: fast, and nothing but the protocol.
    Copier,
    /// SCRUB alone.
    Scrub,
    /// SCRUB with measures, and WATCH.
    Whole,
}

/// What an operator does while no process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// Sets an offset back with a tool, which leaves no metadata.
    RollBack,
    /// Puts an old offset back together with its metadata.
    RollBackWithMetadata,
    /// Lets the offset expire.
    Expire,
    /// Loses the end of the source partition.
    Truncate,
    /// Deletes the source and creates it anew, empty.
    Recreate,
    /// The same, and as much is written to it as there was, and more.
    RecreateAndRefill,
    /// Retention takes records that nobody has read.
    Overrun,
}

/// A run's parameters.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) cast: Cast,
    pub(crate) partitions: i32,
    pub(crate) measures_partitions: i32,
    /// Slots are stable: their ids survive a restart.
    pub(crate) is_static: bool,
    pub(crate) scrub_slots: Vec<SlotConfig>,
    pub(crate) watch_slots: Vec<SlotConfig>,
    pub(crate) storm_ms: i64,
    pub(crate) mistake: Option<Mistake>,
}

impl Cast {
    pub(crate) const ALL: [Self; 3] = [Self::Copier, Self::Scrub, Self::Whole];
}

impl Plan {
    /// A plan by chance, but for the cast when one is given.
    pub(crate) fn new(rng: &mut Rng, cast: Option<Cast>) -> Self {
        let drawn = match rng.below(8) {
            0..5 => Cast::Copier,
            5 | 6 => Cast::Scrub,
            _ => Cast::Whole,
        };
        let cast = cast.unwrap_or(drawn);
        let is_static = rng.one_in(2);
        let template = template(rng);
        let slots = |group: &str, topic: &str, count: i64| -> Vec<SlotConfig> {
            let slot = |index| {
                let name = format!("{group}-{index}");
                SlotConfig {
                    group: group.to_owned(),
                    instance_id: is_static.then(|| name.clone()),
                    transactional_id: name,
                    subscription: Subscription {
                        topics: vec![Arc::from(topic)],
                        patterns: Vec::new(),
                        excluded: Vec::new(),
                    },
                    ..template.clone()
                }
            };
            (0..count).map(slot).collect()
        };
        let watches = if cast == Cast::Whole { rng.between(1, 2) } else { 0 };
        let storm_ms_max = if cast == Cast::Copier { 60_000 } else { 30_000 };
        Self {
            cast,
            partitions: i32::try_from(rng.between(1, 4)).expect("small"),
            measures_partitions: i32::try_from(rng.between(1, 2)).expect("small"),
            is_static,
            scrub_slots: slots("blotter-scrub", SOURCE, rng.between(1, 3)),
            watch_slots: slots("blotter-watch", MEASURES, watches),
            storm_ms: rng.between(5_000, storm_ms_max),
            mistake: mistake(rng, cast),
        }
    }
}

fn mistake(rng: &mut Rng, cast: Cast) -> Option<Mistake> {
    let for_all = [
        Mistake::RollBack,
        Mistake::RollBackWithMetadata,
        Mistake::Expire,
        Mistake::Truncate,
        Mistake::Recreate,
    ];
    let for_scrub = [Mistake::RecreateAndRefill, Mistake::Overrun];
    match cast {
        _ if !rng.one_in(3) => None,
        Cast::Copier => Some(*rng.pick(&for_all)),
        Cast::Scrub => Some(*rng.pick(&[&for_all[..], &for_scrub].concat())),
        Cast::Whole => None,
    }
}

fn template(rng: &mut Rng) -> SlotConfig {
    SlotConfig {
        group: String::new(),
        instance_id: None,
        transactional_id: String::new(),
        subscription: Subscription {
            topics: Vec::new(),
            patterns: Vec::new(),
            excluded: Vec::new(),
        },
        poll_records_max: *rng.pick(&[3, 20, 500]),
        poll_bytes_max: 1 << 20,
        transaction_timeout: Duration::from_secs(*rng.pick(&[10, 60])),
        session_timeout: Duration::from_secs(15),
        operation_timeout: Duration::from_secs(10),
        lookup_timeout: Duration::from_secs(2),
        written: Vec::new(),
        lookup_bytes_max: *rng.pick(&[600, 1 << 20]),
    }
}

//! What came out of one partition, as text and as JSON.

use crate::pipeline::audit::{ChainHead, Kind, Report};
use crate::pipeline::record::Timestamp;

/// What came out of one partition.
pub(super) struct Verdict {
    pub(super) source: String,
    pub(super) report: Report,
    pub(super) head: Option<ChainHead>,
    pub(super) fault: Option<Problem>,
    /// Faults behind which an operator began a new chain.
    pub(super) breaks: Vec<Break>,
    pub(super) notes: Vec<String>,
}

/// A fault, and where the chain that was begun behind it stands.
pub(super) struct Break {
    pub(super) fault: Problem,
    pub(super) repaired: String,
    /// Entries between the two.
    pub(super) unverified: u64,
    /// Source offset up to which the broken chain was verified, exclusive.
    pub(super) to: Option<i64>,
    /// Source offset from which the next chain goes on.
    pub(super) from: i64,
}

pub(super) struct Problem {
    pub(super) place: String,
    pub(super) kind: &'static str,
    pub(super) seq: Option<u64>,
    pub(super) expected: String,
    pub(super) found: String,
}

impl Verdict {
    fn name(&self) -> &'static str {
        match &self.fault {
            Some(_) => "fault",
            None if !self.breaks.is_empty() => "repaired",
            None if self.report.entries_total() == 0 => "empty",
            None => "verified",
        }
    }

    fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = Kind::ALL.iter().map(|kind| (kind.code(), self.report.entries_of(*kind)));
        counts.filter(|(_, count)| *count > 0)
    }

    pub(super) fn to_text(&self) -> String {
        let report = &self.report;
        let mut text = format!("{}  {}\n", self.source, self.name());
        for one in &self.breaks {
            text.push_str(&one.fault.to_text("break"));
            let (place, between) = (&one.repaired, one.unverified);
            text.push_str(&format!(
                "  repaired by a new chain at {place}; {between} entries in between are not verified\n"
            ));
            text.push_str(&one.coverage());
        }
        if let Some(fault) = &self.fault {
            text.push_str(&fault.to_text("fault"));
        }
        if report.entries_total() > 0 {
            let entries: Vec<String> =
                self.entries().map(|(code, count)| format!("{code} {count}")).collect();
            text.push_str(&format!("  entries  {}\n", entries.join(", ")));
        }
        if let (Some(from), Some(to)) = (report.from, report.to) {
            let (fates, gaps) = (&report.fates, report.gap_offsets);
            let twice = match report.overlap_offsets {
                0 => String::new(),
                count => format!(", {count} sealed twice"),
            };
            text.push_str(&format!(
                "  source   offsets {from}..{to}, {gaps} of them in gaps{twice}\n  \
                 records  {} read: {} forwarded, {} dead-lettered, {} commands\n",
                fates.read(),
                fates.forwarded,
                fates.dead_lettered,
                fates.commands
            ));
        }
        if let Some((first, last)) = report.sealed_at {
            let time = |millis| Timestamp::from_millis(millis).to_rfc3339();
            text.push_str(&format!("  sealed   {} to {}\n", time(first), time(last)));
        }
        if let Some(head) = self.head {
            text.push_str(&format!("  head     seq {} leaf {}\n", head.seq, hex(&head.leaf)));
        }
        if report.entries_total() > 0 && !report.from_genesis {
            text.push_str(
                "  note     begins behind the genesis: what came before is not verified\n",
            );
        }
        for note in &self.notes {
            text.push_str(&format!("  note     {note}\n"));
        }
        text
    }

    pub(super) fn to_json(&self) -> String {
        let report = &self.report;
        let breaks: Vec<serde_json::Value> = self
            .breaks
            .iter()
            .map(|one| {
                serde_json::json!({
                    "fault": one.fault.to_json(),
                    "repaired": one.repaired,
                    "unverified": one.unverified,
                    "verified_to": one.to,
                    "goes_on_from": one.from,
                })
            })
            .collect();
        let head =
            self.head.map(|head| serde_json::json!({ "seq": head.seq, "leaf": hex(&head.leaf) }));
        let line = serde_json::json!({
            "source": self.source,
            "verdict": self.name(),
            "breaks": breaks,
            "fault": self.fault.as_ref().map(Problem::to_json),
            "entries": self.entries().collect::<std::collections::BTreeMap<_, _>>(),
            "from": report.from,
            "to": report.to,
            "gap_offsets": report.gap_offsets,
            "overlap_offsets": report.overlap_offsets,
            "records": {
                "read": report.fates.read(),
                "forwarded": report.fates.forwarded,
                "dead_lettered": report.fates.dead_lettered,
                "commands": report.fates.commands,
            },
            "heartbeats": report.heartbeats,
            "clock_steps_back": report.clock_steps_back,
            "from_genesis": report.from_genesis,
            "head": head,
            "notes": self.notes,
        });
        format!("{line}\n")
    }
}

impl Break {
    /// Where the operator chose the source offset: what of the source has no seal, or two.
    fn coverage(&self) -> String {
        let from = self.from;
        match self.to {
            Some(to) if to < from => {
                format!("  source   offsets {to}..{from} are under no verified seal\n")
            }
            Some(to) if to > from => format!("  source   offsets {from}..{to} are sealed twice\n"),
            _ => String::new(),
        }
    }
}

impl Problem {
    fn to_text(&self, word: &str) -> String {
        let seq = self.seq.map(|seq| format!(" (seq {seq})")).unwrap_or_default();
        let Self { place, kind, expected, found, .. } = self;
        format!("  {word:8} {kind} at {place}{seq}\n  expected {expected}\n  found    {found}\n")
    }

    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "kind": self.kind, "place": self.place, "seq": self.seq,
            "expected": self.expected, "found": self.found,
        })
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

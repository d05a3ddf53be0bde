//! Restores that take long, and what they find.

use crate::pipeline::audit::RestoreAlert;
use std::io::{self, Write};
use std::sync::Mutex;

use super::*;
use crate::pipeline::step::Lookup;

/// What a test's log holds.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_a_restore_finds_is_logged_with_its_place() {
    let detail = "retention deleted source offsets 3..7 before they were read".to_owned();
    let finding = RestoreAlert { severity: 1, name: "source_gap", detail };
    let mut bench = Bench::with(1, 10, |stage| stage.findings.push(finding));
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || bench.turns(20).unwrap());
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let line = log.lines().find(|line| line.contains("source_gap")).unwrap();
    for part in ["ERROR", "in/0", "source offsets 3..7"] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn a_restore_goes_on_as_long_as_it_gets_records() {
    let mut bench = Bench::with(1, 10, |stage| stage.reads = 9);
    bench.world().read_time = Duration::from_secs(100);
    bench.turns(60).unwrap();
    bench.assert_exactly_once(10);
}

#[test]
fn a_restore_that_gets_no_further_stops_its_partition() {
    let mut bench = Bench::with(1, 10, |stage| stage.reads = 9);
    let silent = (0..60).map(|_| Err(LookupFailure::TimedOut)).collect();
    let question = format!(
        "{:?}",
        Lookup::Read { topic_partition: TopicPartition::new("out", 0), from: 0, to: 9 }
    );
    bench.world().lookups.insert(question, silent);
    bench.turns(20).unwrap();
    bench.world().elapsed += Duration::from_secs(400);
    bench.turns(3).unwrap();
    let stopped = bench.health.read().stopped;
    assert_eq!(stopped.first().map(|(_, stop)| stop.reason), Some("restore_timeout"));
}

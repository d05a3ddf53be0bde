//! What restores find is told.

use std::io::{self, Write};
use std::sync::Mutex;

use super::*;

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

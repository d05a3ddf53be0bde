//! A process that is measured from outside: what it has used of the processor and of memory.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Linux counts processor time in hundredths of a second for user space, whatever its own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Runs until it is dropped.
pub(crate) struct Process(Child);

impl Process {
    /// This program itself, copying records as they are.
    pub(crate) fn pass_through(brokers: &str, group: &str, input: &str, output: &str) -> Self {
        let own = std::env::current_exe().expect("the path of this program");
        let arguments = ["pass-through", brokers, group, input, output];
        Self::start(Command::new(own).args(arguments))
    }

    /// `blotter run` with a settings file.
    pub(crate) fn blotter(settings: &Path) -> Self {
        let program = env!("CARGO_BIN_EXE_blotter");
        Self::start(Command::new(program).arg("run").arg("--config").arg(settings))
    }

    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("the process starts"))
    }

    /// Processor time of all its threads so far, user and system.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        // Fields 14 and 15; the name, field 2, ends with the last bracket.
        let after_name = stat.rsplit_once(") ").expect("stat names the process").1;
        let ticks: f64 = after_name
            .split_ascii_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse::<f64>().expect("a number of ticks"))
            .sum();
        Duration::from_secs_f64(ticks / TICKS_PER_SECOND)
    }

    /// The most memory it ever had in use, in MiB.
    pub(crate) fn rss_mib_max(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next());
        kib.expect("status tells VmHWM").parse::<u64>().expect("a number of KiB") / 1_024
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.0.id());
        fs::read_to_string(path).expect("the process runs")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("a pid"));
        // Both fail only when the process has ended already.
        let _ = kill(pid, Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

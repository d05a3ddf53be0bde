//! A process that ends with its guard.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::unistd::Pid;

/// Starts `guard`, a shell that prints the pid of the process it starts and kills it as soon as its
/// own standard input closes: that happens when the test process ends in whatever way, kill -9
/// included. Returns the guard and what it guards.
pub(crate) fn spawn(guard: &mut Command) -> (Child, Pid) {
    let mut guard = guard
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("the guard runs");
    let mut line = String::new();
    let stdout = guard.stdout.take().expect("stdout was piped");
    BufReader::new(stdout).read_line(&mut line).expect("the guard tells the pid");
    let process = Pid::from_raw(line.trim().parse().expect("a pid"));
    (guard, process)
}

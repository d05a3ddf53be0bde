//! A user's machine, on which the binary is run.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

/// A user's machine: an empty home.
pub(crate) struct Home(tempfile::TempDir);

/// How a command ended.
pub(crate) struct Ran {
    pub(crate) exit: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blotter"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.0.path())
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).output().unwrap())
    }

    pub(crate) fn pipe(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let (exit, stdout, stderr) = self.pipe_bytes(arguments, input);
        Ran { exit, stdout: String::from_utf8(stdout).unwrap(), stderr }
    }

    pub(crate) fn pipe_bytes(&self, arguments: &[&str], input: &[u8]) -> (i32, Vec<u8>, String) {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let output = thread::scope(|scope| {
            // A process that refuses its arguments reads nothing.
            scope.spawn(move || match stdin.write_all(input) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                written => written.unwrap(),
            });
            child.wait_with_output().unwrap()
        });
        let stderr = calm(&output);
        (output.status.code().unwrap(), output.stdout, stderr)
    }
}

pub(crate) fn ran(output: Output) -> Ran {
    let stderr = calm(&output);
    let stdout = String::from_utf8(output.stdout).unwrap();
    Ran { exit: output.status.code().unwrap(), stdout, stderr }
}

/// The error output, which must show no panic.
pub(crate) fn calm(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!stderr.contains("panic") && !stderr.contains("internal error"), "{stderr}");
    stderr
}

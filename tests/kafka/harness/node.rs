//! One broker process.
//!
//! It runs under a [guard], so no broker stays behind.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::wait_until;
use super::{guard, jars};

/// Starts "$@" with its output in $LOG and prints its pid; when standard input closes kills it and,
/// unless a line said to keep them, removes the data in $DATA.
const GUARD: &str = r#"
"$@" >>"$LOG" 2>&1 </dev/null &
child=$!
echo "$child"
read -r word
kill -9 "$child" 2>/dev/null
wait "$child" 2>/dev/null
[ "$word" = keep ] || rm -rf "$DATA"
"#;

/// Listener ports of one node.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) plain: u16,
    pub(crate) controller: u16,
    /// Where the PROXIED listener listens.
    pub(crate) proxied: u16,
    /// Where a forwarder takes connections for it (what the broker advertises).
    pub(crate) forwarder: u16,
    /// Where clients log in with (unsigned) tokens.
    pub(crate) tokens: u16,
}

/// One node of a cluster: its settings, its folder and, while it runs, its process.
pub(crate) struct Node {
    folder: PathBuf,
    heap: &'static str,
    running: Option<Running>,
}

struct Running {
    guard: Child,
    broker: Pid,
}

impl Node {
    /// Formats the storage of a node whose settings are `properties`.
    pub(crate) fn format(
        folder: PathBuf,
        properties: &str,
        cluster_id: &str,
        heap: &'static str,
    ) -> Self {
        fs::create_dir_all(&folder).expect("the node's folder can be made");
        let settings = folder.join("server.properties");
        let data = folder.join("data");
        let text = format!("{properties}log.dirs={}\n", data.display());
        fs::write(&settings, text).expect("server.properties can be written");
        let outcome = Command::new("timeout")
            .args([
                "60",
                "java",
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-cp",
                jars::class_path(),
            ])
            .arg("kafka.tools.StorageTool")
            .args(["format", "--ignore-formatted", "-t", cluster_id, "-c"])
            .arg(&settings)
            .output()
            .expect("java runs");
        assert!(
            outcome.status.success(),
            "StorageTool format failed:\n{}{}",
            String::from_utf8_lossy(&outcome.stdout),
            String::from_utf8_lossy(&outcome.stderr)
        );
        Self { folder, heap, running: None }
    }

    /// Starts the process; it is not up yet when this returns.
    pub(crate) fn start(&mut self) {
        assert!(self.running.is_none(), "the node runs already");
        let log4j = jars::source_folder().join("log4j2.yaml");
        let mut command = Command::new("sh");
        command
            .args(["-c", GUARD, "guard", "java", "-Xms128m", self.heap])
            .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(format!("-Dlog4j2.configurationFile={}", log4j.display()))
            .args(["-cp", jars::class_path(), "kafka.Kafka"])
            .arg(self.folder.join("server.properties"))
            .env("LOG", self.log())
            .env("DATA", self.folder.join("data"));
        let (guard, broker) = guard::spawn(&mut command);
        self.running = Some(Running { guard, broker });
    }

    /// Kills the process at once (kill -9) and keeps its data.
    pub(crate) fn kill(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let mut stdin = running.guard.stdin.take().expect("stdin was piped");
        // Fails only when the guard is gone, and the broker with it.
        let _ = stdin.write_all(b"keep\n");
        drop(stdin);
        running.guard.wait().expect("the guard ends");
    }

    /// Ends the process in good order (SIGTERM) and keeps its data.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let broker = self.running.as_ref().expect("the node runs").broker;
        wait_until("the broker's end", 60, || {
            let stat = fs::read_to_string(format!("/proc/{broker}/stat")).unwrap_or_default();
            // Until its guard asks for its exit code it is a zombie.
            stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z'))
        });
        self.kill();
    }

    /// Sends a signal, such as SIGSTOP, SIGCONT or SIGTERM, to the broker.
    pub(crate) fn signal(&self, signal: Signal) {
        let running = self.running.as_ref().expect("the node runs");
        kill(running.broker, signal).expect("the broker is there");
    }

    /// Whether the broker's process is still there.
    pub(crate) fn is_alive(&self) -> bool {
        self.running.as_ref().is_some_and(|running| kill(running.broker, None).is_ok())
    }

    /// What the broker wrote last.
    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// The first file of a partition's log.
    pub(crate) fn segment(&self, topic: &str, partition: i32) -> PathBuf {
        self.folder.join(format!("data/{topic}-{partition}/00000000000000000000.log"))
    }

    fn log(&self) -> PathBuf {
        self.folder.join("broker.log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            drop(running.guard.stdin.take());
            let _ = running.guard.wait();
        }
    }
}

/// Clusters of earlier runs whose logs are kept, three whole runs: whoever looks into a failure has
/// run again meanwhile.
const LOGS_KEPT: usize = 30;

/// A folder for a new cluster below the target folder, named by this process.
pub(crate) fn cluster_folder(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka");
    fs::create_dir_all(&root).expect("the target folder is writable");
    let mut gone: Vec<_> = fs::read_dir(&root)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.split('-').next().map(str::parse::<i32>);
            matches!(owner, Some(Ok(owner)) if kill(Pid::from_raw(owner), None).is_err())
        })
        .collect();
    gone.sort_by_key(|entry| entry.metadata().and_then(|file| file.modified()).ok());
    for old in gone.iter().rev().skip(LOGS_KEPT) {
        let _ = fs::remove_dir_all(old.path());
    }
    root.join(format!("{}-{name}", std::process::id()))
}

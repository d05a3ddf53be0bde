//! The daemon as a user runs it: a deployment with topics and keys of its own, processes of the
//! built binary, and the traffic it is fed.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output};
use std::sync::Mutex;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use crate::harness::{
    Admin, Deadline, Feeder, flush, guard, millis_since_epoch, unique, wait_until,
};
use crate::traffic::Fed;

/// Kills the process when standard input closes; its exit code is the guard's.
const GUARD: &str = r#"
exec 3<&0
"$@" >>"$LOG" 2>&1 3<&- </dev/null &
child=$!
echo "$child"
( read -r word <&3; kill -9 "$child" 2>/dev/null ) &
reader=$!
exec 3<&-
wait "$child"
code=$?
kill "$reader" 2>/dev/null
exit "$code"
"#;

/// Time-outs of members that are stopped on purpose; the defaults are for production.
pub(crate) const SESSION_SECONDS: u64 = 4;

/// Partitions of the measures: three members of WATCH get two each.
pub(crate) const MEASURES_PARTITIONS: i32 = 6;

/// One group of daemons with its topics, keys and settings.
pub(crate) struct Deployment {
    pub(crate) admin: Admin,
    pub(crate) source: String,
    /// Records fed so far, by partition, in order.
    fed: Mutex<Vec<Vec<Fed>>>,
    folder: PathBuf,
    feeder: Feeder,
}

impl Deployment {
    /// Makes the source topic, the keys and every output topic.
    pub(crate) fn new(admin: Admin, partitions: i32, extra: &str) -> Self {
        let source = unique("app.logs");
        admin.create_topic(&source, partitions, &[]);
        Self::of_topic(admin, source, partitions, extra)
    }

    /// The same for a source topic that exists.
    pub(crate) fn of_topic(admin: Admin, source: String, partitions: i32, extra: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("daemon-{source}"));
        fs::create_dir_all(&folder).expect("the target folder is writable");
        let settings = format!(
            "[kafka]\nbrokers = [{brokers}]\n\
             [input]\ntopics = [\"{source}\"]\n\
             [output]\nmeasures = \"{source}.measures\"\ndead_letters = \"{source}.dead-letters\"\n\
             alerts = \"{source}.alerts\"\nwatch_state = \"{source}.watch-state\"\n\
             [topics]\nmeasures_partitions = {MEASURES_PARTITIONS}\nalerts_partitions = 1\n\
             [group]\nid = \"{source}\"\nsession_timeout_ms = {session_ms}\n\
             [run]\ntransaction_timeout_ms = {session_ms}\n\
             [audit]\ndeployment = \"test\"\nheartbeat_ms = 2000\n\
             [keys]\nfolder = \"{folder}/keys\"\n\
             [http]\nenabled = false\n\
             [log]\nformat = \"pretty\"\n{extra}\n",
            brokers =
                admin.brokers.split(',').map(|b| format!("\"{b}\"")).collect::<Vec<_>>().join(","),
            session_ms = SESSION_SECONDS * 1000,
            folder = folder.display(),
        );
        fs::write(folder.join("blotter.toml"), settings).expect("the settings can be written");
        let fed = Mutex::new(vec![Vec::new(); usize::try_from(partitions).expect("positive")]);
        let feeder = admin.feeder();
        let deployment = Self { admin, source, fed, folder, feeder };
        deployment.must(&["keys", "create"]);
        deployment.must(&["topics", "create"]);
        deployment.must(&["topics", "check"]);
        deployment
    }

    /// Puts `to` in the place of `from` in the settings file.
    pub(crate) fn change_settings(&self, from: &str, to: &str) {
        let path = self.folder.join("blotter.toml");
        let text = fs::read_to_string(&path).expect("the settings were written");
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).expect("the settings can be written");
    }

    /// Runs one command of the binary with the deployment's settings.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_blotter"))
            .arg("--config")
            .arg(self.folder.join("blotter.toml"))
            .args(arguments)
            .output()
            .expect("the binary runs")
    }

    /// Runs a command that must succeed; returns what it printed.
    pub(crate) fn must(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let [stdout, stderr] = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success(), "{arguments:?}: {}\n{stdout}{stderr}", output.status);
        stdout
    }

    /// Starts `blotter run` as the instance `name`; at the place `fault` it stands still (see
    /// [`Daemon::standing`]).
    pub(crate) fn start(&self, name: &str, fault: Option<&str>) -> Daemon {
        self.start_with(name, fault, &[])
    }

    /// The same with further `--set` arguments.
    pub(crate) fn start_with(&self, name: &str, fault: Option<&str>, sets: &[&str]) -> Daemon {
        let marker = self.folder.join(unique(&format!("marker-{name}")));
        let mut settings = vec![format!("group.instance={name}")];
        if let Some(fault) = fault {
            settings.push(format!("debug.fault_point={fault}"));
            settings.push(format!("debug.fault_marker={}", marker.display()));
        }
        settings.extend(sets.iter().map(|set| (*set).to_owned()));
        self.spawn(name, marker, &settings, 0)
    }

    /// Starts one that answers HTTP; static as the instance `name`, or dynamic, as the default is.
    pub(crate) fn start_seen(&self, name: &str, is_static: bool) -> Daemon {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let instance = if is_static { name } else { "" };
        let settings = [
            format!("group.instance={instance}"),
            "http.enabled=true".to_owned(),
            format!("http.listen=127.0.0.1:{port}"),
        ];
        self.spawn(name, PathBuf::new(), &settings, port)
    }

    fn spawn(&self, name: &str, marker: PathBuf, settings: &[String], port: u16) -> Daemon {
        let log = self.folder.join(format!("{name}.log"));
        let log_from = fs::metadata(&log).map_or(0, |file| file.len());
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "guard", env!("CARGO_BIN_EXE_blotter"), "run", "--config"]);
        command.arg(self.folder.join("blotter.toml"));
        for setting in settings {
            command.args(["--set", setting]);
        }
        let (mut guard, process) = guard::spawn(command.env("LOG", &log));
        let stdin = guard.stdin.take();
        Daemon { guard, stdin, process, marker, log, log_from, port }
    }

    /// Feeds `count` records, spread over the partitions, and waits until they are stored.
    pub(crate) fn feed(&self, count: usize) {
        self.feed_unconfirmed(count);
        flush(&self.feeder);
    }

    /// The same without waiting: a broker may not answer now.
    pub(crate) fn feed_unconfirmed(&self, count: usize) {
        let mut fed = self.fed.lock().expect("no panic under the lock");
        for _ in 0..count {
            let number: usize = fed.iter().map(Vec::len).sum();
            let partition = number % fed.len();
            let record = Fed { timestamp: millis_since_epoch(), number };
            self.send(partition, &record);
            fed[partition].push(record);
        }
    }

    /// Feeds without a pause while `body` runs.
    pub(crate) fn under_load<T>(&self, body: impl FnOnce() -> T) -> T {
        let (load, wanted) = channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while wanted.try_recv() == Err(TryRecvError::Empty) {
                    self.feed(3);
                }
            });
            // Dropped however the body ends.
            let _load = load;
            body()
        })
    }

    /// Feeds until `daemon` stands at `place`, in a transaction with records where it is one.
    pub(crate) fn feed_to_fault(&self, daemon: &mut Daemon, place: &str) {
        let deadline = Deadline::after_seconds(90);
        let standing = loop {
            if let Some(standing) = daemon.standing() {
                break standing;
            }
            assert!(!deadline.is_over(), "{place} is not reached; {}", daemon.log());
            daemon.assert_running();
            self.feed(2);
        };
        assert_eq!(Some(standing.place.as_str()), place.rsplit_once(':').map(|(place, _)| place));
        let in_transaction = !place.contains(":during_");
        assert_eq!(standing.records > 0, in_transaction, "{place}: {standing:?}");
    }

    /// Everything fed so far, by partition, in order.
    pub(crate) fn fed(&self) -> Vec<Vec<Fed>> {
        self.fed.lock().expect("no panic under the lock").clone()
    }

    fn send(&self, partition: usize, record: &Fed) {
        let value = record.value();
        let key = record.key();
        loop {
            let number = record.number.to_string();
            let headers = OwnedHeaders::new()
                .insert(Header { key: "number", value: Some(&number) })
                .insert(Header { key: "empty", value: Some("") })
                .insert::<str>(Header { key: "null", value: None });
            let out = BaseRecord::<[u8], [u8]>::to(&self.source)
                .partition(i32::try_from(partition).expect("few partitions"))
                .timestamp(record.timestamp)
                .headers(headers)
                .key(key.as_bytes())
                .payload(value.as_bytes());
            match self.feeder.send(out) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    self.feeder.poll(Duration::from_millis(5));
                }
                Err((error, _)) => panic!("not queued: {error}"),
            }
        }
    }

    /// Waits until the redacted topic holds as many records as were fed.
    pub(crate) fn wait_for_all(&self, seconds: u64) {
        for (partition, records) in self.fed().iter().enumerate() {
            let Some(last) = records.last() else { continue };
            let partition = i32::try_from(partition).expect("few partitions");
            let what = format!("record {} of partition {partition}", records.len() - 1);
            let mut tail = self.admin.tail(&self.redacted(), partition);
            wait_until(&what, seconds, || tail.saw_number(last.number));
        }
    }

    /// The redacted topic.
    pub(crate) fn redacted(&self) -> String {
        format!("{}.redacted", self.source)
    }
}

impl Drop for Deployment {
    /// Its keys and logs stay after a failure only.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// One running `blotter run`; killed when dropped.
pub(crate) struct Daemon {
    guard: Child,
    stdin: Option<ChildStdin>,
    process: Pid,
    marker: PathBuf,
    log: PathBuf,
    /// Where in it this process began: those of one name share a file.
    log_from: u64,
    /// Where it answers HTTP; 0 when it does not.
    port: u16,
}

/// Where a daemon stands still.
#[derive(Debug)]
pub(crate) struct Standing {
    /// `stage:point`.
    pub(crate) place: String,
    /// Records in the transaction there.
    pub(crate) records: usize,
}

impl Daemon {
    /// Where it stands, once it does.
    pub(crate) fn standing(&self) -> Option<Standing> {
        let told = fs::read_to_string(&self.marker).ok()?;
        let (place, records) = told.strip_suffix('\n')?.rsplit_once(' ')?;
        let records = records.parse().expect("a number of records");
        Some(Standing { place: place.replace(' ', ":"), records })
    }

    /// Status and body of what it answers under `path`; `None` while it does not answer.
    pub(crate) fn http(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split_ascii_whitespace().nth(1)?.parse().ok()?;
        let body = answer.split_once("\r\n\r\n")?.1;
        Some((status, body.to_owned()))
    }

    /// Sum of the series of a metric that have all these `label="value"`; 0 while there are none.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let body = self.http("/metrics").map(|(_, body)| body).unwrap_or_default();
        let series = body.lines().filter_map(|line| {
            let (own, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
            let is_wanted = own.starts_with('{') && labels.iter().all(|label| own.contains(label));
            is_wanted.then(|| value.parse::<f64>().expect("a number"))
        });
        series.sum()
    }

    /// Lets it go on from its fault point.
    pub(crate) fn pass_fault(&self) {
        fs::remove_file(&self.marker).expect("it stands there");
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.process, signal).expect("the daemon is there");
    }

    /// Partitions a stage of it has been assigned since it started, those it lost again included.
    pub(crate) fn assigned(&self, stage: &str) -> usize {
        let log = fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(self.log_from).expect("logs are small");
        let own = String::from_utf8_lossy(log.get(from..).unwrap_or_default()).into_owned();
        let shard = format!("\"{stage}-");
        own.lines().filter(|line| line.contains("assigned") && line.contains(&shard)).count()
    }

    /// Processor time of all its threads so far, user and system.
    pub(crate) fn cpu(&self) -> Duration {
        // Linux counts it in hundredths of a second for user space; fields 14 and 15.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process)).expect("it runs");
        let after_name = stat.rsplit_once(") ").expect("stat names the process").1;
        let fields = after_name.split_ascii_whitespace().skip(11).take(2);
        let ticks: u64 = fields.map(|field| field.parse::<u64>().expect("a number of ticks")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.guard.wait().expect("the guard ends");
    }

    /// SIGTERM; returns the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.wait(60)
    }

    /// Waits for its end; returns the exit code.
    pub(crate) fn wait(&mut self, seconds: u64) -> Option<i32> {
        let mut code = None;
        wait_until("the daemon's end", seconds, || {
            code = self.guard.try_wait().expect("the guard is ours").map(|status| status.code());
            code.is_some()
        });
        code.flatten()
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Fails with its log when it has ended.
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.guard.try_wait().expect("the guard is ours") {
            panic!("the daemon ended with {status}:\n{}", self.log());
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The guard kills it when its standard input closes; a daemon that has ended leaves none.
        drop(self.stdin.take());
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(30).collect();
            let mut stderr = std::io::stderr().lock();
            drop(writeln!(stderr, "--- {}", self.log.display()));
            tail.iter().rev().for_each(|line| drop(writeln!(stderr, "{line}")));
        }
        let _ = self.guard.wait();
    }
}

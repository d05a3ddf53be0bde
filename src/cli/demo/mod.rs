//! `blotter demo`: a salon booking platform in about a minute, and at the end the proof that
//! everything shown held. On the embedded broker, or with `--brokers` on a real cluster, where the
//! daemon is a process of its own and is killed with -9.

mod proof;
mod story;
mod traffic;
mod world;

use std::path::{Path, PathBuf};

use clap::Args;

use super::Common;
use super::exit::{Exit, Failure};
use crate::settings::Settings;
use crate::settings::load::{Sources, load};
use story::Story;
use world::{DaemonCommand, EmbeddedWorld, KafkaWorld, World};

#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// host:port of the brokers of a real cluster; without it the embedded broker
    #[arg(long, value_name = "LIST")]
    brokers: Option<String>,
    /// Your own log lines instead of the made-up traffic
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Folder for what was made
    #[arg(long, value_name = "DIR", default_value = "demo-out")]
    out: PathBuf,
}

/// Keys of the demo, in its folder.
const KEYS_FOLDER: &str = "keys";

/// Partitions of the source topic.
const PARTITIONS: i32 = 6;

/// The mark of a folder that an earlier demo made.
const SETTINGS_FILE: &str = "demo.toml";

/// The sections that the demo chooses itself: its traffic, keys and records mix with nobody's.
const OWN_SECTIONS: [&str; 5] = ["input.", "output.", "topics.", "group.", "keys."];

pub(super) fn run(common: &Common, arguments: &DemoArguments) -> Result<Exit, Failure> {
    let out = &arguments.out;
    refuse_own(&common.overrides)?;
    let earlier = claim(out)?;
    let lines = arguments.input.as_deref().map(read_lines).transpose()?;
    let file = write_settings(out, arguments.brokers.as_deref())?;
    let mut files = common.config.clone();
    files.push(file);
    let environment = crate::settings::environment();
    let environment = environment.into_iter().filter(|(name, _)| is_inherited(name)).collect();
    let overrides = common.overrides.clone();
    let sources = Sources { files: files.clone(), environment, overrides, ..Sources::default() };
    let settings = Settings::new(&load(&sources)?)?;
    for path in earlier {
        remove(&path)?;
    }
    let world: Box<dyn World> = match &arguments.brokers {
        None => Box::new(EmbeddedWorld::start(settings.clone(), PARTITIONS)?),
        Some(_) => {
            let command = DaemonCommand { files, overrides: sources.overrides, out: out.clone() };
            Box::new(KafkaWorld::start(settings.clone(), command, PARTITIONS)?)
        }
    };
    Story::new(world, settings, out.clone()).tell(lines)
}

/// Whether the demo takes over a variable of the environment: only how to log in to a cluster. What
/// else is set there is the daemon's that runs beside it.
fn is_inherited(variable: &str) -> bool {
    variable.starts_with("BLOTTER__KAFKA__") && variable != "BLOTTER__KAFKA__BROKERS"
}

fn refuse_own(overrides: &[String]) -> Result<(), Failure> {
    let own = |one: &&String| OWN_SECTIONS.iter().any(|section| one.starts_with(section));
    overrides.iter().find(own).map_or(Ok(()), |one| {
        let key = one.split('=').next().unwrap_or_default();
        let message = format!("--set {key}: the demo has topics, groups and keys of its own");
        Err(Failure::new(Exit::Usage, message))
    })
}

/// Makes `out`, or takes over the folder of an earlier demo: what is in it then, to be removed.
/// Nobody else's files are touched.
fn claim(out: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| Failure::io(&out.display().to_string(), &error);
    std::fs::create_dir_all(out).map_err(failed)?;
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(out).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    let mark = out.join(SETTINGS_FILE);
    if !paths.is_empty() && !paths.contains(&mark) {
        let message = format!(
            "{}: holds files that are not a demo's; name another folder with --out",
            out.display()
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    Ok(paths.into_iter().filter(|path| is_made_by_demo(path)).collect())
}

/// The files and the folder of keys that a demo leaves, but for its mark.
fn is_made_by_demo(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    name == KEYS_FOLDER
        || name == world::LOG_FILE
        || proof::FILES.iter().any(|made| {
            made.split_once('*').map_or(name == *made, |(start, end)| {
                name.starts_with(start) && name.ends_with(end)
            })
        })
}

fn remove(path: &Path) -> Result<(), Failure> {
    let removed =
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    removed.map_err(|error| Failure::io(&path.display().to_string(), &error))
}

fn read_lines(path: &Path) -> Result<Vec<String>, Failure> {
    let bytes = std::fs::read(path).map_err(|e| Failure::io(&path.display().to_string(), &e))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Settings of the demo: short windows, so that an incident fits into a minute.
fn write_settings(out: &Path, brokers: Option<&str>) -> Result<PathBuf, Failure> {
    let mut name = [0; 4];
    crate::daemon::keys::random(&mut name);
    let name = format!("demo-{}", data_encoding::HEXLOWER.encode(&name));
    let keys = out.join(KEYS_FOLDER);
    let listen = if brokers.is_some() { "127.0.0.1:9600" } else { "127.0.0.1:0" };
    let text = format!(
        r#"# Settings of the demo.
[kafka]
brokers = [{brokers}]

[input]
topics = ["{name}.logs"]
patterns = []
start = "earliest"

[output]
redacted = "{{topic}}.redacted"
audit = "{{topic}}.audit"
measures = "{name}.measures"
dead_letters = "{name}.dead-letters"
alerts = "{name}.alerts"
watch_state = "{name}.watch-state"

[topics]
create = true
measures_partitions = 4
alerts_partitions = 1

[group]
id = "{name}"
instance = "demo"

[run]
shards = 2

[redact]
regions = ["IN", "DE", "FR", "GB"]

[measure]
error_window_ms = 20000
handover_window_ms = 600000

[alert]
default_rules = false

[[alert.rules]]
name = "BookingErrors"
ratio = {{ of = "errors", per = "records" }}
group_by = ["tenant", "service"]
window = "20s"
threshold = 0.25
clear_threshold = 0.15
for = "2s"
keep_firing_for = "5s"
samples_min = 20
severity = "SEV-1"
runbook = "https://runbooks.example/booking-api-errors"

[keys]
folder = {keys:?}

[http]
listen = "{listen}"

[log]
format = "json"
filter = "error"
"#,
        brokers = brokers.map_or(String::new(), |list| {
            list.split(',').map(|one| format!("{one:?}")).collect::<Vec<_>>().join(", ")
        }),
    );
    let path = out.join(SETTINGS_FILE);
    std::fs::write(&path, text).map_err(|e| Failure::io(&path.display().to_string(), &e))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_demos_folder_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str| folder.path().join(name);
        assert_eq!(claim(&of("new")).unwrap(), Vec::<PathBuf>::new());
        std::fs::write(of("notes.txt"), "mine").unwrap();
        let refused = claim(folder.path()).unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
        assert!(refused.message.contains("--out"), "{}", refused.message);
        for name in [SETTINGS_FILE, "demo-1f.logs-0.jsonl", "metrics.txt"] {
            std::fs::write(of(name), "").unwrap();
        }
        std::fs::create_dir(of(KEYS_FOLDER)).unwrap();
        let mut made = claim(folder.path()).unwrap();
        made.sort();
        assert_eq!(made, [of("demo-1f.logs-0.jsonl"), of(KEYS_FOLDER), of("metrics.txt")]);
        made.iter().try_for_each(|path| remove(path)).unwrap();
        assert!(of("notes.txt").exists() && !of(KEYS_FOLDER).exists());
    }

    #[test]
    fn of_the_environment_only_the_login_counts() {
        for (name, counts) in [
            ("BLOTTER__INPUT__TOPICS", false),
            ("BLOTTER__KEYS__FOLDER", false),
            ("BLOTTER__KAFKA__BROKERS", false),
            ("BLOTTER__KAFKA__SASL__PASSWORD_FILE", true),
        ] {
            assert_eq!(is_inherited(name), counts, "{name}");
        }
        assert!(refuse_own(&["kafka.sasl.username=me".to_owned()]).is_ok());
        let refused = refuse_own(&["input.topics=app.logs".to_owned()]).unwrap_err();
        assert!(refused.message.contains("input.topics"), "{}", refused.message);
    }
}

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
use world::{EmbeddedWorld, KafkaWorld, World};

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

/// Partitions of the source topic.
const PARTITIONS: i32 = 6;

pub(super) fn run(common: &Common, arguments: &DemoArguments) -> Result<Exit, Failure> {
    let out = &arguments.out;
    match std::fs::remove_dir_all(out) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::io(&out.display().to_string(), &error));
        }
        _ => {}
    }
    std::fs::create_dir_all(out).map_err(|e| Failure::io(&out.display().to_string(), &e))?;
    let file = write_settings(out, arguments.brokers.as_deref())?;
    let mut files = common.config.clone();
    files.push(file.clone());
    let sources = Sources { files, overrides: common.overrides.clone(), ..Sources::default() };
    let settings = Settings::new(&load(&sources)?)?;
    let lines = arguments.input.as_deref().map(read_lines).transpose()?;
    let world: Box<dyn World> = match &arguments.brokers {
        Some(_) => Box::new(KafkaWorld::start(settings.clone(), &file, PARTITIONS)?),
        None => Box::new(EmbeddedWorld::start(settings.clone(), PARTITIONS)?),
    };
    Story::new(world, settings, out.clone()).tell(lines)
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
    let keys = out.join("keys");
    let listen = if brokers.is_some() { "127.0.0.1:9600" } else { "127.0.0.1:0" };
    let text = format!(
        r#"# Settings of the demo.
[kafka]
brokers = [{brokers}]

[input]
topics = ["{name}.logs"]

[output]
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
    let path = out.join("demo.toml");
    std::fs::write(&path, text).map_err(|e| Failure::io(&path.display().to_string(), &e))?;
    Ok(path)
}

//! `blotter topics`: make, check or grow the topics of the settings.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::exit::{Exit, Failure};
use super::{Common, print};
use crate::daemon::broker::{BrokerError, BrokerErrorKind};
use crate::daemon::service::sample_slot;
use crate::daemon::topics::TopicAdmin;
use crate::daemon::topology::Topology;
use crate::settings::Settings;

/// Time a question to the brokers may take.
pub(super) const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct TopicsArguments {
    #[command(subcommand)]
    command: TopicsCommand,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum TopicsCommand {
    /// Make the topics that are missing; exit 1 when anything differs then
    Create,
    /// Say what differs, with the command that mends it; exit 1 when anything does
    Check,
    /// The same, and add partitions where a source topic has grown
    Grow,
}

pub(super) fn run(common: &Common, arguments: &TopicsArguments) -> Result<Exit, Failure> {
    let settings = Settings::new(&common.load(Vec::new())?)?;
    let (admin, topology) = discover(&settings)?;
    let mut report = missing_sources(&topology);
    if matches!(arguments.command, TopicsCommand::Create | TopicsCommand::Grow) {
        for topic in admin.create(&topology.plans)? {
            writeln!(report, "made {topic}").expect(IN_MEMORY);
        }
    }
    if matches!(arguments.command, TopicsCommand::Grow) {
        for (topic, partitions) in admin.grow(&topology.plans)? {
            writeln!(report, "{topic} has {partitions} partitions now").expect(IN_MEMORY);
        }
    }
    let differences = admin.check(&topology.plans)?;
    for difference in &differences {
        writeln!(report, "{difference}").expect(IN_MEMORY);
    }
    let fine = differences.is_empty() && topology.missing_sources.is_empty();
    if fine {
        report.push_str("all topics are as they should be\n");
    }
    print(&report)?;
    Ok(if fine { Exit::Success } else { Exit::Failed })
}

const IN_MEMORY: &str = "writing to a string does not fail";

/// Connects and plans.
pub(super) fn discover(settings: &Settings) -> Result<(TopicAdmin, Topology), Failure> {
    require_brokers(settings)?;
    let admin = TopicAdmin::connect(&settings.kafka, ADMIN_TIMEOUT)?;
    let topology = Topology::discover(&admin, settings)?;
    Ok((admin, topology))
}

pub(super) fn require_brokers(settings: &Settings) -> Result<(), Failure> {
    if settings.kafka.brokers.is_empty() {
        let message = "kafka.brokers: is empty; name a settings file with --config, or say \
                       --set kafka.brokers=HOST:PORT (run: --brokers HOST:PORT)";
        return Err(Failure::new(Exit::Config, message));
    }
    Ok(())
}

/// Whether the Kafka client takes the settings as a whole; connects to nothing.
pub(super) fn rehearse(settings: &Settings) -> Result<(), Failure> {
    let outcome = settings.kafka.rehearse(&sample_slot(settings));
    outcome.map_err(|refused| Failure::new(Exit::Config, format!("kafka: {refused}")))
}

/// One line per source topic that is not there.
pub(super) fn missing_sources(topology: &Topology) -> String {
    let line = |topic: &String| {
        format!(
            "source topic {topic}: does not exist; blotter reads topics, it does not make sources\n"
        )
    };
    topology.missing_sources.iter().map(line).collect()
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        let exit = match error.kind {
            BrokerErrorKind::NotAuthorized => Exit::Permission,
            BrokerErrorKind::InstanceFenced | BrokerErrorKind::SettingRefused => Exit::Config,
            BrokerErrorKind::UnknownPartition | BrokerErrorKind::RecordRefused => Exit::Data,
            _ => Exit::Unavailable,
        };
        Self::new(exit, error.to_string())
    }
}

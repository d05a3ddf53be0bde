//! `blotter audit`: verify, export and show the audit trail.

mod policies;
mod verify;

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::exit::{Exit, Failure};
use super::preview::{brokers_flag, connect, partitions, tails};
use super::{Common, print};
use crate::daemon::reader::TopicReader;
use crate::pipeline::record::TopicPartition;
use crate::settings::Settings;

#[derive(Debug, Args)]
pub(super) struct AuditArguments {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Check every entry, seal and signature; exit 65 at a fault
    Verify(verify::VerifyArguments),
    /// Write a topic's audit trail to files, one per partition, entries as stored
    Export(ExportArguments),
    /// Print the newest entries of a topic's audit trail
    Show(ShowArguments),
}

#[derive(Debug, Args)]
struct ExportArguments {
    /// Source topic
    #[arg(long)]
    topic: String,
    /// Folder for the files; made when missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// host:port of the brokers, separated by commas
    #[arg(long, value_name = "LIST")]
    brokers: Option<String>,
}

#[derive(Debug, Args)]
struct ShowArguments {
    /// Source topic; needed where the settings name none or several
    #[arg(long)]
    topic: Option<String>,
    /// Newest entries to print, over all partitions
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    last: u32,
    /// host:port of the brokers, separated by commas
    #[arg(long, value_name = "LIST")]
    brokers: Option<String>,
}

pub(super) fn run(common: &Common, arguments: &AuditArguments) -> Result<Exit, Failure> {
    match &arguments.command {
        AuditCommand::Verify(verify) => verify::run(common, verify),
        AuditCommand::Export(export) => write_files(common, export),
        AuditCommand::Show(show) => show_newest(common, show),
    }
}

fn write_files(common: &Common, arguments: &ExportArguments) -> Result<Exit, Failure> {
    let settings = Settings::new(&common.load(brokers_flag(arguments.brokers.as_deref()))?)?;
    let mut reader = connect(&settings)?;
    let audit_topic = settings.names.audit.topic(&arguments.topic);
    let count = partitions(&mut reader, &audit_topic)?;
    let folder = &arguments.out;
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::io(&folder.display().to_string(), &error))?;
    for partition in 0..count {
        let path = folder.join(format!("{}-{partition}.jsonl", arguments.topic));
        let shown = path.display().to_string();
        let at = |error: std::io::Error| Failure::io(&shown, &error);
        let mut file = BufWriter::new(std::fs::File::create_new(&path).map_err(at)?);
        let audit = TopicPartition::new(audit_topic.as_str(), partition);
        let (low, end) = reader.range(&audit)?;
        let (mut entries, mut written) = (0_u64, Ok(()));
        reader.read(&audit, low, end, &mut |record| {
            if written.is_ok() {
                written = file
                    .write_all(record.value.unwrap_or_default())
                    .and_then(|()| file.write_all(b"\n"));
                entries += 1;
            }
        })?;
        written.and_then(|()| file.flush()).map_err(at)?;
        print(&format!("{shown}: {entries} entries\n"))?;
    }
    Ok(Exit::Success)
}

fn show_newest(common: &Common, arguments: &ShowArguments) -> Result<Exit, Failure> {
    let settings = Settings::new(&common.load(brokers_flag(arguments.brokers.as_deref()))?)?;
    let topic = match (&arguments.topic, settings.input.topics.as_slice()) {
        (Some(topic), _) => topic.clone(),
        (None, [only]) => only.to_string(),
        _ => return Err(Failure::new(Exit::Usage, "say which source topic: --topic TOPIC")),
    };
    let mut reader = connect(&settings)?;
    let audit_topic = settings.names.audit.topic(&topic);
    let mut printed = Ok(());
    for (audit, from, to) in tails(&mut reader, &audit_topic, arguments.last.into())? {
        reader.read(&audit, from, to, &mut |record| {
            if printed.is_ok() {
                let entry = String::from_utf8_lossy(record.value.unwrap_or_default());
                printed = print(&format!("{entry}\n"));
            }
        })?;
    }
    printed?;
    Ok(Exit::Success)
}

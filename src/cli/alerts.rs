//! `blotter alerts reset`: lets a measures partition go on that WATCH has stopped.

use std::fmt::Write as _;

use clap::{Args, Subcommand};

use super::exit::{Exit, Failure};
use super::preview::{brokers_flag, partitions};
use super::topics::ADMIN_TIMEOUT;
use super::{Common, print};
use crate::daemon::reader::{KafkaReader, TopicReader};
use crate::daemon::rewrite::write_fencing;
use crate::daemon::service::watch_config;
use crate::pipeline::record::TopicPartition;
use crate::pipeline::step::WRITER_HEADER;
use crate::pipeline::watch::{Reset, ResetPlan};
use crate::settings::Settings;

const IN_MEMORY: &str = "writing to a string does not fail";

#[derive(Debug, Args)]
pub(super) struct AlertsArguments {
    #[command(subcommand)]
    command: AlertsCommand,
}

#[derive(Debug, Subcommand)]
enum AlertsCommand {
    /// Let a measures partition go on that was stopped; without --yes only tell how
    Reset(ResetArguments),
}

#[derive(Debug, Args)]
struct ResetArguments {
    /// The measures partition
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: i32,
    /// host:port of the brokers, separated by commas
    #[arg(long, value_name = "LIST")]
    brokers: Option<String>,
    /// Do it
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(common: &Common, arguments: &AlertsArguments) -> Result<Exit, Failure> {
    let AlertsCommand::Reset(arguments) = &arguments.command;
    let settings = Settings::new(&common.load(brokers_flag(arguments.brokers.as_deref()))?)?;
    let Some(measure) = settings.measure else {
        return Err(Failure::new(Exit::Config, "measure.enabled: is off; there is no state"));
    };
    if settings.kafka.brokers.is_empty() {
        let message = "kafka.brokers: is empty; name it in a file, or say --brokers HOST:PORT";
        return Err(Failure::new(Exit::Config, message));
    }
    let group = format!("{}-watch", settings.group.id);
    let mut reader = KafkaReader::connect(&settings.kafka, &group, ADMIN_TIMEOUT)?;
    let measures = TopicPartition::new(settings.names.measures.clone(), arguments.partition);
    if arguments.partition >= partitions(&mut reader, &measures.topic)? {
        let message = format!("--partition: {measures} does not exist");
        return Err(Failure::new(Exit::Usage, message));
    }
    let own = measures.partition..measures.partition + 1;
    let committed = reader.committed(&measures.topic, own)?.into_values().next();
    let committed = committed.map(|(offset, _)| offset);
    let mut reset = Reset::new(watch_config(&settings, measure), &measures, committed);
    let state = reset.state().clone();
    let mut writer = None;
    let (low, end) = reader.range(&state)?;
    reader.read(&state, low, end, &mut |record| {
        let header = record.headers.iter().find(|header| header.name == WRITER_HEADER);
        let name = header.and_then(|header| String::from_utf8(header.value?.to_vec()).ok());
        writer = name.or_else(|| writer.take());
        reset.take(&record);
    })?;
    let (low, high) = reader.range(&measures)?;
    let Some(plan) = reset.plan(low, high) else {
        print(&format!("{measures}  is not stopped: nothing to reset\n"))?;
        return Ok(Exit::Failed);
    };
    let writer = writer.unwrap_or_else(|| format!("{group}-reset-{}", arguments.partition));
    print(&describe(&measures, &plan, &writer))?;
    if !arguments.yes {
        print("  to do it, say --yes\n")?;
        return Ok(Exit::Success);
    }
    write_fencing(&settings.kafka, &writer, &state, &plan.records, ADMIN_TIMEOUT)?;
    print("  done     its owner goes on by itself at its next try, within 5 minutes\n")?;
    Ok(Exit::Success)
}

fn describe(measures: &TopicPartition, plan: &ResetPlan, writer: &str) -> String {
    let mut text = format!("{measures}  stopped: {}\n", plan.stop.reason);
    writeln!(text, "  found    {}", plan.stop.detail).expect(IN_MEMORY);
    writeln!(text, "  reset    goes on with measure record {}", plan.position).expect(IN_MEMORY);
    if plan.keeps_state {
        text.push_str("  state    kept: windows, sessions and alerts stand as of that record\n");
    } else {
        let forgotten = plan.records.len() - 1;
        writeln!(
            text,
            "  state    {forgotten} records are removed: windows and sessions begin empty; an alert \
             that fires now\n           is not resolved, its lease ends by itself, and it fires anew \
             if its cause stands"
        )
        .expect(IN_MEMORY);
    }
    writeln!(text, "  fences   the writer `{writer}`, which begins anew").expect(IN_MEMORY);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::step::PartitionStop;

    #[test]
    fn the_plan_says_what_is_lost() {
        let stop = PartitionStop {
            reason: "state_missing",
            detail: "the group stands at 7, but s/2 has no position".to_owned(),
            command: String::new(),
        };
        let records = vec![(b"a".to_vec(), None), (b"p".to_vec(), Some(Vec::new()))];
        let mut plan = ResetPlan { stop, position: 7, keeps_state: false, records };
        let measures = TopicPartition::new("m", 2);
        let text = describe(&measures, &plan, "blotter-watch-0");
        for part in ["m/2  stopped: state_missing", "record 7", "1 records are removed", "-watch-0"]
        {
            assert!(text.contains(part), "{text}");
        }
        plan.keeps_state = true;
        assert!(describe(&measures, &plan, "w").contains("kept"));
    }
}

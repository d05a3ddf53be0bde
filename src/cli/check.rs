//! `blotter check`: are the settings fit to run? Touches nothing; `--probe` also asks the brokers.

use std::fmt::Write as _;

use clap::Args;

use super::exit::{Exit, Failure};
use super::topics::{discover, missing_sources, rehearse};
use super::{Common, print};
use crate::settings::Settings;

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// Also ask the brokers: reachable, topics there, partitions and configuration right
    #[arg(long)]
    probe: bool,
    /// Print every setting with the place it comes from; secrets masked
    #[arg(long)]
    show: bool,
}

pub(super) fn run(common: &Common, arguments: &CheckArguments) -> Result<Exit, Failure> {
    let loaded = common.load(Vec::new())?;
    if arguments.show {
        print(&loaded.show())?;
    }
    let settings = Settings::new(&loaded)?;
    rehearse(&settings)?;
    if !arguments.probe {
        if !arguments.show {
            print("settings are valid; --probe asks the brokers too\n")?;
        }
        return Ok(Exit::Success);
    }
    let (admin, topology) = discover(&settings)?;
    let differences = admin.check(&topology.plans)?;
    let mut report = format!("settings are valid; brokers answer at {}\n", settings.kafka.brokers);
    report.push_str(&missing_sources(&topology));
    for difference in &differences {
        writeln!(report, "{difference}").expect("writing to a string does not fail");
    }
    print(&report)?;
    let fine = differences.is_empty() && topology.missing_sources.is_empty();
    Ok(if fine { Exit::Success } else { Exit::Failed })
}

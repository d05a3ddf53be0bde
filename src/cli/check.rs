//! `blotter check`: are the settings fit to run? Touches nothing; `--probe` also asks the brokers.

use std::fmt::Write as _;

use clap::Args;

use super::exit::{Exit, Failure};
use super::{Common, print};
use crate::daemon::topics;
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
    if !arguments.probe {
        if !arguments.show {
            print("settings are valid; --probe asks the brokers too\n")?;
        }
        return Ok(Exit::Success);
    }
    let admin = topics::Admin::connect(&settings)?;
    let differences = topics::check(&admin, &settings)?;
    let mut report = format!("settings are valid; brokers answer at {}\n", settings.kafka.brokers.join(","));
    for difference in &differences {
        writeln!(report, "{difference}").expect("writing to a string does not fail");
    }
    print(&report)?;
    Ok(if differences.is_empty() { Exit::Success } else { Exit::Failed })
}

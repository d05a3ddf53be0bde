//! The commands, one file each. Arguments become settings, a command runs, its end becomes an
//! exit code.

use std::ffi::OsString;
use std::io::Write;
use std::panic::{catch_unwind, set_hook};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use nix::sys::resource::{Resource, setrlimit};

pub mod exit;

mod alerts;
mod audit;
mod check;
mod demo;
mod embedded;
mod explain;
mod field_path;
mod init;
mod keys;
mod pipe;
mod preview;
mod records;
mod redact;
mod reload;
mod run;
mod topics;

use crate::settings::load::{Loaded, Sources, load};
use exit::{Exit, Failure};

const HELP: &str = "\
blotter redacts, audits, measures and alerts on logs in Kafka, exactly once.

Usage: blotter COMMAND [OPTIONS]      (blotter COMMAND --help tells more)

Daemon     run      read topics; write redacted, audit, measures and alerts
           pipe     the same job on a file or stdin, without Kafka
           demo     a salon booking platform in a minute; needs no Kafka
Records    redact   redact stdin to stdout, one line one record
           explain  what each rule finds in a record
           preview  what the last records of a topic would lose, read-only
Settings   init     write a short settings file
           check    validate settings; --probe asks the brokers, --show prints
           topics   create, check or grow the topics
Trust      audit    verify the audit trail of a topic or a file
           keys     create, rotate or shred keys
           alerts   reset what a stopped partition of the alerts remembers

Options for every command:
  -c, --config FILE     settings file (repeatable, later ones win)
      --set KEY=VALUE   one setting, such as run.shards=2 (repeatable)
  -h, --help            this text
  -V, --version         the version
";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "blotter", version, override_help = HELP, disable_help_subcommand = true)]
struct CommandLine {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Default, Args)]
struct Common {
    /// Settings file; repeat it, later ones win
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Vec<PathBuf>,
    /// One setting, such as run.shards=2; repeat it
    #[arg(long = "set", value_name = "KEY=VALUE", global = true)]
    overrides: Vec<String>,
}

impl Common {
    /// Loads the settings, with a command's own flags on top.
    fn load(&self, flags: Vec<(String, String)>) -> Result<Loaded, Failure> {
        let environment = crate::settings::environment();
        let sources = Sources {
            files: self.config.clone(),
            environment,
            overrides: self.overrides.clone(),
            flags,
        };
        Ok(load(&sources)?)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read topics; write redacted, audit, measures and alerts
    Run(run::RunArguments),
    /// The same job on a file or stdin, without Kafka
    Pipe(pipe::PipeArguments),
    /// A salon booking platform in a minute
    Demo(demo::DemoArguments),
    /// Redact stdin to stdout, one line one record
    Redact(redact::RedactArguments),
    /// What each rule finds in a record
    Explain(explain::ExplainArguments),
    /// What the last records of a topic would lose
    Preview(preview::PreviewArguments),
    /// Write a short settings file
    Init(init::InitArguments),
    /// Validate settings
    Check(check::CheckArguments),
    /// Create, check or grow the topics
    Topics(topics::TopicsArguments),
    /// Verify the audit trail
    Audit(audit::AuditArguments),
    /// Create, rotate, shred or rewrap keys
    Keys(keys::KeysArguments),
    /// Reset what a stopped partition of the alerts remembers
    Alerts(alerts::AlertsArguments),
}

/// Runs the command line `arguments` (the program's name first) and says how it ended. Errors go
/// to stderr.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let line = match CommandLine::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) => {
            // Nothing is left to tell when the terminal is gone.
            let _gone = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Success };
        }
    };
    show_panics_without_content();
    forbid_core_dumps();
    let bug =
        |_| Err(Failure::new(Exit::Software, "a bug ended this command; please report its place"));
    match catch_unwind(|| dispatch(line)).unwrap_or_else(bug) {
        Ok(exit) => exit,
        Err(failure) => {
            let _gone = writeln!(std::io::stderr(), "blotter: {}", failure.message);
            failure.exit
        }
    }
}

/// The message of a panic may quote a record: only its place is told.
fn show_panics_without_content() {
    set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let _gone = writeln!(std::io::stderr(), "blotter: internal error at {place}");
    }));
}

/// A core dump would hold records as they were read.
fn forbid_core_dumps() {
    // Where even that is refused nothing can be done about it.
    let _refused = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}

fn dispatch(line: CommandLine) -> Result<Exit, Failure> {
    let common = line.common;
    match line.command {
        Command::Run(arguments) => run::run(&common, arguments),
        Command::Pipe(arguments) => pipe::run(&common, &arguments),
        Command::Demo(arguments) => demo::run(&common, &arguments),
        Command::Redact(arguments) => redact::run(&common, &arguments),
        Command::Explain(arguments) => explain::run(&common, &arguments),
        Command::Preview(arguments) => preview::run(&common, &arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Check(arguments) => check::run(&common, &arguments),
        Command::Topics(arguments) => topics::run(&common, &arguments),
        Command::Audit(arguments) => audit::run(&common, &arguments),
        Command::Keys(arguments) => keys::run(&common, &arguments),
        Command::Alerts(arguments) => alerts::run(&common, &arguments),
    }
}

/// Writes to stdout; a reader that has gone away ends the command quietly.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::io("stdout", &error))
        }
        _ => Ok(()),
    }
}

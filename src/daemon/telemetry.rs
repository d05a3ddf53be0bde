//! The daemon's own log: JSON or pretty lines on stderr, never record content.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How the own log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// For people.
    Pretty,
}

/// The filter can't be read.
#[derive(Debug, thiserror::Error)]
#[error("log filter: {0}")]
pub struct LogFilterError(#[from] tracing_subscriber::filter::ParseError);

/// Whether [`start`] takes `filter`.
///
/// # Errors
/// The filter can't be read.
pub fn check_filter(filter: &str) -> Result<(), LogFilterError> {
    Ok(EnvFilter::try_new(filter).map(drop)?)
}

/// Starts the own log for the whole process; a second call changes nothing.
///
/// # Errors
/// The filter can't be read.
pub fn start(format: LogFormat, filter: &str) -> Result<(), LogFilterError> {
    let filter = EnvFilter::try_new(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Pretty => false,
    };
    // Only a second call can fail, and the first one's log goes on.
    let _already = if json {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    } else {
        builder.with_target(false).try_init()
    };
    Ok(())
}

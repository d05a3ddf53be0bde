//! Every exit code and the failure that owns it (sysexits.h, BSD).

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Success = 0,
    /// Something shown or checked did not hold (demo, topics).
    Failed = 1,
    /// The command line is wrong.
    Usage = 64,
    /// The data are wrong: a broken audit chain, a partition that stopped.
    Data = 65,
    /// The brokers can't be reached or answer nothing.
    Unavailable = 69,
    /// A bug: a broken invariant.
    Software = 70,
    /// A file can't be read or written.
    Io = 74,
    /// Not authorized.
    Permission = 77,
    /// The settings are wrong, this slot's id is held by a newer process, or a partition was begun
    /// with another keyring.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command stopped: the code and one sentence for people.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened and what to do.
    pub message: String,
}

impl Failure {
    /// A failure with its code and sentence.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// A failed read or write of `what`.
    pub fn io(what: &str, error: &std::io::Error) -> Self {
        Self::new(Exit::Io, format!("{what}: {error}"))
    }
}

impl From<crate::settings::load::SettingsError> for Failure {
    fn from(error: crate::settings::load::SettingsError) -> Self {
        Self::new(Exit::Config, error.to_string())
    }
}

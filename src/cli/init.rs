//! `blotter init`: a settings file of at most 15 lines.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// File to write; it must not exist
    #[arg(default_value = "blotter.toml")]
    file: PathBuf,
}

const TEMPLATE: &str = r#"# blotter: what differs from the defaults (blotter check --show lists them all).
[kafka]
brokers = ["localhost:9092"]

[input]
topics = ["app.logs"]

[topics]
create = true            # or: blotter topics create
replication = 1          # production: 3
min_insync_replicas = 1  # production: 2

[redact]
regions = ["IN", "DE"]   # whose national phone formats count
"#;

pub(super) fn run(arguments: &InitArguments) -> Result<Exit, Failure> {
    let shown = arguments.file.display().to_string();
    let mut file =
        std::fs::File::create_new(&arguments.file).map_err(|error| Failure::io(&shown, &error))?;
    file.write_all(TEMPLATE.as_bytes()).map_err(|error| Failure::io(&shown, &error))?;
    let next = format!("wrote {shown}; next: blotter check --config {shown} --probe\n");
    std::io::stdout().write_all(next.as_bytes()).map_err(|error| Failure::io("stdout", &error))?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_short() {
        assert!(TEMPLATE.lines().count() <= 15);
    }
}

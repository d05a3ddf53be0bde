//! What the documents say about metrics, settings and exit codes is what the code has.

use blotter::pipeline::metric::METRICS;

fn readme() -> &'static str {
    include_str!("../../README.md")
}

#[test]
fn the_readme_lists_every_metric_with_its_help() {
    for row in METRICS {
        let line = readme().lines().find(|line| line.starts_with(&format!("| `{}` |", row.name)));
        let line = line.unwrap_or_else(|| panic!("README does not list {}", row.name));
        assert!(line.contains(row.help), "README says something else about {}: {line}", row.name);
        for label in row.labels {
            assert!(line.contains(label), "README misses the label {label} of {}", row.name);
        }
    }
}

#[test]
fn the_readme_tells_every_exit_code() {
    use blotter::cli::exit::Exit;
    for exit in [
        Exit::Success,
        Exit::Failed,
        Exit::Usage,
        Exit::Data,
        Exit::Unavailable,
        Exit::Software,
        Exit::Io,
        Exit::Permission,
        Exit::Config,
    ] {
        let code = exit as u8;
        assert!(readme().contains(&format!("\n| {code} |")), "README misses exit code {code}");
    }
}

#[test]
fn the_map_stays_short() {
    assert!(include_str!("../../ARCHITECTURE.md").lines().count() <= 200);
}

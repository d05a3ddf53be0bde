//! What deploy/ starts is what the binary takes: commands, settings and paths.

use std::collections::BTreeMap;

use crate::home::Home;

const UNIT: &str = include_str!("../../deploy/blotter.service");
const COMPOSE: &str = include_str!("../../deploy/compose.yaml");
const DOCKERFILE: &str = include_str!("../../deploy/Dockerfile");

/// `KEY=VALUE` words of the image that are settings.
fn settings_in_image() -> BTreeMap<String, String> {
    let words = DOCKERFILE.split_whitespace().filter(|word| word.starts_with("BLOTTER__"));
    let pairs = words.filter_map(|word| word.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// `KEY: VALUE` lines of the blotter service that are settings.
fn settings_in_compose() -> BTreeMap<String, String> {
    let lines = COMPOSE.lines().map(str::trim).filter(|line| line.starts_with("BLOTTER__"));
    lines
        .map(|line| {
            let (key, value) = line.split_once(": ").unwrap();
            (key.to_owned(), value.trim_matches('"').to_owned())
        })
        .collect()
}

fn value_of(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap_or_else(|| panic!("no {key}")).trim().to_owned()
}

/// The settings are taken, and each of them is in force.
fn assert_taken(settings: &BTreeMap<String, String>, arguments: &[&str]) {
    assert!(!settings.is_empty());
    let home = Home::new();
    home.write("blotter.toml", "[kafka]\nbrokers = [\"kafka:9092\"]\n");
    let output = home.command(arguments).envs(settings).output().unwrap();
    let ran = crate::home::ran(output);
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    for key in settings.keys() {
        assert!(ran.stdout.contains(&format!("# environment {key}\n")), "{key}: {}", ran.stdout);
    }
}

#[test]
fn the_unit_starts_what_the_binary_takes() {
    let pre = value_of(UNIT, "ExecStartPre=");
    let start = value_of(UNIT, "ExecStart=");
    let file = "/etc/blotter/blotter.toml";
    assert_eq!(pre, format!("/usr/bin/blotter check --config {file}"));
    assert_eq!(start, format!("/usr/bin/blotter run --config {file}"));
    // The same words with a file that is there; `run` gets as far as asking for a topic.
    let home = Home::new();
    home.write("blotter.toml", "[kafka]\nbrokers = [\"localhost:1\"]\n");
    for (line, exit) in [(pre, 0), (start, 78)] {
        let words: Vec<String> = line
            .split_whitespace()
            .skip(1)
            .map(|word| word.replace(file, "blotter.toml"))
            .collect();
        let ran = crate::home::ran(home.command(&words).output().unwrap());
        assert_eq!(ran.exit, exit, "{line}: {}", ran.stderr);
        assert!(exit == 0 || ran.stderr.contains("--input"), "{}", ran.stderr);
    }
    // systemd waits until the daemon has given up twice: draining, then ending at once.
    let wait_s: u32 = value_of(UNIT, "TimeoutStopSec=").parse().unwrap();
    assert!(wait_s * 1_000 > 2 * shutdown_timeout_ms(), "{wait_s}");
    assert!(UNIT.contains("ExecReload=/bin/kill -HUP $MAINPID"));
}

#[test]
fn the_units_user_reads_the_settings_and_owns_the_keys() {
    let user = value_of(UNIT, "User=");
    let made = UNIT.lines().find(|line| line.contains("useradd ")).unwrap();
    assert!(made.contains("--user-group") && made.ends_with(&format!(" {user}")), "{made}");
    // Credentials of a dynamic user would not change with the file, so a reload would do nothing.
    assert!(!UNIT.contains("\nDynamicUser=") && !UNIT.contains("\nLoadCredential="));
    let installed: Vec<&str> = UNIT
        .lines()
        .filter(|line| line.contains("install") && line.contains("/etc/blotter/"))
        .collect();
    assert_eq!(installed.len(), 2, "settings and a secret");
    for line in installed {
        assert!(line.contains(&format!("-m 640 -g {user} ")), "{line}");
    }
    // What the settings file says is in force: nothing in the unit goes over it.
    assert!(!UNIT.contains("BLOTTER__"));
    let home = Home::new();
    let folder = home.path("lib").join(value_of(UNIT, "StateDirectory="));
    let variable = value_of(UNIT, "Environment=").replace("%S", home.path("lib").to_str().unwrap());
    let (name, value) = variable.split_once('=').unwrap();
    let made = home.command(["keys", "create"]).env(name, value).output().unwrap();
    assert!(made.status.success() && folder.join("keyring.jsonl").exists(), "{made:?}");
}

#[test]
fn the_container_and_compose_files_start_what_the_binary_takes() {
    let image = settings_in_image();
    assert_taken(&image, &["check", "--show", "-c", "blotter.toml"]);
    let mut both = image.clone();
    both.extend(settings_in_compose());
    assert!(both.len() > image.len());
    assert_taken(&both, &["check", "--show"]);
    assert!(DOCKERFILE.contains("ENTRYPOINT [\"/usr/bin/blotter\"]\nCMD [\"run\"]"));
    // The keys outlive the container; the endpoint is the one that is published.
    let folder = &image["BLOTTER__KEYS__FOLDER"];
    assert!(COMPOSE.contains(&format!("volumes: [keys:{folder}]")));
    assert!(DOCKERFILE.contains(&format!("VOLUME {folder}")));
    let port = image["BLOTTER__HTTP__LISTEN"].rsplit(':').next().unwrap().to_owned();
    assert!(
        COMPOSE.contains(&format!(":{port}\"")) && DOCKERFILE.contains(&format!("EXPOSE {port}"))
    );
    let prometheus = include_str!("../../deploy/prometheus.yml");
    assert!(prometheus.contains(&format!("blotter:{port}")));
    let grace = COMPOSE.lines().find_map(|line| line.trim().strip_prefix("stop_grace_period: "));
    let grace_s: u32 = grace.unwrap().trim_end_matches('s').parse().unwrap();
    assert!(grace_s * 1_000 > 2 * shutdown_timeout_ms(), "{grace_s}");
    // What the image copies is there.
    for line in
        DOCKERFILE.lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from"))
    {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        for source in &words[..words.len() - 1] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
            assert!(path.exists(), "{line}");
        }
    }
}

fn shutdown_timeout_ms() -> u32 {
    let defaults = include_str!("../../config/default.toml");
    value_of(defaults, "shutdown_timeout_ms =").parse().unwrap()
}

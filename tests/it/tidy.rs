//! House rules that a compiler does not check: arrows between rooms, what the pure floor may not
//! name, lengths of files, dependencies of the pure floor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The rooms in the order in which data passes: a room may use those before it.
const ROOMS: [&str; 12] = [
    "limits", "record", "metric", "ingest", "redact", "audit", "measure", "alert", "step", "emit",
    "scrub", "watch",
];

/// What the pure floor may not name.
const FORBIDDEN_IN_PIPELINE: [&str; 14] = [
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "std::sync::Mutex",
    "SystemTime",
    "Instant",
    "tokio",
    "rdkafka",
    "prometheus::",
    "tracing",
    "println!",
    "rand::",
];

const FILE_LINES_MAX: usize = 500;

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} holds no source");
    found
}

/// The lines before the tests in the file itself, with their numbers; comments are left out.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    before_tests(text).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Tests in a file of their own (`mod tests;`) end nothing.
fn before_tests(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let next = text.lines().skip(1).chain([""]);
    text.lines()
        .zip(next)
        .enumerate()
        .take_while(|(_, (line, next))| {
            !(line.starts_with("#[cfg(test)]") && next.starts_with("mod ") && next.ends_with('{'))
        })
        .map(|(index, (line, _))| (index + 1, line))
}

fn room_of(path: &Path) -> Option<usize> {
    let inside = path.to_str()?.split("/src/pipeline/").nth(1)?;
    let name = inside.split('/').next()?.trim_end_matches(".rs");
    ROOMS.iter().position(|room| *room == name)
}

/// How many times `super` leads from a module's file to the pure floor.
fn depth_of(path: &Path) -> usize {
    let inside = path.to_str().and_then(|path| path.split("/src/pipeline/").nth(1));
    let folders = inside.unwrap_or_default().matches('/').count();
    if path.file_name().is_some_and(|name| name == "mod.rs") { folders } else { folders + 1 }
}

fn is_tests_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs" || name == "testing.rs")
}

#[test]
fn arrows_between_rooms_point_one_way() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src/pipeline") {
        let Some(own) = room_of(&path) else { continue };
        if is_tests_file(&path) {
            continue;
        }
        for (number, line) in code(&text) {
            for (room, name) in ROOMS.iter().enumerate().skip(own + 1) {
                let arrows = [
                    format!("pipeline::{name}::"),
                    format!("{}::{name}::", vec!["super"; depth_of(&path)].join("::")),
                ];
                if arrows.iter().any(|arrow| line.contains(arrow.as_str())) {
                    wrong.push(format!(
                        "{}:{number}: arrow back to {}",
                        path.display(),
                        ROOMS[room]
                    ));
                }
            }
            if line.contains("crate::daemon")
                || line.contains("crate::settings")
                || line.contains("crate::cli")
            {
                wrong.push(format!("{}:{number}: arrow out of the pure floor", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_daemon_does_not_know_the_commands() {
    for (path, text) in sources("src/daemon") {
        for (number, line) in code(&text) {
            assert!(!line.contains("crate::cli"), "{}:{number}: arrow to cli", path.display());
        }
    }
}

#[test]
fn the_pure_floor_names_no_clock_file_socket_or_client() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src/pipeline") {
        if is_tests_file(&path) {
            continue;
        }
        for (number, line) in code(&text) {
            for word in FORBIDDEN_IN_PIPELINE {
                if line.contains(word) {
                    wrong.push(format!("{}:{number}: {word}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_short() {
    let mut long = Vec::new();
    for folder in ["src", "benches"] {
        for (path, text) in sources(folder) {
            let generated = text.lines().take(5).any(|line| line.contains("Generated by"));
            let lines = before_tests(&text).count();
            if lines > FILE_LINES_MAX && !generated && !is_tests_file(&path) {
                long.push(format!("{}: {lines} lines", path.display()));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn nothing_is_left_unfinished_or_skipped() {
    let words = ["TODO", "FIXME", "XXX:", "todo!(", "unimplemented!(", concat!("#[ign", "ore")];
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for (path, text) in sources(folder) {
            if path.ends_with("tests/it/tidy.rs") {
                continue;
            }
            for (index, line) in text.lines().enumerate() {
                if words.iter().any(|word| line.contains(word)) {
                    found.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_pure_floor_depends_on_no_client_runtime_or_c() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--no-default-features", "--edges", "normal,build", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    for line in tree.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let refused =
            ["tokio", "rdkafka", "prometheus", "hyper", "config", "tracing", "cc", "cmake"];
        assert!(
            !refused.contains(&name) && !name.ends_with("-sys"),
            "the pure floor pulls in {name}"
        );
    }
}

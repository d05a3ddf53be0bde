//! `blotter keys rewrap` as a user runs it, alone and beside processes that have the keyring open.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;

use crate::daemon::{Daemon, Site};
use crate::home::{Home, Ran, ran};

const KEYRING: &str = "keyring.jsonl";
const ENCRYPTION_KEY: &str = "encryption.key";
const RECORD: &[u8] = br#"{"level":"info","tenant":"acme","user_id":"+919876543210"}
"#;

fn folder(home: &Home) -> std::path::PathBuf {
    home.path(".local/state/blotter")
}

fn token(home: &Home) -> String {
    let ran = home.pipe(&["pipe"], RECORD);
    assert_eq!(ran.exit, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("[phone:a:"), "{}", ran.stdout);
    ran.stdout
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

/// Runs `keys` with this key from the environment.
fn keys_with(home: &Home, key: &str, arguments: &[&str]) -> Ran {
    let mut command = home.command([&["keys"][..], arguments].concat());
    ran(command.env("BLOTTER__KEYS__ENCRYPTION_KEY", key).output().unwrap())
}

#[test]
fn tokens_stay_and_a_copy_of_the_old_keyring_opens_with_the_old_key_alone() {
    let home = Home::new();
    let folder = folder(&home);
    let before = token(&home);
    let (keyring, key) = (read(&folder, KEYRING), read(&folder, ENCRYPTION_KEY));
    let rewrapped = home.run(&["keys", "rewrap"]);
    assert_eq!(rewrapped.exit, 0, "{}", rewrapped.stderr);
    for word in [folder.to_str().unwrap(), "every other instance", "restart", "destroy"] {
        assert!(rewrapped.stdout.contains(word), "{word}: {}", rewrapped.stdout);
    }
    let new_key = read(&folder, ENCRYPTION_KEY);
    let told = format!("{}{}", rewrapped.stdout, rewrapped.stderr);
    assert!(key != new_key && !told.contains(key.trim()) && !told.contains(new_key.trim()));
    assert_eq!(token(&home), before);
    fs::write(folder.join(KEYRING), &keyring).unwrap();
    for command in ["create", "rewrap"] {
        let refused = home.run(&["keys", command]);
        assert_eq!(refused.exit, 78, "{}", refused.stderr);
        for name in [KEYRING, ENCRYPTION_KEY, "same copy"] {
            assert!(refused.stderr.contains(name), "{}", refused.stderr);
        }
    }
    fs::write(folder.join(ENCRYPTION_KEY), &key).unwrap();
    assert_eq!(token(&home), before);
}

#[test]
fn what_is_missing_is_named_and_nothing_is_made() {
    let home = Home::new();
    let folder = folder(&home);
    let refused = home.run(&["keys", "rewrap"]);
    assert_eq!(refused.exit, 78, "{}", refused.stderr);
    assert!(refused.stderr.contains(KEYRING) && refused.stderr.contains("keys.folder"));
    assert!(!folder.exists());
    token(&home);
    fs::remove_file(folder.join(ENCRYPTION_KEY)).unwrap();
    let refused = home.run(&["keys", "rewrap"]);
    assert_eq!(refused.exit, 78, "{}", refused.stderr);
    assert!(refused.stderr.contains(ENCRYPTION_KEY), "{}", refused.stderr);
    assert!(!folder.join(ENCRYPTION_KEY).exists() && !folder.join("encryption.new").exists());
}

#[test]
fn what_an_interruption_left_is_finished_by_the_next_start_or_by_doing_it_again() {
    let home = Home::new();
    let folder = folder(&home);
    let before = token(&home);
    let (keyring, key) = (read(&folder, KEYRING), read(&folder, ENCRYPTION_KEY));
    assert_eq!(home.run(&["keys", "rewrap"]).exit, 0);
    let (new_keyring, new_key) = (read(&folder, KEYRING), read(&folder, ENCRYPTION_KEY));
    for (keyring, left) in [(keyring, key.clone()), (new_keyring, new_key.clone())] {
        for is_done_again in [false, true] {
            fs::write(folder.join(KEYRING), &keyring).unwrap();
            fs::write(folder.join(ENCRYPTION_KEY), &key).unwrap();
            // The name that FORMAT.md tells; the rights of a key.
            fs::copy(folder.join(ENCRYPTION_KEY), folder.join("encryption.new")).unwrap();
            fs::write(folder.join("encryption.new"), &new_key).unwrap();
            if is_done_again {
                let again = home.run(&["keys", "rewrap"]);
                assert_eq!(again.exit, 0, "{}", again.stderr);
            }
            assert_eq!(token(&home), before);
            assert_eq!(read(&folder, ENCRYPTION_KEY) == *left, !is_done_again);
            let is_left = folder.join("encryption.new").exists();
            assert_eq!(is_left, *left == key && !is_done_again);
        }
    }
}

#[test]
fn a_key_from_the_settings_is_replaced_by_one_in_a_file() {
    let home = Home::new();
    let key = "5a".repeat(32);
    assert_eq!(keys_with(&home, &key, &["create"]).exit, 0);
    let keyring = read(&folder(&home), KEYRING);
    for (given, arguments) in [(key.as_str(), &["rewrap"][..]), ("", &["rewrap", "--to", "next"])] {
        let refused = keys_with(&home, given, arguments);
        assert_eq!(refused.exit, 64, "{}", refused.stderr);
        assert!(refused.stderr.contains("--to"), "{}", refused.stderr);
    }
    let wrong = keys_with(&home, &"0".repeat(64), &["rewrap", "--to", "next"]);
    assert_eq!(wrong.exit, 78, "{}", wrong.stderr);
    assert!(wrong.stderr.contains("keys.encryption_key"), "{}", wrong.stderr);
    assert!(!home.path("next").exists());
    assert_eq!(read(&folder(&home), KEYRING), keyring);
    for _ in 0..2 {
        let rewrapped = keys_with(&home, &key, &["rewrap", "--to", "next"]);
        assert_eq!(rewrapped.exit, 0, "{}", rewrapped.stderr);
        assert!(rewrapped.stdout.contains("set keys.encryption_key to the key in next"));
        assert!(!rewrapped.stdout.contains(read(&home.path(""), "next").trim()));
    }
    let old = keys_with(&home, &key, &["create"]);
    assert_eq!(old.exit, 78, "{}", old.stderr);
    assert!(old.stderr.contains("keys rewrap"), "{}", old.stderr);
    let file = home.write("blotter.toml", "[keys]\nencryption_key_file = \"next\"\n");
    let file = file.to_str().unwrap();
    assert_eq!(home.run(&["-c", file, "keys", "create"]).exit, 0);
    let same = home.run(&["-c", file, "keys", "rewrap", "--to", "next"]);
    assert_eq!(same.exit, 78, "{}", same.stderr);
    assert!(same.stderr.contains("next: holds the key of"), "{}", same.stderr);
}

#[test]
fn a_process_that_has_the_keyring_open_goes_on_with_the_same_tokens() {
    let home = Home::new();
    let before = token(&home);
    let mut child = home.command(["pipe"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..2 {
        stdin.write_all(RECORD).unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, before);
        assert_eq!(home.run(&["keys", "rewrap"]).exit, 0);
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_daemon_and_the_next_one_go_on_with_tokens_and_chain() {
    let site = Site::new(1);
    let rewrap = || {
        let folder = format!("keys.folder={}", site.keys_folder().display());
        let rewrapped = Home::new().run(&["--set", &folder, "keys", "rewrap"]);
        assert_eq!(rewrapped.exit, 0, "{}", rewrapped.stderr);
    };
    let first = Daemon::start(&site, &[]);
    first.feed(0, RECORD);
    first.redacted(0, 1);
    rewrap();
    first.feed(0, RECORD);
    first.redacted(0, 2);
    first.end();
    rewrap();
    let second = Daemon::start(&site, &[]);
    second.feed(0, RECORD);
    let values = second.redacted(0, 3).into_iter().map(|record| record.body.value.unwrap());
    let values: Vec<_> = values.collect();
    assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
    assert!(String::from_utf8_lossy(&values[0]).contains("[phone:a:"));
    second.audit(0);
    second.end();
}

//! Fetches the broker's jars with Maven, once, into `tests/kafka/.cache/libs`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where `tests/kafka` lies.
pub(crate) fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka")
}

/// The class path of the broker.
///
/// # Panics
/// When java or mvn is missing (with the command that installs them) or the download fails.
pub(crate) fn class_path() -> &'static str {
    static CLASS_PATH: OnceLock<String> = OnceLock::new();
    CLASS_PATH.get_or_init(|| {
        let libs = fetch();
        format!("{}/*", libs.display())
    })
}

fn fetch() -> PathBuf {
    demand("java", "-version");
    let cache = source_folder().join(".cache");
    fs::create_dir_all(&cache).expect("the cache folder can be made");
    let lock = File::create(cache.join("lock")).expect("the lock file can be made");
    lock.lock().expect("the lock file can be locked");
    let libs = cache.join("libs");
    let pom = source_folder().join("pom.xml");
    let wanted = fs::read_to_string(&pom).expect("pom.xml can be read");
    let stamp = cache.join("fetched-pom.xml");
    if fs::read_to_string(&stamp).is_ok_and(|fetched| fetched == wanted) {
        return libs;
    }
    demand("mvn", "-version");
    let outcome = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&pom)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", libs.display()))
        .output()
        .expect("mvn was found a moment ago");
    assert!(
        outcome.status.success(),
        "mvn could not fetch Apache Kafka:\n{}{}",
        String::from_utf8_lossy(&outcome.stdout),
        String::from_utf8_lossy(&outcome.stderr)
    );
    fs::write(&stamp, wanted).expect("the stamp can be written");
    libs
}

fn demand(program: &str, argument: &str) {
    let found = Command::new(program).arg(argument).output().is_ok_and(|out| out.status.success());
    assert!(
        found,
        "{program} is missing; the tests start a real Apache Kafka and need a Java 17+ and Maven: \
         tools/need kafka"
    );
}

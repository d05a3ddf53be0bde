//! Replays what fuzzing found, and a seed of each kind, through the checks of the fuzz targets.

#[path = "../../fuzz/checks.rs"]
mod checks;

use std::path::Path;

use crate::generator::{Random, structured};

type Check = fn(&[u8]);

const TARGETS: [(&str, Check); 4] = [
    ("scan", checks::scan),
    ("views", checks::views),
    ("email", checks::email),
    ("phone", checks::phone),
];

#[test]
fn inputs_that_once_failed_hold() {
    for (name, check) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions").join(name);
        let mut replayed = 0;
        for entry in std::fs::read_dir(&folder).expect("the folder is in the repository") {
            let path = entry.expect("the folder can be read").path();
            let input = std::fs::read(&path).expect("the file can be read");
            let held = std::panic::catch_unwind(|| check(&input));
            assert!(held.is_ok(), "{} fails", path.display());
            replayed += 1;
        }
        assert!(replayed > 0, "{} is empty", folder.display());
    }
}

/// The same checks without a fuzzer: pieces of generated lines and marks that matter, in any order.
#[test]
fn scrambled_lines_hold() {
    const MARKS: [&str; 16] = [
        "\\u00",
        "%",
        "&#",
        "=",
        "{\"",
        "\"}",
        "[",
        "\\",
        "@",
        "+",
        "\u{200B}",
        "\u{FF10}",
        "\n",
        "://",
        " at ",
        "order id ",
    ];
    for number in 0..crate::properties::cases() / 4 {
        let mut random = Random::new(number ^ 0xF0_2277);
        let mut input = vec![u8::try_from(random.below(256)).expect("below 256")];
        for _ in 0..1 + random.below(5) {
            let line = structured(random.next()).line();
            let (from, to) = (random.below(line.len()), random.below(line.len()));
            input.extend_from_slice(&line.as_bytes()[from.min(to)..from.max(to)]);
            input.extend_from_slice(random.pick(&MARKS).as_bytes());
        }
        for (name, check) in TARGETS {
            let held = std::panic::catch_unwind(|| check(&input));
            assert!(held.is_ok(), "{name}, case {number}: {}", String::from_utf8_lossy(&input));
        }
    }
}

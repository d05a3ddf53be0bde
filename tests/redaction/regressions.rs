//! Replays what fuzzing found, and a seed of each kind, through the checks of the fuzz targets.

#[path = "../../fuzz/checks.rs"]
mod checks;

use std::path::Path;

#[test]
fn inputs_that_once_failed_hold() {
    type Check = fn(&[u8]);
    let targets: [(&str, Check); 4] = [
        ("scan", checks::scan),
        ("views", checks::views),
        ("email", checks::email),
        ("phone", checks::phone),
    ];
    for (name, check) in targets {
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

//! Replays what fuzzing found, and a seed of each kind, through the checks of the fuzz targets.

#[path = "../../fuzz/checks.rs"]
mod checks;

use std::path::Path;

#[test]
fn inputs_that_once_failed_hold() {
    let targets: [(&str, fn(&[u8])); 4] = [
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
            println!("{}", path.display());
            check(&std::fs::read(&path).expect("the file can be read"));
            replayed += 1;
        }
        assert!(replayed > 0, "{} is empty", folder.display());
    }
}

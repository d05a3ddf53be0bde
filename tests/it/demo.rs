//! The demo as `make demo` runs it.

use crate::home::Home;

#[test]
fn the_demo_shows_the_whole_job_and_all_of_it_holds() {
    let home = Home::new();
    let ran = home.run(&["demo", "--out", "out"]);
    assert_eq!(ran.exit, 0, "{}{}", ran.stdout, ran.stderr);
    for shown in [
        "[email]",
        "\"k\":\"act\"",
        "INCIDENT",
        "KILL",
        "ALERT FIRING",
        "ALERT RESOLVED",
        "/metrics",
    ] {
        assert!(ran.stdout.contains(shown), "{shown} is not shown: {}", ran.stdout);
    }
    assert!(ran.stdout.contains("[ok]") && !ran.stdout.contains("[FAILED]"), "{}", ran.stdout);
}

#[test]
fn the_demo_takes_lines_of_ones_own() {
    let home = Home::new();
    let lines = "call me at +91 98765 43210\n{\"level\":\"ERROR\",\"to\":\"asha@example.com\"}\n";
    home.write("own.log", lines);
    let ran = home.run(&["demo", "--input", "own.log", "--out", "out"]);
    assert_eq!(ran.exit, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("2 lines of your own"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("[FAILED]"), "{}", ran.stdout);
}

//! The quality floors, measured on the labelled corpus (`BLOTTER_CORPUS`, else
//! `../shared/corpus`) with its own scorer.

use std::path::{Path, PathBuf};
use std::process::Command;

use blotter::pipeline::redact::Redactor;
use blotter::pipeline::redact::plan::Region;
use blotter::pipeline::redact::policy::{Policy, RawPolicy};
use serde_json::Value;

struct Corpus {
    folder: PathBuf,
    /// Region and line.
    lines: Vec<(Region, String)>,
}

impl Corpus {
    fn load() -> Self {
        let folder = std::env::var_os("BLOTTER_CORPUS").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
            PathBuf::from,
        );
        let path = folder.join("dev.jsonl");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("the corpus is needed to measure the floors: {}: {error}", path.display())
        });
        let lines = text
            .lines()
            .map(|line| {
                let record: Value = serde_json::from_str(line).expect("each line is JSON");
                let region = record["tenant_region"].as_str().and_then(Region::parse);
                let line = record["line"].as_str().expect("each record has a line").to_owned();
                (region.expect("each record names a region of the plans"), line)
            })
            .collect();
        Self { folder, lines }
    }

    /// Every line redacted, with its region or with none.
    fn redact(&self, strictness: &str, with_regions: bool) -> String {
        let mut redactors = std::collections::HashMap::new();
        let mut redacted = String::new();
        let mut out = Vec::new();
        for (region, line) in &self.lines {
            let redactor = redactors.entry(region.code()).or_insert_with(|| {
                let raw = RawPolicy {
                    regions: with_regions.then(|| vec![region.code().to_owned()]),
                    strictness: Some(strictness.to_owned()),
                    ..RawPolicy::default()
                };
                Redactor::new(Policy::new(&raw).expect("the policy is sound"))
            });
            redactor.redact(line.as_bytes(), &mut out);
            redacted.push_str(std::str::from_utf8(&out).expect("text stays text"));
            redacted.push('\n');
        }
        redacted
    }

    /// The scorer's table and its summary.
    fn score(&self, name: &str, redacted: &str) -> (String, Value) {
        // Kept, so that `score.py --errors` can be asked for details.
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&file, redacted).expect("the folder for test files can be written");
        let output = Command::new("python3")
            .arg(self.folder.join("score.py"))
            .arg(self.folder.join("dev.jsonl"))
            .arg(&file)
            .output()
            .expect("python3 runs the scorer");
        let table = String::from_utf8(output.stdout).expect("the scorer prints text");
        let summary = table.lines().last().unwrap_or_default();
        let summary = serde_json::from_str(summary).expect("the last line is a JSON summary");
        (table, summary)
    }
}

fn at_least(summary: &Value, figure: &str, floor: f64, table: &str) {
    let value = summary[figure].as_f64().expect("the summary has the figure");
    assert!(value >= floor, "{figure} is {value}, the floor {floor}\n{table}");
}

#[test]
fn balanced_keeps_its_floors() {
    let corpus = Corpus::load();
    let (table, summary) = corpus.score("redacted-balanced.txt", &corpus.redact("balanced", true));
    println!("{table}");
    at_least(&summary, "recall_email", 0.995, &table);
    at_least(&summary, "recall_phone", 0.99, &table);
    at_least(&summary, "precision", 0.99, &table);
    at_least(&summary, "json_ok", 1.0, &table);
    let wrong = summary["fp_lines_per_1000_negative"].as_f64().expect("a figure");
    assert!(wrong <= 2.0, "{wrong} wrong lines per 1,000\n{table}");
    for row in table.lines().filter(|row| row.starts_with("stretch_")) {
        let recall = row.split_whitespace().nth(3).and_then(|text| text.parse::<f64>().ok());
        assert!(recall.is_some_and(|recall| recall >= 90.0), "{row}");
    }
}

#[test]
fn strict_keeps_its_floors() {
    let corpus = Corpus::load();
    let (table, summary) = corpus.score("redacted-strict.txt", &corpus.redact("strict", true));
    println!("{table}");
    at_least(&summary, "recall_email", 0.997, &table);
    at_least(&summary, "recall_phone", 0.996, &table);
    at_least(&summary, "json_ok", 1.0, &table);
}

#[test]
fn without_a_region_nothing_is_redacted_in_error() {
    let corpus = Corpus::load();
    let redacted = corpus.redact("balanced", false);
    let (table, summary) = corpus.score("redacted-no-region.txt", &redacted);
    println!("{table}");
    at_least(&summary, "recall_email", 0.995, &table);
    at_least(&summary, "precision", 0.99, &table);
    let wrong = summary["fp_lines_per_1000_negative"].as_f64().expect("a figure");
    assert!(wrong <= 2.0, "{wrong} wrong lines per 1,000\n{table}");
}

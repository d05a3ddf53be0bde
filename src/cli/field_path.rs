//! Which field a finding stands in: the key path in JSON, the key in `key=value` text. One pass for
//! all findings of a record.

use std::ops::Range;

use crate::pipeline::redact::Finding;

/// Steps of a path that are shown: the innermost ones.
const STEPS_MAX: usize = 6;

/// Characters of a step that are shown.
const STEP_CHARS_MAX: usize = 40;

/// Stands for a key that is itself redacted.
const REDACTED_KEY: &str = "[key]";

/// The path of each finding (in order, not overlapping); empty outside of keyed text.
pub(super) fn field_paths(record: &[u8], findings: &[Finding]) -> Vec<String> {
    let spans: Vec<Range<usize>> = findings.iter().map(|one| one.start..one.end).collect();
    let mut walk = Walk { record, spans: &spans, frames: Vec::new(), word: None, paths: Vec::new() };
    walk.run();
    walk.paths
}

#[derive(Default)]
struct Frame {
    is_object: bool,
    expects_key: bool,
    key: Option<Range<usize>>,
}

struct Walk<'a> {
    record: &'a [u8],
    spans: &'a [Range<usize>],
    /// Open objects and arrays.
    frames: Vec<Frame>,
    /// The key in front of the value, outside of JSON.
    word: Option<Range<usize>>,
    paths: Vec<String>,
}

impl Walk<'_> {
    fn run(&mut self) {
        let mut at = 0;
        while self.paths.len() < self.spans.len() && at < self.record.len() {
            let end = if self.frames.is_empty() { self.text(at) } else { self.json(at) };
            while self.spans.get(self.paths.len()).is_some_and(|span| span.start < end) {
                self.paths.push(self.path());
            }
            at = end;
        }
        let rest = self.spans.len() - self.paths.len();
        self.paths.extend(std::iter::repeat_n(String::new(), rest));
    }

    /// Reads one piece of JSON and tells where it ends.
    fn json(&mut self, at: usize) -> usize {
        let frame = self.frames.last_mut().expect("called inside a document");
        match self.record[at] {
            b'{' | b'[' => self.open(at),
            b'}' | b']' => {
                self.frames.pop();
            }
            b',' => frame.expects_key = frame.is_object,
            b':' => frame.expects_key = false,
            b'"' => {
                let end = string_end(self.record, at);
                if frame.expects_key {
                    frame.key = Some(at + 1..end.saturating_sub(1).max(at + 1));
                }
                return end;
            }
            _ => {
                let rest = &self.record[at + 1..];
                let is_mark = |byte: &u8| b"{}[],:\"".contains(byte);
                return at + 1 + rest.iter().position(is_mark).unwrap_or(rest.len());
            }
        }
        at + 1
    }

    /// Reads one word of text and tells where it ends.
    fn text(&mut self, at: usize) -> usize {
        let rest = &self.record[at..];
        match rest[0] {
            b'{' | b'[' => {
                self.open(at);
                at + 1
            }
            b'"' => string_end(self.record, at),
            byte if byte.is_ascii_whitespace() => {
                self.word = None;
                at + 1
            }
            _ => {
                let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
                let name = rest.iter().position(|byte| !is_name(byte)).unwrap_or(rest.len());
                if self.word.is_none() && name > 0 && rest.get(name) == Some(&b'=') {
                    self.word = Some(at..at + name);
                    return at + name + 1;
                }
                let is_mark = |byte: &u8| byte.is_ascii_whitespace() || b"{[\"".contains(byte);
                at + rest[1..].iter().position(is_mark).map_or(rest.len(), |mark| mark + 1)
            }
        }
    }

    fn open(&mut self, at: usize) {
        let is_object = self.record[at] == b'{';
        self.frames.push(Frame { is_object, expects_key: is_object, key: None });
    }

    fn path(&self) -> String {
        let mut path = String::new();
        if let Some(word) = &self.word {
            path.push_str(&self.step(word));
        }
        let hidden = self.frames.len().saturating_sub(STEPS_MAX);
        if hidden > 0 {
            path.push_str("...");
        }
        for frame in &self.frames[hidden..] {
            match &frame.key {
                Some(key) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&self.step(key));
                }
                None if !frame.is_object => path.push_str("[]"),
                None => {}
            }
        }
        path
    }

    fn step(&self, key: &Range<usize>) -> String {
        let next = self.spans.partition_point(|span| span.end <= key.start);
        if self.spans.get(next).is_some_and(|span| span.start < key.end) {
            return REDACTED_KEY.to_owned();
        }
        let text = String::from_utf8_lossy(&self.record[key.clone()]);
        text.chars().filter(|character| !character.is_control()).take(STEP_CHARS_MAX).collect()
    }
}

/// One past the quote that closes the string that begins at `at`.
fn string_end(record: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', record.get(end..).unwrap_or_default()) {
        end += found + 1;
        if record[end - 1] == b'"' {
            return end;
        }
        end += 1;
    }
    record.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::redact::{Policy, Redactor};

    fn paths(record: &str) -> Vec<String> {
        let mut redactor = Redactor::new(Policy::default());
        redactor.redact(record.as_bytes(), &mut Vec::new());
        field_paths(record.as_bytes(), redactor.findings())
    }

    #[test]
    fn json_findings_have_their_key_path() {
        assert_eq!(
            paths(r#"{"a":{"phone":"+919876543210","x":[1,{"m":"z@example.com"}]},"b":"t"}"#),
            ["a.phone", "a.x[].m"]
        );
        assert_eq!(paths(r#"["a@example.com",["b@example.com"]]"#), ["[]", "[][]"]);
        assert_eq!(paths(r#"{"q\"}":"\"a@example.com"}"#), [r#"q\"}"#]);
    }

    #[test]
    fn text_findings_have_their_key() {
        assert_eq!(
            paths("level=info msg=\"mail a@example.com now\" to=b@example.com and c@example.com"),
            ["msg", "to", ""]
        );
        assert_eq!(paths("INFO sent {\"to\":\"a@example.com\"} b@example.com"), ["to", ""]);
    }

    #[test]
    fn a_key_that_is_redacted_is_not_shown() {
        let found = paths(r#"{"a@example.com":{"mail":"b@example.com"}}"#);
        assert_eq!(found, ["[key]", "[key].mail"]);
    }

    #[test]
    fn deep_records_take_linear_time() {
        let deep = format!("{}\"a@example.com\"", "{\"k\":".repeat(100_000));
        assert!(paths(&deep).iter().all(|path| path.len() < 100));
    }
}

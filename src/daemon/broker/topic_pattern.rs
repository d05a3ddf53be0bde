//! A pattern of topic names, once for our own matching and once, with the same meaning, for
//! librdkafka, which matches with the C library's regular expressions (POSIX extended).

use std::fmt;

use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

/// Most repetitions the C library must be able to count to (POSIX, `RE_DUP_MAX`); a topic name has
/// at most 249 characters.
const REPETITIONS_MAX: u32 = 255;

/// A regular expression (syntax of the crate `regex`) over the whole name of a topic.
#[derive(Clone)]
pub struct TopicPattern {
    regex: regex::Regex,
    posix: String,
}

/// Why a pattern can't choose topics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicPatternError {
    /// It is no regular expression; the text says where it breaks.
    #[error("{0}")]
    Syntax(String),
    /// It asks for a character that Kafka allows in no topic name.
    #[error("asks for a character that no topic name has (A-Z a-z 0-9 . _ -)")]
    ForeignCharacter,
    /// It asks for the edge of a word, which librdkafka can't.
    #[error("asks for the edge of a word, which the Kafka client can't match")]
    WordEdge,
    /// It counts further than the C library can.
    #[error("repeats something more than {REPETITIONS_MAX} times")]
    Repetitions,
}

impl TopicPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// See [`TopicPatternError`].
    pub fn new(text: &str) -> Result<Self, TopicPatternError> {
        let syntax = |error: &dyn fmt::Display| TopicPatternError::Syntax(error.to_string());
        let tree = regex_syntax::parse(text).map_err(|error| syntax(&error))?;
        let regex = regex::Regex::new(&format!("^(?:{text})$")).map_err(|error| syntax(&error))?;
        let mut posix = String::from("^(");
        write(&tree, &mut posix)?;
        posix.push_str(")$");
        Ok(Self { regex, posix })
    }

    /// Whether it matches the whole of `topic`.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        self.regex.is_match(topic)
    }

    /// The same pattern as an anchored POSIX extended regular expression; holds a comma only where
    /// the pattern counts.
    #[must_use]
    pub fn posix(&self) -> &str {
        &self.posix
    }
}

impl PartialEq for TopicPattern {
    fn eq(&self, other: &Self) -> bool {
        self.posix == other.posix
    }
}

impl Eq for TopicPattern {}

impl fmt::Debug for TopicPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.regex.as_str())
    }
}

/// Characters Kafka allows in a topic name; the hyphen last, where a bracket takes it as it is.
fn alphabet() -> impl Iterator<Item = char> {
    ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['.', '_', '-'])
}

/// Greed and captures have no meaning where the whole name must match: they are left out.
fn write(tree: &Hir, posix: &mut String) -> Result<(), TopicPatternError> {
    match tree.kind() {
        HirKind::Empty => posix.push_str("()"),
        HirKind::Literal(literal) => {
            for &byte in &literal.0 {
                one_of(&|own| own == char::from(byte), posix)?;
            }
        }
        HirKind::Class(Class::Unicode(class)) => {
            let holds =
                |own| class.iter().any(|range| (range.start()..=range.end()).contains(&own));
            one_of(&holds, posix)?;
        }
        HirKind::Class(Class::Bytes(class)) => {
            let within = |range: &regex_syntax::hir::ClassBytesRange, own| {
                (char::from(range.start())..=char::from(range.end())).contains(&own)
            };
            one_of(&|own| class.iter().any(|range| within(range, own)), posix)?;
        }
        HirKind::Look(Look::Start | Look::StartLF | Look::StartCRLF) => posix.push('^'),
        HirKind::Look(Look::End | Look::EndLF | Look::EndCRLF) => posix.push('$'),
        HirKind::Look(_) => return Err(TopicPatternError::WordEdge),
        HirKind::Repetition(Repetition { min, max, sub, .. }) => {
            if max.unwrap_or(*min).max(*min) > REPETITIONS_MAX {
                return Err(TopicPatternError::Repetitions);
            }
            group(std::slice::from_ref(&**sub), posix)?;
            match (min, max) {
                (0, None) => posix.push('*'),
                (1, None) => posix.push('+'),
                (0, Some(1)) => posix.push('?'),
                (min, None) => posix.push_str(&format!("{{{min},}}")),
                (min, Some(max)) => posix.push_str(&format!("{{{min},{max}}}")),
            }
        }
        HirKind::Capture(capture) => group(std::slice::from_ref(&*capture.sub), posix)?,
        HirKind::Concat(parts) => {
            for part in parts {
                write(part, posix)?;
            }
        }
        HirKind::Alternation(arms) => group(arms, posix)?,
    }
    Ok(())
}

fn group(arms: &[Hir], posix: &mut String) -> Result<(), TopicPatternError> {
    for (index, arm) in arms.iter().enumerate() {
        posix.push(if index == 0 { '(' } else { '|' });
        write(arm, posix)?;
    }
    posix.push(')');
    Ok(())
}

/// One character of those that `holds` takes.
fn one_of(holds: &dyn Fn(char) -> bool, posix: &mut String) -> Result<(), TopicPatternError> {
    let taken: String = alphabet().filter(|&own| holds(own)).collect();
    match taken.chars().count() {
        0 => return Err(TopicPatternError::ForeignCharacter),
        1 if taken == "." => posix.push_str("\\."),
        1 => posix.push_str(&taken),
        count if count == alphabet().count() => posix.push('.'),
        _ => posix.push_str(&format!("[{taken}]")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    const TOPICS: [&str; 14] = [
        "app.1",
        "app.12",
        "app1",
        "app.x",
        "APP.1",
        "a",
        "b",
        "ab",
        "a-b",
        "a_b",
        "logs.eu.app",
        "logs.de.app.redacted",
        "aaaa",
        "appa",
    ];

    /// What the C library's regular expressions match, which `grep -E` uses too.
    fn matched_by_c(posix: &str) -> Vec<String> {
        let mut grep = Command::new("grep")
            .args(["-E", "--", posix])
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        grep.stdin.take().unwrap().write_all(TOPICS.join("\n").as_bytes()).unwrap();
        let output = grep.wait_with_output().unwrap();
        assert!(output.status.code() < Some(2), "{posix} is refused");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_client_matches_what_we_match() {
        let patterns = [
            r"app\.\d+",
            "(?:a|b)",
            "(?i)app.*",
            r"app\.\d{1,2}",
            ".*",
            "a|b",
            "a|",
            "",
            "^a.*b$",
            r"\w+",
            "[^a]+",
            "[.-_a]+",
            r"logs\.(?P<region>\w{2})\.app",
            "a{4}",
            "a*?",
            "(a|b)+?",
            r"[[:alpha:]]+",
            "(^a)?b",
            r"a\-b",
            "a(?:pp)?(?:a|.1)",
            "(?m)^a$",
        ];
        for text in patterns {
            let pattern = TopicPattern::new(text).unwrap();
            let ours: Vec<_> = TOPICS.into_iter().filter(|topic| pattern.matches(topic)).collect();
            assert_eq!(matched_by_c(pattern.posix()), ours, "{text} as {}", pattern.posix());
        }
    }

    #[test]
    fn what_the_client_can_not_match_is_refused_with_the_reason() {
        let refused = [
            (r"app\b.*", TopicPatternError::WordEdge),
            ("app/.*", TopicPatternError::ForeignCharacter),
            ("app[ ]", TopicPatternError::ForeignCharacter),
            ("a{256}", TopicPatternError::Repetitions),
            ("a{256,}", TopicPatternError::Repetitions),
        ];
        for (text, error) in refused {
            assert_eq!(TopicPattern::new(text), Err(error), "{text}");
        }
        for text in ["a)|(b", "(", "(?x)a # b"] {
            let error = TopicPattern::new(text).expect_err(text);
            assert!(matches!(error, TopicPatternError::Syntax(_)), "{error:?}");
        }
    }
}

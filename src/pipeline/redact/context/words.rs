//! The words before and behind a number.

use super::{Cue, FieldClass, class_of_key, cue_of};
use crate::pipeline::redact::rules::Rule;

/// Words that may stand between a cue and its number.
const REACH_WORDS: usize = 6;
/// Words looked at in all, fillers included.
const TOKENS_MAX: usize = 14;
/// How far back words are looked for.
const LEAD_BYTES_MAX: usize = 192;
/// How far back an earlier message is searched for a question.
const QUESTION_BYTES_MAX: usize = 240;

fn is_word(byte: u8) -> bool {
    IS_WORD[usize::from(byte)]
}

/// Letters, digits, `_ ' -` and everything outside ASCII.
const IS_WORD: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'\'' | b'-');
        byte += 1;
    }
    table
};

/// What the words before `at` say of the number there.
pub(in crate::pipeline::redact) fn cue_before(text: &[u8], at: usize) -> Option<Rule> {
    let mut scan = Backward::new(&text[at.saturating_sub(LEAD_BYTES_MAX)..at]);
    for _ in 0..TOKENS_MAX {
        let Some(word) = scan.previous_word() else { break };
        match scan.judge(word) {
            Verdict::Rule(rule) => return Some(rule),
            Verdict::Stop => break,
            Verdict::Next => {}
        }
        if scan.words > REACH_WORDS {
            break;
        }
    }
    if scan.saw_number {
        Some(Rule::WordNumber)
    } else {
        scan.saw_person.then_some(Rule::WordPerson)
    }
}

/// How many bytes at the end of `text` match.
fn trailing(text: &[u8], matches: impl Fn(u8) -> bool) -> usize {
    text.iter().rposition(|byte| !matches(*byte)).map_or(text.len(), |at| text.len() - 1 - at)
}

enum Verdict {
    Rule(Rule),
    Next,
    Stop,
}

struct Backward<'t> {
    text: &'t [u8],
    at: usize,
    /// Words passed that say nothing.
    words: usize,
    saw_number: bool,
    saw_person: bool,
}

impl<'t> Backward<'t> {
    /// At the end of `text`.
    fn new(text: &'t [u8]) -> Self {
        Self { text, at: text.len(), words: 0, saw_number: false, saw_person: false }
    }

    fn previous_word(&mut self) -> Option<&'t [u8]> {
        let gap = trailing(&self.text[..self.at], |byte| !is_word(byte));
        let between = &self.text[self.at - gap..self.at];
        if self.words > 0 && ends_sentence(between) {
            return None;
        }
        let end = self.at - gap;
        let len = trailing(&self.text[end.saturating_sub(48)..end], is_word);
        self.at = end - len;
        (len > 0).then(|| &self.text[self.at..end])
    }

    fn judge(&mut self, word: &[u8]) -> Verdict {
        let is_tag = self.at > 0
            && (self.text[self.at - 1] == b'<' || self.text[..self.at].ends_with(b"</"));
        if is_tag {
            return Verdict::Next;
        }
        // A placeholder or token: the number of these words is gone already.
        let is_bracketed = self.at > 0 && self.text[self.at - 1] == b'[';
        if is_bracketed && matches!(self.text.get(self.at + word.len()), Some(b']' | b':')) {
            return Verdict::Stop;
        }
        // The name of another value: what is said of that one says nothing here.
        if self.text.get(self.at + word.len()) == Some(&b'=') {
            return Verdict::Stop;
        }
        if word.iter().all(u8::is_ascii_digit) {
            return if word.len() > 4 { Verdict::Stop } else { Verdict::Next };
        }
        match cue_of_token(word) {
            Some(Cue::Phone) if self.words <= 2 => Verdict::Rule(Rule::WordPhone),
            Some(Cue::Phone) => Verdict::Rule(Rule::WordPhoneFar),
            Some(Cue::Reach | Cue::Own) if self.saw_number => Verdict::Rule(Rule::WordPhone),
            Some(Cue::Reach) if self.words <= 3 => Verdict::Rule(Rule::WordReach),
            Some(Cue::Own) if self.words == 0 => Verdict::Rule(Rule::WordNumber),
            Some(Cue::Negative) if self.words == 0 => Verdict::Rule(Rule::WordNegative),
            Some(Cue::Number) if self.words == 0 => {
                self.saw_number = true;
                Verdict::Next
            }
            Some(Cue::Person) => {
                self.saw_person |= self.words == 0;
                Verdict::Next
            }
            Some(Cue::Filler) => Verdict::Next,
            _ => {
                self.words += 1;
                Verdict::Next
            }
        }
    }
}

/// A token as a word, or as an identifier (`contact_number`), or by its last part (`e-tel`).
fn cue_of_token(word: &[u8]) -> Option<Cue> {
    let word = word.strip_suffix(b"-").unwrap_or(word);
    if let Some(cue) = cue_of(word) {
        return Some(cue);
    }
    if word.contains(&b'_') {
        return match class_of_key(word) {
            FieldClass::Phone => Some(Cue::Phone),
            FieldClass::Negative => Some(Cue::Negative),
            _ => None,
        };
    }
    let digits = word.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > 0 {
        return cue_of(&word[..word.len() - digits]);
    }
    None
}

/// Whether a sentence or a member of a structure ends in `between`.
fn ends_sentence(between: &[u8]) -> bool {
    between.iter().enumerate().any(|(index, byte)| match byte {
        b'!' | b'?' | b'\n' | b'{' | b'}' | b';' | b'|' => true,
        b'.' => between.get(index + 1).is_none_or(|next| *next == b' '),
        _ => false,
    })
}

/// What the words behind `at` say of the number before it.
pub(in crate::pipeline::redact) fn cue_behind(text: &[u8], at: usize) -> Option<Rule> {
    // An apostrophe is part of words; here it closes the value.
    let mut at = at + usize::from(text.get(at) == Some(&b'\''));
    let mut saw_own = false;
    for index in 0..5 {
        let gap = text[at..].iter().take(4).take_while(|byte| !is_word(**byte)).count();
        let between = &text[at..at + gap];
        if gap > 3 || between.iter().any(|byte| !matches!(byte, b' ' | b')' | b'"' | b'\'')) {
            return None;
        }
        at += gap;
        let len = text[at..].iter().take(48).take_while(|byte| is_word(**byte)).count();
        let word = &text[at..at + len];
        at += len;
        match cue_of(word) {
            Some(Cue::Phone) => return Some(Rule::WordBehind),
            Some(Cue::Reach) if index > 0 || gap > 0 => return Some(Rule::WordBehind),
            Some(Cue::Number) if saw_own => return Some(Rule::WordBehind),
            Some(Cue::Own) => saw_own = true,
            Some(Cue::Unit) if index == 0 && gap <= 1 => return Some(Rule::Unit),
            Some(Cue::Negative) => return None,
            _ if len == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Whether the end of `lead` (what was said before this message) asks for a phone number.
pub(in crate::pipeline::redact) fn is_asked(lead: &[u8]) -> bool {
    let from = lead.len().saturating_sub(QUESTION_BYTES_MAX);
    let mut scan = Backward::new(&lead[from..]);
    loop {
        // The words of a question are sought one by one; sentences do not matter here.
        scan.words = 0;
        let Some(word) = scan.previous_word() else { return false };
        let behind = &scan.text[scan.at + word.len()..];
        let is_key = trim_quotes(behind).first() == Some(&b':');
        match cue_of(word) {
            Some(Cue::Phone) if !is_key => return true,
            Some(Cue::Email) if !is_key => return false,
            _ => {}
        }
    }
}

fn trim_quotes(text: &[u8]) -> &[u8] {
    let quotes = text.iter().take_while(|byte| matches!(byte, b'"' | b'\\' | b' ')).count();
    &text[quotes..]
}

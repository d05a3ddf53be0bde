//! The evidence for and against groups of digits being a phone number.

use super::marks::{
    ends_with_ignore_case, exit_code_len, extension_end, first_plus, glued_word, is_currency_end,
    is_currency_start, is_messenger_device,
};
use super::run::{Link, Run};
use super::{Candidate, DIGITS_MAX, DIGITS_MIN, PERSON_DIGITS_MIN, Place, shape};
use crate::pipeline::redact::context::{
    Cue, FieldClass, column_field, cue_before, cue_behind, cue_of, headed_field, header_of,
    is_asked, is_beside_person, local_field,
};
use crate::pipeline::redact::plan::{self, NumberType, Region};
use crate::pipeline::redact::rules::{Rule, Score};

/// More letters than these make a text prose, whatever its field is called.
const FIELD_LETTERS_MAX: usize = 24;
/// Marks of an id that say nothing against a plus and a valid number: `/otp/+919876543210/verify`,
/// `sms_+919876543210.json`. Ids have no plus.
const IDLE_BESIDE_PLUS: [Rule; 3] = [Rule::PathSegment, Rule::JoinedBefore, Rule::GluedBefore];

/// A text and what is known of it as a whole.
pub(super) struct Source<'a> {
    text: &'a [u8],
    place: &'a Place<'a>,
    /// The place's field, unless the text is prose.
    field: FieldClass,
    /// Whether values may stand in a list whose columns are named.
    has_columns: bool,
    /// The first line, where it names the columns of the others.
    header: Option<&'a [u8]>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a [u8], place: &'a Place<'a>) -> Self {
        let letters = text.iter().filter(|byte| byte.is_ascii_alphabetic());
        let is_prose = letters.take(FIELD_LETTERS_MAX + 1).count() > FIELD_LETTERS_MAX;
        let field = if is_prose { FieldClass::None } else { place.field };
        let has_columns = is_prose
            && memchr::memchr_iter(b'(', text).take(64).any(|open| {
                let before = text[..open].trim_ascii_end();
                before.ends_with(b"=")
                    || ends_with_ignore_case(before, b"values")
                    || ends_with_ignore_case(before, b" in")
            });
        Self { text, place, field, has_columns, header: header_of(text) }
    }
}

/// What is known of one run in one text.
pub(super) struct Evidence<'a> {
    text: &'a [u8],
    place: &'a Place<'a>,
    source: &'a Source<'a>,
    pub(super) run: &'a Run,
}

/// What stands before a group.
#[derive(Clone, Copy)]
pub(super) struct Before {
    score: Score,
    /// What stands right before it says.
    neighbour: Option<Rule>,
    plus: bool,
    /// A field or word that says phone: shapes no longer speak against it.
    is_named: bool,
    /// A field that says person.
    is_person: bool,
}

impl<'a> Evidence<'a> {
    pub(super) fn new(source: &'a Source<'a>, run: &'a Run) -> Self {
        Self { text: source.text, place: source.place, source, run }
    }

    /// What stands before group `start`: its field, the words, the neighbour.
    pub(super) fn before(&self, start: usize) -> Before {
        let at = self.run.groups[start].start;
        let plus = self.has_plus(start);
        let mut score = Score::default();
        let field = self.field(at);
        let named = field == FieldClass::Phone;
        add_field(field, plus, &mut score);
        if !named {
            self.add_words(at, plus, &mut score);
        }
        if let Link::Sign(_) = self.run.groups[start].link {
            score.add(Rule::DigitsBefore);
        }
        let neighbour = self.neighbour_before(start, plus);
        let is_named = named
            || [Rule::WordPhone, Rule::WordPhoneFar, Rule::Scheme]
                .iter()
                .any(|rule| score.has(*rule) || neighbour == Some(*rule));
        Before { score, neighbour, plus, is_named, is_person: field == FieldClass::Person }
    }

    /// The whole evidence on the groups `start..=end`.
    pub(super) fn score(&self, before: Before, start: usize, end: usize) -> Score {
        let mut score = before.score;
        self.add_plan(before, start, end, &mut score);
        if let Some(rule) = before.neighbour
            && !(score.has(Rule::PlusValid) && IDLE_BESIDE_PLUS.contains(&rule))
        {
            score.add(rule);
        }
        self.add_shape(before, start, end, &mut score);
        self.add_neighbour_behind(start, end, before, &mut score);
        score
    }

    /// The same with what lies farther around: words behind, neighbours in a row, a question before.
    pub(super) fn with_surroundings(&self, mut score: Score, start: usize, end: usize) -> Score {
        let (first, last) = (self.run.groups[start].start, self.run.groups[end].end);
        let decided = [
            Rule::FieldPhone,
            Rule::FieldNegative,
            Rule::WordPhone,
            Rule::WordPhoneFar,
            Rule::WordNegative,
            Rule::Scheme,
        ];
        if decided.iter().any(|rule| score.has(*rule)) {
            return score;
        }
        let is_all = self.text.len() == last - first;
        if self.place.is_identity && is_all && score.has(Rule::BareHome) {
            score.add(Rule::IdentityNumber);
        }
        // With a calling code the number speaks for itself: no amount is written so.
        match cue_behind(self.text, last) {
            Some(Rule::Unit) if score.has(Rule::PlusValid) => {}
            Some(rule) => score.add(rule),
            None => {}
        }
        if self.is_beside_person(first, last) {
            score.add(Rule::RowNeighbour);
        }
        if self.is_answer(first, last) {
            score.add(Rule::Asked);
        }
        score
    }

    /// The candidate made of the groups `start..=end`, with its brackets, plus and extension.
    pub(super) fn candidate(&self, start: usize, end: usize, score: Score) -> Candidate {
        let text = self.text;
        let mut first = self.run.groups[start].start;
        let mut last = self.run.groups[end].end;
        if self.has_plus(start) {
            first = first_plus(text, first);
        }
        let inside = &text[first..last];
        let opens = inside.iter().filter(|byte| **byte == b'(').count();
        let closes = inside.iter().filter(|byte| **byte == b')').count();
        if closes > opens && first > 0 && text[first - 1] == b'(' {
            first -= 1;
        }
        last = extension_end(text, last);
        let mut digits = [0; DIGITS_MAX];
        let own = self.run.digits(start, end);
        digits[..own.len()].copy_from_slice(own);
        let exit_code = [Rule::ExitCodeValid, Rule::ExitCodePossible].iter().any(|r| score.has(*r));
        let skip = if exit_code { exit_code_len(own) } else { 0 };
        let plus = [Rule::PlusValid, Rule::PlusPossible].iter().any(|rule| score.has(*rule));
        Candidate {
            start: first,
            end: last,
            digits,
            len: u8::try_from(own.len()).expect("at most DIGITS_MAX digits"),
            skip,
            international: plus || exit_code || score.has(Rule::BareInternational),
            score,
        }
    }

    fn has_plus(&self, start: usize) -> bool {
        let at = first_plus(self.text, self.run.groups[start].start);
        if self.text.get(at) != Some(&b'+') {
            return false;
        }
        // A sum, a time zone: no sign of a country.
        at.checked_sub(1).is_none_or(|before| !self.text[before].is_ascii_alphanumeric())
    }

    /// What the names around the digit at `at` say.
    fn field(&self, at: usize) -> FieldClass {
        let column = || self.source.has_columns.then(|| column_field(self.text, at)).flatten();
        let headed = || headed_field(self.text, self.source.header?, at);
        let local = local_field(self.text, at).or_else(column).or_else(headed);
        local.unwrap_or(self.source.field)
    }

    fn add_words(&self, at: usize, plus: bool, score: &mut Score) {
        if score.has(Rule::FieldNegative) {
            return;
        }
        match cue_before(self.text, at) {
            // With a calling code the number speaks for itself.
            Some(Rule::WordNegative) if plus => {}
            Some(rule) => score.add(rule),
            None => {}
        }
    }

    /// What stands right before group `start` says.
    fn neighbour_before(&self, start: usize, plus: bool) -> Option<Rule> {
        let group = self.run.groups[start];
        let text = self.text;
        let at = if plus { first_plus(text, group.start) } else { group.start };
        let before = text[..at].strip_suffix(b"(").unwrap_or(&text[..at]);
        if [&b"wa.me/"[..], b"SIP/", b"sip:", b"tel:", b"sms:", b"phone=", b"/tel/", b"callto:"]
            .iter()
            .any(|scheme| ends_with_ignore_case(before, scheme))
        {
            return Some(Rule::Scheme);
        }
        let &last = before.last()?;
        let joined_word = || {
            let letters = before[..before.len() - 1].iter().rev().take(24);
            let len = letters.take_while(|byte| byte.is_ascii_alphabetic()).count();
            &before[before.len() - 1 - len..before.len() - 1]
        };
        match last {
            _ if group.link != Link::None => None,
            b'_' => (!self.is_messenger_id()).then_some(Rule::GluedBefore),
            byte if byte.is_ascii_alphanumeric() => match glued_word(before) {
                Some(Cue::Phone) => Some(Rule::WordPhone),
                _ => Some(Rule::GluedBefore),
            },
            byte if byte >= 0x80 && is_currency_end(before) => Some(Rule::Amount),
            b'$' => Some(Rule::Amount),
            b'#' => Some(Rule::NumberShapeLoose),
            b'/' | b'\\' => Some(Rule::PathSegment),
            b'-' | b'.' => match joined_word() {
                [] => None,
                word if cue_of(word) == Some(Cue::Phone) => Some(Rule::WordPhone),
                word if last == b'.' && cue_of(word).is_some() => None,
                _ => Some(Rule::JoinedBefore),
            },
            _ => None,
        }
    }

    /// What the numbering plans say.
    fn add_plan(&self, before: Before, start: usize, end: usize, score: &mut Score) {
        let digits = self.run.digits(start, end);
        if before.plus {
            score.add(if plan::match_international(digits).is_some() {
                Rule::PlusValid
            } else if plan::possible_international(digits).is_some() {
                Rule::PlusPossible
            } else {
                Rule::PlusOther
            });
            return;
        }
        let exit_code = exit_code_len(digits);
        if exit_code > 0 && digits.len() > 8 {
            let behind = &digits[usize::from(exit_code)..];
            if plan::match_international(behind).is_some() {
                return score.add(Rule::ExitCodeValid);
            }
            if exit_code == 2 && plan::possible_international(behind).is_some() {
                return score.add(Rule::ExitCodePossible);
            }
        }
        self.add_national(before, digits, (start, end), score);
        if score.has(Rule::NationalGrouped) {
            return;
        }
        if digits.len() >= 10
            && let Some(found) = plan::match_international(digits)
        {
            let is_home = |code| self.place.regions.iter().any(|r| r.calling_code() == code);
            let code = plan::possible_international(digits);
            if !score.has(Rule::NationalValid) && !score.has(Rule::NationalSpecial) {
                score.add(Rule::BareInternational);
            }
            if code.is_some_and(is_home) && digits.len() > 10 {
                score.add(Rule::BareHome);
                if before.is_person && found.number_type == NumberType::Mobile {
                    score.add(Rule::PersonMobile);
                }
            }
        }
    }

    fn add_national(
        &self,
        before: Before,
        digits: &[u8],
        (start, end): (usize, usize),
        score: &mut Score,
    ) {
        let mut groups = [0; super::run::GROUPS_MAX];
        for (len, group) in groups.iter_mut().zip(&self.run.groups[start..=end]) {
            *len = group.len();
        }
        let groups = &groups[..=end - start];
        // The best of all regions counts, not their sum.
        let mut best: Option<National> = None;
        for &region in self.place.regions {
            let found = national(region, digits, groups);
            best = std::cmp::max_by_key(best, found, |found| {
                found.map(|found| (found.rule.weight(), found.has_trunk, found.is_mobile))
            });
            if best.is_some_and(|best| best.rule == Rule::NationalGrouped) {
                break;
            }
        }
        let Some(National { rule, has_trunk, is_mobile }) = best else { return };
        score.add(rule);
        if has_trunk {
            score.add(Rule::NationalTrunk);
        }
        if before.is_person && is_mobile && digits.len() >= PERSON_DIGITS_MIN {
            score.add(Rule::PersonMobile);
        }
    }

    /// What the digits alone look like.
    fn add_shape(&self, before: Before, start: usize, end: usize, score: &mut Score) {
        if before.plus || before.is_named {
            return;
        }
        let digits = self.run.digits(start, end);
        let groups = &self.run.groups[start..=end];
        if let [group] = groups {
            if shape::is_epoch(digits) || shape::is_compact_stamp(digits) {
                score.add(Rule::Epoch);
            }
            debug_assert_eq!(group.len(), digits.len());
            return;
        }
        let is_in_brackets = self.text[..groups[0].start].ends_with(b"(")
            && self.text.get(groups[0].end) == Some(&b')');
        if is_in_brackets && digits[0] == b'0' && score.has(Rule::NationalGrouped) {
            score.add(Rule::AreaInBrackets);
        }
        let dots = groups[1..].iter().filter(|group| group.link == Link::Sign(b'.')).count();
        if groups.len() == 2 && dots == 1 && (digits[0] != b'0' || groups[0].len() == 1) {
            score.add(Rule::Decimal);
        }
        if dots >= 2 && groups[1..].iter().any(|group| group.len() == 1) {
            score.add(Rule::Version);
        }
        let is_valid = [Rule::NationalGrouped, Rule::NationalValid, Rule::ExitCodeValid];
        if !is_valid.iter().any(|rule| score.has(*rule)) {
            score.add(Rule::NumberShapeLoose);
        }
    }

    fn add_neighbour_behind(&self, start: usize, end: usize, before: Before, score: &mut Score) {
        let at = self.run.groups[end].end;
        let plus_valid = score.has(Rule::PlusValid);
        if let Some(next) = self.run.groups.get(end + 1) {
            match next.link {
                // `+919876543210-1790000000`: another number, not the rest of this one.
                Link::Sign(_) if plus_valid && start == end && next.len() >= DIGITS_MIN => {}
                Link::Sign(_) => score.add(Rule::DigitsBehind),
                Link::Space if next.blocked => {}
                Link::Space if !before.is_named && !before.plus => {
                    score.add(Rule::NumberShapeLoose);
                }
                _ => {}
            }
            return;
        }
        let behind = &self.text[at..];
        let Some(&next) = behind.first() else { return };
        match next {
            b'@' => self.add_user_at(start, end, &behind[1..], score),
            b':' if is_messenger_device(behind) => score.add(Rule::MessengerId),
            b'_' if plus_valid => {}
            b'_' => score.add(Rule::GluedBehind),
            byte if byte.is_ascii_alphabetic() && extension_end(self.text, at) == at => {
                score.add(Rule::GluedBehind);
            }
            b'%' | b'$' => score.add(Rule::Amount),
            byte if byte >= 0x80 && is_currency_start(behind) => score.add(Rule::Amount),
            b'-' | b'.' | b'/' if plus_valid => {}
            b'-' | b'.' if behind.get(1).is_some_and(u8::is_ascii_alphanumeric) => {
                score.add(Rule::JoinedBehind);
            }
            b'/' if !before.is_named => score.add(Rule::PathSegment),
            _ => {}
        }
    }

    /// `digits@host`: the id of a messenger, a payment address, a SIP user.
    fn add_user_at(&self, start: usize, end: usize, host: &[u8], score: &mut Score) {
        const MESSENGERS: [&[u8]; 4] = [b"s.whatsapp.net", b"c.us", b"whatsapp.net", b"broadcast"];
        let len = host.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'.').count();
        let host = &host[..len];
        let is_messenger = MESSENGERS.iter().any(|known| {
            host.len() >= known.len() && host[..known.len()].eq_ignore_ascii_case(known)
        });
        if is_messenger {
            return score.add(Rule::MessengerId);
        }
        let digits = self.run.digits(start, end);
        let is_handle = !host.is_empty() && host.iter().all(u8::is_ascii_alphanumeric);
        let is_indian_mobile = digits.len() == 10 && digits[0] >= b'6';
        let is_numeric_host = host.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
        if is_handle && !is_numeric_host && (is_indian_mobile || digits.len() == 12) {
            score.add(Rule::PaymentId);
        } else if score.has(Rule::Scheme) {
            score.add(Rule::SipUser);
        } else {
            score.add(Rule::Hostlike);
        }
    }

    /// Whether the run is followed by the host of a messenger: `true_919..@c.us`.
    fn is_messenger_id(&self) -> bool {
        let behind = &self.text[self.run.groups.last().expect("runs are not empty").end..];
        [&b"@c.us"[..], b"@s.whatsapp.net"].iter().any(|host| behind.starts_with(host))
    }

    fn is_beside_person(&self, first: usize, last: usize) -> bool {
        if is_beside_person(self.text, first, last) {
            return true;
        }
        let fills = self.text[..first].iter().all(|b| matches!(b, b'+' | b'(' | b' '))
            && self.text[last..].trim_ascii().is_empty();
        let is_plain = matches!(self.place.field, FieldClass::None | FieldClass::Generic);
        match self.place.outer {
            Some((outer, start, end)) if fills && is_plain => is_beside_person(outer, start, end),
            _ => false,
        }
    }

    /// Whether the text is little more than the number, and the message before asked for one.
    fn is_answer(&self, first: usize, last: usize) -> bool {
        let Some((outer, start, _)) = self.place.outer else { return false };
        let others = self.text.len() - (last - first);
        others <= FIELD_LETTERS_MAX
            && matches!(self.place.field, FieldClass::Text | FieldClass::None)
            && is_asked(&outer[..start])
    }
}

fn add_field(field: FieldClass, plus: bool, score: &mut Score) {
    match field {
        FieldClass::Phone => score.add(Rule::FieldPhone),
        FieldClass::Contact => score.add(Rule::FieldContact),
        FieldClass::Negative | FieldClass::MessageId if !plus => score.add(Rule::FieldNegative),
        FieldClass::Email => score.add(Rule::FieldMail),
        FieldClass::Other if !plus => score.add(Rule::FieldUnknown),
        _ => {}
    }
}

/// What the plan of one region says.
#[derive(Clone, Copy)]
struct National {
    rule: Rule,
    /// A trunk prefix was dialled.
    has_trunk: bool,
    is_mobile: bool,
}

fn national(region: Region, digits: &[u8], groups: &[usize]) -> Option<National> {
    let Some(found) = plan::match_national(region, digits) else {
        let rule = Rule::NationalPossible;
        return plan::possible_national(region, digits).then_some(National {
            rule,
            has_trunk: false,
            is_mobile: false,
        });
    };
    let is_mobile = found.number_type == NumberType::Mobile;
    if groups.len() > 1 && plan::grouping_fits(region, groups) {
        return Some(National { rule: Rule::NationalGrouped, has_trunk: false, is_mobile });
    }
    let is_personal = !matches!(found.number_type, NumberType::Other);
    let rule = if is_personal { Rule::NationalValid } else { Rule::NationalSpecial };
    Some(National { rule, has_trunk: found.national_start > 0, is_mobile })
}

//! E-mail addresses in text: RFC 5321 and RFC 6531 mailboxes around each `@`, and the forms in
//! which people hide them ("name at gmail dot com").

mod edge;
mod obfuscated;
mod suffix;

use memchr::{memchr, memchr_iter};

use super::context::{Cue, FieldClass, class_of_key, cue_of, local_field};
use super::rules::{Rule, Score};
use crate::pipeline::limits::{EMAIL_DOMAIN_BYTES_MAX, EMAIL_LOCAL_BYTES_MAX};
use suffix::Suffix;

pub(super) use obfuscated::{find_obfuscated, is_written_sign};

/// Something that may be an e-mail address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    /// First byte in the text.
    pub(super) start: usize,
    /// One past the last byte in the text.
    pub(super) end: usize,
    /// The evidence.
    pub(super) score: Score,
}

/// What is looked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// What the names around the text say it holds.
    pub(super) field: FieldClass,
    /// What cannot come to this score is weighed no further.
    pub(super) threshold: i16,
    /// Whatever is glued to an `@` is taken already.
    pub(super) is_glued_taken: bool,
}

/// Hands every candidate in `text`, in order, to `found`, and some that are below the threshold. Ends
/// at the first error.
pub(super) fn find<E>(
    text: &[u8],
    wanted: Wanted,
    mut found: impl FnMut(Address) -> Result<(), E>,
) -> Result<(), E> {
    let mut from = 0;
    for at in memchr_iter(b'@', text) {
        if at < from || wanted.is_glued_taken && is_glued(text, at) {
            continue;
        }
        if let Some(address) = read_address(text, from, at, wanted) {
            from = address.end;
            found(address)?;
        }
    }
    Ok(())
}

/// Whether no address around the `@` at `at` can reach beyond what is glued to it: none with a quoted
/// local part, an address literal, or braces.
fn is_glued(text: &[u8], at: usize) -> bool {
    let before = text[at.saturating_sub(EMAIL_LOCAL_BYTES_MAX)..at].iter().rev();
    before.clone().next() != Some(&b'"')
        && text.get(at + 1) != Some(&b'[')
        && !before
            .take_while(|byte| is_local_byte(**byte))
            .any(|byte| matches!(byte, b'{' | b'|' | b'}'))
}

fn read_address(text: &[u8], from: usize, at: usize, wanted: Wanted) -> Option<Address> {
    let next = *text.get(at + 1)?;
    if !next.is_ascii_alphanumeric() && next != b'[' && next < 0x80 {
        return None;
    }
    let start = local_start(text, from, at)?;
    let (end, mut score) = if text.get(at + 1) == Some(&b'[') {
        let mut score = Score::default();
        score.add(Rule::AddressLiteral);
        (literal_end(text, at + 1)?, score)
    } else {
        read_domain(text, at + 1)?
    };
    let local = &text[start..at];
    let is_marked = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-' | b'+');
    let is_name = local.iter().all(|byte| is_marked(byte) || byte.is_ascii_alphabetic())
        && local.iter().any(u8::is_ascii_alphabetic)
        && local.iter().any(is_marked);
    if score.has(Rule::AddressUnknownSuffix) && is_name {
        score.add(Rule::AddressShape);
    }
    let domain = &text[at + 1..end];
    add_context(text, start, wanted, &mut score);
    // Nothing of it speaks for an address.
    if score.total >= wanted.threshold || score.has(Rule::MessageId) {
        add_lookalikes(text, start, local, domain, end, &mut score);
    }
    Some(Address { start, end, score })
}

/// Where the local part that ends at `at` begins.
fn local_start(text: &[u8], from: usize, at: usize) -> Option<usize> {
    let floor = from.max(at.saturating_sub(EMAIL_LOCAL_BYTES_MAX));
    let before = &text[floor..at];
    if before.last() == Some(&b'"') {
        return quoted_start(before).map(|start| floor + start);
    }
    let len = before.iter().rev().take_while(|byte| is_local_byte(**byte)).count();
    if len == 0 {
        return None;
    }
    let mut start = at - len;
    // A cut in the middle of a character would leave half of it behind.
    while start < at && text[start] & 0xc0 == 0x80 {
        start += 1;
    }
    start += edge::local_start(&text[start..at]);
    let quote = start.checked_sub(1).map(|index| text[index]);
    let is_enclosed = matches!(quote, Some(b'"' | b'<')) || text[start..at].first() == Some(&b'\'');
    if !is_enclosed {
        start += glue(&text[start..at]);
    }
    start += text[start..at].iter().take_while(|byte| is_leading_sign(**byte)).count();
    (start < at).then_some(start)
}

/// Where the quoted local part (RFC 5321, 4.1.2) at the end of `before` begins.
fn quoted_start(before: &[u8]) -> Option<usize> {
    let inside = &before[..before.len() - 1];
    let open = inside.iter().rposition(|byte| *byte == b'"')?;
    let content = &inside[open + 1..];
    let is_content = |byte: &u8| (0x20..0x7f).contains(byte) || *byte >= 0x80;
    (!content.is_empty() && content.iter().all(is_content)).then_some(open)
}

/// `atext` and `.` of RFC 5322, anything outside ASCII (RFC 6531).
fn is_local_byte(byte: u8) -> bool {
    IS_LOCAL[usize::from(byte)]
}

const IS_LOCAL: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-'..=b'/' | b'=' | b'?')
            || matches!(byte, b'^'..=b'`' | b'{'..=b'~');
        byte += 1;
    }
    table
};

/// Signs that may stand in a local part and hardly ever begin one.
fn is_leading_sign(byte: u8) -> bool {
    byte < 0x80 && byte != b'_' && !byte.is_ascii_alphanumeric() && is_local_byte(byte)
}

/// Length of what is glued before the local part: `?a=b&email=`, `to=`, `/users/`, `{`. A single
/// `=`, `&` or `/` between two unknown words is taken as part of the name.
fn glue(local: &[u8]) -> usize {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if local.iter().all(is_plain) {
        return label(local);
    }
    let last_of = |splits: &dyn Fn(&u8) -> bool| local.iter().rposition(splits).map(|at| at + 1);
    let mut start = last_of(&|byte| matches!(byte, b'{' | b'}' | b'|' | b'?' | b'`' | b'*'));
    let is_name = |equals: &usize| {
        let name = local[..*equals].rsplit(|byte| b"&?/;|{=".contains(byte)).next();
        name.is_some_and(|name| name.len() < 3 || class_of_key(name) != FieldClass::Other)
    };
    if let Some(equals) = memchr::memrchr_iter(b'=', local).take(4).find(is_name) {
        start = start.max(Some(equals + 1));
    }
    let rest = &local[start.unwrap_or(0)..];
    if rest.first() == Some(&b'/') || rest.iter().filter(|byte| **byte == b'/').count() > 1 {
        start = start.max(last_of(&|byte| *byte == b'/'));
    }
    let start = start.unwrap_or(0);
    start + label(&local[start..])
}

/// Length of a label glued before the name: `email-asha`.
fn label(local: &[u8]) -> usize {
    let labels = [&b"email-"[..], b"e-mail-", b"mail-", b"mailid-", b"id-"];
    let found = labels.iter().find(|label| {
        local.len() > label.len() && local[..label.len()].eq_ignore_ascii_case(label)
    });
    found.map_or(0, |label| label.len())
}

/// Where the domain that begins at `start` ends, and what its suffix says.
fn read_domain(text: &[u8], start: usize) -> Option<(usize, Score)> {
    let rest = &text[start..text.len().min(start + EMAIL_DOMAIN_BYTES_MAX)];
    let is_domain_byte =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.') || *byte >= 0x80;
    let mut last = 0;
    let in_domain = |byte: &&u8| {
        let is_double_dot = **byte == b'.' && last == b'.';
        last = **byte;
        is_domain_byte(byte) && !is_double_dot
    };
    let len = rest.iter().take_while(in_domain).count();
    let (domain, suffix) = edge::domain_part(edge::trim(&rest[..len]));
    let mut score = Score::default();
    score.add(match suffix {
        Suffix::Public => Rule::AddressSuffix,
        Suffix::Reserved => Rule::AddressReserved,
        Suffix::Unknown => Rule::AddressUnknownSuffix,
        Suffix::None => Rule::AddressNoSuffix,
    });
    (!domain.is_empty()).then_some((start + domain.len(), score))
}

/// Where the address literal (`[192.0.2.1]`, `[IPv6:2001:db8::1]`) at `open` ends.
fn literal_end(text: &[u8], open: usize) -> Option<usize> {
    let rest = &text[open + 1..text.len().min(open + 64)];
    let len = memchr(b']', rest)?;
    let is_part = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let content = &rest[..len];
    let content = content.strip_prefix(b"IPv6:").unwrap_or(content);
    (content.len() >= 7 && content.iter().all(is_part)).then_some(open + 1 + len + 1)
}

fn add_context(text: &[u8], start: usize, wanted: Wanted, score: &mut Score) {
    // What stands before a password is the user, not the name of a field.
    let is_password = is_password_of_url(&text[..start]);
    let local = if is_password { None } else { local_field(text, start) };
    match local.unwrap_or(wanted.field) {
        FieldClass::Email => score.add(Rule::AddressField),
        FieldClass::MessageId => score.add(Rule::MessageId),
        FieldClass::Contact | FieldClass::Person => score.add(Rule::AddressWord),
        _ if score.total + Rule::AddressWord.weight() < wanted.threshold => {}
        _ => {
            let words =
                text[start.saturating_sub(40)..start].rsplit(|byte| !byte.is_ascii_alphabetic());
            let is_cue = |word: &[u8]| {
                matches!(word, b"to" | b"from" | b"for" | b"by")
                    || word.len() > 1 && cue_of(word) == Some(Cue::Email)
            };
            if words.filter(|word| !word.is_empty()).take(3).any(is_cue) {
                score.add(Rule::AddressWord);
            }
        }
    }
}

/// What has an `@` and is no address.
fn add_lookalikes(
    text: &[u8],
    start: usize,
    local: &[u8],
    domain: &[u8],
    end: usize,
    score: &mut Score,
) {
    let before = &text[..start];
    let in_url = before.ends_with(b"://") || is_password_of_url(before);
    if in_url && !is_user_again(&text[end..]) {
        score.add(Rule::UrlUserinfo);
    }
    let is_repository_user =
        matches!(local, b"git" | b"hg" | b"svn" | b"root" | b"ubuntu" | b"ec2-user");
    if is_repository_user && text.get(end) == Some(&b':') {
        score.add(Rule::RepositoryUser);
    }
    let scale = domain.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if scale > 0 && domain[scale..].starts_with(b"x.") {
        score.add(Rule::AssetScale);
    }
    let is_number = local.iter().all(u8::is_ascii_digit) && local.len() >= 7;
    let is_messenger = [&b"c.us"[..], b"s.whatsapp.net", b"g.us", b"lid"].contains(&domain);
    let is_version = domain.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let is_digest = matches!(domain, b"sha256" | b"sha384" | b"sha512" | b"md5");
    // `pkg=@scope/name`: the local part would be the key of a pair.
    let is_scope = local.ends_with(b"=");
    if (is_number && is_messenger) || is_version || is_digest || is_scope {
        score.add(Rule::Hostlike);
    }
    let is_key = local.len() == 32 && local.iter().all(u8::is_ascii_hexdigit);
    if is_key && before.ends_with(b"//") {
        score.add(Rule::UrlUserinfo);
    }
}

/// Whether what stands behind a would-be host ends in another `@`: then it is none, but part of the
/// user's name or password (the last one counts: WHATWG URL, authority state).
fn is_user_again(behind: &[u8]) -> bool {
    let goes_on = |byte: &&u8| byte.is_ascii_graphic() && !b"/?#\"'<>\\,".contains(byte);
    matches!(behind.first(), Some(b':' | b'@'))
        && behind.iter().take(EMAIL_LOCAL_BYTES_MAX).take_while(goes_on).any(|byte| *byte == b'@')
}

/// `scheme://user:password` right before the `@`; the user may be an address, or what took its place.
fn is_password_of_url(before: &[u8]) -> bool {
    let Some(before) = before.strip_suffix(b":") else { return false };
    let len = before
        .iter()
        .rev()
        .take(EMAIL_LOCAL_BYTES_MAX + EMAIL_DOMAIN_BYTES_MAX)
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"._-%+@[]:*".contains(byte))
        .count();
    before[..before.len() - len].ends_with(b"://")
}

#[cfg(test)]
mod tests;

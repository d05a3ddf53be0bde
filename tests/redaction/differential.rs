//! Against an independent phone matcher: every number with `+` that it finds is found by us.

use rlibphonenumber::phonenumber_matcher::FindNumberExt;

use crate::generator::Random;
use crate::subject::Subject;

#[test]
fn every_plus_number_that_libphonenumber_finds_is_redacted() {
    let mut subject = Subject::new("IN", "balanced");
    let (mut found, mut missed) = (0_u32, Vec::new());
    for number in 0..12_000 {
        let line = line(&mut Random::new(number));
        for expected in line.find_phone_numbers() {
            let raw = &line[expected.start..expected.end()];
            if !raw.contains('+') {
                continue;
            }
            found += 1;
            let out = subject.redact(&line);
            if out.contains(raw.trim_start_matches('(')) {
                missed.push(format!("{raw} in {line}"));
            }
        }
    }
    assert!(found > 1_500, "the matcher found only {found}: the lines are no test");
    assert!(
        missed.is_empty(),
        "{} of {found} missed: {:#?}",
        missed.len(),
        &missed[..missed.len().min(20)]
    );
}

/// A sentence with a number of any country in it, in any grouping, possible or not.
fn line(random: &mut Random) -> String {
    const BEFORE: &[&str] = &[
        "call ",
        "Tel. ",
        "",
        "customer said: ",
        "[whatsapp] from=",
        "{\"msg\":\"sms to ",
        "(",
        "dial:",
        "rang ",
        "contact <",
        "FAX ",
        "see 12 items, ",
    ];
    const AFTER: &[&str] =
        &[" now", ".", "", ") ok", "\"}", ">", ", thanks", "; retry 3", "\n", "!"];
    const CODES: &[&str] = &[
        "1", "7", "20", "27", "30", "31", "32", "33", "34", "36", "39", "40", "41", "43", "44",
        "45", "46", "47", "48", "49", "51", "52", "54", "55", "56", "57", "60", "61", "62", "63",
        "64", "65", "66", "81", "82", "84", "86", "90", "91", "92", "94", "98", "212", "233",
        "234", "254", "255", "351", "353", "358", "371", "380", "420", "852", "880", "886", "961",
        "965", "966", "971", "972", "974", "977", "995",
    ];
    const SEPARATORS: &[&str] = &["", "", " ", "-", ".", " ", "\u{A0}", "/", " - ", "\u{2011}"];
    let mut number = format!("+{}", random.pick(CODES));
    let separator = random.pick(SEPARATORS);
    let digits = 7 + random.below(4);
    let group = 2 + random.below(4);
    let bracketed = random.one_in(8);
    for index in 0..digits {
        if index % group == 0 {
            number.push_str(separator);
        }
        if bracketed && index == 0 {
            number.push('(');
        }
        let digit = if index == 0 { 1 + random.below(9) } else { random.below(10) };
        number.push(char::from(b'0' + u8::try_from(digit).expect("a digit")));
        if bracketed && index + 1 == group {
            number.push(')');
        }
    }
    format!("{}{number}{}", random.pick(BEFORE), random.pick(AFTER))
}

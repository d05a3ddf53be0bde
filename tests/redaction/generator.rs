//! Generated cases: values x written forms x regions x encoders x hosts. Shares no table, regular
//! expression or code with the product: numbering facts are typed from public knowledge.

use std::fmt::Write as _;

/// A small seeded generator (SplitMix64), so that a case is known by its number.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("the bound was a usize")
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

/// What must not come out.
#[derive(Clone, Debug)]
pub(crate) enum Secret {
    /// The local part of an address, in lower case.
    Local(String),
    /// The national digits of a number.
    Digits(String),
}

/// One line with one value in it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) region: &'static str,
    pub(crate) before: String,
    pub(crate) value: String,
    pub(crate) after: String,
    pub(crate) secret: Secret,
    pub(crate) is_json: bool,
    /// Form, encoders and host, for messages.
    pub(crate) label: String,
}

impl Case {
    pub(crate) fn line(&self) -> String {
        format!("{}{}{}", self.before, self.value, self.after)
    }
}

/// Case `number` of the structured set: the value stands under a telling key, or is international
/// or an address in a sentence.
pub(crate) fn structured(number: u64) -> Case {
    let mut random = Random::new(number);
    let is_email = random.below(5) < 2;
    let region = random.below(REGIONS.len());
    let (text, secret, form) =
        if is_email { email(&mut random) } else { phone(&mut random, &REGIONS[region]) };
    let mut case = place(&mut random, &text, is_email, form);
    case.region = REGIONS[region].code;
    case.secret = secret;
    case
}

/// The same value in the plainest host, and with one more layer of writing on top.
pub(crate) fn plain_and_dressed(number: u64) -> (Case, Case) {
    let mut random = Random::new(number);
    let is_email = random.one_in(2);
    let region = random.below(REGIONS.len());
    let (text, secret, form) =
        if is_email { email(&mut random) } else { phone(&mut random, &REGIONS[region]) };
    let key = key_for(&mut random, is_email);
    let build = |text: &str, layer: &str, escape| {
        let value = json_escaped(text, escape, &mut Random::new(number));
        Case {
            region: REGIONS[region].code,
            before: format!("{{\"level\":\"info\",\"{key}\":\""),
            value,
            after: "\",\"ok\":true}".to_owned(),
            secret: secret.clone(),
            is_json: true,
            label: format!("{form}/{layer}"),
        }
    };
    let plain = build(&text, "plain", Escape::Needed);
    let layer = random.below(LAYERS.len() + 1);
    let dressed = if layer == LAYERS.len() {
        build(&text, "json-escapes", Escape::All)
    } else {
        let (name, encode) = LAYERS[layer];
        build(&encode(&text, &mut random), name, Escape::Needed)
    };
    (plain, dressed)
}

/// An address with text right beside it, as scripts without spaces, phones and programs write it.
pub(crate) fn beside_text(number: u64) -> Case {
    const BEFORE: &[&str] = &[
        "",
        "…",
        "“",
        "‘",
        "«",
        "—",
        "→",
        "😊",
        "👍🏽",
        "है।",
        "。",
        "、",
        "请联系",
        "メールは",
        "อีเมล",
        "почта",
        "इमेल:",
        "¿",
    ];
    const BEHIND: &[&str] = &[
        "",
        "…",
        "”",
        "’s",
        "»",
        "—",
        "→ravi",
        "😊",
        "👍🏽",
        "।",
        "。田中",
        "谢谢",
        "です",
        "！",
        "؟",
        "·",
        "-1790000000",
        "-",
    ];
    const DOMAINS: &[&str] = &["gmail.com", "outlook.de", "mail.yahoo.co.in", "salon.example.org"];
    let mut random = Random::new(number);
    let local =
        format!("{}{}", random.pick(&["asha.k", "jonas", "li_w", "o'brien"]), random.below(9_000));
    let (before, behind) = (random.pick(BEFORE), random.pick(BEHIND));
    let (open, close, form) = match random.below(4) {
        0 => (r#"{"level":"info","msg":""#, r#""}"#, "whole"),
        1 => (r#"{"level":"info","client_id":""#, r#"","n":1}"#, "id"),
        2 => (r#"{"level":"info","msg":"sent to "#, r#" just now"}"#, "sentence"),
        _ => ("2025-03-04 INFO booking: ", " stored", "text"),
    };
    let is_json = form != "text";
    let escape = if is_json && random.one_in(3) { Escape::All } else { Escape::Needed };
    let [before, behind] = [before, behind].map(|text| json_escaped(text, escape, &mut random));
    let value = format!("{local}@{}", random.pick(DOMAINS));
    let label = format!("{form}, {before} {behind}");
    let case =
        finished(format!("{open}{before}"), value, format!("{behind}{close}"), is_json, label);
    Case { region: REGIONS[random.below(REGIONS.len())].code, secret: Secret::Local(local), ..case }
}

/// What an attentive reader would make of `line`: all encodings undone, digits and at signs of all
/// scripts folded, invisible characters dropped, lower case.
pub(crate) fn unravel(line: &str) -> String {
    let mut text = line.to_owned();
    for _ in 0..12 {
        let next = fold(&undo(&undo_escapes(text.clone()), undo_one));
        if next == text {
            break;
        }
        text = next;
    }
    text.to_lowercase()
}

/// Whether enough of `secret` stands in `line` to be read: the whole local part, or seven digits in
/// a row with at most three separators between two of them.
pub(crate) fn leaks(secret: &Secret, line: &str) -> bool {
    let text = unravel(line);
    match secret {
        Secret::Local(local) => text.contains(local.as_str()),
        Secret::Digits(digits) => {
            let mut run = String::new();
            let mut gap = 0;
            for c in text.chars() {
                if c.is_ascii_digit() {
                    run.push(c);
                    gap = 0;
                    let tail = run.len().saturating_sub(7);
                    if run.len() - tail == 7 && digits.contains(&run[tail..]) {
                        return true;
                    }
                } else {
                    gap += 1;
                    if gap > 3 || c.is_alphabetic() || c == '"' || c == ',' {
                        run.clear();
                    }
                }
            }
            false
        }
    }
}

struct Region {
    code: &'static str,
    calling_code: &'static str,
    trunk: &'static str,
    starts: &'static [&'static str],
    groups: &'static [usize],
}

/// Mobile numbers as people have them, typed from public knowledge.
const REGIONS: [Region; 16] = [
    region("IN", "91", "0", &["98", "99", "97", "90", "88", "70"], &[5, 5]),
    region("US", "1", "1", &["2125", "4156", "3037", "6174", "3128"], &[3, 3, 4]),
    region("GB", "44", "0", &["7911", "7400", "7500"], &[4, 6]),
    region("DE", "49", "0", &["151", "160", "170", "176"], &[3, 8]),
    region("FR", "33", "0", &["6", "7"], &[1, 2, 2, 2, 2]),
    region("ES", "34", "", &["61", "62", "65"], &[3, 3, 3]),
    region("IT", "39", "", &["333", "347", "320"], &[3, 3, 4]),
    region("NL", "31", "0", &["61", "62"], &[1, 4, 4]),
    region("AE", "971", "0", &["50", "55"], &[2, 3, 4]),
    region("AU", "61", "0", &["41", "42"], &[3, 3, 3]),
    region("BR", "55", "0", &["119", "219"], &[2, 5, 4]),
    region("SG", "65", "", &["91", "82"], &[4, 4]),
    region("ZA", "27", "0", &["82", "83"], &[2, 3, 4]),
    region("JP", "81", "0", &["90", "80"], &[2, 4, 4]),
    region("PL", "48", "", &["501", "601"], &[3, 3, 3]),
    region("SE", "46", "0", &["70", "73"], &[2, 3, 2, 2]),
];

const fn region(
    code: &'static str,
    calling_code: &'static str,
    trunk: &'static str,
    starts: &'static [&'static str],
    groups: &'static [usize],
) -> Region {
    Region { code, calling_code, trunk, starts, groups }
}

fn email(random: &mut Random) -> (String, Secret, &'static str) {
    const FIRST: &[&str] = &["asha", "priya", "jonas", "marie", "li", "oeshi", "bruno", "zeynep"];
    const LAST: &[&str] = &["kapoor", "schmidt", "dubois", "rossi", "nowak", "silva", "tan"];
    const DOMAINS: &[&str] = &[
        "gmail.com",
        "outlook.de",
        "mail.yahoo.co.in",
        "studio-haar.fr",
        "salon.example.org",
        "hq.k12.pune.in",
        "icloud.com",
        "web.de",
        "xn--mller-kva.de",
        "glow.salon",
    ];
    let stem = format!("{}{}{}", random.pick(FIRST), random.pick(LAST), random.next() % 9_000);
    let dotted = format!("{}.{}{}", random.pick(FIRST), random.pick(LAST), random.next() % 9_000);
    let domain = random.pick(DOMAINS);
    let (local, form) = match random.below(12) {
        8 => (format!("jörg.{stem}"), "eai"),
        9 => (format!("आशा{stem}"), "eai-devanagari"),
        0 => (format!("{stem}+news"), "plus"),
        1 => (dotted, "dotted"),
        2 => (stem.to_uppercase(), "upper"),
        3 => (format!("o'{stem}"), "apostrophe"),
        4 => (format!("{stem}_x-y"), "marks"),
        _ => (stem, "plain"),
    };
    let domain = match (form, random.below(12)) {
        ("upper", _) => domain.to_uppercase(),
        (_, 0) => "müller-söhne.de".to_owned(),
        (_, 1) => "[192.0.2.44]".to_owned(),
        _ => domain.to_owned(),
    };
    let secret = Secret::Local(local.to_lowercase());
    let address = format!("{local}@{domain}");
    match random.below(12) {
        0 => (format!("mailto:{address}"), secret, "mailto"),
        1 => (format!("{} <{address}>", random.pick(FIRST)), secret, "angle"),
        2 => (format!("{address}, {}@{domain}", random.pick(FIRST)), secret, "list"),
        _ => (address, secret, form),
    }
}

fn phone(random: &mut Random, region: &Region) -> (String, Secret, &'static str) {
    let length: usize = region.groups.iter().sum();
    let mut national = random.pick(region.starts).to_owned();
    while national.len() < length {
        write!(national, "{}", random.below(10)).expect("writing to a string never fails");
    }
    let Region { calling_code: code, trunk, .. } = region;
    let parts = grouped(&national, region.groups);
    let (text, form) = match random.below(20) {
        13 => (format!("{code}{national}:7@s.whatsapp.net"), "whatsapp-device"),
        14 => (format!("https://wa.me/{code}{national}"), "wa.me"),
        15 => (format!("+{code} {} ext. 12", parts.join(" ")), "extension"),
        16 => (format!("tel:+{code}-{};ext=12", parts.join("-")), "tel-extension"),
        17 => (format!("+{code}/{}", parts.join("/")), "slashes"),
        18 => (format!("(+{code}) {}", parts.join(" ")), "code-in-brackets"),
        0 => (format!("+{code}{national}"), "e164"),
        1 => (format!("+{code} {}", parts.join(" ")), "spaced"),
        2 => (format!("+{code}-{}", parts.join("-")), "hyphens"),
        3 => (format!("00{code}{national}"), "00"),
        4 => (format!("{code}{national}"), "no-plus"),
        5 => (format!("{trunk}{national}"), "national"),
        6 => (format!("{trunk}{}", parts.join(" ")), "national-spaced"),
        7 => (format!("{trunk}{}", parts.join("-")), "national-hyphens"),
        8 => (format!("+{code}.{}", parts.join(".")), "dots"),
        9 => (format!("+{code} ({}) {}", parts[0], parts[1..].join("-")), "brackets"),
        10 => (format!("tel:+{code}{national}"), "tel"),
        11 => (format!("{code}{national}@s.whatsapp.net"), "whatsapp"),
        12 => (format!("+{code} (0) {}", parts.join(" ")), "zero-in-brackets"),
        _ => (national.clone(), "bare"),
    };
    (text, Secret::Digits(national), form)
}

fn grouped(national: &str, groups: &[usize]) -> Vec<String> {
    let mut rest = national;
    groups
        .iter()
        .map(|&group| {
            let (head, tail) = rest.split_at(group);
            rest = tail;
            head.to_owned()
        })
        .collect()
}

type Layer = (&'static str, fn(&str, &mut Random) -> String);

/// How many of [`LAYERS`] encode the whole text.
const ENCODINGS: usize = 5;

/// Ways to write a text differently that mean the same to some reader.
const LAYERS: [Layer; 11] = [
    ("percent", |text, random| percent(text, random.one_in(3))),
    ("percent-twice", |text, random| percent(&percent(text, random.one_in(3)), false)),
    ("entity-decimal", |text, _| entities(text, |c| format!("&#{};", u32::from(c)))),
    ("entity-hex", |text, _| entities(text, |c| format!("&#x{:X};", u32::from(c)))),
    ("quoted-printable", |text, _| quoted_printable(text)),
    ("full-width", |text, _| full_width(text)),
    ("devanagari", |text, _| digits_from(text, '\u{966}')),
    ("arabic-indic", |text, _| digits_from(text, '\u{660}')),
    ("zero-width", |text, random| sprinkled(text, '\u{200B}', random)),
    ("soft-hyphen", |text, random| sprinkled(text, '\u{AD}', random)),
    ("no-break-space", |text, _| text.replace(' ', "\u{A0}").replace('-', "\u{2011}")),
];

fn percent(text: &str, all: bool) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if !all && (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string never fails");
        }
    }
    out
}

fn entities(text: &str, write: impl Fn(char) -> String) -> String {
    text.chars().map(|c| if "@+.-() '".contains(c) { write(c) } else { c.to_string() }).collect()
}

fn quoted_printable(text: &str) -> String {
    text.chars()
        .map(|c| if "@+=".contains(c) { format!("={:02X}", u32::from(c)) } else { c.to_string() })
        .collect()
}

fn full_width(text: &str) -> String {
    let wide = |c: char| {
        let is_wide = c.is_ascii_digit() || c == '@' || c == '+';
        is_wide.then(|| char::from_u32(u32::from(c) + 0xFEE0)).flatten().unwrap_or(c)
    };
    text.chars().map(wide).collect()
}

fn digits_from(text: &str, zero: char) -> String {
    text.chars()
        .map(|c| match c.to_digit(10) {
            Some(digit) => char::from_u32(u32::from(zero) + digit).expect("digits are in a row"),
            None => c,
        })
        .collect()
}

fn sprinkled(text: &str, mark: char, random: &mut Random) -> String {
    let last = text.chars().count();
    let mut out = String::new();
    for (index, c) in text.chars().enumerate() {
        if index > 0 && index < last && random.one_in(4) {
            out.push(mark);
        }
        out.push(c);
    }
    out
}

#[derive(Clone, Copy)]
enum Escape {
    Needed,
    Signs,
    All,
    Some,
}

fn json_escaped(text: &str, escape: Escape, random: &mut Random) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let escaped = match escape {
            Escape::Needed => false,
            Escape::Signs => "@+-. ".contains(c),
            Escape::All => true,
            Escape::Some => random.one_in(3),
        };
        let mut units = [0; 2];
        match c {
            _ if escaped => {
                for unit in c.encode_utf16(&mut units) {
                    write!(out, "\\u{unit:04x}").expect("writing to a string never fails");
                }
            }
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' if random.one_in(2) => out.push_str("\\/"),
            c if u32::from(c) < 0x20 => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a string never fails");
            }
            c => out.push(c),
        }
    }
    out
}

fn key_for(random: &mut Random, is_email: bool) -> &'static str {
    const PHONE: &[&str] = &[
        "phone",
        "customerPhone",
        "mobile_number",
        "msisdn",
        "whatsapp",
        "contact_phone",
        "tel",
        "phoneNumber",
        "guest-mobile",
        "caller_number",
        "PHONE",
    ];
    const EMAIL: &[&str] =
        &["email", "userEmail", "e_mail", "contact_email", "emailAddress", "reply_to", "EMAIL"];
    random.pick(if is_email { EMAIL } else { PHONE })
}

/// Puts `text` into a host, with encoders between.
fn place(random: &mut Random, text: &str, is_email: bool, form: &str) -> Case {
    let mut label = form.to_owned();
    let mut text = text.to_owned();
    let bare_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if bare_digits && !text.starts_with('0') && random.one_in(3) {
        return number_host(random, &text, label);
    }
    for layer in 0..[0, 0, 1, 1, 1, 2][random.below(6)] {
        // Only whole encodings go on top: nobody sprinkles soft hyphens into a percent sequence.
        let choices = if layer == 0 { LAYERS.len() } else { ENCODINGS };
        let (name, encode) = LAYERS[random.below(choices)];
        text = encode(&text, random);
        write!(label, "/{name}").expect("writing to a string never fails");
    }
    let key = key_for(random, is_email);
    match random.below(13) {
        9 => code_host(random, key, &text, label),
        10 if is_email || text.starts_with('+') => key_host(random, &text, label),
        10..=12 => nested_host(random, key, &text, label),
        0..=4 => json_host(random, key, &text, label),
        5 => text_host(key, &text, label),
        6 => query_host(random, key, &text, label),
        7 => pair_host(random, key, &text, label),
        _ => logfmt_host(key, &text, label),
    }
}

const TIME: &str = r#""ts":"2025-03-04T05:06:07.890Z","level":"info""#;

fn number_host(random: &mut Random, digits: &str, label: String) -> Case {
    let key = key_for(random, false);
    let (open, value, close, form) = match random.below(5) {
        0 => ("", format!("{digits}.0"), "", "float"),
        1 => {
            ("", format!("{}.{}E{}", &digits[..1], &digits[1..], digits.len() - 1), "", "exponent")
        }
        2 => ("[", digits.to_owned(), "]", "list"),
        _ => ("", digits.to_owned(), "", "integer"),
    };
    let before = format!("{{{TIME},\"{key}\":{open}");
    let after = format!("{close},\"retries\":2}}");
    finished(before, value, after, true, format!("{label}/number-{form}"))
}

fn json_host(random: &mut Random, key: &str, text: &str, label: String) -> Case {
    const ESCAPES: [Escape; 4] = [Escape::Needed, Escape::Signs, Escape::All, Escape::Some];
    let escape = ESCAPES[random.below(4)];
    let value = json_escaped(text, escape, random);
    let (mut before, mut after, name) = match random.below(4) {
        0 => (format!("{{\"{key}\":\""), "\"}".to_owned(), "field"),
        1 => (format!("{{\"user\":{{\"x\":{{\"{key}\":\""), "\"}}}".to_owned(), "deep"),
        2 => (format!("{{\"{key}\":[\""), "\"]}".to_owned(), "list"),
        _ => (format!("{{\"id\":7,\"{key}\":\""), "\",\"ok\":true}".to_owned(), "middle"),
    };
    let mut value = value;
    let nesting = random.below(6);
    for _ in 0..nesting {
        let plain = &mut Random::new(1);
        before = format!("{{\"body\":\"{}", nested(&before, plain));
        value = nested(&value, plain);
        after = format!("{}\"}}", nested(&after, plain));
    }
    if nesting == 0 {
        before = format!("{{{TIME},\"data\":{before}");
        after = format!("{after}}}");
    }
    finished(before, value, after, true, format!("{label}/json-{name}-{nesting}"))
}

/// A string as a JSON encoder without options writes it (a slash stays).
fn nested(text: &str, _: &mut Random) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn pair_host(random: &mut Random, key: &str, text: &str, label: String) -> Case {
    let value = json_escaped(text, Escape::Needed, random);
    let before =
        format!("{{{TIME},\"attributes\":[{{\"key\":\"{key}\",\"value\":{{\"stringValue\":\"");
    finished(before, value, "\"}}]}".to_owned(), true, label + "/otlp")
}

fn text_host(key: &str, text: &str, label: String) -> Case {
    let before = format!("2025-03-04 05:06:07 INFO booking: stored customer, {key}: ");
    finished(before, text.to_owned(), " (done)".to_owned(), false, label + "/text")
}

fn query_host(random: &mut Random, key: &str, text: &str, label: String) -> Case {
    let mut value = percent(text, false);
    if random.one_in(2) {
        value = value.replace("%20", "+");
    }
    let before = format!("10.1.2.3 - - \"GET /v1/customers?{key}=");
    finished(before, value, "&page=2 HTTP/1.1\" 200 512".to_owned(), false, label + "/query")
}

/// The value as the key of an object.
fn key_host(random: &mut Random, text: &str, label: String) -> Case {
    let value = json_escaped(text, Escape::Needed, random);
    let before = format!("{{{TIME},\"visits\":{{\"");
    finished(before, value, "\":3}}".to_owned(), true, label + "/object-key")
}

/// Notations that programs print.
fn code_host(random: &mut Random, key: &str, text: &str, label: String) -> Case {
    let is_plain = !text.contains(['\'', '<', '>', ')', '&']);
    let (before, after) = match if is_plain { random.below(5) } else { 4 } {
        0 => (format!("saved {{'id': 7, '{key}': '"), "', 'ok': True}"),
        1 => (format!("WARN Customer(id=7, {key}="), ", active=true) refused"),
        2 => (format!("SELECT id FROM customers WHERE {key} = '"), "' LIMIT 1"),
        3 => (format!("<customer id=\"7\"><{key}>"), "</x></customer>"),
        _ => (format!("> X-Customer-{key}: "), "\r\n> Accept: */*"),
    };
    finished(before, text.to_owned(), after.to_owned(), false, label + "/code")
}

/// A query string in a JSON string: percent inside JSON.
fn nested_host(random: &mut Random, key: &str, text: &str, label: String) -> Case {
    let value = percent(text, random.one_in(4));
    let before = format!("{{{TIME},\"url\":\"https://api.example.com/v1/find?{key}=");
    finished(before, value, "&limit=5\"}".to_owned(), true, label + "/json-query")
}

fn logfmt_host(key: &str, text: &str, label: String) -> Case {
    let quoted = text.contains([' ', '"', '=', '\u{A0}']);
    let quote = if quoted { "\"" } else { "" };
    let before = format!("level=info service=booking {key}={quote}");
    finished(before, text.to_owned(), format!("{quote} took=12ms"), false, label + "/logfmt")
}

fn finished(before: String, value: String, after: String, is_json: bool, label: String) -> Case {
    let secret = Secret::Digits(String::new());
    Case { region: "", before, value, after, secret, is_json, label }
}

/// Back-slashes first, all of them: they may stand inside a percent sequence.
fn undo_escapes(mut text: String) -> String {
    loop {
        let next = undo(&text, undo_escape);
        if next == text {
            return text;
        }
        text = next;
    }
}

fn undo(text: &str, one: fn(&str) -> Option<(String, usize)>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (decoded, length) = one(rest).unwrap_or_else(|| (first.to_string(), first.len_utf8()));
        out.push_str(&decoded);
        rest = &rest[length..];
    }
    out
}

/// The meaning of the JSON escape that `rest` begins with and its length.
fn undo_escape(rest: &str) -> Option<(String, usize)> {
    let body = rest.strip_prefix('\\')?;
    if body.starts_with('u') {
        return hex(rest, 2, 6).and_then(char::from_u32).map(|c| (c.to_string(), 6));
    }
    let second = body.chars().next()?;
    let c = if "nrtbf".contains(second) { ' ' } else { second };
    Some((c.to_string(), 1 + second.len_utf8()))
}

/// The same for the encodings of the web and of mail.
fn undo_one(rest: &str) -> Option<(String, usize)> {
    match rest.as_bytes().first()? {
        b'%' => percent_run(rest),
        b'=' => hex(rest, 1, 3)
            .filter(|code| (0x20..0x7F).contains(code))
            .and_then(char::from_u32)
            .map(|c| (c.to_string(), 3)),
        b'&' => entity(rest),
        _ => None,
    }
}

fn hex(text: &str, from: usize, to: usize) -> Option<u32> {
    text.get(from..to).and_then(|digits| u32::from_str_radix(digits, 16).ok())
}

fn percent_run(rest: &str) -> Option<(String, usize)> {
    let (mut bytes, mut length) = (Vec::new(), 0);
    while rest[length..].starts_with('%') {
        let digits = rest.get(length + 1..length + 3);
        let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            break;
        };
        bytes.push(byte);
        length += 3;
    }
    (length > 0).then(|| (String::from_utf8_lossy(&bytes).into_owned(), length))
}

fn entity(rest: &str) -> Option<(String, usize)> {
    let end = rest.find(';').filter(|&end| end < 12)?;
    let body = &rest[1..end];
    let c = if let Some(digits) = body.strip_prefix("#x") {
        char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
    } else if let Some(digits) = body.strip_prefix('#') {
        char::from_u32(digits.parse().ok()?)?
    } else {
        match body {
            "commat" => '@',
            "plus" => '+',
            "amp" => '&',
            _ => return None,
        }
    };
    Some((c.to_string(), end + 1))
}

fn fold(text: &str) -> String {
    text.chars()
        .filter_map(|c| match u32::from(c) {
            0xAD | 0x200B..=0x200F | 0x2060 | 0xFEFF => None,
            code @ 0xFF01..=0xFF5E => char::from_u32(code - 0xFEE0),
            code @ 0x966..=0x96F => char::from_u32(code - 0x966 + 0x30),
            code @ 0x660..=0x669 => char::from_u32(code - 0x660 + 0x30),
            0xA0 => Some(' '),
            0x2010..=0x2015 => Some('-'),
            _ => Some(c),
        })
        .collect()
}

#[test]
fn every_generated_line_leaks_before_it_is_redacted() {
    for number in 0..20_000 {
        let case = structured(number);
        let line = case.line();
        assert!(leaks(&case.secret, &line), "{number} {}: {line}", case.label);
        if case.is_json {
            assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{number}: {line}");
        }
        let (plain, dressed) = plain_and_dressed(number);
        assert!(leaks(&plain.secret, &plain.line()) && leaks(&dressed.secret, &dressed.line()));
        assert!(!leaks(&case.secret, &format!("{}[phone]{}", case.before, case.after)));
    }
}

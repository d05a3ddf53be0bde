//! Speed of redaction on one core, with everything on: views, context, JSON check, tokens.
//!
//! Prints MB/s over generated log lines (465 bytes on average, 600 tenants, 12 % with personal
//! data), MB/s of SHA-256 over the same bytes in the same run, their ratio, and what the worst
//! hostile input costs per byte against a usual one. Times are CPU time of this thread, so that
//! neighbours disturb little. `BLOTTER_BENCH_MB` sets how much is generated (200 by default); an
//! argument (`clean`, `personal`, `typical`, `hostile`, `lookups`) leaves the other parts out.

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use blotter::pipeline::record::{TenantId, Timestamp};
use blotter::pipeline::redact::keyring::{KeyEncryptionKey, Keyring, KeyringFile};
use blotter::pipeline::redact::plan::{self, Region};
use blotter::pipeline::redact::policy::{Policy, RawPolicy};
use blotter::pipeline::redact::{Redactor, Scope};
use nix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};

const TENANTS: usize = 600;
const CHUNK_BYTES: usize = 8_000_000;
const HOSTILE_BYTES: usize = 1_000_000;
/// The goal: no input costs more per byte than this many times a usual one.
const HOSTILE_COST_MAX: f64 = 20.0;

fn main() {
    #[expect(clippy::disallowed_methods, reason = "a benchmark's own switch")]
    let asked = std::env::var("BLOTTER_BENCH_MB").ok();
    let megabytes: usize =
        asked.map_or(200, |text| text.parse().expect("BLOTTER_BENCH_MB is a number"));
    let tenants: Vec<TenantId> = (0..TENANTS)
        .map(|number| TenantId::new(&format!("salon-{number:03}")).expect("a short name"))
        .collect();
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let is_asked = |name: &str| part.as_deref().is_none_or(|part| part == name);
    let mut redactor = redactor(&tenants);
    for (name, pii_per_mille) in [("clean", 0), ("personal", 1_000)] {
        if is_asked(name) {
            typical(&mut redactor, &tenants, megabytes * 100_000, pii_per_mille);
        }
    }
    if is_asked("typical") || is_asked("hostile") {
        let usual = typical(&mut redactor, &tenants, megabytes * 1_000_000, 120);
        if is_asked("hostile") {
            hostile(&mut redactor, usual);
        }
    }
    if is_asked("lookups") {
        lookups();
    }
}

/// Measures generated lines; returns nanoseconds per byte.
fn typical(
    redactor: &mut Redactor,
    tenants: &[TenantId],
    bytes_min: usize,
    pii_per_mille: usize,
) -> f64 {
    let (mut bytes, mut lines, mut found, mut with_pii) = (0, 0_u64, 0_u64, 0_u64);
    let (mut redacting, mut hashing) = (Duration::ZERO, Duration::ZERO);
    let mut random = Random(42);
    let mut out = Vec::new();
    while bytes < bytes_min {
        let chunk = Chunk::generate(&mut random, tenants, pii_per_mille);
        with_pii += chunk.with_pii;
        lines += chunk.lines.len() as u64;
        bytes += chunk.text.len();
        redacting += timed(|| {
            for &(start, end, tenant) in &chunk.lines {
                let scope = Scope {
                    topic: "app.logs",
                    tenant: Some(&tenants[tenant]),
                    timestamp: Timestamp::from_millis(1_790_000_000_000),
                    ..Scope::default()
                };
                let line = &chunk.text.as_bytes()[start..end];
                let report = redactor.redact_in(&scope, line, &mut out);
                found += u64::from(report.total() > 0);
                black_box(&out);
            }
        });
        hashing += timed(|| {
            black_box(Sha256::digest(chunk.text.as_bytes()));
        });
    }
    let per_second = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;
    let (redaction, sha) = (per_second(redacting), per_second(hashing));
    print(&format!(
        "{pii_per_mille} of 1,000 lines with personal data: {redaction:.0} MB/s, SHA-256 {sha:.0} MB/s, \
         ratio {:.3} ({:.0} MB/s where SHA-256 runs at 1,500); {lines} lines of {} bytes, findings in \
         {found}, expected in {with_pii}",
        redaction / sha,
        1_500.0 * redaction / sha,
        bytes as u64 / lines,
    ));
    redacting.as_secs_f64() * 1e9 / bytes as f64
}

/// Measures inputs made to cost much.
fn hostile(redactor: &mut Redactor, typical_ns: f64) {
    const PIECES: [&str; 28] = [
        "a@a@",
        "98765 43210 ",
        "\\\"@",
        "a=40a",
        "(1)(1)",
        "1234567890",
        "1-",
        "@",
        "%25",
        "\\",
        "{\"a\":",
        "[",
        "+1 ",
        "&#64;",
        "a@b.c ",
        "9876543210 ",
        "\\u0040",
        "\u{FF11}",
        " at x dot ",
        "=40",
        "9",
        "1 2 3 4 5 6 7 8 ",
        "phone=",
        "\"phone\":\"",
        "%40a",
        "a.b-c@d-e.f",
        "\u{200B}1",
        "+491511234567,",
    ];
    let mut costs: Vec<(f64, usize, String)> = Vec::new();
    for piece in PIECES {
        for is_quoted in [false, true] {
            let mut size = HOSTILE_BYTES / 16;
            // A cost that grows faster than the input would never come to the end of the large one.
            let cost = loop {
                let plain = piece.repeat(size / piece.len());
                let input = if is_quoted {
                    serde_json::json!({ "phone": plain }).to_string()
                } else {
                    plain
                };
                let mut out = Vec::new();
                let time = timed(|| {
                    black_box(redactor.redact(input.as_bytes(), &mut out));
                });
                let cost = time.as_secs_f64() * 1e9 / input.len() as f64 / typical_ns;
                if size == HOSTILE_BYTES || cost > 10.0 * HOSTILE_COST_MAX {
                    break cost;
                }
                size = HOSTILE_BYTES;
            };
            let host = if is_quoted { "as a JSON string" } else { "bare" };
            costs.push((cost, size, format!("{piece:?} repeated, {host}")));
        }
    }
    costs.sort_by(|one, other| other.0.total_cmp(&one.0));
    for (cost, size, what) in costs.iter().take(5) {
        print(&format!(
            "hostile: {cost:.1} times the cost per byte of log lines, {size} bytes of {what}"
        ));
    }
}

/// Measures the numbering plans: international and national look-ups of Indian numbers.
fn lookups() {
    const ROUNDS: u32 = 200;
    let india = Region::parse("IN").expect("a region");
    let mut random = Random(3);
    let numbers: Vec<String> = (0..1_000).map(|_| format!("919{}", random.digits(9))).collect();
    let mut found = 0_u32;
    let time = timed(|| {
        for number in (0..ROUNDS).flat_map(|_| &numbers) {
            let digits = number.as_bytes();
            found += u32::from(plan::match_international(black_box(digits)).is_some());
            found += u32::from(plan::match_national(india, black_box(&digits[2..])).is_some());
        }
    });
    let each = time.as_secs_f64() * 1e9 / f64::from(2 * 1_000 * ROUNDS);
    print(&format!("numbering plan: {each:.0} ns a look-up, {} of 2,000 valid", found / ROUNDS));
}

fn redactor(tenants: &[TenantId]) -> Redactor {
    let mut raw = RawPolicy {
        regions: Some(["IN", "DE", "GB"].map(str::to_owned).to_vec()),
        ..RawPolicy::default()
    };
    raw.actions.email = Some("token".to_owned());
    raw.actions.phone = Some("token".to_owned());
    let policy = Policy::new(&raw).expect("the policy is sound");
    Redactor::new(policy).with_keyring(Arc::new(keyring(tenants)))
}

fn keyring(tenants: &[TenantId]) -> Keyring {
    let kek = KeyEncryptionKey::new([1; 32]);
    let mut state = Random(7);
    let mut random = |buffer: &mut [u8]| {
        for byte in buffer {
            *byte = state.next().to_le_bytes()[0];
        }
    };
    let mut file = KeyringFile::create(&kek, &mut random);
    for tenant in tenants {
        file.add_tenant(&kek, tenant, Timestamp::EPOCH, &mut random).expect("each is new");
    }
    file.open(&kek).expect("the key fits")
}

fn print(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output is open");
}

fn timed(work: impl FnOnce()) -> Duration {
    let now =
        || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the clock is there").into();
    let start: Duration = now();
    work();
    now() - start
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next()).expect("40 bits fit") % bound
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b"0123456789"[self.below(10)])).collect()
    }

    fn hex(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b"0123456789abcdef"[self.below(16)])).collect()
    }
}

/// Lines with their spans and tenants.
struct Chunk {
    text: String,
    lines: Vec<(usize, usize, usize)>,
    with_pii: u64,
}

impl Chunk {
    fn generate(random: &mut Random, tenants: &[TenantId], pii_per_mille: usize) -> Self {
        let mut chunk = Self { text: String::new(), lines: Vec::new(), with_pii: 0 };
        while chunk.text.len() < CHUNK_BYTES {
            let (start, tenant) = (chunk.text.len(), random.below(tenants.len()));
            let detail = if random.below(1_000) < pii_per_mille {
                chunk.with_pii += 1;
                personal(random)
            } else {
                impersonal(random)
            };
            write_line(&mut chunk.text, random, tenants[tenant].as_str(), &detail);
            chunk.lines.push((start, chunk.text.len(), tenant));
        }
        chunk
    }
}

fn write_line(text: &mut String, random: &mut Random, tenant: &str, detail: &str) {
    const SERVICES: [&str; 5] = ["booking-api", "bot-gateway", "payments", "notifier", "rostering"];
    const MESSAGES: [&str; 6] = [
        "slot reserved for stylist after availability check in two calendars",
        "bot turn finished, intent resolved with high confidence by the model",
        "payment captured and receipt queued for delivery to the customer",
        "webhook accepted; signature verified, payload stored for processing",
        "cache refreshed from the database replica, entries revalidated",
        "reminder scheduled for the day before the appointment at noon",
    ];
    write!(
        text,
        "{{\"ts\":\"2026-09-{:02}T{:02}:{:02}:{:02}.{:03}Z\",\"level\":\"info\",\"service\":\"{}\",\
         \"tenant\":\"{tenant}\",\"trace_id\":\"{}\",\"span_id\":\"{}\",\"request_id\":\"{}-{}-4{}-a{}-{}\",\
         \"epoch_ms\":17{},\"msg\":\"{}\",{detail},\"order\":\"ORD-2026-{}\",\"amount\":{}.{},\
         \"ip\":\"10.{}.{}.{}\",\"duration_ms\":{},\"version\":\"4.{}.{}\"}}",
        1 + random.below(28), random.below(24), random.below(60), random.below(60), random.below(1_000),
        SERVICES[random.below(5)],
        random.hex(32), random.hex(16),
        random.hex(8), random.hex(4), random.hex(3), random.hex(3), random.hex(12),
        random.digits(11),
        MESSAGES[random.below(6)],
        random.digits(8), 100 + random.below(9_000), 10 + random.below(90),
        random.below(256), random.below(256), random.below(256),
        random.below(3_000), random.below(40), random.below(10),
    )
    .expect("writing to a string never fails");
}

fn impersonal(random: &mut Random) -> String {
    match random.below(3) {
        0 => format!("\"stylist_id\":{},\"chair\":{}", random.digits(5), random.below(20)),
        1 => format!("\"path\":\"/v2/bookings/{}?page={}\"", random.hex(24), random.below(9)),
        _ => format!(
            "\"model\":\"turn-3\",\"tokens\":{},\"score\":0.{}",
            random.below(4_000),
            random.digits(4)
        ),
    }
}

fn personal(random: &mut Random) -> String {
    let mobile = format!("9{}", random.digits(9));
    let name = format!("asha{}", random.digits(4));
    match random.below(8) {
        0 => format!("\"phone\":\"+91{mobile}\""),
        1 => format!("\"customer_mobile\":\"{} {}\"", &mobile[..5], &mobile[5..]),
        2 => format!("\"wa_id\":\"91{mobile}@s.whatsapp.net\""),
        3 => format!("\"email\":\"{name}@gmail.com\""),
        4 => format!("\"email\":\"{name}\\u0040outlook.de\""),
        5 => format!("\"note\":\"please call me on +91-{}-{} today\"", &mobile[..5], &mobile[5..]),
        6 => format!(
            "\"payload\":\"{{\\\"to\\\":\\\"+91{mobile}\\\",\\\"mail\\\":\\\"{name}@web.de\\\"}}\""
        ),
        _ => format!("\"msisdn\":91{mobile}"),
    }
}

//! Bytes per second of the redactor on one core: log lines with and without personal data, and
//! hostile input. `REDACT_BENCH_MB` sets the size of the generated log (40 by default).

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use blotter::pipeline::redact::plan::Region;
use blotter::pipeline::redact::{Policy, Redactor};
use sha2::{Digest, Sha256};

fn main() {
    let sha = megabytes_per_second(64 << 20, 3, || {
        let block = vec![7_u8; 1 << 20];
        let mut hash = Sha256::new();
        (0..64).for_each(|_| hash.update(&block));
        black_box(hash.finalize());
    });
    print(&format!("SHA-256 of this core: {sha:.0} MB/s"));
    for (name, personal_per_mille) in
        [("no personal data", 0), ("12 % of lines", 120), ("all", 1000)]
    {
        let lines = log_lines(size_bytes(), personal_per_mille);
        let bytes: usize = lines.iter().map(Vec::len).sum();
        let mut redactor = redactor();
        let mut out = Vec::new();
        let mut found = 0;
        let speed = megabytes_per_second(bytes, 3, || {
            found = 0;
            for line in &lines {
                found += redactor.redact(line, &mut out).total();
                black_box(&out);
            }
        });
        print(&format!(
            "{name}: {speed:.0} MB/s, {:.2} of SHA-256, {} lines of {} bytes, {found} findings",
            speed / sha,
            lines.len(),
            bytes / lines.len()
        ));
    }
    for (name, unit) in HOSTILE {
        let input = unit.repeat((1 << 20) / unit.len());
        let mut redactor = redactor();
        let mut out = Vec::new();
        let speed = megabytes_per_second(input.len(), 2, || {
            redactor.redact(&input, &mut out);
            black_box(&out);
        });
        print(&format!("hostile {name}: {speed:.1} MB/s"));
    }
}

const HOSTILE: [(&str, &[u8]); 16] = [
    ("1-1-1-", b"1-"),
    ("@@@@", b"@"),
    ("a@a@", b"a@"),
    ("%25%25", b"%25"),
    ("backslashes", b"\\"),
    ("{{{{", b"{"),
    ("[[[[", b"["),
    ("{\"a\":", b"{\"a\":"),
    ("digits", b"1234567890"),
    ("digit groups", b"98765 43210 "),
    ("quotes", b"\\\"@"),
    ("a at a dot", b"a at a dot "),
    ("entities", b"&#64;"),
    ("zero width", "9\u{200b}".as_bytes()),
    ("a=40a", b"a=40a"),
    ("(1)(1)", b"(1)"),
];

fn redactor() -> Redactor {
    let regions = ["IN", "DE"].map(|code| Region::parse(code).expect("a region"));
    Redactor::new(Policy::for_regions(&regions))
}

fn size_bytes() -> usize {
    #[expect(clippy::disallowed_methods, reason = "a bench's own switch")]
    let asked = std::env::var("REDACT_BENCH_MB").ok();
    asked.map_or(40, |text| text.parse().expect("REDACT_BENCH_MB is a number")) << 20
}

/// The best of `repeats`, by the processor time of this thread where the system tells it: other
/// work on the machine does not count.
fn megabytes_per_second(bytes: usize, repeats: u32, mut run: impl FnMut()) -> f64 {
    let seconds = (0..repeats)
        .map(|_| {
            let start = seconds();
            run();
            seconds() - start
        })
        .fold(f64::INFINITY, f64::min);
    bytes as f64 / seconds.max(1e-9) / 1e6
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn seconds() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let nanoseconds = std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(
        || START.get_or_init(Instant::now).elapsed().as_secs_f64(),
        |nanoseconds| nanoseconds / 1e9,
    )
}

#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
fn print(line: &str) {
    println!("{line}");
}

/// A small deterministic generator (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'0' + (self.next() % 10) as u8)).collect()
    }
}

/// Lines of a booking service: times, ids, addresses, money, versions in each.
fn log_lines(bytes: usize, personal_per_mille: u64) -> Vec<Vec<u8>> {
    let mut random = Random(1);
    let mut lines = Vec::new();
    let mut total = 0;
    while total < bytes {
        let is_personal = random.below(1000) < personal_per_mille;
        let line = log_line(&mut random, is_personal);
        total += line.len();
        lines.push(line.into_bytes());
    }
    lines
}

fn log_line(random: &mut Random, is_personal: bool) -> String {
    let mut line = String::with_capacity(640);
    let (a, b, c, d) = (random.next(), random.next(), random.next(), random.next());
    let service = ["booking-api", "bot-orchestrator", "payments", "notifier"][(a % 4) as usize];
    write!(
        line,
        "{{\"ts\":\"2026-11-{:02}T{:02}:{:02}:{:02}.{:03}Z\",\"level\":\"info\",\"service\":\"{service}\",\
         \"tenant\":\"salon-{}\",\"trace_id\":\"{a:016x}{b:016x}\",\"span_id\":\"{c:016x}\",\
         \"request_id\":\"{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}\",\"at\":17{},\"order_id\":\"{}\",\
         \"ip\":\"10.{}.{}.{}\",\"amount\":{}.{:02},\"version\":\"v{}.{}.{}\",\"duration_ms\":{}.{:03},",
        1 + a % 28,
        b % 24,
        c % 60,
        d % 60,
        a % 1000,
        b % 500,
        a as u32,
        b as u16,
        c % 4096,
        d % 4096,
        d & 0xffff_ffff_ffff,
        random.digits(11),
        random.digits(10),
        a % 256,
        b % 256,
        c % 256,
        d % 5000,
        a % 100,
        b % 20,
        c % 30,
        d % 40,
        a % 900,
        b % 1000
    )
    .expect("strings grow");
    line.push_str(&if is_personal { personal(random) } else { plain(random) });
    line.push('}');
    line
}

fn plain(random: &mut Random) -> String {
    match random.below(4) {
        0 => "\"msg\":\"slot engine recalculated, 12 of 40 staff free\",\"path\":\"/api/v1/slots?from=2026-11-20&staff=74271857\",\"status\":200".to_owned(),
        1 => format!("\"msg\":\"bot.turn\",\"session\":\"01RKWE60{}\",\"turn\":7,\"role\":\"user\",\"text\":\"do you have a slot tomorrow at half past ten for a haircut?\",\"tokens\":197", random.digits(8)),
        2 => "\"msg\":\"consumer rebalanced\",\"partition\":12,\"offset\":3993370178,\"lag\":7776657,\"thread\":\"http-nio-8080-exec-169\",\"logger\":\"in.cazo.queue.Consumer\"".to_owned(),
        _ => "\"msg\":\"cache warmed for the evening, no errors\",\"items\":4595,\"node\":\"ip-10-17-194-102.ap-south-1.compute.internal\",\"pod\":\"api-f7jh5qjsm-7qklt\"".to_owned(),
    }
}

fn personal(random: &mut Random) -> String {
    let mobile = format!("9{}", random.digits(9));
    let (left, right) = mobile.split_at(5);
    match random.below(8) {
        0 => format!(
            "\"msg\":\"otp sent\",\"mobile\":\"+91{mobile}\",\"provider\":\"exotel\",\"attempt\":1"
        ),
        1 => format!(
            "\"msg\":\"recv\",\"chat\":\"91{mobile}@s.whatsapp.net\",\"kind\":\"text\",\"size\":120"
        ),
        2 => format!(
            "\"msg\":\"mail queued\",\"to\":\"guest.{left}@gmail.com\",\"template\":\"reminder_v4\""
        ),
        3 => format!("\"msg\":\"lookup\",\"phone\":{mobile},\"store\":\"pune-2\",\"hit\":true"),
        4 => format!(
            "\"msg\":\"bot.turn\",\"role\":\"user\",\"text\":\"my number is {left} {right}, call me after six please\",\"turn\":3"
        ),
        5 => format!(
            "\"msg\":\"webhook\",\"body\":\"{{\\\"from\\\":\\\"91{mobile}\\\",\\\"text\\\":\\\"slot for two?\\\"}}\""
        ),
        6 => format!(
            "\"msg\":\"request\",\"path\":\"/search?q=guest{left}%40yahoo.co.in&tel=%2B91{mobile}\",\"status\":200"
        ),
        _ => format!(
            "\"msg\":\"note by staff: prefers balayage, mobile 0{left}-{right}, pays by card\",\"booking\":\"B-{left}\""
        ),
    }
}

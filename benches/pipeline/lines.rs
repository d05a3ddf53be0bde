//! Generated log lines: 465 bytes on average, as several services of a booking platform write them.

use std::fmt::Write as _;

use blotter::pipeline::record::Timestamp;

const SERVICES: [&str; 5] = ["booking-api", "bot-gateway", "payments", "notifier", "rostering"];

const MESSAGES: [&str; 6] = [
    "slot reserved for stylist after availability check in two calendars",
    "bot turn finished, intent resolved with high confidence by the model",
    "payment captured and receipt queued for delivery to the customer",
    "webhook accepted; signature verified, payload stored for processing",
    "cache refreshed from the database replica, entries revalidated",
    "reminder scheduled for the day before the appointment at noon",
];

/// An endless source of lines, the same for the same seed.
pub(crate) struct Lines {
    random: Random,
    tenants: usize,
    text: String,
}

impl Lines {
    pub(crate) fn new(seed: u64, tenants: usize) -> Self {
        Self { random: Random(seed), tenants, text: String::new() }
    }

    /// The next line, written at `now`; 12 of 100 hold personal data.
    pub(crate) fn next(&mut self, now: Timestamp) -> &str {
        let random = &mut self.random;
        let detail = if random.below(1_000) < 120 { personal(random) } else { impersonal(random) };
        let level = if random.below(100) < 2 { "error" } else { "info" };
        self.text.clear();
        write!(
            self.text,
            "{{\"ts\":\"{}\",\"level\":\"{level}\",\"service\":\"{}\",\"tenant\":\"salon-{:03}\",\
             \"trace_id\":\"{}\",\"request_id\":\"{}-{}-4{}-a{}-{}\",\
             \"epoch_ms\":{},\"msg\":\"{}\",{detail},\"order\":\"ORD-2026-{}\",\"amount\":{}.{},\
             \"ip\":\"10.{}.{}.{}\",\"duration_ms\":{},\"pod\":\"booking-{}-{}\",\"version\":\"4.{}.{}\"}}",
            now.to_rfc3339(),
            SERVICES[random.below(5)],
            random.below(self.tenants),
            random.hex(32),
            random.hex(8), random.hex(4), random.hex(3), random.hex(3), random.hex(12),
            now.millis(),
            MESSAGES[random.below(6)],
            random.digits(8), 100 + random.below(9_000), 10 + random.below(90),
            random.below(256), random.below(256), random.below(256),
            random.below(3_000), random.hex(9), random.hex(5), random.below(40), random.below(10),
        )
        .expect("writing to a string does not fail");
        &self.text
    }
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

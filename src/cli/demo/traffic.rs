//! Made-up traffic of a salon booking platform: several services, twelve tenants in India and
//! Europe, bot conversations with handovers, staff actions, and phone numbers and e-mail addresses
//! in the forms in which real services log them. The same seed makes the same traffic.

use crate::pipeline::record::Timestamp;

/// One record to produce, with what was hidden in it.
#[derive(Clone)]
pub(super) struct Message {
    /// Record key.
    pub(super) key: Option<String>,
    /// Record value.
    pub(super) value: String,
    /// Personal data as the writer knows them: digits of numbers, local parts of addresses.
    pub(super) planted: Vec<Planted>,
    /// A bot session started here, or was handed over here.
    pub(super) session: Option<SessionStep>,
    /// Severity is error.
    pub(super) is_error: bool,
}

/// A value that must not be found in any output.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Planted {
    /// National digits of a phone number.
    Phone(String),
    /// An e-mail address's local part.
    Email(String),
}

/// What a bot record reports.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionStep {
    /// A conversation began.
    Started,
    /// A person took over.
    HandedOver,
}

/// State of the platform.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Two errors in a hundred.
    Calm,
    /// The booking API of one tenant answers 500 to most requests.
    Incident,
}

/// The tenant that the incident hits.
pub(super) const INCIDENT_TENANT: &str = "lakme-pune";

const TENANTS: [(&str, Region); 12] = [
    (INCIDENT_TENANT, Region::India),
    ("bangalore-beauty", Region::India),
    ("chennai-cuts", Region::India),
    ("delhi-darlings", Region::India),
    ("mumbai-mane", Region::India),
    ("kolkata-curls", Region::India),
    ("berlin-haar", Region::Germany),
    ("muenchen-friseur", Region::Germany),
    ("paris-coiffure", Region::France),
    ("lyon-belle", Region::France),
    ("london-locks", Region::Britain),
    ("leeds-lounge", Region::Britain),
];

const FIRST_NAMES: [&str; 8] =
    ["asha", "ravi", "meera", "jonas", "lena", "camille", "oliver", "priya"];
const LAST_NAMES: [&str; 8] =
    ["iyer", "khan", "patel", "weber", "schulz", "moreau", "hughes", "nair"];
const MAIL_DOMAINS: [&str; 5] = ["gmail.com", "outlook.in", "web.de", "orange.fr", "salon.co.uk"];

#[derive(Clone, Copy)]
enum Region {
    India,
    Germany,
    France,
    Britain,
}

/// The generator.
pub(super) struct Traffic {
    random: Random,
    sessions: u64,
    open_sessions: Vec<(usize, String)>,
    serial: u64,
}

impl Traffic {
    /// Traffic of `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random(seed | 1), sessions: 0, open_sessions: Vec::new(), serial: 0 }
    }

    /// The next record at `now`.
    pub(super) fn next(&mut self, phase: Phase, now: Timestamp) -> Message {
        self.serial += 1;
        let tenant = self.random.below(TENANTS.len());
        if phase == Phase::Incident && self.random.below(100) < 25 {
            return self.booking(0, 70, now);
        }
        match self.random.below(100) {
            0..40 => self.booking(tenant, 2, now),
            40..62 => self.bot(tenant, now),
            62..70 => self.staff_action(tenant, now),
            70..80 => self.notification(tenant, now),
            80..88 => self.payment(tenant, now),
            88..94 => self.access_line(tenant, now),
            _ => self.noise(now),
        }
    }

    fn booking(&mut self, tenant: usize, error_percent: usize, now: Timestamp) -> Message {
        let is_error = self.random.below(100) < error_percent;
        let (level, status) = if is_error { ("error", 500) } else { ("info", 201) };
        let phone = self.phone(tenant);
        let with_customer = self.random.below(100) < 30;
        let customer = if with_customer {
            let email = self.email();
            let text = format!(
                r#","customer":{{"name":"{}","mobile":"{}","email":"{}"}}"#,
                email.shown, phone.shown, email.shown
            );
            (text, vec![phone.planted, email.planted])
        } else {
            (String::new(), Vec::new())
        };
        let value = format!(
            r#"{{"@timestamp":"{}","level":"{level}","service":"booking-api","tenant_id":"{}","trace_id":"{:032x}","msg":"POST /v2/bookings","status":{status},"latency_ms":{},"booking_id":"BK-{}"{}}}"#,
            now.to_rfc3339(),
            TENANTS[tenant].0,
            self.random.wide(),
            20 + self.random.below(300),
            10_000_000 + self.serial,
            customer.0,
        );
        message(Some(TENANTS[tenant].0.to_owned()), value, customer.1).error(is_error)
    }

    fn bot(&mut self, tenant: usize, now: Timestamp) -> Message {
        let start = self.open_sessions.len() < 40 && self.random.below(100) < 30;
        if start || self.open_sessions.is_empty() {
            return self.session_start(tenant, now);
        }
        let index = self.random.below(self.open_sessions.len());
        let handover = self.random.below(100) < 6;
        let (tenant, session) = if handover {
            self.open_sessions.swap_remove(index)
        } else {
            self.open_sessions[index].clone()
        };
        let mut planted = vec![session_phone(&session)];
        let (event, text) = if handover {
            ("bot.handover", "connecting you with our team".to_owned())
        } else if self.random.below(100) < 20 {
            let phone = self.phone(tenant);
            planted.push(phone.planted);
            ("bot.turn", format!("my number is {}", phone.shown))
        } else {
            ("bot.turn", "can I book a haircut on Friday at 18:30?".to_owned())
        };
        let value = format!(
            r#"{{"ts":{},"level":"info","service":"bot-gateway","tenant":"{}","event":"{event}","session_id":"{session}","text":"{text}","tokens":{}}}"#,
            now.millis(),
            TENANTS[tenant].0,
            50 + self.random.below(400),
        );
        let step = handover.then_some(SessionStep::HandedOver);
        Message { session: step, ..message(Some(session), value, planted) }
    }

    fn session_start(&mut self, tenant: usize, now: Timestamp) -> Message {
        self.sessions += 1;
        let session = format!(
            "91{}@s.whatsapp.net",
            6_000_000_000_u64 + self.sessions * 7_919 % 3_999_999_999
        );
        self.open_sessions.push((tenant, session.clone()));
        let value = format!(
            r#"{{"ts":{},"level":"info","service":"bot-gateway","tenant":"{}","event":"bot.session_started","session_id":"{session}","channel":"whatsapp"}}"#,
            now.millis(),
            TENANTS[tenant].0,
        );
        let planted = vec![session_phone(&session)];
        Message { session: Some(SessionStep::Started), ..message(Some(session), value, planted) }
    }

    fn staff_action(&mut self, tenant: usize, now: Timestamp) -> Message {
        let actions = ["booking.cancel", "booking.move", "customer.update", "refund.issue"];
        let action = actions[self.random.below(actions.len())];
        let email = self.email();
        let value = format!(
            r#"{{"time":"{}","severity":"INFO","service":"staff-portal","tenant_id":"{}","event":"staff.action","action":"{action}","actor":"{}","actor_type":"staff","object":"booking/{}","outcome":"success"}}"#,
            now.to_rfc3339(),
            TENANTS[tenant].0,
            email.shown,
            10_000_000 + self.random.below(1_000_000),
        );
        message(Some(TENANTS[tenant].0.to_owned()), value, vec![email.planted])
    }

    fn notification(&mut self, tenant: usize, now: Timestamp) -> Message {
        let (phone, email) = (self.phone(tenant), self.email());
        let inner = format!(
            r#"{{\"to\":\"{}\",\"cc\":\"{}\",\"template\":\"reminder_v4\"}}"#,
            phone.shown,
            email.shown.replace('@', "\\\\u0040")
        );
        let value = format!(
            r#"{{"@timestamp":"{}","level":"info","service":"notifications","tenant_id":"{}","message":"sms queued","payload":"{inner}"}}"#,
            now.to_rfc3339(),
            TENANTS[tenant].0,
        );
        message(None, value, vec![phone.planted, email.planted])
    }

    fn payment(&mut self, tenant: usize, now: Timestamp) -> Message {
        let phone = self.phone(tenant);
        let value = format!(
            "time={} level=info service=payments tenant={} msg=\"upi collect\" amount={}.00 order=ORD{:012} phone=\"{}\"",
            now.to_rfc3339(),
            TENANTS[tenant].0,
            200 + self.random.below(4_000),
            self.serial,
            phone.shown,
        );
        message(None, value, vec![phone.planted])
    }

    fn access_line(&mut self, tenant: usize, now: Timestamp) -> Message {
        let email = self.email();
        let value = format!(
            "10.2.3.{} - - [{}] \"GET /api/customers?email={}&tenant={} HTTP/1.1\" 200 {}",
            self.random.below(255),
            now.to_rfc3339(),
            email.shown.replace('@', "%40"),
            TENANTS[tenant].0,
            self.random.below(9_000),
        );
        message(None, value, vec![email.planted])
    }

    fn noise(&mut self, now: Timestamp) -> Message {
        let value = format!(
            r#"{{"ts":{},"level":"debug","service":"scheduler","msg":"tick","seq":{},"uuid":"{:08x}-1c2d-4e5f-8a9b-{:012x}","next":{}}}"#,
            now.millis(),
            self.serial,
            self.random.below(1 << 30),
            self.random.below(1 << 40),
            now.millis() + 60_000,
        );
        message(None, value, Vec::new())
    }

    fn phone(&mut self, tenant: usize) -> Written {
        let form = self.random.below(4);
        let number = |random: &mut Random, digits: u32| {
            let low = 10_u64.pow(digits - 1);
            (low + random.next() % (9 * low)).to_string()
        };
        match TENANTS[tenant].1 {
            Region::India => {
                let national = format!("9{}", number(&mut self.random, 9));
                let shown = match form {
                    0 => format!("+91{national}"),
                    1 => format!("+91 {} {}", &national[..5], &national[5..]),
                    2 => national.clone(),
                    _ => format!("0{}-{}", &national[..5], &national[5..]),
                };
                Written::phone(shown, national)
            }
            Region::Germany => {
                let national = format!("151{}", number(&mut self.random, 8));
                let shown = match form {
                    0 => format!("+49{national}"),
                    1 => format!("+49 {} {}", &national[..3], &national[3..]),
                    _ => format!("0{}/{}", &national[..3], &national[3..]),
                };
                Written::phone(shown, national)
            }
            Region::France => {
                let national = format!("6{}", number(&mut self.random, 8));
                let pairs: Vec<&str> = (1..9).step_by(2).map(|at| &national[at..at + 2]).collect();
                let shown = match form {
                    0 => format!("+33{national}"),
                    _ => format!("06 {}", pairs.join(" ")),
                };
                Written::phone(shown, national)
            }
            Region::Britain => {
                let national = format!("7911{}", number(&mut self.random, 6));
                let shown = match form {
                    0 => format!("+44{national}"),
                    1 => format!("+44 (0){} {}", &national[..4], &national[4..]),
                    _ => format!("0{} {}", &national[..4], &national[4..]),
                };
                Written::phone(shown, national)
            }
        }
    }

    fn email(&mut self) -> Written {
        let first = FIRST_NAMES[self.random.below(FIRST_NAMES.len())];
        let last = LAST_NAMES[self.random.below(LAST_NAMES.len())];
        let local = format!("{first}.{last}{}", self.random.below(90) + 10);
        let domain = MAIL_DOMAINS[self.random.below(MAIL_DOMAINS.len())];
        Written { shown: format!("{local}@{domain}"), planted: Planted::Email(local) }
    }
}

struct Written {
    shown: String,
    planted: Planted,
}

impl Written {
    fn phone(shown: String, national: String) -> Self {
        Self { shown, planted: Planted::Phone(national) }
    }
}

impl Planted {
    /// Whether `output` still shows the value, however its digits are separated.
    pub(super) fn survives_in(&self, output: &str) -> bool {
        match self {
            Self::Email(local) => output.contains(local.as_str()),
            Self::Phone(digits) => {
                let separators = [' ', '-', '.', '(', ')', '/'];
                output.replace(separators, "").contains(digits.as_str())
            }
        }
    }
}

impl Message {
    fn error(mut self, is_error: bool) -> Self {
        self.is_error = is_error;
        self
    }
}

fn message(key: Option<String>, value: String, planted: Vec<Planted>) -> Message {
    Message { key, value, planted, session: None, is_error: false }
}

fn session_phone(session: &str) -> Planted {
    let national = session.get(2..12).expect("a session id begins with 91 and ten digits");
    Planted::Phone(national.to_owned())
}

/// xorshift64* (Vigna 2016): good enough to make traffic with.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits fit") % bound
    }

    fn wide(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_traffic() {
        let lines = |seed| {
            let mut traffic = Traffic::new(seed);
            (0..500)
                .map(|_| traffic.next(Phase::Incident, Timestamp::from_millis(1)).value)
                .collect::<Vec<_>>()
        };
        assert_eq!(lines(7), lines(7));
        assert_ne!(lines(7), lines(8));
    }

    #[test]
    fn json_lines_are_json() {
        let mut traffic = Traffic::new(3);
        for _ in 0..2_000 {
            let message = traffic.next(Phase::Calm, Timestamp::from_millis(1_700_000_000_000));
            if message.value.starts_with('{') {
                serde_json::from_str::<serde_json::Value>(&message.value)
                    .unwrap_or_else(|error| panic!("{error}: {}", message.value));
            }
        }
    }
}

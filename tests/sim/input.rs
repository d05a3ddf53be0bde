//! What the services of the simulated deployment log, and what must become of it.

use crate::rng::Rng;

/// One record that was written to the source, and what a reader of the output must see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) timestamp_ms: i64,
    pub(crate) value: String,
    /// The redacted value; `None` when the record must go to the dead letters.
    pub(crate) redacted: Option<String>,
    pub(crate) tenant: String,
    pub(crate) is_error: bool,
}

impl Input {
    /// The value that the stand-in for SCRUB must write.
    pub(crate) fn copied(&self) -> Option<String> {
        self.redacted.as_ref().map(|_| self.value.to_ascii_uppercase())
    }
}

const POISON: &[u8] = b"poison";

/// Whether a record makes the stage panic.
pub(crate) fn is_poison(value: &[u8]) -> bool {
    value.windows(POISON.len()).any(|window| window == POISON)
}

/// One log line, the `number`th of its partition; nearly all are errors during an incident.
pub(crate) fn line(rng: &mut Rng, number: usize, timestamp_ms: i64, incident: bool) -> Input {
    let is_error = if incident { !rng.one_in(10) } else { rng.one_in(20) };
    let tenant = format!("salon-{}", rng.below(3));
    let level = if is_error { "error" } else { "info" };
    let value = |text: &str| {
        format!(
            "{{\"level\":\"{level}\",\"service\":\"booking-api\",\"tenant\":\"{tenant}\",\
             \"message\":\"{text}\"}}"
        )
    };
    let (written, redacted) = match rng.below(60) {
        0 => (value(&format!("poison {number}")), None),
        1..20 => (
            value(&format!("mail {number} to asha{number}@example.com sent")),
            Some(value(&format!("mail {number} to [email] sent"))),
        ),
        _ => {
            let same = value(&format!("booking {number} confirmed"));
            (same.clone(), Some(same))
        }
    };
    Input { timestamp_ms, value: written, redacted, tenant, is_error }
}

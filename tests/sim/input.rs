//! What the services of the simulated deployment log, and what must become of it.

use crate::rng::Rng;

/// One record that was written to the source, and what a reader of the output must see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) timestamp_ms: i64,
    pub(crate) value: String,
    /// The redacted value; `None` when the record must go to the dead letters.
    pub(crate) expected: Option<String>,
}

const POISON: &[u8] = b"poison";

/// Whether a record makes the stage panic.
pub(crate) fn is_poison(value: &[u8]) -> bool {
    value.windows(POISON.len()).any(|window| window == POISON)
}

/// One log line, the `number`th of its partition.
pub(crate) fn line(rng: &mut Rng, number: usize, timestamp_ms: i64) -> Input {
    if rng.one_in(60) {
        let value = format!("{{\"message\":\"poison {number}\"}}");
        return Input { timestamp_ms, value, expected: None };
    }
    let value = format!("{{\"level\":\"info\",\"message\":\"booking {number} confirmed\"}}");
    let expected = Some(value.to_uppercase());
    Input { timestamp_ms, value, expected }
}

//! What bots and staff report, told from the fields of a record. The vocabularies of Rasa, Lex,
//! Dialogflow and plain `bot.*` event names; all on by default.

use super::collect::Collector;
use super::kind::FieldKind;
use super::log_record::{BotFact, HandoverReason, SplitLine, StaffAction, Tokens, Turn};
use super::names::{NameTable, Unit};

/// What the record says a bot did.
pub(super) fn bot_fact(found: &Collector<'_>) -> Option<BotFact> {
    let mut fact = BotFact::default();
    if let Some(event) = found.text_of(FieldKind::Event) {
        let event = normalised(event);
        match event.strip_prefix_any(BOT_PREFIXES) {
            Some(name) => apply_event(&mut fact, name, found),
            None if found.has(FieldKind::Sender) => apply_rasa(&mut fact, event.as_str(), found),
            None => apply_bare(&mut fact, event.as_str(), found),
        }
    }
    apply_flags(&mut fact, found);
    if fact.handover.is_some() {
        fact.handover = Some(handover_reason(found));
    }
    (fact != BotFact::default()).then_some(fact)
}

/// Whether an application wrote the record, about somebody or something said: its message is no
/// record of its own, but may hold whatever a user typed.
pub(super) fn is_own_record(found: &Collector<'_>) -> bool {
    let told = [FieldKind::Tenant, FieldKind::Actor, FieldKind::Action];
    told.iter().any(|kind| found.has(*kind)) || is_of_conversation(found)
}

/// Whether the record's message is what somebody said.
pub(super) fn is_of_conversation(found: &Collector<'_>) -> bool {
    let told = [FieldKind::Session, FieldKind::Role, FieldKind::Sender];
    told.iter().any(|kind| found.has(*kind)) || bot_fact(found).is_some()
}

const BOT_PREFIXES: &[&str] = &[
    "bot.",
    "chatbot.",
    "assistant.",
    "conversation.",
    "chat.",
    "ai.",
    "dialog.",
    "bot_",
    "chatbot_",
];

fn apply_event(fact: &mut BotFact, name: &str, found: &Collector<'_>) {
    match name {
        "session_started" | "session_start" | "session.started" | "session.start" | "started"
        | "start" => fact.session_started = true,
        "session_ended" | "session_end" | "session.ended" | "session.end" | "ended" | "end"
        | "closed" | "completed" | "session_closed" => fact.session_ended = true,
        "turn" | "exchange" => fact.turn = Some(turn_of_role(found).unwrap_or(Turn::Exchange)),
        "message" => fact.turn = Some(turn_of_role(found).unwrap_or(Turn::Bot)),
        "reply" | "response" | "bot_message" | "message_sent" | "message.sent" => {
            fact.turn = Some(Turn::Bot);
        }
        "user_message" | "message_received" | "message.received" | "user_turn" => {
            fact.turn = Some(Turn::User);
        }
        _ if is_handover(name) => fact.handover = Some(HandoverReason::Other),
        _ if is_fallback(name) => fact.fallback = true,
        _ => {}
    }
}

/// Rasa's event broker: every record has a `sender_id` and an `event` from a fixed set.
fn apply_rasa(fact: &mut BotFact, event: &str, found: &Collector<'_>) {
    match event {
        "session_started" => fact.session_started = true,
        "session_ended" | "restart" => fact.session_ended = true,
        "user" => fact.turn = Some(Turn::User),
        "bot" => fact.turn = Some(Turn::Bot),
        "action" => {
            let name = normalised(found.text_of(FieldKind::StepName).unwrap_or_default());
            let name = name.as_str().trim_start_matches("action_");
            fact.fallback = is_fallback(name);
            if is_handover(name) {
                fact.handover = Some(HandoverReason::Other);
            }
        }
        _ => {}
    }
}

/// Names that mean a bot only where a conversation is named too.
fn apply_bare(fact: &mut BotFact, event: &str, found: &Collector<'_>) {
    if found.has(FieldKind::Session) && is_handover(event) {
        fact.handover = Some(HandoverReason::Other);
    }
}

fn apply_flags(fact: &mut BotFact, found: &Collector<'_>) {
    let in_conversation = fact.turn.is_some() || found.has(FieldKind::Session);
    if !in_conversation {
        return;
    }
    let is_set = |kind| found.text_of(kind).is_some_and(|text| !is_false(text));
    if is_set(FieldKind::Handover) {
        fact.handover = Some(HandoverReason::Other);
    }
    fact.fallback |= is_set(FieldKind::Fallback);
    if let Some(intent) = found.text_of(FieldKind::Intent) {
        let intent = normalised(intent);
        let intent = intent.as_str();
        fact.fallback |= is_fallback(intent) || intent.ends_with("fallbackintent");
        if is_handover(intent) {
            fact.handover = Some(HandoverReason::Other);
        }
    }
}

fn is_handover(name: &str) -> bool {
    let name = name.strip_prefix("pattern_").unwrap_or(name);
    let name = name.strip_prefix("human_").unwrap_or(name);
    [
        "handover",
        "handoff",
        "hand_off",
        "hand_over",
        "escalat",
        "transfer_to_human",
        "transfer_to_agent",
    ]
    .iter()
    .any(|word| name.starts_with(word))
        || name == "transferred_to_human"
        || name == "agent_requested"
}

fn is_fallback(name: &str) -> bool {
    matches!(
        name,
        "fallback"
            | "fallback_triggered"
            | "default_fallback"
            | "action_default_fallback"
            | "default_fallback_intent"
            | "nlu_fallback"
            | "not_understood"
            | "no_match"
            | "two_stage_fallback"
            | "out_of_scope"
    )
}

fn turn_of_role(found: &Collector<'_>) -> Option<Turn> {
    let role = normalised(found.text_of(FieldKind::Role)?);
    match role.as_str() {
        "user" | "customer" | "human" | "guest" => Some(Turn::User),
        "bot" | "assistant" | "model" | "ai" => Some(Turn::Bot),
        _ => None,
    }
}

fn handover_reason(found: &Collector<'_>) -> HandoverReason {
    let Some(reason) = found.text_of(FieldKind::Reason) else { return HandoverReason::Other };
    let reason = normalised(reason);
    let mentions = |words: &[&str]| words.iter().any(|word| reason.as_str().contains(word));
    match () {
        () if mentions(&["timeout", "timed_out", "time_out", "no_response"]) => {
            HandoverReason::Timeout
        }
        () if mentions(&[
            "confiden",
            "understood",
            "understand",
            "fallback",
            "no_match",
            "unknown_intent",
        ]) =>
        {
            HandoverReason::LowConfidence
        }
        () if mentions(&["user", "customer", "human", "requested", "agent_request"]) => {
            HandoverReason::UserRequest
        }
        () if mentions(&["policy", "rule", "complaint", "sensitive", "compliance", "vip"]) => {
            HandoverReason::Policy
        }
        () if mentions(&["error", "exception", "fail", "unavailable", "5xx"]) => {
            HandoverReason::Error
        }
        () => HandoverReason::Other,
    }
}

/// Whether somebody acted: an action together with an actor who is neither customer nor machine.
pub(super) fn staff_action(found: &Collector<'_>, table: &NameTable) -> Option<StaffAction> {
    let event = found.text_of(FieldKind::Event).map(normalised);
    let is_staff_event = event.is_some_and(|event| {
        event.strip_prefix_any(&["staff.", "staff_", "audit.", "admin.", "admin_"]).is_some()
    });
    if is_staff_event && (found.has(FieldKind::Actor) || found.has(FieldKind::Action)) {
        return Some(StaffAction::Explicit);
    }
    let actor = found.candidate(FieldKind::Actor)?;
    let action = found.candidate(FieldKind::Action)?;
    let role = found.text_of(FieldKind::ActorType).map(normalised);
    if let Some(role) = &role {
        if NO_STAFF.iter().any(|other| role.as_str().starts_with(other)) {
            return None;
        }
        if STAFF.iter().any(|staff| role.as_str().starts_with(staff)) {
            return Some(StaffAction::Explicit);
        }
    }
    let means_staff = |source| match source {
        super::collect::Source::Name(id) => {
            let name = table.name(id);
            let is_staff = |word: &&str| name.path.starts_with(word);
            name.is_configured
                || ["staff", "employee", "stylist", "admin", "operator"].iter().any(is_staff)
        }
        _ => false,
    };
    let is_explicit = means_staff(actor.source) || means_staff(action.source);
    Some(if is_explicit { StaffAction::Explicit } else { StaffAction::Inferred })
}

const NO_STAFF: &[&str] = &[
    "customer",
    "client",
    "guest",
    "bot",
    "chatbot",
    "assistant",
    "system",
    "service",
    "cron",
    "anonymous",
    "machine",
    "scheduler",
    "public",
];

const STAFF: &[&str] = &[
    "staff",
    "admin",
    "manager",
    "owner",
    "employee",
    "stylist",
    "receptionist",
    "operator",
    "support",
    "agent",
    "superuser",
];

/// Milliseconds from a number in the name's unit, or from text with a unit (`12.5ms`, `1.2s`). A
/// bare number under a name without a unit means nothing.
pub(super) fn latency_ms(found: &Collector<'_>, table: &NameTable) -> Option<f64> {
    let candidate = found.candidate(FieldKind::Latency)?;
    let unit = match candidate.source {
        super::collect::Source::Name(id) => table.name(id).unit,
        _ => Unit::Plain,
    };
    let text = candidate.text.trim();
    let millis = match text.parse::<f64>() {
        Ok(number) => match unit {
            Unit::Milliseconds => number,
            Unit::Seconds => number * 1e3,
            Unit::Nanoseconds => number / 1e6,
            _ => return None,
        },
        Err(_) => {
            let digits = text.trim_end_matches(|c: char| c.is_alphabetic());
            let number = digits.trim_end().parse::<f64>().ok()?;
            match &text[digits.len()..] {
                "ns" => number / 1e6,
                "us" | "µs" | "μs" => number / 1e3,
                "ms" => number,
                "s" | "sec" => number * 1e3,
                "m" | "min" => number * 6e4,
                _ => return None,
            }
        }
    };
    (millis.is_finite() && millis >= 0.0).then_some(millis)
}

/// A finite number under `kind`.
pub(super) fn number(found: &Collector<'_>, kind: FieldKind) -> Option<f64> {
    let number = found.text_of(kind)?.trim().parse::<f64>().ok()?;
    number.is_finite().then_some(number)
}

/// Model tokens, if the record reports any.
pub(super) fn tokens(found: &Collector<'_>) -> Option<Tokens> {
    let count = |kind| found.text_of(kind).and_then(|text| text.parse::<u64>().ok());
    let (input, output) = (count(FieldKind::TokensInput), count(FieldKind::TokensOutput));
    let total = count(FieldKind::TokensTotal);
    input.or(output).or(total)?;
    let (input, output) = (input.unwrap_or(0), output.unwrap_or(0));
    Some(Tokens { input, output, total: total.unwrap_or_else(|| input.saturating_add(output)) })
}

/// Whether fields say that the record is a piece of a longer line: Docker's and Fluent's
/// `partial_*`, CRI's `_p` and `logtag`, or a Docker `log` of full length without its newline.
pub(super) fn split_line(found: &Collector<'_>) -> SplitLine {
    if let Some(flag) = found.text_of(FieldKind::PartialFlag) {
        if matches!(flag, "P" | "F") {
            return SplitLine { cut_at_start: false, cut_at_end: flag == "P" };
        }
        let is_first = found.text_of(FieldKind::PartialOrdinal).is_some_and(|text| text == "1");
        let is_last = found.text_of(FieldKind::PartialLast).is_some_and(|text| !is_false(text));
        let is_partial = !is_false(flag);
        return SplitLine {
            cut_at_start: is_partial && !is_first,
            cut_at_end: is_partial && !is_last,
        };
    }
    let is_cut = found.has(FieldKind::Stream)
        && found.message.is_some_and(|message| {
            message.text.len() >= DOCKER_PIECE_BYTES
                && !message.text.ends_with("\\n")
                && message.decoded().len() >= DOCKER_PIECE_BYTES
        });
    SplitLine { cut_at_start: false, cut_at_end: is_cut }
}

/// Docker cuts at 16 KiB; a character cut in half takes up to three bytes less.
const DOCKER_PIECE_BYTES: usize = 16 * 1024 - 3;

fn is_false(text: &str) -> bool {
    ["false", "0", "no", "null", "none", "off"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Lower case, `-`, `:`, `/` and spaces as their usual twins; cut at what no name of ours reaches.
struct Normalised {
    bytes: [u8; 64],
    len: usize,
}

impl Normalised {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).expect("only ASCII is stored")
    }

    fn strip_prefix_any(&self, prefixes: &[&str]) -> Option<&str> {
        prefixes.iter().find_map(|prefix| self.as_str().strip_prefix(prefix))
    }
}

fn normalised(text: &str) -> Normalised {
    let mut bytes = [0; 64];
    let len = text.len().min(bytes.len());
    for (out, byte) in bytes.iter_mut().zip(text.bytes()) {
        *out = match byte.to_ascii_lowercase() {
            b'-' | b' ' => b'_',
            b':' | b'/' => b'.',
            byte if byte.is_ascii() => byte,
            _ => b'?',
        };
    }
    Normalised { bytes, len }
}

//! The kinds of fields that rules look for.

/// What a field means. The order of [`FieldKind::ALL`] is the order in which `explain` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FieldKind {
    /// How bad the record says things are.
    Severity,
    /// The time the record gives for itself.
    EventTime,
    /// The message: looked into for a nested record, kept nowhere.
    Message,
    /// The service that wrote the record.
    Service,
    /// The tenant.
    Tenant,
    /// Name of the event.
    Event,
    /// What was done.
    Action,
    /// Who did it.
    Actor,
    /// Role or type of the actor.
    ActorType,
    /// What it was done to.
    Object,
    /// Type of the object.
    ObjectType,
    /// How it ended.
    Outcome,
    /// Why.
    Reason,
    /// Conversation or session.
    Session,
    /// What the bot understood.
    Intent,
    /// Flag: handed over to a human.
    Handover,
    /// Flag: not understood.
    Fallback,
    /// Who speaks in a turn.
    Role,
    /// Name of a step of a conversation (Rasa).
    StepName,
    /// Sender of a conversation (Rasa).
    Sender,
    /// Duration.
    Latency,
    /// Rating in stars.
    Rating,
    /// Prompt tokens.
    TokensInput,
    /// Completion tokens.
    TokensOutput,
    /// All tokens.
    TokensTotal,
    /// Value of a booking.
    BookingValue,
    /// Output stream of a container.
    Stream,
    /// The container that wrote the line.
    Container,
    /// Flag: the line goes on elsewhere.
    PartialFlag,
    /// Position of a piece in its line.
    PartialOrdinal,
    /// Flag: last piece of its line.
    PartialLast,
}

impl FieldKind {
    /// Number of kinds.
    pub const COUNT: usize = Self::ALL.len();

    /// Every kind.
    pub const ALL: [Self; 31] = [
        Self::Severity,
        Self::EventTime,
        Self::Message,
        Self::Service,
        Self::Tenant,
        Self::Event,
        Self::Action,
        Self::Actor,
        Self::ActorType,
        Self::Object,
        Self::ObjectType,
        Self::Outcome,
        Self::Reason,
        Self::Session,
        Self::Intent,
        Self::Handover,
        Self::Fallback,
        Self::Role,
        Self::StepName,
        Self::Sender,
        Self::Latency,
        Self::Rating,
        Self::TokensInput,
        Self::TokensOutput,
        Self::TokensTotal,
        Self::BookingValue,
        Self::Stream,
        Self::Container,
        Self::PartialFlag,
        Self::PartialOrdinal,
        Self::PartialLast,
    ];

    /// The name used in the configuration and by `explain`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Severity => "severity",
            Self::EventTime => "event_time",
            Self::Message => "message",
            Self::Service => "service",
            Self::Tenant => "tenant",
            Self::Event => "event",
            Self::Action => "action",
            Self::Actor => "actor",
            Self::ActorType => "actor_type",
            Self::Object => "object",
            Self::ObjectType => "object_type",
            Self::Outcome => "outcome",
            Self::Reason => "reason",
            Self::Session => "session",
            Self::Intent => "intent",
            Self::Handover => "handover",
            Self::Fallback => "fallback",
            Self::Role => "role",
            Self::StepName => "step_name",
            Self::Sender => "sender",
            Self::Latency => "latency",
            Self::Rating => "rating",
            Self::TokensInput => "tokens_input",
            Self::TokensOutput => "tokens_output",
            Self::TokensTotal => "tokens_total",
            Self::BookingValue => "booking_value",
            Self::Stream => "stream",
            Self::Container => "container",
            Self::PartialFlag => "partial_flag",
            Self::PartialOrdinal => "partial_ordinal",
            Self::PartialLast => "partial_last",
        }
    }
}

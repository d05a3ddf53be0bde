//! The rules that speak for and against a candidate, each with its weight. A decision is the sum of
//! the weights against one threshold; every rule that spoke is kept by its bit, so that each decision
//! can be explained without showing the value.

/// One piece of evidence. The discriminant is the bit in [`Score::rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Rule {
    PlusValid,
    PlusPossible,
    PlusOther,
    ExitCodeValid,
    ExitCodePossible,
    NationalGrouped,
    NationalValid,
    NationalTrunk,
    NationalPossible,
    NationalSpecial,
    BareInternational,
    BareHome,
    FieldPhone,
    FieldContact,
    FieldNegative,
    FieldMail,
    FieldUnknown,
    WordPhone,
    WordPhoneFar,
    WordReach,
    WordNumber,
    WordPerson,
    WordNegative,
    WordBehind,
    Asked,
    RowNeighbour,
    Scheme,
    MessengerId,
    PaymentId,
    SipUser,
    GluedBefore,
    GluedBehind,
    JoinedBefore,
    JoinedBehind,
    DigitsBefore,
    DigitsBehind,
    Amount,
    Unit,
    Decimal,
    Version,
    Epoch,
    PathSegment,
    Hostlike,
    ConfirmedElsewhere,
    AddressSuffix,
    AddressReserved,
    AddressLiteral,
    AddressUnknownSuffix,
    AddressShape,
    AddressNoSuffix,
    AddressField,
    AddressWord,
    UrlUserinfo,
    MessageId,
    RepositoryUser,
    AssetScale,
    Obfuscated,
    IdentityNumber,
    Cut,
    Forced,
    AreaInBrackets,
    NumberShapeLoose,
    PersonMobile,
}

/// How a policy reads scores: a candidate at or above the threshold is redacted.
pub(super) const THRESHOLD_BALANCED: i16 = 50;
/// The threshold of the strict policy.
pub(super) const THRESHOLD_STRICT: i16 = 20;

impl Rule {
    /// Every rule, in the order of the bits.
    pub(super) const ALL: [Self; 63] = [
        Self::PlusValid,
        Self::PlusPossible,
        Self::PlusOther,
        Self::ExitCodeValid,
        Self::ExitCodePossible,
        Self::NationalGrouped,
        Self::NationalValid,
        Self::NationalTrunk,
        Self::NationalPossible,
        Self::NationalSpecial,
        Self::BareInternational,
        Self::BareHome,
        Self::FieldPhone,
        Self::FieldContact,
        Self::FieldNegative,
        Self::FieldMail,
        Self::FieldUnknown,
        Self::WordPhone,
        Self::WordPhoneFar,
        Self::WordReach,
        Self::WordNumber,
        Self::WordPerson,
        Self::WordNegative,
        Self::WordBehind,
        Self::Asked,
        Self::RowNeighbour,
        Self::Scheme,
        Self::MessengerId,
        Self::PaymentId,
        Self::SipUser,
        Self::GluedBefore,
        Self::GluedBehind,
        Self::JoinedBefore,
        Self::JoinedBehind,
        Self::DigitsBefore,
        Self::DigitsBehind,
        Self::Amount,
        Self::Unit,
        Self::Decimal,
        Self::Version,
        Self::Epoch,
        Self::PathSegment,
        Self::Hostlike,
        Self::ConfirmedElsewhere,
        Self::AddressSuffix,
        Self::AddressReserved,
        Self::AddressLiteral,
        Self::AddressUnknownSuffix,
        Self::AddressShape,
        Self::AddressNoSuffix,
        Self::AddressField,
        Self::AddressWord,
        Self::UrlUserinfo,
        Self::MessageId,
        Self::RepositoryUser,
        Self::AssetScale,
        Self::Obfuscated,
        Self::IdentityNumber,
        Self::Cut,
        Self::Forced,
        Self::AreaInBrackets,
        Self::NumberShapeLoose,
        Self::PersonMobile,
    ];

    /// Name and weight.
    const fn row(self) -> (&'static str, i16) {
        match self {
            Self::PlusValid => ("plus_valid", 70),
            Self::PlusPossible => ("plus_possible", 50),
            Self::PlusOther => ("plus_other", 20),
            Self::ExitCodeValid => ("exit_code_valid", 55),
            Self::ExitCodePossible => ("exit_code_possible", 30),
            Self::NationalGrouped => ("national_grouped", 45),
            Self::NationalValid => ("national_valid", 20),
            Self::NationalTrunk => ("national_trunk", 5),
            Self::NationalPossible => ("national_possible", 5),
            Self::NationalSpecial => ("national_special", 15),
            Self::BareHome => ("bare_home", 10),
            Self::BareInternational => ("bare_international", 20),
            Self::FieldPhone => ("field_phone", 60),
            Self::FieldContact => ("field_contact", 35),
            Self::FieldNegative => ("field_negative", -70),
            Self::FieldMail => ("field_mail", -20),
            Self::FieldUnknown => ("field_unknown", -25),
            Self::WordPhone => ("word_phone", 50),
            Self::WordPhoneFar => ("word_phone_far", 40),
            Self::WordReach => ("word_reach", 35),
            Self::WordNumber => ("word_number", 30),
            Self::WordPerson => ("word_person", 25),
            Self::WordNegative => ("word_negative", -70),
            Self::WordBehind => ("word_behind", 35),
            Self::Asked => ("asked", 45),
            Self::RowNeighbour => ("row_neighbour", 40),
            Self::Scheme => ("scheme", 130),
            Self::MessengerId => ("messenger_id", 150),
            Self::PaymentId => ("payment_id", 130),
            Self::SipUser => ("sip_user", 40),
            Self::GluedBefore => ("glued_before", -80),
            Self::GluedBehind => ("glued_behind", -80),
            Self::JoinedBefore => ("joined_before", -50),
            Self::JoinedBehind => ("joined_behind", -50),
            Self::DigitsBefore => ("digits_before", -45),
            Self::DigitsBehind => ("digits_behind", -45),
            Self::Amount => ("amount", -80),
            Self::Unit => ("unit", -70),
            Self::Decimal => ("decimal", -60),
            Self::Version => ("version", -40),
            Self::Epoch => ("epoch", -40),
            Self::PathSegment => ("path_segment", -30),
            Self::Hostlike => ("hostlike", -80),
            Self::ConfirmedElsewhere => ("confirmed_elsewhere", 100),
            Self::AddressSuffix => ("address_suffix", 70),
            Self::AddressReserved => ("address_reserved", 60),
            Self::AddressLiteral => ("address_literal", 55),
            Self::AddressUnknownSuffix => ("address_unknown_suffix", 30),
            Self::AddressShape => ("address_shape", 20),
            Self::AddressNoSuffix => ("address_no_suffix", 0),
            Self::AddressField => ("address_field", 50),
            Self::AddressWord => ("address_word", 40),
            Self::UrlUserinfo => ("url_userinfo", -70),
            Self::MessageId => ("message_id", -45),
            Self::RepositoryUser => ("repository_user", -60),
            Self::AssetScale => ("asset_scale", -80),
            Self::Obfuscated => ("obfuscated", 50),
            Self::IdentityNumber => ("identity_number", 25),
            Self::Cut => ("cut", 60),
            Self::Forced => ("forced", 200),
            Self::AreaInBrackets => ("area_in_brackets", 15),
            Self::NumberShapeLoose => ("number_shape_loose", -10),
            Self::PersonMobile => ("person_mobile", 30),
        }
    }

    /// The stable name shown by `explain`.
    pub(super) const fn name(self) -> &'static str {
        self.row().0
    }

    /// What it adds to the score.
    pub(super) const fn weight(self) -> i16 {
        self.row().1
    }
}

/// The evidence gathered on one candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Score {
    /// Sum of the weights.
    pub(super) total: i16,
    /// Bit set of the rules that spoke.
    pub(super) rules: u64,
}

impl Score {
    /// Adds `rule`, once.
    pub(super) fn add(&mut self, rule: Rule) {
        let bit = 1 << (rule as u8);
        if self.rules & bit == 0 {
            self.rules |= bit;
            self.total += rule.weight();
        }
    }

    /// Whether `rule` spoke.
    pub(super) fn has(self, rule: Rule) -> bool {
        self.rules & (1 << (rule as u8)) != 0
    }
}

//! `explain`: every candidate of a record with the rules that spoke and the decision. Spans, names
//! and numbers only, no value.

use super::finding::{Disposition, EntityKind, Finding, Position, Report, Scope};
use super::redactor::Redactor;
use super::rules::Rule;

/// A rule that spoke for (above zero) or against a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleWeight {
    /// Its stable name.
    pub name: &'static str,
    /// What it added to the score.
    pub weight: i16,
}

/// A candidate and what was decided on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// What it would be.
    pub kind: EntityKind,
    /// First byte in the input.
    pub start: usize,
    /// One past the last byte in the input.
    pub end: usize,
    /// How it stands in the record.
    pub position: Position,
    /// Sum of the weights.
    pub score: i16,
    /// The rules that spoke, in the order of their definition.
    pub rules: Vec<RuleWeight>,
    /// Whether it was redacted.
    pub is_redacted: bool,
}

/// The names of the rules in a bit set ([`Report::rules`], [`Finding::rules`]).
pub fn rule_names(bits: u64) -> impl Iterator<Item = &'static str> {
    rules_of(bits).map(Rule::name)
}

fn rules_of(bits: u64) -> impl Iterator<Item = Rule> {
    Rule::ALL.into_iter().filter(move |rule| bits & (1 << (*rule as u8)) != 0)
}

impl Redactor {
    /// What the redactor considers in `input` and why, in order: what it redacts
    /// ([`Redactor::findings`] afterwards) and what it lets stand. Values on an allow-list are no
    /// candidates. Costs two passes and more.
    pub fn explain(&mut self, scope: &Scope<'_>, input: &[u8]) -> (Report, Vec<Considered>) {
        let report = self.redact_in(scope, input, &mut Vec::new());
        let mut considered: Vec<Considered> =
            self.findings().iter().map(|finding| Considered::new(finding, true)).collect();
        if matches!(report.disposition, Disposition::Clean | Disposition::Redacted) {
            let redacted: Vec<(usize, usize)> =
                considered.iter().map(|one| (one.start, one.end)).collect();
            let stands = |candidate: &&Finding| {
                let next = redacted.partition_point(|&(_, end)| end <= candidate.start);
                redacted.get(next).is_none_or(|&(start, _)| candidate.end <= start)
            };
            let candidates = self.candidates(scope, input).iter().filter(stands);
            considered.extend(candidates.map(|finding| Considered::new(finding, false)));
            considered.sort_by_key(|one| one.start);
        }
        (report, considered)
    }
}

impl Considered {
    fn new(finding: &Finding, is_redacted: bool) -> Self {
        let weigh = |rule: Rule| RuleWeight { name: rule.name(), weight: rule.weight() };
        Self {
            kind: finding.kind,
            start: finding.start,
            end: finding.end,
            position: finding.position,
            score: finding.score,
            rules: rules_of(finding.rules).map(weigh).collect(),
            is_redacted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::Policy;
    use super::*;

    #[test]
    fn every_rule_has_its_bit() {
        for (bit, rule) in Rule::ALL.iter().enumerate() {
            assert_eq!(*rule as usize, bit, "{}", rule.name());
        }
        assert_eq!(Rule::ALL.len(), Rule::PersonMobile as usize + 1, "the last rule is listed");
    }

    #[test]
    fn what_stands_is_explained_beside_what_is_redacted() {
        let mut redactor = Redactor::new(Policy::default());
        let input = br#"{"phone":"+91 98765 43210","order_id":"9876543219","by":"git@host"}"#;
        let (report, considered) = redactor.explain(&Scope::default(), input);
        assert_eq!(report.total(), 1);
        let first = &considered[0];
        assert_eq!((first.kind, first.is_redacted), (EntityKind::Phone, true));
        assert!(first.rules.iter().any(|rule| rule.name == "field_phone" && rule.weight > 0));
        let stands = considered.iter().filter(|one| !one.is_redacted);
        let kinds: Vec<EntityKind> = stands.map(|one| one.kind).collect();
        assert_eq!(kinds, [EntityKind::Phone, EntityKind::Email]);
    }

    #[test]
    fn weights_add_up_to_the_score() {
        let mut redactor = Redactor::new(Policy::default());
        let input = b"call +4915112345678 or 12:30:45, mail asha@example.com";
        for one in redactor.explain(&Scope::default(), input).1 {
            let sum: i16 = one.rules.iter().map(|rule| rule.weight).sum();
            assert_eq!(sum, one.score, "{one:?}");
        }
    }
}

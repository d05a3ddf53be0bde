//! What the `policy` entries of a chain mean for each other: an auditor wants to know where rules
//! became looser, also where the daemon could not tell (after a restart with other settings).

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::pipeline::audit::{ChainFields, Kind};
use crate::pipeline::redact::{Policy, RawPolicy};

/// Follows the policies of one audit partition.
#[derive(Default)]
pub(super) struct Policies {
    newest: Option<String>,
    remarks: Vec<(i64, &'static str)>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    loosened: Option<bool>,
    #[serde(borrow)]
    policy: &'a RawValue,
}

impl Policies {
    /// Takes the next verified entry, stored at `place`.
    pub(super) fn push(&mut self, place: i64, entry: &[u8]) {
        let is_policy = ChainFields::read(entry).is_ok_and(|fields| fields.kind == Kind::Policy);
        let Some(entry) = is_policy.then(|| serde_json::from_slice::<Entry<'_>>(entry).ok()) else {
            return;
        };
        let Some(Entry { loosened, policy }) = entry else { return };
        let before = self.newest.replace(policy.get().to_owned());
        let compared = before.and_then(|before| is_loosening(&before, policy.get()));
        match compared.or(loosened) {
            Some(true) => self.remarks.push((place, "the policy may let more pass from")),
            Some(false) => {}
            None => self.remarks.push((place, "the policy is another, looser or not, from")),
        }
    }

    /// What there is to say, with the place of the entry.
    pub(super) fn remarks(self) -> Vec<(i64, &'static str)> {
        self.remarks
    }
}

/// Whether the policy with the text `new` may let something pass that the one with `old` takes out;
/// `None` when this build can't read one of them.
fn is_loosening(old: &str, new: &str) -> Option<bool> {
    #[derive(Deserialize)]
    struct Text {
        policy: RawPolicy,
    }
    let read = |text: &str| Policy::new(&serde_json::from_str::<Text>(text).ok()?.policy).ok();
    Some(Policy::is_loosening(&read(old)?, &read(new)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::audit::{Deployment, Ledger, Origin, Policy as PolicyEntry};
    use crate::pipeline::record::TopicPartition;

    #[test]
    fn a_loosening_is_remarked_whatever_its_entry_says() {
        let policy = |json: &str| Policy::new(&serde_json::from_str(json).unwrap()).unwrap();
        let strict = policy(r#"{"strictness":"strict"}"#).canonical_json().to_owned();
        let balanced = policy("{}").canonical_json().to_owned();
        let deployment = Deployment::parse("salon").unwrap();
        let origin = Origin::new(&deployment, &TopicPartition::new("t", 0), 0);
        let mut ledger = Ledger::begin(origin, 0);
        let mut policies = Policies::default();
        for (place, (text, loosened)) in [
            (strict.as_str(), Some(false)),
            (&balanced, None),
            (&strict, None),
            (&balanced, Some(false)),
            (r#"{"of":"another build"}"#, None),
            (&strict, Some(true)),
        ]
        .into_iter()
        .enumerate()
        {
            let mut entry = Vec::new();
            ledger.append(&PolicyEntry::new(text, loosened).unwrap(), &mut entry);
            policies.push(i64::try_from(place).unwrap(), &entry);
        }
        let places: Vec<i64> = policies.remarks().into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, [1, 3, 4, 5]);
    }
}

//! Writes what takes a finding's place: text that is safe in every encoding around it, and a string
//! or number where a JSON number was.

use super::canonical;
use super::finding::{EntityKind, Finding, Report, Scope, Surface};
use super::identity::Identity;
use super::keyring::{KeyKind, KeyUnavailable, Keyring, MissingEpoch};
use super::policy::{Action, Place, Rules};
use super::token;
use crate::pipeline::limits;

/// What every replacement in one record has in common.
#[derive(Clone, Copy)]
pub struct Replacer<'a> {
    /// What the policy says for the record's topic and tenant.
    pub rules: Rules<'a>,
    /// The keys; without them a placeholder stands where a token would.
    pub keyring: Option<&'a Keyring>,
    /// Where the record comes from.
    pub scope: Scope<'a>,
}

/// Which key a replacement used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// None was needed.
    None,
    /// The tenant's own key, or the default key for a record without a tenant.
    Own,
    /// The default key, for a tenant that has none: to be counted.
    Default,
    /// A token was asked for and its key is destroyed or there is no keyring: a placeholder stands
    /// there instead.
    Unavailable,
}

impl KeyUse {
    /// Counts it in `report`.
    pub(super) fn count(self, report: &mut Report) {
        report.default_keys += u32::from(self == Self::Default);
        report.unavailable_keys += u32::from(self == Self::Unavailable);
    }
}

impl Replacer<'_> {
    /// Appends the replacement of `finding`, which stands under the field `path` (keys from the
    /// outside in; empty: none).
    ///
    /// # Errors
    /// When a token is asked for and no key epoch covers the record's time. `out` is unchanged.
    pub fn write(
        &self,
        finding: &Finding,
        path: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<KeyUse, MissingEpoch> {
        if finding.position.json_number
            && let Some(number) = self.rules.number_replacement()
        {
            out.extend_from_slice(number.to_string().as_bytes());
            return Ok(KeyUse::None);
        }
        let start = out.len();
        out.extend_from_slice(&finding.quote);
        let used = self.write_text(finding, path, out).inspect_err(|_| out.truncate(start))?;
        out.extend_from_slice(&finding.quote);
        Ok(used)
    }

    fn write_text(
        &self,
        finding: &Finding,
        path: &[&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<KeyUse, MissingEpoch> {
        let name = token::kind_name(finding.kind, self.rules.policy());
        match self.rules.action(finding.kind, self.place(finding), path) {
            Action::Token if !finding.value.is_empty() => {
                return self.write_token(finding, name, out);
            }
            Action::Token | Action::Placeholder => token::write_placeholder(name, out),
            Action::Mask => out.extend_from_slice(token::MASK),
            Action::KeepLast(kept) => match kept_tail(finding, usize::from(kept)) {
                Some(tail) => token::write_kept(name, &tail, out),
                None => out.extend_from_slice(token::MASK),
            },
            Action::Drop => {}
        }
        Ok(KeyUse::None)
    }

    fn write_token(
        &self,
        finding: &Finding,
        name: &str,
        out: &mut Vec<u8>,
    ) -> Result<KeyUse, MissingEpoch> {
        let Some(keyring) = self.keyring else {
            token::write_placeholder(name, out);
            return Ok(KeyUse::Unavailable);
        };
        let kind = KeyKind::from(finding.kind);
        // The tenant's own id was replaced before its keys could be chosen.
        let is_tenant = self.identity(finding).is_some_and(|identity| identity.is_tenant);
        let tenant = if is_tenant { None } else { self.scope.tenant };
        match keyring.key(tenant, kind, self.scope.timestamp) {
            Ok(key) => {
                let mac = key.mac(&self.canonical(finding, name));
                token::write_token(name, key.epoch(), &mac, out);
                Ok(if key.is_default() { KeyUse::Default } else { KeyUse::Own })
            }
            Err(KeyUnavailable::Shredded(_)) => {
                token::write_placeholder(name, out);
                Ok(KeyUse::Unavailable)
            }
            Err(KeyUnavailable::MissingEpoch(missing)) => Err(missing),
        }
    }

    fn canonical(&self, finding: &Finding, name: &str) -> Vec<u8> {
        match finding.kind {
            EntityKind::Phone => {
                canonical::phone(&finding.value, self.rules.regions()).into_bytes()
            }
            EntityKind::Email => std::str::from_utf8(&finding.value)
                .ok()
                .and_then(canonical::email)
                .map_or_else(|| finding.value.clone(), String::into_bytes),
            // All patterns share a key: the name keeps equal matches of two of them apart.
            EntityKind::Custom(_) | EntityKind::Opaque => {
                [name.as_bytes(), b":", &finding.value].concat()
            }
        }
    }

    /// The name of the record that `finding` is.
    fn identity(&self, finding: &Finding) -> Option<&Identity<'_>> {
        self.scope.identities.iter().find(|identity| identity.is(finding))
    }

    fn place(&self, finding: &Finding) -> Place {
        match self.scope.surface {
            Surface::Key | Surface::Identity => Place::Identity,
            Surface::Value | Surface::Header(_) if finding.position.object_key => Place::ObjectKey,
            Surface::Value | Surface::Header(_) if self.identity(finding).is_some() => {
                Place::Identity
            }
            Surface::Value | Surface::Header(_) => Place::Text,
        }
    }
}

fn kept_tail(finding: &Finding, kept: usize) -> Option<Vec<u8>> {
    let shown: Vec<u8> = match finding.kind {
        EntityKind::Phone => finding.value.iter().copied().filter(u8::is_ascii_digit).collect(),
        EntityKind::Email => {
            let at = finding.value.iter().rposition(|&byte| byte == b'@')?;
            finding.value[..at].to_vec()
        }
        EntityKind::Custom(_) | EntityKind::Opaque => finding.value.clone(),
    };
    let hidden = shown.len().checked_sub(kept)?;
    let tail = &shown[hidden..];
    (hidden >= limits::REDACT_HIDDEN_CHARACTERS_MIN && tail.iter().all(u8::is_ascii_alphanumeric))
        .then(|| tail.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::record::{TenantId, Timestamp};
    use crate::pipeline::redact::finding::Position;
    use crate::pipeline::redact::keyring::{KeyEncryptionKey, KeyringFile};
    use crate::pipeline::redact::policy::Policy;
    use crate::pipeline::redact::token::token_at;

    fn policy(json: &str) -> Policy {
        Policy::new(&serde_json::from_str(json).unwrap()).unwrap()
    }

    fn keyring() -> Keyring {
        let kek = KeyEncryptionKey::new([7; 32]);
        let mut counter = 0;
        let mut random = |buffer: &mut [u8]| {
            counter += 1;
            buffer.fill(counter);
        };
        let mut file = KeyringFile::create(&kek, &mut random);
        let acme = TenantId::new("acme").unwrap();
        file.add_tenant(&kek, &acme, Timestamp::EPOCH, &mut random).unwrap();
        file.open(&kek).unwrap()
    }

    fn finding(kind: EntityKind, value: &str) -> Finding {
        let position = Position::default();
        Finding {
            kind,
            start: 0,
            end: 1,
            value: value.into(),
            position,
            quote: Vec::new(),
            rules: 0,
            score: 0,
        }
    }

    struct Case<'a> {
        policy: &'a Policy,
        keyring: Option<&'a Keyring>,
        tenant: Option<&'a TenantId>,
        surface: Surface<'a>,
    }

    impl Case<'_> {
        fn write(&self, finding: &Finding, path: &[&[u8]]) -> (String, KeyUse) {
            let rules = self.policy.rules("t", self.tenant);
            let surface = self.surface;
            let scope = Scope { topic: "t", tenant: self.tenant, surface, ..Scope::default() };
            let mut out = Vec::new();
            let replacer = Replacer { rules, keyring: self.keyring, scope };
            let used = replacer.write(finding, path, &mut out).unwrap();
            (String::from_utf8(out).unwrap(), used)
        }
    }

    #[test]
    fn all_written_forms_share_a_token_and_tenants_do_not() {
        let (policy, keyring) = (policy(r#"{"regions": ["IN"]}"#), keyring());
        let (acme, other) = (TenantId::new("acme").unwrap(), TenantId::new("other").unwrap());
        let case = |tenant| Case {
            policy: &policy,
            keyring: Some(&keyring),
            tenant: Some(tenant),
            surface: Surface::Key,
        };
        let (token, used) = case(&acme).write(&finding(EntityKind::Phone, "+919876543210"), &[]);
        assert_eq!(used, KeyUse::Own);
        assert!(token.starts_with("[phone:a:"), "{token}");
        assert_eq!(token_at(token.as_bytes()), Some(token.len()));
        for form in ["9876543210", "09876543210", "919876543210"] {
            assert_eq!(case(&acme).write(&finding(EntityKind::Phone, form), &[]).0, token);
        }
        let (foreign, used) = case(&other).write(&finding(EntityKind::Phone, "9876543210"), &[]);
        assert_eq!(used, KeyUse::Default);
        assert_ne!(foreign, token);
        let (email, _) = case(&acme).write(&finding(EntityKind::Email, "A@X.de"), &[]);
        assert_eq!(email, case(&acme).write(&finding(EntityKind::Email, "a@x.DE"), &[]).0);
    }

    #[test]
    fn actions_follow_kind_place_and_field() {
        let policy = policy(
            r#"{"actions": {"email": "mask", "phone": "keep-last-4",
                            "fields": {"note": "drop", "user.phone": "placeholder"}}}"#,
        );
        let case = Case { policy: &policy, keyring: None, tenant: None, surface: Surface::Value };
        let phone = finding(EntityKind::Phone, "+919876543210");
        assert_eq!(case.write(&phone, &[]).0, "[phone:******3210]");
        assert_eq!(case.write(&phone, &[b"note"]).0, "");
        assert_eq!(case.write(&phone, &[b"user", b"phone"]).0, "[phone]");
        let short = finding(EntityKind::Phone, "123456789");
        assert_eq!(case.write(&short, &[]).0, "********", "only five would stay hidden");
        assert_eq!(case.write(&finding(EntityKind::Email, "asha@x.de"), &[]).0, "********");
        let mut key = phone.clone();
        key.position.object_key = true;
        assert_eq!(case.write(&key, &[]), ("[phone]".to_owned(), KeyUse::Unavailable));
    }

    #[test]
    fn a_json_number_becomes_a_string_or_a_number() {
        let default = Policy::default();
        let case = Case { policy: &default, keyring: None, tenant: None, surface: Surface::Value };
        let mut number = finding(EntityKind::Phone, "9876543210");
        number.position.json_number = true;
        number.quote = br#"\""#.to_vec();
        assert_eq!(case.write(&number, &[]).0, r#"\"[phone]\""#);
        let fixed = policy(r#"{"actions": {"number": 7}}"#);
        let case = Case { policy: &fixed, ..case };
        assert_eq!(case.write(&number, &[]).0, "7");
    }

    #[test]
    fn a_missing_epoch_leaves_the_output_alone() {
        let kek = KeyEncryptionKey::new([7; 32]);
        let file = KeyringFile::create(&kek, &mut |buffer| buffer.fill(1)).to_text();
        let header = file.lines().next().unwrap();
        let keyring = KeyringFile::parse(header).unwrap().open(&kek).unwrap();
        let policy = Policy::default();
        let scope = Scope { surface: Surface::Identity, ..Scope::default() };
        let rules = policy.rules("t", None);
        let replacer = Replacer { rules, keyring: Some(&keyring), scope };
        let mut out = b"kept".to_vec();
        let mut number = finding(EntityKind::Phone, "9876543210");
        number.position.json_number = true;
        assert!(replacer.write(&number, &[], &mut out).is_err());
        assert_eq!(out, b"kept");
    }
}

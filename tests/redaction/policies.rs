//! What a policy says is what happens: field rules, lists, patterns, actions, keys.

use std::collections::HashSet;
use std::sync::Arc;

use blotter::pipeline::ingest::{Ingest, IngestRules};
use blotter::pipeline::record::{Header, SourceRecord, TenantId, Timestamp, TopicPartition};
use blotter::pipeline::redact::keyring::{KeyEncryptionKey, Keyring, KeyringFile};
use blotter::pipeline::redact::policy::Policy;
use blotter::pipeline::redact::{
    Disposition, RecordBuffer, RedactedRecord, Redactor, Scope, StrictReason, Surface,
};

#[test]
fn field_rules_decide_by_name_and_path() {
    let mut redactor = redactor(
        r#"{"regions": ["IN"],
            "fields": {"always": ["customer.note"], "never": ["ref"], "phone": ["handle"],
                       "email": ["login"], "base64": ["blob"]}}"#,
    );
    assert_eq!(
        out(&mut redactor, r#"{"customer":{"note":"likes tea"},"note":"likes tea"}"#),
        r#"{"customer":{"note":"[redacted]"},"note":"likes tea"}"#
    );
    let kept = r#"{"ref":"+919876543210 asha@gmail.com"}"#;
    assert_eq!(out(&mut redactor, kept), kept);
    assert_eq!(out(&mut redactor, r#"{"handle":"1234567"}"#), r#"{"handle":"[phone]"}"#);
    assert_eq!(out(&mut redactor, r#"{"login":"root@intranet"}"#), r#"{"login":"[email]"}"#);
    // {"email":"asha@gmail.com"}
    let encoded = r#"{"blob":"eyJlbWFpbCI6ImFzaGFAZ21haWwuY29tIn0="}"#;
    let redacted = out(&mut redactor, encoded);
    assert!(!redacted.contains("YXNoYUBnbWFpbC5jb20") && redacted != encoded, "{redacted}");
}

#[test]
fn field_rules_hold_in_pairs_and_nested_strings_too() {
    let mut redactor = redactor(
        r#"{"regions": ["IN"],
            "fields": {"always": ["customer.note"], "never": ["ref"], "phone": ["handle"],
                       "email": ["login"], "base64": ["blob"]}}"#,
    );
    for (line, expected) in [
        (
            r#"level=info customer.note="likes tea" note="likes tea""#,
            r#"level=info customer.note="[redacted]" note="likes tea""#,
        ),
        ("ref=+919876543210 msg=+919876543210", "ref=+919876543210 msg=[phone]"),
        ("handle=1234567 other=1234567", "handle=[phone] other=1234567"),
        ("login=root@intranet at=x", "login=[email] at=x"),
        ("/v1/x?handle=1234567&page=2", "/v1/x?handle=[phone]&page=2"),
        (
            r#"{"msg":"handle=1234567 login=\"root@intranet\""}"#,
            r#"{"msg":"handle=[phone] login=\"[email]\""}"#,
        ),
        ("blob=YXNoYUBnbWFpbC5jb20 x=1", "blob=[redacted] x=1"),
        // Base64 of `{"n":"????","email":"asha@gmail.com"}`, its slashes escaped.
        (
            r#"{"blob":"eyJuIjoiPz8\/PyIsImVtYWlsIjoiYXNoYUBnbWFpbC5jb20ifQ=="}"#,
            r#"{"blob":"[redacted]"}"#,
        ),
        (r#"{"a":"{\"blob\":\"YXNoYUBnbWFpbC5jb20=\"}"}"#, r#"{"a":"{\"blob\":\"[redacted]\"}"}"#),
        (r#"{"blob":{"YXNoYUBnbWFpbC5jb20=":1}}"#, r#"{"blob":{"[redacted]":1}}"#),
        (r#"{"handle":{"1234567":1}}"#, r#"{"handle":{"[phone]":1}}"#),
    ] {
        let redacted = out(&mut redactor, line);
        assert_eq!(redacted, expected);
        assert_eq!(out(&mut redactor, &redacted), redacted);
    }
}

#[test]
fn listed_values_stay() {
    let mut redactor = redactor(
        r#"{"regions": ["DE"],
            "allow": {"emails": ["support@salon.com", "@help.salon.com"], "phones": ["+49 30 901820"]}}"#,
    );
    for kept in [
        "write to Support@Salon.com",
        "write to anyone@help.salon.com",
        "call +49 30 901820",
        r#"{"phone":"030 901820"}"#,
    ] {
        assert_eq!(out(&mut redactor, kept), kept);
    }
    assert_eq!(out(&mut redactor, "write to asha@salon.com"), "write to [email]");
    assert_eq!(out(&mut redactor, "call +49 30 901821"), "call [phone]");
}

#[test]
fn extra_patterns_are_redacted_by_name() {
    let mut redactor =
        redactor(r#"{"patterns": [{"name": "voucher", "regex": "\\bV-[0-9]{8}\\b"}]}"#);
    assert_eq!(
        out(&mut redactor, r#"{"msg":"paid with V-12345678, thanks"}"#),
        r#"{"msg":"paid with [voucher], thanks"}"#
    );
    let strict = r#"{"msg":"V-1234567"}"#;
    assert_eq!(out(&mut redactor, strict), strict);
}

#[test]
fn actions_follow_kind_and_field() {
    let mut redactor = redactor(
        r#"{"regions": ["IN"],
            "actions": {"email": "mask", "phone": "keep-last-4", "fields": {"alt_phone": "drop"}}}"#,
    );
    assert_eq!(
        out(&mut redactor, r#"{"phone":"+919876543210","alt_phone":"+919876543211"}"#),
        r#"{"phone":"[phone:******3210]","alt_phone":""}"#
    );
    assert_eq!(out(&mut redactor, "mail asha@gmail.com"), "mail ********");
    let mut numbers = self::redactor(r#"{"actions": {"number": 0}}"#);
    assert_eq!(out(&mut numbers, r#"{"phone":9876543210}"#), r#"{"phone":0}"#);
}

#[test]
fn a_thousand_sessions_keyed_by_number_stay_a_thousand() {
    let policy = policy(r#"{"regions": ["IN"]}"#);
    let acme = TenantId::new("acme").unwrap();
    let mut redactor = Redactor::new(policy).with_keyring(Arc::new(keyring(&acme)));
    let mut token = |key: &str, tenant: &TenantId| {
        let scope = Scope {
            topic: "t",
            tenant: Some(tenant),
            surface: Surface::Key,
            timestamp: Timestamp::from_millis(1),
            ..Scope::default()
        };
        let mut out = Vec::new();
        redactor.redact_in(&scope, key.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    };
    let tokens: HashSet<String> = (0..1_000)
        .map(|number| token(&format!("91987654{number:04}@s.whatsapp.net"), &acme))
        .collect();
    assert_eq!(tokens.len(), 1_000);
    assert!(tokens.iter().all(|token| token.contains("[phone:a:")), "{:?}", tokens.iter().next());
    let other = TenantId::new("other").unwrap();
    assert_eq!(token("+91 98765 43210", &acme), token("+919876543210", &acme));
    assert_ne!(token("+919876543210", &other), token("+919876543210", &acme));
}

#[test]
fn keys_that_are_no_text_stay_as_many_as_they_were() {
    let at = TopicPartition::new("t", 0);
    let acme = TenantId::new("acme").unwrap();
    let mut redactor = Redactor::new(policy("{}")).with_keyring(Arc::new(keyring(&acme)));
    let (ingest, mut buffer) = (Ingest::new(IngestRules::default()), RecordBuffer::default());
    let headers = [Header { name: "seq", value: Some(&[0, 0, 1, 0xFE]) }];
    let mut redact = |key: &[u8]| {
        let record = SourceRecord {
            topic_partition: &at,
            offset: 1,
            timestamp: Timestamp::from_millis(1),
            key: Some(key),
            value: Some(br#"{"tenant":"acme","msg":"done"}"#),
            headers: &headers,
        };
        let log = ingest.parse(&record);
        let redacted =
            RedactedRecord::new(&record, &log, &mut redactor, &mut buffer).expect("keys are there");
        assert!(matches!(redacted.report().headers.disposition, Disposition::NotText(_)));
        let header = redacted.headers().next().expect("the header stays");
        assert_eq!((header.name, header.value), ("seq", Some(b"[redacted]".as_slice())));
        (redacted.key().expect("a key stays").to_vec(), redacted.report().key)
    };
    let mut keys = HashSet::new();
    for number in 9_876_543_000_i64..9_876_544_000 {
        let (key, report) = redact(&number.to_be_bytes());
        assert!(matches!(report.disposition, Disposition::NotText(_)), "{report:?}");
        assert!(key.starts_with(b"[redacted:a:"), "{}", String::from_utf8_lossy(&key));
        assert_eq!(redact(&key).0, key, "changes when redacted again");
        keys.insert(key);
    }
    // In another encoding, and with what stands for a bad byte.
    for key in [b"salon caf\xE9 bookings".as_slice(), b"salon caf\xE8 bookings"] {
        let (key, report) = redact(key);
        assert_eq!(report.disposition, Disposition::StrictMasked(StrictReason::InvalidUtf8));
        assert!(key.starts_with(b"[redacted:a:"), "{}", String::from_utf8_lossy(&key));
        assert_eq!(redact(&key).0, key, "changes when redacted again");
        keys.insert(key);
    }
    keys.insert(redact("salon caf\u{fffd} bookings".as_bytes()).0);
    assert_eq!(keys.len(), 1_003);
}

/// What a record known by a number looks like, once with a member, once with a pair of logfmt.
#[test]
fn a_name_in_the_value_is_the_token_that_stands_for_it_elsewhere() {
    let acme = TenantId::new("acme").unwrap();
    let mut redactor =
        Redactor::new(policy(r#"{"regions": ["IN"]}"#)).with_keyring(Arc::new(keyring(&acme)));
    let mut sessions = HashSet::new();
    for number in 0..1_000 {
        let session = format!("91987654{number:04}");
        for value in [
            format!(
                r#"{{"tenant":"acme","session_id":"{session}","wa_id":"{session}","actor":"+91 98765 4{number:04}","text":"ring +91 88888 88888"}}"#
            ),
            format!(
                r#"tenant=acme level=info session_id={session} wa_id={session} actor=+{session} msg="ring +91 88888 88888""#
            ),
        ] {
            let redacted = through(&mut redactor, Some(&session), &value);
            let token = redacted.session.as_str();
            assert!(token.starts_with("[phone:a:") && token.len() == 34, "{token}");
            assert_eq!((&redacted.key, &redacted.actor), (&redacted.session, &redacted.session));
            assert_eq!(redacted.value.matches(token).count(), 3, "{}", redacted.value);
            assert!(redacted.value.contains("ring [phone]"), "{}", redacted.value);
            let again = through(&mut redactor, Some(&redacted.key), &redacted.value);
            assert_eq!((&again.key, &again.value), (&redacted.key, &redacted.value));
            sessions.insert(redacted.session);
        }
    }
    assert_eq!(sessions.len(), 1_000);
}

#[test]
fn what_the_value_shows_to_be_a_number_is_one_as_a_name_too() {
    let acme = TenantId::new("acme").unwrap();
    let mut redactor =
        Redactor::new(policy(r#"{"regions": ["IN"]}"#)).with_keyring(Arc::new(keyring(&acme)));
    let value = r#"{"tenant":"acme","user_id":"9876543210","phone":"+91 98765 43210"}"#;
    let redacted = through(&mut redactor, None, value);
    assert!(redacted.actor.starts_with("[phone:a:"), "{}", redacted.actor);
    assert_eq!(redacted.value.matches(&redacted.actor).count(), 2, "{}", redacted.value);
    // An id that is known for nothing else stays, in the value and as a name.
    let kept = r#"{"tenant":"acme","user_id":"9876543210","phone":"+91 98765 43211"}"#;
    let redacted = through(&mut redactor, None, kept);
    assert_eq!(redacted.actor, "9876543210");
    assert!(redacted.value.contains("9876543210"), "{}", redacted.value);
}

/// The tenant's own name goes before its keys can be chosen.
#[test]
fn a_tenant_that_is_an_address_has_one_token() {
    let acme = TenantId::new("acme").unwrap();
    let mut redactor = Redactor::new(policy("{}")).with_keyring(Arc::new(keyring(&acme)));
    let value = r#"{"tenant":"asha@gmail.com","msg":"hello"}"#;
    let redacted = through(&mut redactor, None, value);
    assert!(redacted.tenant.starts_with("[email:a:"), "{}", redacted.tenant);
    assert!(redacted.value.contains(&redacted.tenant), "{}", redacted.value);
}

struct Through {
    tenant: String,
    session: String,
    actor: String,
    key: String,
    value: String,
}

/// A record as SCRUB takes it.
fn through(redactor: &mut Redactor, key: Option<&str>, value: &str) -> Through {
    let at = TopicPartition::new("t", 0);
    let source = SourceRecord {
        topic_partition: &at,
        offset: 0,
        timestamp: Timestamp::from_millis(1),
        key: key.map(str::as_bytes),
        value: Some(value.as_bytes()),
        headers: &[],
    };
    let ingest = Ingest::new(IngestRules::default());
    let mut buffer = RecordBuffer::default();
    let record = RedactedRecord::new(&source, &ingest.parse(&source), redactor, &mut buffer)
        .expect("a key covers it");
    let text = |bytes: Option<&[u8]>| {
        String::from_utf8(bytes.unwrap_or_default().into()).expect("text stays text")
    };
    Through {
        tenant: record.tenant().map(ToString::to_string).unwrap_or_default(),
        session: record.fields().session.unwrap_or_default().to_owned(),
        actor: record.fields().actor.unwrap_or_default().to_owned(),
        key: text(record.key()),
        value: text(record.value()),
    }
}

#[test]
fn a_missing_epoch_is_told_and_nothing_is_written() {
    let kek = KeyEncryptionKey::new([1; 32]);
    let file = KeyringFile::create(&kek, &mut |buffer| buffer.fill(1)).to_text();
    let header = file.lines().next().unwrap();
    let empty = KeyringFile::parse(header).unwrap().open(&kek).unwrap();
    let mut redactor = Redactor::new(policy("{}")).with_keyring(Arc::new(empty));
    let scope = Scope { surface: Surface::Key, ..Scope::default() };
    let mut out = Vec::new();
    let report = redactor.redact_in(&scope, b"asha@gmail.com", &mut out);
    assert_eq!(report.disposition, Disposition::MissingKeyEpoch);
    assert!(redactor.missing_epoch().is_some());
    assert!(!String::from_utf8_lossy(&out).contains("asha"));
}

fn policy(json: &str) -> Policy {
    Policy::new(&serde_json::from_str(json).expect("keys are known")).expect("the policy is sound")
}

fn redactor(json: &str) -> Redactor {
    Redactor::new(policy(json))
}

fn keyring(tenant: &TenantId) -> Keyring {
    let kek = KeyEncryptionKey::new([1; 32]);
    let mut byte = 0_u8;
    let mut random = |buffer: &mut [u8]| {
        byte = byte.wrapping_add(1);
        buffer.fill(byte);
    };
    let mut file = KeyringFile::create(&kek, &mut random);
    file.add_tenant(&kek, tenant, Timestamp::EPOCH, &mut random).expect("it is new");
    file.open(&kek).expect("the key fits")
}

fn out(redactor: &mut Redactor, line: &str) -> String {
    let mut out = Vec::new();
    redactor.redact(line.as_bytes(), &mut out);
    String::from_utf8(out).expect("text stays text")
}

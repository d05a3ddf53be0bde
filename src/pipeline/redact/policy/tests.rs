use super::*;

fn policy(json: &str) -> Result<Policy, PolicyError> {
    Policy::new(&serde_json::from_str(json).expect("keys are known"))
}

fn refused(json: &str) -> String {
    policy(json).expect_err("is refused").to_string()
}

#[test]
fn an_empty_policy_redacts_with_placeholders_and_tokens() {
    let policy = Policy::default();
    let rules = policy.rules("app.logs", None);
    assert_eq!(rules.strictness(), Strictness::Balanced);
    assert!(rules.regions().is_empty());
    assert_eq!(rules.action(EntityKind::Phone, Place::Text, &[]), Action::Placeholder);
    assert_eq!(rules.action(EntityKind::Phone, Place::Identity, &[]), Action::Token);
    assert_eq!(rules.action(EntityKind::Email, Place::ObjectKey, &[]), Action::Token);
    assert_eq!(rules.message_ids(), MessageIds::Keep);
    assert!(!rules.has_field_rules());
    assert_eq!(policy.identity().len(), 64);
}

#[test]
fn tenants_go_before_topics_before_the_rest() {
    let policy = policy(
        r#"{
            "regions": ["in"],
            "fields": {"never": ["order.id"], "phone": ["handle"]},
            "allow": {"emails": ["Support@Salon.example", "@salon.test"], "phones": ["+49 30 901820"]},
            "topics": {"t": {"strictness": "strict", "regions": ["DE", "FR"]}},
            "tenants": {"acme": {"regions": ["US"], "fields": {"always": ["handle"]},
                                 "actions": {"phone": "keep-last-4", "fields": {"user.id": "drop"}}}}
        }"#,
    )
    .unwrap();
    let acme = TenantId::new("acme").unwrap();
    let codes = |rules: Rules<'_>| rules.regions().iter().map(|r| r.code()).collect::<Vec<_>>();
    assert_eq!(codes(policy.rules("x", None)), ["IN"]);
    assert_eq!(codes(policy.rules("t", None)), ["DE", "FR"]);
    assert_eq!(codes(policy.rules("t", Some(&acme))), ["US"]);
    let rules = policy.rules("t", Some(&acme));
    assert_eq!(rules.strictness(), Strictness::Strict);
    assert_eq!(rules.message_ids(), MessageIds::Redact);
    assert_eq!(rules.field_rule(&[b"handle"]), Some(FieldRule::AlwaysRedact));
    assert_eq!(rules.field_rule(&[b"Order", b"id"]), Some(FieldRule::NeverScan));
    assert_eq!(rules.action(EntityKind::Phone, Place::Text, &[]), Action::KeepLast(4));
    assert_eq!(rules.action(EntityKind::Phone, Place::Text, &[b"user", b"id"]), Action::Drop);
    assert!(rules.allows_email("support@salon.example"));
    assert!(rules.allows_email("anyone@salon.test"));
    assert!(!rules.allows_email("anyone@salon.example"));
    assert!(rules.allows_phone("+4930901820"));
}

#[test]
fn errors_name_the_key() {
    assert!(refused(r#"{"strictness": "lax"}"#).starts_with("redact.strictness: `lax` is none of"));
    assert!(refused(r#"{"regions": ["IN", "UK"]}"#).starts_with("redact.regions[1]: `UK`"));
    assert!(
        refused(r#"{"topics": {"a.b": {"regions": ["001"]}}}"#)
            .starts_with(r#"redact.topics."a.b".regions[0]:"#)
    );
    assert!(
        refused(r#"{"fields": {"always": ["x"], "never": ["X"]}}"#)
            .starts_with("redact.fields.never[0]:")
    );
    assert!(refused(r#"{"allow": {"emails": ["@"]}}"#).starts_with("redact.allow.emails[0]:"));
    assert!(refused(r#"{"allow": {"phones": ["030"]}}"#).starts_with("redact.allow.phones[0]:"));
    assert!(
        refused(r#"{"actions": {"phone": "keep-last-5"}}"#).starts_with("redact.actions.phone:")
    );
    assert!(refused(r#"{"actions": {"number": 1000000}}"#).starts_with("redact.actions.number:"));
    assert!(refused(r#"{"caps": {"findings": 0}}"#).starts_with("redact.caps.findings:"));
    assert!(serde_json::from_str::<RawPolicy>(r#"{"region": []}"#).is_err());
}

#[test]
fn patterns_are_checked() {
    let with = |name: &str, regex: &str| {
        policy(&format!(r#"{{"patterns": [{{"name": "{name}", "regex": "{regex}"}}]}}"#))
    };
    assert!(with("voucher", "V-[0-9]{8}").is_ok());
    for (name, regex) in [
        ("email", "x"),
        ("Voucher", "x"),
        ("v", "("),
        ("v", "x*"),
        ("v", "[a-z]+"),
        ("v", "\\\\*{4}"),
        ("v", "(?:[a-z0-9]{1000}){1000}"),
    ] {
        assert!(with(name, regex).is_err(), "{name} {regex}");
    }
    let policy = with("voucher", "V-[0-9]{8}").unwrap();
    let rules = policy.rules("t", None);
    let (index, regex) = rules.patterns().next().unwrap();
    assert!(regex.is_match(b"see V-12345678"));
    assert_eq!(policy.pattern_name(index), Some("voucher"));
}

#[test]
fn equal_policies_have_one_identity() {
    let one = policy(r#"{"regions": ["in"], "fields": {"never": ["b", "a"]}}"#).unwrap();
    let two =
        policy(r#"{"strictness": "balanced", "regions": ["IN"], "fields": {"never": ["a", "b"]}}"#)
            .unwrap();
    assert_eq!(one.identity(), two.identity());
    assert!(one.canonical_json().contains("libphonenumber 9."));
    assert_ne!(one.identity(), Policy::default().identity());
    assert_eq!(
        Policy::for_regions(&[Region::parse("IN").unwrap()]).rules("", None).regions().len(),
        1
    );
}

#[test]
fn loosenings_are_told_from_tightenings() {
    let base = r#"{"regions": ["IN"], "fields": {"always": ["note"]},
                   "patterns": [{"name": "v", "regex": "V-[0-9]+"}]}"#;
    let changed = |from: &str, to: &str| base.replace(from, to);
    let old = policy(base).unwrap();
    let tighter = [
        changed(r#""regions": ["IN"]"#, r#""regions": ["DE", "IN"]"#),
        changed(r#""regions""#, r#""strictness": "strict", "regions""#),
        changed(r#"["note"]"#, r#"["note", "text"]"#),
        changed(r#""regions""#, r#""actions": {"phone": "drop"}, "regions""#),
        changed(r#""regions""#, r#""caps": {"findings": 5}, "regions""#),
    ];
    for json in tighter {
        let new = policy(&json).unwrap();
        assert!(!Policy::is_loosening(&old, &new), "{json}");
    }
    let looser = [
        changed(r#""regions": ["IN"]"#, r#""regions": ["DE"]"#),
        changed(r#"{"always": ["note"]}"#, "{}"),
        changed(r#"["note"]"#, r#"["note"], "never": ["id"]"#),
        changed("V-[0-9]+", "V-[0-9]{9}"),
        changed(r#""regions""#, r#""allow": {"emails": ["@x.de"]}, "regions""#),
        changed(r#""regions""#, r#""actions": {"phone": "keep-last-2"}, "regions""#),
        changed(r#""regions""#, r#""tenants": {"a": {"regions": []}}, "regions""#),
        changed(r#""regions""#, r#""topics": {"a": {"fields": {"never": ["note"]}}}, "regions""#),
    ];
    for json in looser {
        let new = policy(&json).unwrap();
        assert!(Policy::is_loosening(&old, &new), "{json}");
    }
    let strict = policy(&changed(r#""regions""#, r#""strictness": "strict", "regions""#)).unwrap();
    assert!(Policy::is_loosening(&strict, &old));
    assert!(!Policy::is_loosening(&old, &old.clone()));
}

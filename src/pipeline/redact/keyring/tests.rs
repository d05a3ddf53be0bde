use super::*;

fn random() -> impl FnMut(&mut [u8]) {
    let mut state = 0x5DEE_CE66_D154_u64;
    move |buffer| {
        for byte in buffer {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56).to_le_bytes()[0];
        }
    }
}

fn kek(byte: u8) -> KeyEncryptionKey {
    KeyEncryptionKey::new([byte; 32])
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn phone_mac(keyring: &Keyring, tenant: Option<&TenantId>, millis: i64) -> [u8; 32] {
    keyring.key(tenant, KeyKind::Phone, at(millis)).unwrap().mac(b"+919876543210")
}

#[test]
fn a_file_round_trips_and_keys_differ_by_tenant_kind_and_epoch() {
    let mut random = random();
    let (acme, other, third) = (tenant("acme"), tenant("other"), tenant("third"));
    let mut file = KeyringFile::create(&kek(1), &mut random);
    file.add_tenant(&kek(1), &acme, at(100), &mut random).unwrap();
    let epoch = file.rotate(&kek(1), Some(&acme), at(1_000), &mut random).unwrap();
    assert_eq!(epoch.to_string(), "b");
    let read = KeyringFile::parse(&file.to_text()).unwrap();
    assert!(read == file);
    let keyring = read.open(&kek(1)).unwrap();
    let macs = [
        phone_mac(&keyring, None, 5),
        phone_mac(&keyring, Some(&acme), 100),
        phone_mac(&keyring, Some(&acme), 99),
        phone_mac(&keyring, Some(&acme), 1_000),
        phone_mac(&keyring, Some(&other), 5),
        phone_mac(&keyring, Some(&third), 5),
        keyring.key(None, KeyKind::Email, at(5)).unwrap().mac(b"+919876543210"),
    ];
    for (index, mac) in macs.iter().enumerate() {
        assert!(!macs[..index].contains(mac), "{index}");
    }
    assert_eq!(phone_mac(&keyring, Some(&acme), 999), macs[1]);
    assert!(!keyring.key(Some(&acme), KeyKind::Phone, at(100)).unwrap().is_default());
    assert!(keyring.key(Some(&acme), KeyKind::Phone, at(99)).unwrap().is_default());
    assert!(keyring.key(Some(&other), KeyKind::Phone, at(0)).unwrap().is_default());
    assert!(!keyring.key(None, KeyKind::Phone, at(0)).unwrap().is_default());
    assert!(keyring.has_tenant(&acme) && !keyring.has_tenant(&other));
}

#[test]
fn a_shredded_epoch_is_gone_and_known_to_be() {
    let mut random = random();
    let acme = tenant("acme");
    let mut file = KeyringFile::create(&kek(1), &mut random);
    file.add_tenant(&kek(1), &acme, at(100), &mut random).unwrap();
    file.rotate(&kek(1), Some(&acme), at(1_000), &mut random).unwrap();
    assert_eq!(file.shred(Some(&acme), Some(EpochId::FIRST), at(2_000)), Ok(KeyKind::ALL.len()));
    let file = KeyringFile::parse(&file.to_text()).unwrap();
    let keyring = file.open(&kek(1)).unwrap();
    let gone = keyring.key(Some(&acme), KeyKind::Phone, at(100)).unwrap_err();
    assert_eq!(gone, KeyUnavailable::Shredded(EpochId::FIRST));
    assert!(keyring.key(Some(&acme), KeyKind::Phone, at(1_000)).is_ok());
    let mut file = file;
    assert_eq!(file.shred(Some(&tenant("x")), None, at(0)), Err(KeyringError::NoSuchKeys));
    assert_eq!(file.shred(Some(&acme), Some(EpochId::FIRST), at(0)), Err(KeyringError::NoSuchKeys));
}

#[test]
fn a_missing_epoch_says_what_is_missing() {
    let mut random = random();
    let file = KeyringFile::create(&kek(1), &mut random).to_text();
    let header = file.lines().next().unwrap();
    let keyring = KeyringFile::parse(header).unwrap().open(&kek(1)).unwrap();
    let missing = keyring.key(Some(&tenant("acme")), KeyKind::Phone, at(0)).unwrap_err();
    let message = missing.to_string();
    assert!(message.starts_with("the keyring has no phone key of tenant acme"), "{message}");
    assert!(message.contains("1970-01-01T00:00:00.000Z"), "{message}");
}

#[test]
fn wrong_keys_and_changed_lines_are_told_apart() {
    let mut random = random();
    let mut file = KeyringFile::create(&kek(1), &mut random);
    file.add_tenant(&kek(1), &tenant("acme"), at(100), &mut random).unwrap();
    assert_eq!(file.open(&kek(2)).unwrap_err(), KeyringError::WrongKey);
    let text = file.to_text();
    let stolen = text.replace("\"acme\"", "\"evil\"");
    let refused = KeyringFile::parse(&stolen).unwrap().open(&kek(1)).unwrap_err();
    assert_eq!(refused, KeyringError::Damaged(7));
    assert_eq!(KeyringFile::parse("").unwrap_err(), KeyringError::Header);
    let newer = text.replace("\"blotter_keyring\":1", "\"blotter_keyring\":2");
    assert_eq!(KeyringFile::parse(&newer).unwrap_err(), KeyringError::Header);
    let mut rotated = file.clone();
    rotated.rotate(&kek(1), None, at(9), &mut random).unwrap();
    rotated.rotate(&kek(1), None, at(10), &mut random).unwrap();
    let without_b: String = rotated
        .to_text()
        .lines()
        .filter(|line| !line.contains("\"epoch\":\"b\""))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(KeyringFile::parse(&without_b).unwrap_err(), KeyringError::Line(12));
    let last = text.lines().last().unwrap();
    let twice = format!("{text}{last}\n");
    assert_eq!(KeyringFile::parse(&twice).unwrap_err(), KeyringError::Line(12));
    assert_eq!(KeyringFile::parse(&format!("{text}x\n")).unwrap_err(), KeyringError::Line(12));
}

#[test]
fn changes_that_make_no_sense_are_refused() {
    let mut random = random();
    let acme = tenant("acme");
    let mut file = KeyringFile::create(&kek(1), &mut random);
    assert_eq!(
        file.rotate(&kek(1), Some(&acme), at(5), &mut random),
        Err(KeyringError::NoSuchKeys)
    );
    file.rotate(&kek(1), None, at(5), &mut random).unwrap();
    let early = file.rotate(&kek(1), None, at(5), &mut random).unwrap_err();
    assert!(matches!(early, KeyringError::NotAfter(_)));
    assert_eq!(file.add_tenant(&kek(2), &acme, at(100), &mut random), Err(KeyringError::WrongKey));
    file.add_tenant(&kek(1), &acme, at(100), &mut random).unwrap();
    assert_eq!(
        file.add_tenant(&kek(1), &acme, at(100), &mut random),
        Err(KeyringError::TenantExists)
    );
}

#[test]
fn a_new_key_encryption_key_keeps_the_keys() {
    let mut random = random();
    let file = KeyringFile::create(&kek(1), &mut random);
    let moved = file.rewrap(&kek(1), &kek(2), &mut random).unwrap();
    assert_eq!(moved.open(&kek(1)).unwrap_err(), KeyringError::WrongKey);
    let (old, new) = (file.open(&kek(1)).unwrap(), moved.open(&kek(2)).unwrap());
    assert_eq!(phone_mac(&old, None, 0), phone_mac(&new, None, 0));
    assert_eq!(old.id(), new.id());
    assert!(file.rewrap(&kek(2), &kek(1), &mut random).is_err());
    assert_eq!(*KeyEncryptionKey::parse(&kek(7).to_text()).unwrap().to_text(), *kek(7).to_text());
}

#[test]
fn nothing_prints_a_key() {
    let mut random = random();
    let file = KeyringFile::create(&kek(1), &mut random);
    let keyring = file.open(&kek(1)).unwrap();
    let key = keyring.key(None, KeyKind::Email, at(0)).unwrap();
    let printed = format!("{:?} {file:?} {keyring:?} {key:?}", kek(0xAB));
    assert!(!printed.contains("171") && !printed.to_lowercase().contains("ab, ab"), "{printed}");
}

use super::*;
use crate::pipeline::redact::rules::THRESHOLD_BALANCED;

fn found(text: &str) -> Vec<&str> {
    let mut addresses = Vec::new();
    let mut take = |address: Address| {
        if address.score.total >= THRESHOLD_BALANCED {
            addresses.push(&text[address.start..address.end]);
        }
        Ok::<(), ()>(())
    };
    let (field, threshold) = (FieldClass::None, THRESHOLD_BALANCED);
    let wanted = Wanted { field, threshold, is_glued_taken: false };
    find(text.as_bytes(), wanted, &mut take).unwrap();
    find_obfuscated(text.as_bytes(), &mut take).unwrap();
    addresses
}

#[test]
fn addresses_are_found_whole() {
    for (text, addresses) in [
        ("to=<asha@x.in>, cc asha+tag@mail.co.uk.", &["asha@x.in", "asha+tag@mail.co.uk"][..]),
        ("\"marcelo ramirez\"@sanmartin.biz", &["\"marcelo ramirez\"@sanmartin.biz"]),
        ("françoise38@k12.wilms76.co.uk", &["françoise38@k12.wilms76.co.uk"]),
        (
            "x heiko@łódź-fryzjer.pl, y@xn--mller-kva.de",
            &["heiko@łódź-fryzjer.pl", "y@xn--mller-kva.de"],
        ),
        ("'hugo@ziggo.nl' o'ali@labs.at", &["hugo@ziggo.nl", "o'ali@labs.at"]),
        ("a@x.com/b@y.com|c@z.com;d@w.com", &["a@x.com", "b@y.com", "c@z.com", "d@w.com"]),
        ("?a=1&email=asha@x.in&b=2", &["asha@x.in"]),
        ("mailto:Asha@GMAIL.COM?subject=x", &["Asha@GMAIL.COM"]),
        ("email: asha@[192.168.0.1]", &["asha@[192.168.0.1]"]),
        ("email ops@mail.internal", &[]),
        ("mail kline (AT) gmail (DOT) com", &["kline (AT) gmail (DOT) com"]),
        (
            "ganguly dot ojas at rediff dot co dot in!",
            &["ganguly dot ojas at rediff dot co dot in"],
        ),
        ("x [at] t-online [dot] de", &["x [at] t-online [dot] de"]),
        ("hi@hotmail.com.Next step", &["hi@hotmail.com.Next"]),
    ] {
        assert_eq!(found(text), addresses, "{text}");
    }
}

#[test]
fn what_only_has_an_at_sign_is_left() {
    for text in [
        "git@github.com:cazo/x.git",
        "react@18.2.0 @types/node@20.1.6",
        "nginx@sha256:04edc901b9e2f65f",
        "getty@tty3.service user@1004.service",
        "postgres://app:pw@db.cazo.de:5432/crm",
        "https://0123456789abcdef0123456789abcdef@o1.ingest.sentry.io/5",
        "logo@2x.png hero@3x.webp",
        "kafka/broker2@CAZO.INTERNAL",
        "Session@68649f79 @Autowired @ 13:21; 3 @ $12.50",
        "look at foo.com or at com.foo.Bar",
        "deploy@bastion:~$ ssh root@172.160.149.125",
    ] {
        assert_eq!(found(text), Vec::<&str>::new(), "{text}");
    }
}

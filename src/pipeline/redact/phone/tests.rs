use super::*;

fn best(text: &str, field: FieldClass, region: &str) -> Option<(String, i16)> {
    let regions = [Region::parse(region).unwrap()];
    let place = Place { field, outer: None, regions: &regions, is_identity: false };
    let mut best: Option<(String, i16)> = None;
    let mut budget = usize::MAX;
    let take = |candidate: &Candidate| {
        let total = candidate.score.total;
        if best.as_ref().is_none_or(|(_, other)| total > *other) {
            best = Some((text[candidate.start..candidate.end].to_owned(), total));
        }
        Ok(())
    };
    PhoneFinder::default().find(text.as_bytes(), &place, &mut budget, take).unwrap();
    best
}

fn found(text: &str, region: &str) -> Option<String> {
    let (text, score) = best(text, FieldClass::None, region)?;
    (score >= THRESHOLD_BALANCED).then_some(text)
}

#[test]
fn written_forms_are_found_whole() {
    for (text, region, number) in [
        ("call +91 98765 43210 now", "IN", "+91 98765 43210"),
        ("(+49) 1511 9668927 (attempt 2/5)", "DE", "(+49) 1511 9668927"),
        ("ring +44 (0)20 7946 0958", "GB", "+44 (0)20 7946 0958"),
        ("can u text ((910) 871-8654) instead", "US", "(910) 871-8654"),
        ("mobile +39 310 068 0178 extn 4770, x", "IT", "+39 310 068 0178 extn 4770"),
        ("on 0091 80 2521 0943", "IN", "0091 80 2521 0943"),
        ("my gpay number 09 93 99 86 55 4", "IN", "09 93 99 86 55 4"),
        ("phone=+39+313+732+6753&x=1", "IN", "+39+313+732+6753"),
        ("wa.me/33612005939?text=Hi", "FR", "33612005939"),
        ("x=true_917426862279@c.us_0ABD", "IN", "917426862279"),
        ("vpa 8442942293@apl", "IN", "8442942293"),
        ("mob no 069820.68534", "IN", "069820.68534"),
    ] {
        assert_eq!(found(text, region).unwrap_or_default(), number, "{text}");
    }
}

#[test]
fn other_numbers_are_left() {
    for (text, region) in [
        ("order 9543109277 placed", "IN"),
        ("2026-11-20T10:00:00.123Z", "DE"),
        ("slot 14/01/2024 10:30-11:15, 17.04.2023 09.00-09.45", "DE"),
        ("card 6521 3761 5018 7210 declined", "US"),
        ("loyalty card 7996 3799 0163", "IN"),
        ("dump 00000010  e9 2b 39 38 37 36 35 34 33 32 31 30 0b 8e 0a", "IN"),
        ("10.10.20.30:8080 192.168.100.200", "US"),
        ("took 77503312ns series=2696507", "NL"),
        ("blk_-2281067667503210140 size 67108864", "US"),
        ("lat 22.152925 lon 70.677779", "IN"),
        ("55950790-0608-4520-8497-595926625790", "IN"),
        ("2025-11-09T11:52:44.873902+0530", "IN"),
    ] {
        assert_eq!(found(text, region), None, "{text}");
    }
}

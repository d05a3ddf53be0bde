use rlibphonenumber::PHONE_NUMBER_UTIL as ORACLE;

use super::*;

fn region(code: &str) -> Region {
    Region::parse(code).unwrap()
}

#[test]
fn known_numbers_match() {
    let india = match_international(b"919876543210").unwrap();
    assert_eq!((india.region.code(), india.calling_code, india.national_start), ("IN", 91, 2));
    assert_eq!(india.number_type, NumberType::Mobile);
    let london = match_international(b"4402079460958").unwrap();
    assert_eq!((london.region.code(), london.national_start), ("GB", 3));
    let canada = match_national(region("US"), b"14165550123").unwrap();
    assert_eq!((canada.region.code(), canada.national_start), ("CA", 1));
    let italy = match_national(region("IT"), b"0612345678").unwrap();
    assert_eq!((italy.number_type, italy.national_start), (NumberType::FixedLine, 0));
    let germany = match_national(region("de"), b"015123456789").unwrap();
    assert_eq!((germany.number_type, germany.national_start), (NumberType::Mobile, 1));
    let argentina = match_national(region("AR"), b"0111523456789").unwrap();
    assert_eq!(argentina.argentine_area_digits, Some(2));
    assert_eq!(argentina.number_type, NumberType::Mobile);
    let freephone = match_international(b"80012345678").unwrap();
    assert_eq!(freephone.region, Region::WORLD);
}

#[test]
fn what_is_no_number_does_not_match() {
    assert_eq!(match_international(b"911234"), None);
    assert_eq!(match_international(b"9998765432101"), None);
    assert_eq!(match_international(b"+1"), None);
    assert_eq!(match_national(region("IN"), b"0000000000"), None);
    assert_eq!(match_national(Region::WORLD, b"9876543210"), None);
    assert_eq!(match_national(region("IN"), b"98765x3210"), None);
    assert_eq!(match_national(region("IN"), &[b'9'; 60]), None);
    assert_eq!(Region::parse("UK"), None);
}

#[test]
fn lengths_decide_what_is_possible() {
    assert_eq!(possible_international(b"919876543210"), Some(91));
    assert_eq!(possible_international(b"340617133706"), Some(34));
    assert_eq!(possible_international(b"9198765432101234567"), None);
    assert!(possible_national(region("IN"), b"09876543210"));
    assert!(possible_national(region("FR"), b"0612345678"));
    assert!(!possible_national(region("FR"), b"06123456789"));
}

#[test]
fn national_groupings_fit() {
    assert!(grouping_fits(region("IN"), &[5, 5]));
    assert!(grouping_fits(region("IN"), &[6, 5]));
    assert!(grouping_fits(region("FR"), &[2, 2, 2, 2, 2]));
    assert!(grouping_fits(region("US"), &[3, 3, 4]));
    assert!(grouping_fits(region("US"), &[1, 3, 3, 4]));
    assert!(grouping_fits(region("ES"), &[3, 3, 3]));
    assert!(grouping_fits(region("CA"), &[3, 3, 4]));
    assert!(!grouping_fits(region("FR"), &[4, 2, 4]));
    assert!(!grouping_fits(region("IN"), &[10]));
    assert!(!grouping_fits(region("IN"), &[]));
}

#[test]
fn the_tables_hang_together() {
    let states = tables::NEXT.len();
    assert_eq!(tables::LABEL.len(), states);
    assert_eq!(tables::NEXT[0], [0; 10], "state 0 is dead");
    assert!(tables::NEXT.iter().flatten().all(|&next| usize::from(next) < states));
    let labels_max = 4 * tables::REGIONS.len();
    assert!(tables::LABEL.iter().all(|&label| usize::from(label) <= labels_max));
    for (index, plan) in tables::CALLING_CODES.iter().enumerate() {
        assert_eq!(plan.calling_code.to_string().len(), usize::from(plan.digits));
        let slot = usize::from(plan.calling_code) * 10_usize.pow(3 - u32::from(plan.digits));
        assert_eq!(usize::from(tables::CODE_BY_PREFIX[slot]), index);
    }
    for region in Region::all() {
        assert_eq!(Region::parse(region.code()), Some(region));
        assert_eq!(region.calling_code() == 0, region == Region::WORLD);
    }
}

/// The tables against an independent implementation on pseudo-random numbers of every calling
/// code. Its metadata is one release older, so a small share may differ.
#[test]
fn the_tables_agree_with_an_independent_validator() {
    let (mut asked, mut differing) = (0_u32, Vec::new());
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for region in Region::all().filter(|&region| region != Region::WORLD) {
        for _ in 0..120 {
            let mut digits: Vec<u8> = region.calling_code().to_string().into_bytes();
            let length = 7 + usize::try_from(next(&mut random) % 5).unwrap();
            digits
                .extend((0..length).map(|_| b'0' + u8::try_from(next(&mut random) % 10).unwrap()));
            let text = format!("+{}", std::str::from_utf8(&digits).unwrap());
            let expected = ORACLE.parse(&text, None).is_ok_and(|number| number.is_valid());
            asked += 1;
            if expected != match_international(&digits).is_some() {
                differing.push(text);
            }
        }
    }
    assert!(
        differing.len() * 500 <= usize::try_from(asked).unwrap(),
        "{} of {asked} differ: {:?}",
        differing.len(),
        &differing[..differing.len().min(20)]
    );
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 16
}

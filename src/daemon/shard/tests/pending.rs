//! What restores wait for, and whom they fence.

use super::*;

#[test]
fn a_pending_offset_has_its_dead_writer_fenced_once() {
    let mut bench = Bench::new(1, 10);
    let pending = (0..6).map(|_| Err(LookupFailure::TimedOut)).collect();
    bench.world().lookups.insert("committed in/0".to_owned(), pending);
    bench.world().writers = VecDeque::from([Some("dead".to_owned())]);
    bench.turns(60).unwrap();
    assert_eq!(bench.world().count("fence dead"), 1);
    bench.assert_exactly_once(10);
}

#[test]
fn an_open_transaction_in_an_output_has_its_writer_fenced_but_not_ourselves() {
    let mut bench = Bench::new(1, 10);
    let open = || Ok(LookupAnswer::Range { low: 0, high: 9, lso: 3 });
    let mut answers: VecDeque<_> = (0..40).map(|_| open()).collect();
    answers.push_back(Ok(LookupAnswer::Range { low: 0, high: 9, lso: 9 }));
    bench.world().lookups.insert("range out/0".to_owned(), answers);
    bench.world().writers = VecDeque::from([Some("own".to_owned()), Some("dead".to_owned())]);
    bench.turns(120).unwrap();
    assert_eq!(bench.world().count("fence own"), 0);
    assert_eq!(bench.world().count("fence dead"), 1);
    bench.assert_exactly_once(10);
}

#[test]
fn a_transaction_of_our_own_that_hangs_is_ended_once() {
    let mut bench = Bench::new(1, 10);
    let open = || Ok(LookupAnswer::Range { low: 0, high: 9, lso: 3 });
    let mut answers: VecDeque<_> = (0..150).map(|_| open()).collect();
    answers.push_back(Ok(LookupAnswer::Range { low: 0, high: 9, lso: 9 }));
    bench.world().lookups.insert("range out/0".to_owned(), answers);
    bench.world().writers = (0..30).map(|_| Some("own".to_owned())).collect();
    bench.turns(400).unwrap();
    assert_eq!(bench.world().count("fence own"), 1);
    bench.assert_exactly_once(10);
}

#[test]
fn an_offset_of_our_own_that_stays_pending_is_ended_once() {
    let mut bench = Bench::new(1, 10);
    let pending = (0..60).map(|_| Err(LookupFailure::TimedOut)).collect();
    bench.world().lookups.insert("committed in/0".to_owned(), pending);
    bench.turns(400).unwrap();
    assert_eq!(bench.world().count("fence own"), 1);
    bench.assert_exactly_once(10);
}

use proptest::prelude::*;

use super::*;
use crate::pipeline::measure::{BotFacts, Signal};
use crate::pipeline::record::TenantId;

const T0: i64 = 1_760_000_000_000;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(T0 + millis)
}

fn source(partition: i32) -> TopicPartition {
    TopicPartition::new("app.logs", partition)
}

/// A book with the places of its records.
struct Book(DeltaBook, Places);

impl std::ops::Deref for Book {
    type Target = DeltaBook;
    fn deref(&self) -> &DeltaBook {
        &self.0
    }
}

impl std::ops::DerefMut for Book {
    fn deref_mut(&mut self) -> &mut DeltaBook {
        &mut self.0
    }
}

impl Book {
    fn new(partitions: i32) -> Self {
        Self(DeltaBook::new(partitions), Places::default())
    }

    fn fact(&mut self, tenant: Option<&TenantId>, service: &str, time: Timestamp) -> Fact {
        let place = self.1.of(tenant, Some(service));
        Fact { place, ..fact_at(time) }
    }

    fn record(&mut self, source: &TopicPartition, fact: &Fact, now: Timestamp) {
        self.0.record(source, &self.1, fact, now);
    }

    fn count(&mut self, tenant: Option<&TenantId>, service: &str, time: Timestamp, now: Timestamp) {
        let fact = self.fact(tenant, service, time);
        self.record(&source(0), &fact, now);
    }
}

fn fact_at(time: Timestamp) -> Fact {
    Fact {
        place: Places::default().of(None, None),
        records: 1,
        errors: 0,
        event_time: time,
        session: None,
        bot: BotFacts::default(),
    }
}

fn decoded(outputs: &[MeasureOutput]) -> Vec<(i32, MeasureRecord)> {
    outputs.iter().map(|o| (o.partition, MeasureRecord::decode(&o.value).unwrap())).collect()
}

fn deltas(outputs: &[MeasureOutput]) -> Vec<(i32, Delta)> {
    decoded(outputs)
        .into_iter()
        .filter_map(|(partition, record)| match record {
            MeasureRecord::Deltas { deltas, .. } => Some((partition, deltas)),
            _ => None,
        })
        .flat_map(|(partition, deltas)| deltas.into_iter().map(move |d| (partition, d)))
        .collect()
}

fn sessions(outputs: &[MeasureOutput]) -> Vec<SessionFact> {
    decoded(outputs)
        .into_iter()
        .filter_map(|(_, record)| match record {
            MeasureRecord::Deltas { sessions, .. } => Some(sessions),
            _ => None,
        })
        .flatten()
        .collect()
}

fn marks(outputs: &[MeasureOutput]) -> Vec<(i32, Vec<Mark>)> {
    decoded(outputs)
        .into_iter()
        .filter_map(|(partition, record)| match record {
            MeasureRecord::Marks(marks) => Some((partition, marks)),
            _ => None,
        })
        .collect()
}

proptest! {
    #[test]
    fn nothing_is_lost_or_counted_twice_wherever_transactions_are_cut(
        records in prop::collection::vec((0usize..4, 0usize..3, -200_000i64..400_000, any::<bool>()), 1..80),
        cut in 0usize..80,
    ) {
        let tenants: Vec<_> = ["a", "_b", "c"].map(|id| TenantId::new(id).unwrap()).into();
        let services = ["x", "_y", ""];
        let totals = |cut: usize| {
            let mut book = Book::new(5);
            book.assign(&source(0));
            let mut sums = BTreeMap::<(i32, Series, Option<Bucket>), Counts>::new();
            for (index, &(tenant, service, time, error)) in records.iter().enumerate() {
                let mut fact = book.fact(tenants.get(tenant), services[service], at(time));
                if error {
                    fact.errors = 1;
                }
                book.record(&source(0), &fact, at(0));
                if index == cut || index + 1 == records.len() {
                    let (outputs, overflow) = book.drain(at(0));
                    assert_eq!(overflow, BookOverflow::default());
                    book.committed();
                    for (partition, delta) in deltas(&outputs) {
                        let key = (partition, delta.series, delta.bucket);
                        sums.entry(key).or_default().add_all(&delta.counts);
                    }
                }
            }
            sums
        };
        let whole = totals(usize::MAX);
        prop_assert_eq!(&whole, &totals(cut));
        let sum = |scope: fn(&Scope) -> bool, signal| -> usize {
            let of_scope = whole.iter().filter(|((_, series, _), _)| scope(&series.scope));
            of_scope.map(|(_, counts)| counts.of(signal) as usize).sum()
        };
        let errors = records.iter().filter(|record| record.3).count();
        prop_assert_eq!(sum(|scope| *scope == Scope::All, Signal::Records), records.len());
        prop_assert_eq!(sum(|scope| *scope != Scope::All, Signal::Records), records.len());
        prop_assert_eq!(sum(|scope| *scope == Scope::All, Signal::Errors), errors);
        for (partition, series, _) in whole.keys() {
            prop_assert_eq!(*partition, series.scope.partition(5));
        }
    }
}

#[test]
fn an_event_time_far_ahead_counts_now_and_moves_no_mark() {
    let mut book = Book::new(1);
    book.assign(&source(0));
    book.count(None, "s", at(-70_000), at(0));
    book.count(None, "s", at(300_001), at(0));
    let (outputs, _) = book.drain(at(0));
    let buckets: Vec<_> = deltas(&outputs).iter().map(|(_, d)| d.bucket).collect();
    assert!(buckets.contains(&Some(Bucket::of(at(0)))));
    assert!(!buckets.contains(&Some(Bucket::of(at(300_001)))));
    assert_eq!(marks(&outputs)[0].1[0].watermark, Some(at(-70_000)));
}

#[test]
fn marks_go_to_every_partition_each_second_and_on_every_change() {
    let mut book = Book::new(3);
    assert_eq!(book.due(at(0)), None);
    book.assign(&source(0));
    book.assign(&source(1));
    assert_eq!(book.due(at(0)), Some(at(0)));
    let (outputs, _) = book.drain(at(0));
    assert_eq!(marks(&outputs).iter().map(|m| m.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(marks(&outputs)[2].1.len(), 2);
    book.committed();
    assert_eq!(book.due(at(1)), Some(at(1_000)));
    assert_eq!(book.drain(at(999)).0, vec![]);
    book.caught_up(&source(1), at(10));
    assert_eq!(book.due(at(11)), Some(at(11)));
    let (outputs, _) = book.drain(at(11));
    assert_eq!(marks(&outputs)[0].1.iter().map(|m| m.caught_up).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_partition_that_is_not_read_holds_no_event_time_back() {
    let mut book = Book::new(1);
    book.assign(&source(0));
    book.assign(&source(1));
    book.caught_up(&source(1), at(0));
    book.drain(at(0));
    book.revoke(&source(1));
    book.discard();
    let told = marks(&book.drain(at(1_000)).0);
    assert_eq!(told.iter().map(|(_, marks)| marks.len()).collect::<Vec<_>>(), [1]);
    book.revoke(&source(0));
    assert_eq!(book.due(at(2_000)), None);
    let place = book.1.of(None, None);
    book.0.notice(&book.1, place, Signal::Stops, 1, at(2_000));
    assert_eq!(book.due(at(2_000)), Some(at(2_000)), "nothing else would take it along");
    assert_eq!(deltas(&book.drain(at(2_000)).0).len(), 2, "of nobody and of all");
    assert_eq!(book.due(at(3_000)), None);
}

#[test]
fn caught_up_outlasts_single_records_but_not_a_backlog() {
    let mut book = Book::new(1);
    book.assign(&source(0));
    book.caught_up(&source(0), at(0));
    book.drain(at(0));
    book.count(None, "s", at(1), at(100));
    assert_eq!(book.due(at(100)), Some(at(1_000)));
    assert_eq!(book.due(at(3_001)), Some(at(3_001)));
    assert!(!marks(&book.drain(at(3_001)).0)[0].1[0].caught_up);
}

#[test]
fn a_lost_transaction_leaves_nothing() {
    let mut book = Book::new(1);
    book.assign(&source(0));
    book.count(None, "s", at(0), at(0));
    book.drain(at(0));
    book.committed();
    book.count(None, "s", at(60_000), at(60_000));
    book.drain(at(60_000));
    book.discard();
    book.count(None, "s", at(70_000), at(70_000));
    book.discard();
    assert!(book.is_empty());
    let (outputs, _) = book.drain(at(70_000));
    assert_eq!(deltas(&outputs), vec![]);
    assert_eq!(marks(&outputs)[0].1[0].watermark, Some(at(0)));
}

#[test]
fn a_session_leaves_once_per_transaction_with_its_earliest_times() {
    let tenant = TenantId::new("t").unwrap();
    let mut book = Book::new(1);
    book.assign(&source(0));
    let mut bot = book.fact(Some(&tenant), "bot", at(20));
    bot.session = Some(SessionTag([7; 16]));
    book.record(&source(0), &bot, at(0));
    assert_eq!(sessions(&book.drain(at(0)).0), vec![]);
    bot.bot.turn = true;
    book.record(&source(0), &bot, at(0));
    bot.bot.handover = true;
    book.record(&source(0), &bot, at(0));
    bot.event_time = at(10);
    book.record(&source(0), &bot, at(0));
    let expected = SessionFact {
        scope: Scope::Tenant(tenant.clone()),
        tag: SessionTag([7; 16]),
        seen: at(10),
        handed_over: Some(at(10)),
    };
    assert_eq!(sessions(&book.drain(at(0)).0), vec![expected]);
}

#[test]
fn floods_are_bounded_and_counted() {
    let mut book = Book::new(2);
    book.assign(&source(0));
    let bad = TenantId::new("bad").unwrap();
    for index in 0..SERVICES_PER_TENANT_MAX + 50 {
        book.count(Some(&bad), &format!("s{index}"), at(0), at(0));
    }
    for index in 0..BUCKETS_PER_SERIES_PER_TRANSACTION_MAX + 20 {
        let time = at(-10_000 * i64::try_from(index).unwrap());
        book.count(Some(&bad), "s0", time, at(0));
    }
    for index in 0..SERIES_PER_TRANSACTION_MAX {
        let tenant = TenantId::new(&format!("t{index}")).unwrap();
        book.count(Some(&tenant), "s", at(0), at(0));
    }
    let (outputs, overflow) = book.drain(at(0));
    assert_eq!(overflow.tenant, 101, "the bad tenant's services took that many places");
    assert!(overflow.service >= 50 && overflow.bucket == 20, "{overflow:?}");
    assert!(outputs.iter().all(|output| output.value.len() < 1_000_000));
    let all: u32 = deltas(&outputs)
        .iter()
        .filter(|(_, delta)| delta.series.scope == Scope::All)
        .map(|(_, delta)| delta.counts.of(Signal::Records))
        .sum();
    assert_eq!(all as usize, 150 + 380 + SERIES_PER_TRANSACTION_MAX);
}

#[test]
fn the_worst_entries_fit_a_record() {
    let mut book = Book::new(1);
    for index in 0..MEASURE_ENTRIES_PER_RECORD_MAX * 2 {
        let id = format!("{}{index:04}", "\u{1}".repeat(124));
        let tenant = TenantId::new(&id).unwrap();
        book.count(Some(&tenant), &id, at(0), at(0));
    }
    let (outputs, _) = book.drain(at(0));
    assert!(outputs.len() >= 2);
    assert!(outputs.iter().all(|output| output.value.len() < 1_000_000));
}

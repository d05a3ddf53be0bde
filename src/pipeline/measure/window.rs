//! WATCH's side: 10-second buckets per series, and sums over windows of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::series::{OVERFLOW, Scope, Series};
use super::signal::{Bucket, Counts, SIGNALS, Signal};
use crate::pipeline::limits::{BUCKET_MS, SERIES_PER_PARTITION_MAX, SERVICES_PER_TENANT_MAX};

/// How many buckets back each signal is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    buckets: Vec<i64>,
}

impl Retention {
    /// Needs nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { buckets: vec![0; SIGNALS.len()] }
    }

    /// `signal` is needed over windows of `window_ms`.
    pub fn require(&mut self, signal: Signal, window_ms: i64) {
        let slot = &mut self.buckets[signal as usize];
        *slot = (*slot).max(window_ms / BUCKET_MS);
    }

    fn keeps(&self, bucket: Bucket, counts: &Counts, end: Bucket) -> bool {
        counts.iter().any(|(signal, _)| bucket > end.minus(self.buckets[signal as usize]))
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self::new()
    }
}

/// Where an addition went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The series it was added to: the one asked for, or an overflow series.
    pub series: Series,
    /// Whether it was an overflow series.
    pub overflowed: bool,
}

/// The buckets of every series of one measures partition.
#[derive(Debug, Default)]
pub struct SeriesTable {
    scopes: BTreeMap<Scope, BTreeMap<Arc<str>, Buckets>>,
    series: usize,
}

/// Sorted by bucket.
type Buckets = Vec<(Bucket, Counts)>;

impl SeriesTable {
    /// Adds `counts`; a series beyond the caps is counted in its tenant's `_other`, or in
    /// everybody's.
    pub fn add(&mut self, series: &Series, bucket: Bucket, counts: &Counts) -> Placed {
        let services = self.scopes.get_mut(&series.scope);
        if let Some(known) = services.and_then(|services| services.get_mut(&series.service)) {
            add_to(known, bucket, counts);
            return Placed { series: series.clone(), overflowed: false };
        }
        let placed = self.place(series);
        add_to(self.buckets_mut(&placed.series), bucket, counts);
        placed
    }

    /// Puts back a bucket as it was stored.
    pub fn restore(&mut self, series: &Series, bucket: Bucket, counts: Option<Counts>) {
        let buckets = self.buckets_mut(series);
        match (buckets.binary_search_by_key(&bucket, |&(at, _)| at), counts) {
            (Ok(index), Some(counts)) => buckets[index].1 = counts,
            (Err(index), Some(counts)) => buckets.insert(index, (bucket, counts)),
            (Ok(index), None) => drop(buckets.remove(index)),
            (Err(_), None) => {}
        }
        self.drop_if_empty(series);
    }

    /// What one bucket holds, for storing it.
    #[must_use]
    pub fn bucket(&self, series: &Series, bucket: Bucket) -> Option<Counts> {
        let buckets = self.scopes.get(&series.scope)?.get(&series.service)?;
        let index = buckets.binary_search_by_key(&bucket, |&(at, _)| at).ok()?;
        Some(buckets[index].1)
    }

    /// The sum over the `length` buckets that end with `end`, of one service or, with `None`, of
    /// all services of the scope.
    #[must_use]
    pub fn sum(&self, scope: &Scope, service: Option<&str>, end: Bucket, length: i64) -> Counts {
        let mut sum = Counts::default();
        let Some(services) = self.scopes.get(scope) else { return sum };
        match service {
            Some(service) => {
                if let Some(buckets) = services.get(service) {
                    add_window(&mut sum, buckets, end, length);
                }
            }
            None => services.values().for_each(|b| add_window(&mut sum, b, end, length)),
        }
        sum
    }

    /// Every series, in order.
    pub fn series(&self) -> impl Iterator<Item = Series> + '_ {
        self.scopes.iter().flat_map(|(scope, services)| {
            services.keys().map(|service| Series::new(scope.clone(), Arc::clone(service)))
        })
    }

    /// Number of series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series
    }

    /// Whether there is no series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series == 0
    }

    /// Drops the buckets no window that ends at `end` or later needs; returns them in order.
    pub fn prune(&mut self, end: Bucket, retention: &Retention) -> Vec<(Series, Bucket)> {
        let mut dropped = Vec::new();
        for (scope, services) in &mut self.scopes {
            for (service, buckets) in services.iter_mut() {
                buckets.retain(|&(bucket, ref counts)| {
                    let keep = retention.keeps(bucket, counts, end);
                    if !keep {
                        let series = Series::new(scope.clone(), Arc::clone(service));
                        dropped.push((series, bucket));
                    }
                    keep
                });
            }
            services.retain(|_, buckets| !buckets.is_empty());
        }
        self.scopes.retain(|_, services| !services.is_empty());
        self.series = self.scopes.values().map(BTreeMap::len).sum();
        dropped
    }

    /// Where a series that is not there yet goes.
    fn place(&self, series: &Series) -> Placed {
        let services = self.scopes.get(&series.scope);
        let full = self.series >= SERIES_PER_PARTITION_MAX;
        let crowded = services.is_some_and(|services| services.len() >= SERVICES_PER_TENANT_MAX);
        if !(full || crowded) {
            return Placed { series: series.clone(), overflowed: false };
        }
        let scope = if services.is_some() { series.scope.clone() } else { Scope::Other };
        Placed { series: Series::new(scope, OVERFLOW), overflowed: true }
    }

    fn buckets_mut(&mut self, series: &Series) -> &mut Buckets {
        let services = self.scopes.entry(series.scope.clone()).or_default();
        if !services.contains_key(&series.service) {
            self.series += 1;
        }
        services.entry(Arc::clone(&series.service)).or_default()
    }

    fn drop_if_empty(&mut self, series: &Series) {
        let Some(services) = self.scopes.get_mut(&series.scope) else { return };
        if services.get(&series.service).is_some_and(Vec::is_empty) {
            services.remove(&series.service);
            self.series -= 1;
        }
        if services.is_empty() {
            self.scopes.remove(&series.scope);
        }
    }
}

/// Most additions are to the newest bucket.
fn add_to(buckets: &mut Buckets, bucket: Bucket, counts: &Counts) {
    let index = match buckets.last_mut() {
        Some((at, newest)) if *at == bucket => return newest.add_all(counts),
        Some((at, _)) if *at < bucket => Err(buckets.len()),
        _ => buckets.binary_search_by_key(&bucket, |&(at, _)| at),
    };
    match index {
        Ok(index) => buckets[index].1.add_all(counts),
        Err(index) => buckets.insert(index, (bucket, *counts)),
    }
}

fn add_window(sum: &mut Counts, buckets: &Buckets, end: Bucket, length: i64) {
    let after = end.minus(length);
    let newest_first = buckets.iter().rev();
    newest_first
        .skip_while(|(bucket, _)| *bucket > end)
        .take_while(|(bucket, _)| *bucket > after)
        .for_each(|(_, counts)| sum.add_all(counts));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::record::TenantId;

    fn series(tenant: &str, service: &str) -> Series {
        Series::new(Scope::Tenant(TenantId::new(tenant).unwrap()), service)
    }

    fn records(count: u32) -> Counts {
        let mut counts = Counts::default();
        counts.add(Signal::Records, count);
        counts
    }

    proptest! {
        #[test]
        fn a_window_sums_what_lies_in_it(
            adds in prop::collection::vec((0i64..40, 0usize..3, 1u32..5), 0..60),
            end in 0i64..45,
            length in 1i64..20,
        ) {
            let services = ["a", "b", ""];
            let mut table = SeriesTable::default();
            for &(bucket, service, count) in &adds {
                table.add(&series("t", services[service]), Bucket(bucket), &records(count));
            }
            let scope = series("t", "").scope;
            let expected = |wanted: Option<usize>| -> u32 {
                adds.iter()
                    .filter(|&&(bucket, service, _)| {
                        bucket <= end
                            && bucket > end - length
                            && wanted.is_none_or(|wanted| wanted == service)
                    })
                    .map(|&(_, _, count)| count)
                    .sum()
            };
            let sum = |service| {
                table.sum(&scope, service, Bucket(end), length).of(Signal::Records)
            };
            prop_assert_eq!(sum(None), expected(None));
            prop_assert_eq!(sum(Some("b")), expected(Some(1)));
        }

        #[test]
        fn what_is_stored_restores_the_same_table(
            adds in prop::collection::vec((0i64..40, 0usize..2, 1u32..5), 0..40),
            end in 0i64..60,
        ) {
            let mut retention = Retention::new();
            retention.require(Signal::Records, 100_000);
            let mut table = SeriesTable::default();
            let mut keys = std::collections::BTreeSet::new();
            for &(bucket, tenant, count) in &adds {
                let key = (series(["a", "b"][tenant], "s"), Bucket(bucket));
                table.add(&key.0, key.1, &records(count));
                keys.insert(key);
            }
            table.prune(Bucket(end), &retention);
            let mut restored = SeriesTable::default();
            for (series, bucket) in keys {
                restored.restore(&series, bucket, Some(records(1)));
                restored.restore(&series, bucket, table.bucket(&series, bucket));
            }
            prop_assert_eq!(restored.len(), table.len());
            prop_assert_eq!(
                restored.series().collect::<Vec<_>>(),
                table.series().collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_tenant_that_invents_services_crowds_out_only_itself() {
        let mut table = SeriesTable::default();
        for index in 0..1_000 {
            let placed = table.add(&series("bad", &format!("s{index}")), Bucket(1), &records(1));
            assert_eq!(placed.overflowed, index >= SERVICES_PER_TENANT_MAX);
        }
        assert_eq!(table.len(), SERVICES_PER_TENANT_MAX + 1);
        let scope = series("bad", "").scope;
        assert_eq!(table.sum(&scope, None, Bucket(1), 1).of(Signal::Records), 1_000);
        assert!(!table.add(&series("good", "s"), Bucket(1), &records(1)).overflowed);
    }

    #[test]
    fn tenants_beyond_the_cap_share_one_series() {
        let mut table = SeriesTable::default();
        for index in 0..SERIES_PER_PARTITION_MAX + 5 {
            table.add(&series(&format!("t{index}"), "s"), Bucket(1), &records(1));
        }
        assert_eq!(table.len(), SERIES_PER_PARTITION_MAX + 1);
        assert_eq!(table.sum(&Scope::Other, None, Bucket(1), 1).of(Signal::Records), 5);
    }
}

//! Finding the output that can't be written. A transaction fails as a whole; a missing topic must
//! stop those alone that write to it. What a stage writes to is asked for; who needs what is gone is
//! stopped until it is there, the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Shard;
use super::partition::{Phase, Until};
use super::recovery::Failure;
use crate::daemon::broker::{Broker, BrokerErrorKind, LookupFailure, Ticket};
use crate::daemon::clock::Clock;
use crate::pipeline::record::TopicPartition;
use crate::pipeline::step::{Lookup, LookupAnswer, PartitionStop, Stage};

/// Failures in a row after which a refusal that names no topic stops what was written for.
const REFUSALS_MAX: u32 = 3;

/// What is known of outputs that can't be written.
#[derive(Default)]
pub(super) struct Unwritable {
    /// Outputs asked for, and the source partitions that need each.
    asked: BTreeMap<Ticket, (TopicPartition, BTreeSet<TopicPartition>)>,
    /// Source partitions to be stopped on the way back, and the output each waits for.
    found: BTreeMap<TopicPartition, (TopicPartition, PartitionStop)>,
}

impl Unwritable {
    /// Whether an answer is still to come.
    pub(super) fn is_asking(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The output a partition needs and that can't be written; told once.
    pub(super) fn take(
        &mut self,
        source: &TopicPartition,
    ) -> Option<(TopicPartition, PartitionStop)> {
        self.found.remove(source)
    }

    /// The partition went away.
    pub(super) fn forget(&mut self, source: &TopicPartition) {
        self.found.remove(source);
    }

    /// A transaction stands: everything it needed is there.
    pub(super) fn committed(&mut self) {
        self.found.clear();
    }
}

impl<B: Broker, S: Stage, C: Clock> Shard<B, S, C> {
    /// A transaction failed in a way that a missing or forbidden output explains. A refusal names its
    /// topic and is believed; otherwise each output of the transaction is asked for.
    pub(super) fn suspect_outputs(&mut self, failure: &Failure) {
        let outputs = self.outputs_of_transaction(failure.output.as_ref());
        let refused = failure.cause == BrokerErrorKind::NotAuthorized.name();
        for (output, sources) in outputs {
            let is_named = failure.output.as_ref().is_some_and(|named| named.topic == output.topic);
            if refused && (is_named || self.failures >= REFUSALS_MAX) {
                for source in sources {
                    let stop = refusal(&source, &output, &failure.detail, is_named);
                    self.unwritable.found.insert(source, (output.clone(), stop));
                }
            } else if !refused || failure.output.is_none() {
                self.ask_for_output(output, sources);
            }
        }
    }

    /// Every output of the open transaction with the source partitions that need it. A topic that
    /// several share is asked for by the partition that was `named`, or else by its first.
    fn outputs_of_transaction(
        &mut self,
        named: Option<&TopicPartition>,
    ) -> BTreeMap<TopicPartition, BTreeSet<TopicPartition>> {
        let sources: BTreeSet<TopicPartition> = self
            .partitions
            .iter()
            .filter(|(_, partition)| partition.is_writable())
            .map(|(source, _)| source.clone())
            .collect();
        let mut outputs: BTreeMap<TopicPartition, BTreeSet<TopicPartition>> = BTreeMap::new();
        for source in &sources {
            for output in self.stage.output_partitions(source) {
                outputs.entry(output).or_default().insert(source.clone());
            }
        }
        let own: BTreeSet<Arc<str>> = outputs.keys().map(|own| Arc::clone(&own.topic)).collect();
        let written = std::mem::take(&mut self.transaction.written);
        for (topic, source) in written.into_iter().filter(|(topic, _)| !own.contains(topic)) {
            let partition = named.filter(|named| named.topic == topic).map_or(0, |n| n.partition);
            let shared = TopicPartition { topic, partition: partition.max(0) };
            let needed_by = outputs.entry(shared).or_default();
            match source {
                Some(source) => drop(needed_by.insert(source)),
                None => needed_by.extend(sources.iter().cloned()),
            }
        }
        outputs
    }

    /// Asks whether `output` is there, on behalf of those that need it.
    pub(super) fn ask_for_output(
        &mut self,
        output: TopicPartition,
        sources: BTreeSet<TopicPartition>,
    ) {
        let same = |(asked, by): &(TopicPartition, BTreeSet<TopicPartition>)| {
            *asked == output && *by == sources
        };
        let Some(source) = sources.first().filter(|_| !self.unwritable.asked.values().any(same))
        else {
            return;
        };
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.broker.lookup(ticket, source, Lookup::Range(output.clone()));
        self.unwritable.asked.insert(ticket, (output, sources));
    }

    /// Takes the answer about an output; `false` when `ticket` belongs to something else.
    pub(super) fn output_probed(
        &mut self,
        ticket: Ticket,
        result: &Result<LookupAnswer, LookupFailure>,
    ) -> bool {
        let Some((output, sources)) = self.unwritable.asked.remove(&ticket) else { return false };
        for source in sources {
            let Some(partition) = self.partitions.get_mut(&source) else { continue };
            let is_awaited = matches!(&partition.phase,
                Phase::Held(hold) if hold.awaits.as_ref() == Some(&output));
            let stop = match result {
                Err(LookupFailure::UnknownPartition) => missing(&source, &output),
                Err(LookupFailure::NotAuthorized) => {
                    refusal(&source, &output, "not authorized", true)
                }
                // Asked again when the time has come.
                Err(_) => continue,
                Ok(_) if is_awaited => {
                    partition.restart(None);
                    continue;
                }
                Ok(_) => continue,
            };
            if is_awaited {
                self.hold(&source, stop, false, Until::Writable(output.clone()));
            } else if partition.is_writable() || matches!(partition.phase, Phase::Checking(_)) {
                self.unwritable.found.insert(source, (output.clone(), stop));
            }
        }
        true
    }
}

fn missing(source: &TopicPartition, output: &TopicPartition) -> PartitionStop {
    PartitionStop {
        reason: "output_partition_missing",
        detail: format!("{source} writes to {output}, which does not exist"),
        command: "blotter topics create, or grow when only partitions are missing".to_owned(),
    }
}

fn refusal(
    source: &TopicPartition,
    output: &TopicPartition,
    detail: &str,
    is_named: bool,
) -> PartitionStop {
    let topics = if is_named { output.topic.as_ref() } else { "its topics" };
    PartitionStop {
        reason: "output_not_authorized",
        detail: format!("{source} may not write to {topics}: {detail}"),
        command: "kafka-acls.sh --add with Write and Describe on the topic".to_owned(),
    }
}

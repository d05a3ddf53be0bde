//! Partitions on their way to being read: restores beside the loop, and the start behind them.

use super::guards::STALLED;
use super::partition::{Hold, Partition, Phase, Until};
use super::recovery::Mode;
use super::{FaultPoint, Shard, ShardError};
use crate::daemon::broker::{Broker, BrokerError, Ticket};
use crate::daemon::clock::Clock;
use crate::daemon::restore::{Answer, Context, Progress};
use crate::pipeline::audit::RestoreAlert;
use crate::pipeline::record::TopicPartition;
use crate::pipeline::step::{PartitionStop, Stage};

impl<B: Broker, S: Stage, C: Clock> Shard<B, S, C> {
    /// Lets restores begin, ask again and give up.
    pub(super) fn advance_restores(&mut self) -> Result<(), BrokerError> {
        if !matches!(self.mode, Mode::Running) {
            return Ok(());
        }
        let active = |partition: &&Partition| match &partition.phase {
            Phase::Restoring(restore) => !restore.is_queued(),
            _ => false,
        };
        let mut room = self
            .config
            .restore
            .concurrent_max
            .saturating_sub(self.partitions.values().filter(active).count());
        let restoring: Vec<TopicPartition> = self
            .partitions
            .iter()
            .filter(|(_, partition)| matches!(partition.phase, Phase::Restoring(_)))
            .map(|(topic_partition, _)| topic_partition.clone())
            .collect();
        for topic_partition in restoring {
            let queued = match self.partitions.get(&topic_partition).map(|p| &p.phase) {
                Some(Phase::Restoring(restore)) => restore.is_queued(),
                _ => continue,
            };
            if queued && room == 0 {
                continue;
            }
            let progress = self.restore(&topic_partition, None);
            if queued && self.partitions.get(&topic_partition).is_some_and(|p| active(&p)) {
                room -= 1;
            }
            self.restored(&topic_partition, progress)?;
        }
        Ok(())
    }

    /// Hands an answer to the restore that waits for it; a stale one falls on the floor.
    pub(super) fn answered(&mut self, ticket: Ticket, answer: Answer) -> Result<(), BrokerError> {
        let awaiting = self.partitions.iter().find(|(_, partition)| match &partition.phase {
            Phase::Restoring(restore) => restore.awaits(ticket),
            _ => false,
        });
        let Some(topic_partition) = awaiting.map(|(topic_partition, _)| topic_partition.clone())
        else {
            return Ok(());
        };
        self.pass(FaultPoint::DuringRestore, 0);
        let progress = self.restore(&topic_partition, Some(answer));
        self.restored(&topic_partition, progress)
    }

    fn restore(&mut self, topic_partition: &TopicPartition, answer: Option<Answer>) -> Progress {
        let Some(partition) = self.partitions.get_mut(topic_partition) else {
            return Progress::Waiting;
        };
        let Phase::Restoring(restore) = &mut partition.phase else { return Progress::Waiting };
        let mut context = Context {
            broker: &mut self.broker,
            stage: &mut self.stage,
            topic_partition,
            config: &self.config.restore,
            own_transactional_id: &self.config.transactional_id,
            next_ticket: &mut self.next_ticket,
            fenced: &mut partition.fenced,
            now: self.clock.now(),
            monotonic: self.clock.monotonic(),
        };
        match answer {
            Some(answer) => restore.answer(answer, &mut context),
            None => restore.advance(&mut context),
        }
    }

    fn restored(
        &mut self,
        topic_partition: &TopicPartition,
        progress: Progress,
    ) -> Result<(), BrokerError> {
        match progress {
            Progress::Waiting => Ok(()),
            Progress::Ready { position } => {
                tracing::info!(partition = %topic_partition, position, "restored");
                for finding in self.stage.findings() {
                    log_finding(topic_partition, &finding);
                }
                let running = matches!(self.mode, Mode::Running);
                if let Some(partition) = self.partitions.get_mut(topic_partition) {
                    partition.fresh = true;
                    partition.phase = Phase::Restored { position };
                }
                if running { self.start(topic_partition, position) } else { Ok(()) }
            }
            Progress::Stop(stop) => {
                self.stage.revoke(topic_partition);
                self.metrics.withdraw(&self.stage.withdraw(topic_partition));
                self.hold(topic_partition, stop, false, Until::Retry);
                Ok(())
            }
            Progress::Refuse(stop) => {
                let topic_partition = topic_partition.clone();
                self.refusal.get_or_insert(ShardError::Refused { topic_partition, stop });
                Ok(())
            }
        }
    }

    /// Reads a partition whose state is whole from `position` on.
    pub(super) fn start(
        &mut self,
        topic_partition: &TopicPartition,
        position: i64,
    ) -> Result<(), BrokerError> {
        let monotonic = self.clock.monotonic();
        let started = self.broker.start(topic_partition, position);
        let Some(partition) = self.partitions.get_mut(topic_partition) else { return Ok(()) };
        partition.position = position;
        partition.progress_at = monotonic;
        partition.lag = 0;
        match started {
            Ok(()) => {
                partition.phase = Phase::Running;
                let alarm = partition.alarm.take_if(|alarm| *alarm != STALLED);
                self.alarm(topic_partition, alarm, false);
                Ok(())
            }
            Err(error) if error.kind.ends_consumer() => Err(error),
            Err(error) => {
                let stop = PartitionStop {
                    reason: "start_failed",
                    detail: error.to_string(),
                    command: "blotter topics check".to_owned(),
                };
                let factor = 1_u32 << partition.holds.min(16);
                partition.holds = partition.holds.saturating_add(1);
                let pause = self.config.back_off_min.saturating_mul(factor);
                let retry_at = monotonic + pause.min(self.config.hold_retry_max);
                let state_kept = true;
                partition.phase =
                    Phase::Held(Hold { stop: stop.clone(), retry_at, state_kept, awaits: None });
                tracing::warn!(partition = %topic_partition, %error, "not started; tried again");
                // The first ones pass by themselves, as after a rebalance.
                if pause >= self.config.hold_retry {
                    self.sound(topic_partition, &stop);
                }
                Ok(())
            }
        }
    }
}

/// The worst are errors: records may be lost to the audit, or a chain was begun anew.
fn log_finding(topic_partition: &TopicPartition, finding: &RestoreAlert) {
    let RestoreAlert { severity, name, detail } = finding;
    if *severity == 1 {
        tracing::error!(partition = %topic_partition, severity, finding = name, detail,
            "found by the restore; the partition goes on");
    } else {
        tracing::warn!(partition = %topic_partition, severity, finding = name, detail,
            "found by the restore; the partition goes on");
    }
}

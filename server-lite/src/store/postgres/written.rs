//! What comes by remote write. A group's targets are locked, its series found or registered; what may be
//! there already is looked for at once; then each request is decided on, in order. Of what is new, each
//! time of a request is a tick of its target's stream.

use std::{collections::HashMap, sync::Arc};

use wire::AgentId;

use super::{
    apply::{Batch, TickRow},
    change::Change,
    days::{DAY_MS, is_stray},
    families::Families,
    held::{Held, held},
    ledger::Ledger,
    resolve::Resolving,
    state::{AgentState, Known},
    targets::{self, stream_of},
    writer::{Applied, Work},
};
use crate::store::{
    BoxFuture, IngestError, Written,
    write::{Prepared, Reason, TargetPart},
};

/// See the module's opening.
pub(crate) struct Writes {
    /// Series stored of one target.
    pub(crate) series_max: u64,
    /// What was said of metrics.
    pub(crate) families: Families,
}

impl Work for Writes {
    type Request = Prepared;
    type Answer = Written;

    fn samples(request: &Prepared) -> usize {
        request.samples()
    }

    fn times(request: &Prepared) -> Vec<(i64, i64)> {
        let mut days = HashMap::new();
        for (time_ms, _) in request.batch.iter().flat_map(|series| series.samples) {
            days.entry(time_ms.div_euclid(DAY_MS)).or_insert(*time_ms);
        }
        days.into_values().map(|time_ms| (time_ms, request.batch.received_ms)).collect()
    }

    fn apply<'a>(
        &'a mut self,
        transaction: &'a Change<'a>,
        requests: &'a [&'a Prepared],
        known: &'a mut Known,
    ) -> BoxFuture<'a, Result<Applied<Written>, tokio_postgres::Error>> {
        Box::pin(self.apply_now(transaction, requests, known))
    }

    fn rolled_back(&mut self) {
        self.families.forget();
    }
}

impl Writes {
    async fn apply_now(
        &mut self,
        transaction: &Change<'_>,
        requests: &[&Prepared],
        known: &mut Known,
    ) -> Result<Applied<Written>, tokio_postgres::Error> {
        let (mut agents, added) = targets::lock(transaction, requests, known).await?;
        let mut batch = Batch { targets: added, ..Batch::default() };
        let admitted: Vec<_> = requests.iter().map(|request| admit(request, &agents)).collect();
        let taken = requests.iter().zip(&admitted).filter(|(_, admitted)| admitted.is_ok());
        let taken: Vec<&Prepared> = taken.map(|(request, _)| *request).collect();
        self.families.learn(transaction, taken.iter().map(|request| &*request.batch)).await?;
        let series_before = series_of(&agents);
        let mut resolving =
            Resolving { transaction, series_max: self.series_max, agents: &mut agents };
        resolving.resolve(&taken).await?;
        batch.series = series_of(&agents) - series_before;
        let mut held = held(transaction, old(&taken, &agents)).await?;
        let mut answers = Vec::with_capacity(requests.len());
        for (request, admitted) in requests.iter().zip(admitted) {
            answers.push(match admitted {
                Err(refused) => Err(refused),
                Ok(()) => {
                    let taking = Taking { transaction, request, held: &mut held };
                    Ok(taking.take(&mut agents, &mut batch).await?)
                }
            });
        }
        Ok(Applied { answers, agents, batch })
    }
}

fn series_of(agents: &HashMap<AgentId, AgentState>) -> u64 {
    agents.values().map(|agent| agent.series).sum()
}

/// Whether all targets of a request are there, and are targets.
fn admit(request: &Prepared, agents: &HashMap<AgentId, AgentState>) -> Result<(), IngestError> {
    for part in &request.targets {
        let agent = agents.get(&part.id);
        let agent = agent.ok_or(IngestError::Busy("a target was dropped just when it came"))?;
        if agent.target.is_none() {
            let reason = format!("an agent has the identity of {:?}", part.target());
            return Err(IngestError::Conflict { seq: 0, reason });
        }
    }
    Ok(())
}

/// Series and times of samples that may be there already.
fn old(requests: &[&Prepared], agents: &HashMap<AgentId, AgentState>) -> Vec<(i64, i64)> {
    let mut old = Vec::new();
    for request in requests {
        for part in &request.targets {
            let target = agents.get(&part.id).and_then(|agent| agent.target.as_ref());
            for (place, key) in &part.series {
                let known = target.and_then(|target| target.series.get(key));
                let (Some(known), Some(series)) = (known, request.batch.series(*place)) else {
                    continue;
                };
                let times = series.samples.iter().map(|(time_ms, _)| *time_ms);
                let times = times.filter(|time_ms| *time_ms <= known.last_ms);
                old.extend(times.map(|time_ms| (known.id, time_ms)));
            }
        }
    }
    old
}

/// A sample on its way.
#[derive(Clone, Copy, Debug)]
struct Sample {
    time_ms: i64,
    series: i64,
    value: f64,
    /// Place of its series in the batch.
    place: usize,
}

/// A request that is decided on.
struct Taking<'a> {
    transaction: &'a Change<'a>,
    request: &'a Prepared,
    /// What is there of what may be, and what the group has brought.
    held: &'a mut Held,
}

impl Taking<'_> {
    async fn take(
        mut self,
        agents: &mut HashMap<AgentId, AgentState>,
        batch: &mut Batch,
    ) -> Result<Written, tokio_postgres::Error> {
        let mut written = Written::default();
        for part in &self.request.targets {
            // They were admitted.
            let Some(agent) = agents.get_mut(&part.id) else { continue };
            let (mut samples, refused) = self.samples(agent, part);
            for (place, time_ms) in &refused {
                written.refuse(*place, Reason::SeriesLimit, *time_ms);
            }
            samples.retain(|sample| self.is_new(sample, &mut written));
            self.tell_limit(agent, part, &refused).await?;
            self.put(agent, part, &samples, batch);
            written.samples += samples.len() as u64;
            batch.refused += refused.len() as u64;
        }
        batch.samples += written.samples;
        Ok(written)
    }

    /// The samples of a part in the order of time, then series; of one series and time, as they came. And
    /// place and time of those whose series is one too many.
    fn samples(
        &self,
        agent: &mut AgentState,
        part: &TargetPart,
    ) -> (Vec<Sample>, Vec<(usize, i64)>) {
        let (mut samples, mut refused) = (Vec::with_capacity(part.series.len()), Vec::new());
        for (place, key) in &part.series {
            let place = *place;
            let Some(series) = self.request.batch.series(place) else { continue };
            let known = agent.target.as_mut().and_then(|target| target.series.get_mut(key));
            let Some(known) = known else {
                refused.extend(series.samples.iter().map(|(time_ms, _)| (place, *time_ms)));
                continue;
            };
            for (time_ms, value) in series.samples {
                known.last_ms = known.last_ms.max(*time_ms);
                samples.push(Sample { time_ms: *time_ms, series: known.id, value: *value, place });
            }
        }
        samples.sort_by_key(|sample| (sample.time_ms, sample.series));
        (samples, refused)
    }

    fn is_new(&mut self, sample: &Sample, written: &mut Written) -> bool {
        let bits = sample.value.to_bits();
        match self.held.insert((sample.series, sample.time_ms), bits) {
            None => return true,
            Some(there) if there == bits => written.duplicates += 1,
            Some(there) => {
                self.held.insert((sample.series, sample.time_ms), there);
                written.refuse(sample.place, Reason::OtherValue, sample.time_ms);
            }
        }
        false
    }

    /// Writes down in the gap ledger what was refused because its target has too many series.
    async fn tell_limit(
        &self,
        agent: &AgentState,
        part: &TargetPart,
        refused: &[(usize, i64)],
    ) -> Result<(), tokio_postgres::Error> {
        let times = || refused.iter().map(|(_, time_ms)| *time_ms);
        let Some(span) = times().min().zip(times().max()) else { return Ok(()) };
        let Some(stream) = agent.streams.get(&stream_of(part.id)) else { return Ok(()) };
        let ledger = Ledger {
            transaction: self.transaction,
            stream: stream.row,
            received_ms: self.request.batch.received_ms,
        };
        ledger.record_series_limit(span, refused.len() as u64).await
    }

    /// Leaves samples that are new to be written: those of one time are a tick.
    fn put(
        &self,
        agent: &mut AgentState,
        part: &TargetPart,
        samples: &[Sample],
        batch: &mut Batch,
    ) {
        let received_ms = self.request.batch.received_ms;
        let Some(last) = samples.last() else { return };
        let Some(stream) = agent.streams.get_mut(&stream_of(part.id)) else { return };
        for tick in samples.chunk_by(|a, b| a.time_ms == b.time_ms) {
            let at = tick[0].time_ms;
            stream.acked_seq += 1;
            batch.ticks.push(TickRow {
                stream: stream.row,
                seq: stream.acked_seq,
                at,
                is_stray: is_stray(at, received_ms),
                series: vec![tick.iter().map(|sample| sample.series).collect()],
                values: Arc::new(tick.iter().map(|sample| sample.value).collect()),
            });
        }
        stream.last_tick_ms = stream.last_tick_ms.max(Some(last.time_ms));
        stream.last_write_ms = received_ms;
        agent.touched.insert(stream.row);
        agent.is_changed = true;
    }
}

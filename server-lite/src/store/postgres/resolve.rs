//! Finds the series of written samples, and registers those that are new. The rows of their targets are
//! locked: nobody else adds or drops any meanwhile.

use std::collections::{HashMap, HashSet};

use wire::{AgentId, MetricKind};

use super::{
    change::Change,
    families,
    series::{self, AllFound, Found, Named, small},
    state::{AgentState, text},
    targets::{KnownSeries, stream_of},
};
use crate::store::{
    rows::kind_of,
    write::{Prepared, SeriesKey, WriteSeries},
};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// What series are resolved with.
pub(crate) struct Resolving<'a> {
    /// Inside of which all is written.
    pub(crate) transaction: &'a Change<'a>,
    /// Series stored of one target.
    pub(crate) series_max: u64,
    /// The targets, locked.
    pub(crate) agents: &'a mut HashMap<AgentId, AgentState>,
}

/// A series that isn't remembered.
struct Unknown<'a> {
    target: AgentId,
    row: i64,
    key: SeriesKey,
    named: Named,
    sent: WriteSeries<'a>,
}

impl Unknown<'_> {
    fn found<'a>(&self, found: &'a AllFound) -> Option<&'a Found> {
        found.get(&(self.row, self.named.key))
    }
}

impl Resolving<'_> {
    /// Sees to it that every series that has samples is remembered, but for those that are one too many.
    pub(crate) async fn resolve(&mut self, requests: &[&Prepared]) -> Result<()> {
        let unknown = self.unknown(requests);
        let named: Vec<_> = unknown.iter().map(|one| (one.row, &one.named)).collect();
        let found = series::find(self.transaction, &named).await?;
        let (there, new): (Vec<_>, Vec<_>) =
            unknown.into_iter().partition(|one| one.found(&found).is_some_and(|one| !one.is_old));
        self.remember(&there, &found, true);
        let is_held = !new.is_empty();
        if is_held {
            families::hold(self.transaction).await?;
            self.register(new, &found).await?;
        }
        self.describe(requests, is_held).await
    }

    fn unknown<'a>(&self, requests: &[&'a Prepared]) -> Vec<Unknown<'a>> {
        let (mut unknown, mut seen) = (Vec::new(), HashSet::new());
        for (part, place, key) in each_series(requests) {
            let Some(agent) = self.agents.get(&part.0) else { continue };
            let is_known = agent.target.as_ref().is_none_or(|one| one.series.contains_key(&key));
            let Some(sent) = part.1.batch.series(place) else { continue };
            if is_known || sent.samples.is_empty() || !seen.insert((part.0, key)) {
                continue;
            }
            let kind = sent.kind().unwrap_or(MetricKind::Untyped);
            let named = Named::new(sent.metric(), sent.labels(), kind, sent.help());
            unknown.push(Unknown { target: part.0, row: agent.row, key, named, sent });
        }
        unknown
    }

    /// Adds those for which their targets have room.
    async fn register(&mut self, mut new: Vec<Unknown<'_>>, found: &AllFound) -> Result<()> {
        let (agents, most) = (&mut *self.agents, self.series_max);
        new.retain(|one| {
            let agent = agents.get_mut(&one.target).filter(|agent| agent.series < most);
            agent.is_some_and(|agent| {
                agent.series += 1;
                agent.is_changed = true;
                true
            })
        });
        // Those whose samples had gone are counted again.
        let (old, mut new): (Vec<_>, Vec<_>) =
            new.into_iter().partition(|one| one.found(found).is_some());
        let ids: Vec<i64> =
            old.iter().filter_map(|one| one.found(found)).map(|one| one.id).collect();
        series::rejuvenate(self.transaction, &ids).await?;
        self.remember(&old, found, true);
        self.describe_new(&mut new).await?;
        let named: Vec<_> = new.iter().map(|one| (one.row, &one.named)).collect();
        let found = series::insert(self.transaction, &named).await?;
        self.remember(&new, &found, false);
        Ok(())
    }

    /// What is said of a new series: with it, of its metric, or of another series of that.
    async fn describe_new(&self, new: &mut [Unknown<'_>]) -> Result<()> {
        let untold = new.iter().filter(|one| one.sent.kind().is_none());
        let metrics: HashSet<&str> = untold.map(|one| one.sent.metric()).collect();
        let metrics: Vec<&str> = metrics.into_iter().collect();
        let known = families::known(self.transaction, &metrics).await?;
        let mut told = HashMap::new();
        for one in new {
            let metric = one.sent.metric();
            match (one.sent.kind(), known.get(metric)) {
                (Some(_), _) => {
                    told.entry(metric).or_insert((one.named.kind, one.named.help.clone()));
                }
                (None, Some((kind, help))) => {
                    (one.named.kind, one.named.help) = (small(*kind), help.clone());
                }
                (None, None) => {
                    if let Some((kind, help)) = told.get(metric) {
                        (one.named.kind, one.named.help) = (*kind, help.clone());
                    }
                }
            }
        }
        Ok(())
    }

    /// A series that was there has no sample later than its target's latest; one that is new has none.
    fn remember(&mut self, unknown: &[Unknown<'_>], found: &AllFound, were_there: bool) {
        for one in unknown {
            let Some(agent) = self.agents.get_mut(&one.target) else { continue };
            let latest = agent.streams.get(&stream_of(one.target)).and_then(|one| one.last_tick_ms);
            let last_ms = latest.filter(|_| were_there).unwrap_or(i64::MIN);
            let Some(series) = found.get(&(one.row, one.named.key)) else { continue };
            let known = KnownSeries { id: series.id, last_ms, kind: kind_of(series.kind.into()) };
            if let Some(target) = &mut agent.target {
                target.series.insert(one.key, known);
            }
        }
    }

    /// Notes what series say of themselves, if that is new.
    async fn describe(&mut self, requests: &[&Prepared], is_held: bool) -> Result<()> {
        let mut changed = HashMap::new();
        for (part, place, key) in each_series(requests) {
            let Some(sent) = part.1.batch.series(place) else { continue };
            let Some(kind) = sent.kind() else { continue };
            let target = self.agents.get_mut(&part.0).and_then(|agent| agent.target.as_mut());
            let known = target.and_then(|target| target.series.get_mut(&key));
            if let Some(known) = known.filter(|known| known.kind != kind) {
                known.kind = kind;
                changed.insert(known.id, (small(kind), text(sent.help())));
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        if !is_held {
            families::hold(self.transaction).await?;
        }
        let ids: Vec<i64> = changed.keys().copied().collect();
        let kinds: Vec<i16> = changed.values().map(|said| said.0).collect();
        let helps: Vec<&str> = changed.values().map(|said| said.1.as_str()).collect();
        let update = "UPDATE series s SET kind = n.kind, help = n.help FROM unnest($1::bigint[], \
            $2::smallint[], $3::text[]) AS n (id, kind, help) WHERE s.id = n.id";
        self.transaction.execute(update, &[&ids, &kinds, &helps]).await.map(|_| ())
    }
}

/// The target, the request, the place there and the key of every series.
fn each_series<'a>(
    requests: &[&'a Prepared],
) -> impl Iterator<Item = ((AgentId, &'a Prepared), usize, SeriesKey)> {
    requests.iter().flat_map(|request| {
        request.targets.iter().flat_map(move |part| {
            part.series.iter().map(move |(place, key)| ((part.id, *request), *place, *key))
        })
    })
}

//! Reads rollups: pages where they are right, samples where not, in order of time.
//!
//! Each group's days are taken in steps: a day whose page stands for all there is, is read from it; all
//! that lies between two such days is folded from its samples, head included. Where samples have been
//! dropped, what is unpaged or in the head is added to what pages there are. It all happens in one read
//! transaction: what becomes a page meanwhile is seen in one place or the other, never in both.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};
use tokio::sync::mpsc;

use super::{
    columns::{Malformed, Page, page::Spans},
    database::database,
    head_cache::HeadCache,
    pages::{self, day_of, level_number, slot_of, start_of},
    read::{Reading, Wanted, by_agent},
    registry::place_of,
    stats::Counters,
};
use crate::store::{
    StoreError,
    rollup::{
        Folding, RollupChunk, RollupRequest,
        kept::{Days, Step},
    },
};

/// Rollups of one series that are given at once.
const CHUNK: usize = 512;
/// Rollups that may wait to be given, of all series together.
const WAITING_MAX: usize = 64 << 10;

/// Where chunks go; the reading ends when nobody takes them any more.
pub(crate) type Sink = mpsc::Sender<Result<RollupChunk, StoreError>>;

/// Reads what is asked for and sends it.
pub(crate) fn read(
    connection: &mut Connection,
    counters: &Counters,
    cache: &HeadCache,
    request: &RollupRequest,
    sink: &Sink,
) -> Result<(), StoreError> {
    let transaction = connection.transaction().map_err(database("begin reading"))?;
    let agents = by_agent(&transaction, &request.series).map_err(database("read series"))?;
    let mut rolling = Rolling {
        connection: &transaction,
        request,
        reading: Reading::new(&transaction, counters, cache)?,
        out: Out { sink, waiting: BTreeMap::new(), count: 0 },
    };
    for (agent, wanted) in agents {
        if !rolling.agent(agent, &wanted)? || !rolling.out.give_all() {
            return Ok(());
        }
    }
    rolling.reading.finish()
}

struct Rolling<'a> {
    connection: &'a Connection,
    request: &'a RollupRequest,
    reading: Reading<'a>,
    out: Out<'a>,
}

impl Rolling<'_> {
    /// Reads one agent's series; `false` when nobody takes chunks any more.
    fn agent(&mut self, agent: i64, wanted: &Wanted) -> Result<bool, StoreError> {
        let (from, to) = (day_of(self.request.from_ms), day_of(self.request.to_ms));
        let heads = self.heads(agent).map_err(database("look for rollups"))?;
        let mut groups = BTreeMap::<i64, Wanted>::new();
        for (series, place) in wanted {
            groups.entry(place_of(*series).0).or_default().insert(*series, *place);
        }
        // Groups with the same steps are read together: the head holds records of all of them.
        let mut together = BTreeMap::<Vec<Step>, BTreeMap<i64, Wanted>>::new();
        for (group, wanted) in groups {
            let days =
                self.days(group, &heads, (from, to)).map_err(database("look for rollups"))?;
            together.entry(days.steps(from, to)).or_default().insert(group, wanted);
        }
        for (steps, groups) in together {
            for step in steps {
                if !self.step(agent, step, &groups)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn step(
        &mut self,
        agent: i64,
        step: Step,
        groups: &BTreeMap<i64, Wanted>,
    ) -> Result<bool, StoreError> {
        match step {
            Step::Fold(first, last) => {
                let wanted: Wanted = groups.values().flatten().map(|(s, p)| (*s, *p)).collect();
                self.fold(agent, &wanted, (first, last))
            }
            Step::Page(day) => {
                for (group, wanted) in groups {
                    if !self.page(agent, *group, wanted, day)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Step::Add(first, last) => {
                for (group, wanted) in groups {
                    if !self.add(agent, *group, wanted, (first, last))? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// From the samples of some days.
    fn fold(&mut self, agent: i64, wanted: &Wanted, days: (i64, i64)) -> Result<bool, StoreError> {
        let span = self.span(days);
        let sources =
            self.reading.sources(agent, wanted, span).map_err(database("fold samples"))?;
        let level = self.request.level;
        let mut open = BTreeMap::<usize, Folding>::new();
        let out = &mut self.out;
        let goes_on =
            self.reading.samples(agent, wanted, span, sources, |place, times, values| {
                let folding = open.entry(place).or_insert_with(|| Folding::new(level));
                let samples = times.into_iter().zip(values);
                let spans =
                    samples.filter_map(|(time_ms, value)| folding.push(time_ms, value)).collect();
                out.give(place, spans)
            })?;
        let mut open = open.into_iter();
        Ok(goes_on
            && open.all(|(place, mut open)| out.give(place, open.finish().into_iter().collect())))
    }

    /// From the page of a day.
    fn page(
        &mut self,
        agent: i64,
        group: i64,
        wanted: &Wanted,
        day: i64,
    ) -> Result<bool, StoreError> {
        match self.spans_of(group, wanted, day).map_err(database("read page"))? {
            Ok(series) => {
                let asked = self.request.from_ms..=self.request.to_ms;
                Ok(series.into_iter().all(|(place, mut spans)| {
                    spans.retain(|(end_ms, _)| asked.contains(end_ms));
                    self.out.give(place, spans)
                }))
            }
            Err(Malformed(detail)) => {
                tracing::error!(group, day, detail, "a page of rollups no longer reads");
                let dropped = pages::dropped_day(self.connection, group);
                if dropped.map_err(database("read group"))?.is_none_or(|dropped| day > dropped) {
                    return self.fold(agent, wanted, (day, day));
                }
                let what = format!("rollups of day {day}");
                self.reading.lacks(Some(group), wanted, what, detail);
                Ok(true)
            }
        }
    }

    /// From what pages there are, and from samples that came when the others had gone.
    fn add(
        &mut self,
        agent: i64,
        group: i64,
        wanted: &Wanted,
        (first, last): (i64, i64),
    ) -> Result<bool, StoreError> {
        let failed = || database("add late samples to rollups");
        let span = self.span((first, last));
        let mut late = BTreeSet::new();
        for day in
            pages::unpaged_days(self.connection, group).map_err(failed())?.range(first..=last)
        {
            late.extend(pages::unpaged_blocks(self.connection, group, *day).map_err(failed())?);
        }
        let mut sources = Vec::new();
        self.reading.block_sources(group, span, &mut sources).map_err(failed())?;
        sources.retain(|source| source.block_id().is_some_and(|id| late.contains(&id)));
        self.reading.head_sources(agent, span, &mut sources).map_err(failed())?;
        let level = self.request.level;
        let mut found = BTreeMap::<usize, (Folding, Spans)>::new();
        self.reading.samples(agent, wanted, span, sources, |place, times, values| {
            let (folding, spans) =
                found.entry(place).or_insert_with(|| (Folding::new(level), Spans::new()));
            let samples = times.into_iter().zip(values);
            spans.extend(samples.filter_map(|(time_ms, value)| folding.push(time_ms, value)));
            true
        })?;
        let late = found.into_iter().map(|(place, (mut folding, mut spans))| {
            spans.extend(folding.finish());
            (place, spans)
        });
        let mut late: BTreeMap<usize, Spans> = late.collect();
        let mut kept = BTreeMap::<usize, Spans>::new();
        for day in self.page_days(group, (first, last)).map_err(failed())? {
            match self.spans_of(group, wanted, day).map_err(failed())? {
                Ok(series) => series
                    .into_iter()
                    .for_each(|(place, spans)| kept.entry(place).or_default().extend(spans)),
                Err(Malformed(detail)) => {
                    let what = format!("rollups of day {day}");
                    self.reading.lacks(Some(group), wanted, what, detail);
                }
            }
        }
        let asked = self.request.from_ms..=self.request.to_ms;
        Ok(wanted.values().all(|place| {
            let kept = kept.remove(place).unwrap_or_default();
            let mut spans = pages::merge(kept, late.remove(place).unwrap_or_default());
            spans.retain(|(end_ms, _)| asked.contains(end_ms));
            self.out.give(*place, spans)
        }))
    }

    /// The spans of the series wanted in a day's page.
    fn spans_of(
        &mut self,
        group: i64,
        wanted: &Wanted,
        day: i64,
    ) -> rusqlite::Result<Result<Vec<(usize, Spans)>, Malformed>> {
        let level = self.request.level;
        let mut is_damaged = false;
        let mut statement = self.connection.prepare_cached(
            "SELECT is_damaged, data FROM pages WHERE grp = ?1 AND level = ?2 AND day = ?3",
        )?;
        let read = statement.query_row(params![group, level_number(level), day], |row| {
            is_damaged = row.get(0)?;
            let bytes = row.get_ref(1)?.as_blob()?;
            Ok(Page::open(bytes, level, start_of(day)).and_then(|page| {
                let spans = |(series, place): (&i64, &usize)| {
                    Ok((*place, page.series(slot_of(*series))?.unwrap_or_default()))
                };
                wanted.iter().map(spans).collect()
            }))
        })?;
        if is_damaged && read.is_ok() {
            let detail = "some of the samples it was made of no longer read".to_owned();
            self.reading.lacks(Some(group), wanted, format!("rollups of day {day}"), detail);
        }
        Ok(read)
    }

    /// The times of some days' samples that are asked for.
    fn span(&self, (first, last): (i64, i64)) -> (i64, i64) {
        let asked = self.request.samples();
        let from_ms = asked.from_ms.max(start_of(first).saturating_add(1));
        (from_ms, asked.to_ms.min(start_of(last.saturating_add(1))))
    }

    fn days(
        &self,
        group: i64,
        heads: &[(i64, i64)],
        (from, to): (i64, i64),
    ) -> rusqlite::Result<Days> {
        Ok(Days {
            pages: self.page_days(group, (from, to))?,
            unpaged: pages::unpaged_days(self.connection, group)?,
            heads: heads.to_vec(),
            dropped: pages::dropped_day(self.connection, group)?,
        })
    }

    fn page_days(&self, group: i64, (from, to): (i64, i64)) -> rusqlite::Result<BTreeSet<i64>> {
        self.connection
            .prepare_cached(
                "SELECT day FROM pages WHERE grp = ?1 AND level = ?2 AND day BETWEEN ?3 AND ?4",
            )?
            .query_map(params![group, level_number(self.request.level), from, to], |row| {
                row.get(0)
            })?
            .collect()
    }

    /// First and last day of each row of an agent's head.
    fn heads(&self, agent: i64) -> rusqlite::Result<Vec<(i64, i64)>> {
        let asked = self.request.samples();
        let mut sources = Vec::new();
        self.reading.head_sources(agent, (asked.from_ms, asked.to_ms), &mut sources)?;
        let days = |(min_ms, max_ms): (i64, i64)| (day_of(min_ms), day_of(max_ms));
        let mut all: Vec<_> = sources.iter().map(|source| days(source.span())).collect();
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }
}

/// Gathers rollups into chunks.
struct Out<'a> {
    sink: &'a Sink,
    waiting: BTreeMap<usize, Spans>,
    count: usize,
}

impl Out<'_> {
    /// Takes rollups; `false` when nobody takes chunks any more.
    fn give(&mut self, series: usize, spans: Spans) -> bool {
        if spans.is_empty() {
            return true;
        }
        self.count += spans.len();
        let waiting = self.waiting.entry(series).or_default();
        waiting.extend(spans);
        if waiting.len() >= CHUNK {
            let rollups = std::mem::take(waiting);
            self.count -= rollups.len();
            return self.send(series, rollups);
        }
        self.count < WAITING_MAX || self.give_all()
    }

    fn give_all(&mut self) -> bool {
        self.count = 0;
        let mut waiting = std::mem::take(&mut self.waiting).into_iter();
        waiting.all(|(series, rollups)| rollups.is_empty() || self.send(series, rollups))
    }

    fn send(&self, series: usize, rollups: Spans) -> bool {
        self.sink.blocking_send(Ok(RollupChunk { series, rollups })).is_ok()
    }
}

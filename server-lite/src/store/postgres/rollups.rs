//! Reads rollups: pages where they are right, samples where not, in order of time.
//!
//! Each group's days are taken in steps ([`Days::steps`]), all in one transaction that sees one state of the
//! database: what becomes a page meanwhile is seen in one place or the other, never in both.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use deadpool_postgres::Object;
use tokio::{sync::mpsc, time::timeout};
use tokio_postgres::{Transaction, types::ToSql};

use super::{
    connect::{READ_TIME_MAX, database, silent},
    pages::{group_of, level_of, slot_of},
    read::{begin, places},
    stored::{Reading, SERIES_ONCE},
};
use crate::store::{
    StoreError,
    columns::{Malformed, Page, page::Spans},
    rollup::{
        Folding, RollupChunk, RollupRequest,
        kept::{self, Days, Step, day_of, start_of},
    },
};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;
/// Where chunks go; the reading ends when nobody takes them any more.
pub(crate) type Sink = mpsc::Sender<std::result::Result<RollupChunk, StoreError>>;
/// Series of a group, and their places in the request.
type Wanted = BTreeMap<i64, usize>;

/// Rollups of one series that are given at once, more or less.
const CHUNK: usize = 512;
/// Pages that are read by one statement.
const PAGES_ONCE: usize = 128;

/// Reads what is asked for and sends it, or why it can't be read.
pub(crate) async fn read(mut client: Object, request: RollupRequest, sink: Sink) {
    let error = match timeout(READ_TIME_MAX, read_all(&mut client, &request, &sink)).await {
        Ok(Ok(None)) => return,
        Ok(Ok(Some(damaged))) => damaged,
        failed => {
            // Whatever it is at.
            drop(Object::take(client));
            let failed = failed.map(|read| read.err().map(database("read rollups")));
            failed.ok().flatten().unwrap_or_else(|| silent("read rollups"))
        }
    };
    // Nobody may be listening any more.
    let _ = sink.send(Err(error)).await;
}

/// Gives what is to be said at the end, if something no longer reads.
async fn read_all(
    client: &mut Object,
    request: &RollupRequest,
    sink: &Sink,
) -> Result<Option<StoreError>> {
    let transaction = begin(client).await?;
    let mut rolling = Rolling {
        transaction: &transaction,
        request,
        days: (day_of(request.from_ms), day_of(request.to_ms)),
        dropped: None,
        out: Out { sink, waiting: BTreeMap::new() },
        damaged: None,
    };
    let dropped = "SELECT before_day FROM dropped";
    let before: i64 = transaction.query_one(dropped, &[]).await?.get(0);
    rolling.dropped = before.checked_sub(1);
    for (agent, groups) in rolling.agents().await? {
        if !rolling.agent(agent, groups).await? || !rolling.out.give_all().await {
            return Ok(None);
        }
    }
    let damaged = rolling.damaged.take();
    transaction.commit().await?;
    Ok(damaged)
}

struct Rolling<'a> {
    transaction: &'a Transaction<'a>,
    request: &'a RollupRequest,
    /// First and last day asked for.
    days: (i64, i64),
    /// Up to this day samples have been dropped.
    dropped: Option<i64>,
    out: Out<'a>,
    damaged: Option<StoreError>,
}

impl Rolling<'_> {
    /// The series asked for, by agent and group.
    async fn agents(&self) -> Result<BTreeMap<i64, BTreeMap<i64, Wanted>>> {
        let places = places(&self.request.series);
        let series: Vec<i64> = places.keys().copied().collect();
        let agents = "SELECT id, agent FROM series WHERE id = ANY($1)";
        let mut agents_of = BTreeMap::<i64, BTreeMap<i64, Wanted>>::new();
        for row in self.transaction.query(agents, &[&series]).await? {
            let (series, agent): (i64, i64) = (row.get(0), row.get(1));
            let groups = agents_of.entry(agent).or_default();
            let place = places.get(&series).copied();
            groups.entry(group_of(series)).or_default().extend(place.map(|place| (series, place)));
        }
        Ok(agents_of)
    }

    /// Reads one agent's series; `false` when nobody takes chunks any more.
    async fn agent(&mut self, agent: i64, groups: BTreeMap<i64, Wanted>) -> Result<bool> {
        let unpaged = self.unpaged(agent).await?;
        let mut pages = self.page_days(agent, &groups).await?;
        // Groups with the same steps are read together.
        let mut together = BTreeMap::<Vec<Step>, BTreeMap<i64, Wanted>>::new();
        for (group, wanted) in groups {
            let pages = pages.remove(&group).unwrap_or_default();
            let (unpaged, heads, dropped) = (unpaged.clone(), vec![], self.dropped);
            let steps = Days { pages, unpaged, heads, dropped }.steps(self.days.0, self.days.1);
            together.entry(steps).or_default().insert(group, wanted);
        }
        for (steps, groups) in together {
            for steps in steps.chunk_by(|a, b| matches!((a, b), (Step::Page(_), Step::Page(_)))) {
                if !self.steps(agent, steps, &groups).await? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The days of an agent that have samples which are in no page.
    async fn unpaged(&self, agent: i64) -> Result<BTreeSet<i64>> {
        let unpaged = "SELECT day FROM unpaged WHERE agent = $1 AND day BETWEEN $2 AND $3";
        let rows = self.transaction.query(unpaged, &[&agent, &self.days.0, &self.days.1]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The days of which groups have pages.
    async fn page_days(
        &self,
        agent: i64,
        groups: &BTreeMap<i64, Wanted>,
    ) -> Result<HashMap<i64, BTreeSet<i64>>> {
        let level = level_of(self.request.level);
        let numbers: Vec<i64> = groups.keys().copied().collect();
        let values: [&(dyn ToSql + Sync); 5] =
            [&agent, &level, &numbers, &self.days.0, &self.days.1];
        let days = "SELECT grp, day FROM pages WHERE agent = $1 AND level = $2 \
            AND grp = ANY($3) AND day BETWEEN $4 AND $5";
        let mut pages = HashMap::<i64, BTreeSet<i64>>::new();
        for row in self.transaction.query(days, &values).await? {
            pages.entry(row.get(0)).or_default().insert(row.get(1));
        }
        Ok(pages)
    }

    /// Some steps: one, or pages that follow each other.
    async fn steps(
        &mut self,
        agent: i64,
        steps: &[Step],
        groups: &BTreeMap<i64, Wanted>,
    ) -> Result<bool> {
        match steps {
            [Step::Fold(first, last)] => {
                let wanted: Wanted = groups.values().flatten().map(|(s, p)| (*s, *p)).collect();
                self.fold(&wanted, (*first, *last)).await
            }
            [Step::Add(first, last)] => self.add(agent, groups, (*first, *last)).await,
            pages => {
                let days = pages.iter().filter_map(|step| match step {
                    Step::Page(day) => Some(*day),
                    _ => None,
                });
                let days: Vec<i64> = days.collect();
                for days in days.chunks((PAGES_ONCE / groups.len().max(1)).max(1)) {
                    if !self.give_pages(agent, groups, days).await? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// From the pages of some days.
    async fn give_pages(
        &mut self,
        agent: i64,
        groups: &BTreeMap<i64, Wanted>,
        days: &[i64],
    ) -> Result<bool> {
        for (place, day, spans) in self.pages(agent, groups, days).await? {
            match spans {
                Ok(spans) => {
                    let spans = self.asked(spans);
                    if !self.out.give(place, spans).await {
                        return Ok(false);
                    }
                }
                Err(malformed) => self.lacks(agent, day, groups, malformed),
            }
        }
        Ok(true)
    }

    /// From the samples of some days.
    async fn fold(&mut self, wanted: &Wanted, days: (i64, i64)) -> Result<bool> {
        let series: Vec<i64> = wanted.keys().copied().collect();
        for some in series.chunks(SERIES_ONCE) {
            let span = self.span(days);
            let mut samples = Reading::begin(self.transaction, some, span, |_, _| true).await?;
            let mut open = BTreeMap::<i64, Folding>::new();
            while let Some(sample) = samples.next().await? {
                let Some(place) = wanted.get(&sample.series) else { continue };
                let new = || Folding::new(self.request.level);
                let folding = open.entry(sample.series).or_insert_with(new);
                if let Some(span) = folding.push(sample.at, sample.value)
                    && !self.out.give(*place, vec![span]).await
                {
                    return Ok(false);
                }
            }
            for (series, mut folding) in open {
                let Some(place) = wanted.get(&series) else { continue };
                if !self.out.give(*place, folding.finish().into_iter().collect()).await {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// From what pages there are, and from samples that came when the others had gone.
    async fn add(
        &mut self,
        agent: i64,
        groups: &BTreeMap<i64, Wanted>,
        (first, last): (i64, i64),
    ) -> Result<bool> {
        let mut all = self.late(agent, groups, (first, last)).await?;
        let days = "SELECT DISTINCT day FROM pages WHERE agent = $1 AND level = $2 \
            AND day BETWEEN $3 AND $4 ORDER BY day";
        let level = level_of(self.request.level);
        let days = self.transaction.query(days, &[&agent, &level, &first, &last]).await?;
        let days: Vec<i64> = days.iter().map(|row| row.get(0)).collect();
        let mut kept = BTreeMap::<usize, Spans>::new();
        for (place, day, spans) in self.pages(agent, groups, &days).await? {
            match spans {
                Ok(spans) => kept.entry(place).or_default().extend(spans),
                Err(malformed) => self.lacks(agent, day, groups, malformed),
            }
        }
        for place in groups.values().flat_map(BTreeMap::values) {
            let late = all.remove(place).unwrap_or_default();
            let spans = kept::merge(kept.remove(place).unwrap_or_default(), late);
            let spans = self.asked(spans);
            if !self.out.give(*place, spans).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the samples come to that aren't in the pages of some days.
    async fn late(
        &self,
        agent: i64,
        groups: &BTreeMap<i64, Wanted>,
        (first, last): (i64, i64),
    ) -> Result<BTreeMap<usize, Spans>> {
        let paged = "SELECT day, tick FROM paged WHERE agent = $1 AND day BETWEEN $2 AND $3";
        let paged = self.transaction.query(paged, &[&agent, &first, &last]).await?;
        let paged: HashMap<i64, i64> = paged.iter().map(|row| (row.get(0), row.get(1))).collect();
        let is_late = |at, tick| paged.get(&day_of(at)).is_none_or(|paged| tick >= *paged);
        let wanted: Wanted = groups.values().flatten().map(|(s, p)| (*s, *p)).collect();
        let series: Vec<i64> = wanted.keys().copied().collect();
        let span = self.span((first, last));
        let mut samples = Reading::begin(self.transaction, &series, span, is_late).await?;
        let mut found = BTreeMap::<usize, (Folding, Spans)>::new();
        while let Some(sample) = samples.next().await? {
            let Some(place) = wanted.get(&sample.series) else { continue };
            let new = || (Folding::new(self.request.level), Spans::new());
            let (folding, spans) = found.entry(*place).or_insert_with(new);
            spans.extend(folding.push(sample.at, sample.value));
        }
        let late = found.into_iter().map(|(place, (mut folding, mut spans))| {
            spans.extend(folding.finish());
            (place, spans)
        });
        Ok(late.collect())
    }

    /// The spans of series wanted in the pages of some days, in the order of these.
    async fn pages(
        &self,
        agent: i64,
        groups: &BTreeMap<i64, Wanted>,
        days: &[i64],
    ) -> Result<Vec<(usize, i64, std::result::Result<Spans, Malformed>)>> {
        let level = self.request.level;
        let numbers: Vec<i64> = groups.keys().copied().collect();
        let values: [&(dyn ToSql + Sync); 4] = [&agent, &level_of(level), &numbers, &days];
        let select = "SELECT day, grp, data FROM pages WHERE agent = $1 AND level = $2 \
            AND grp = ANY($3) AND day = ANY($4) ORDER BY day, grp";
        let mut found = Vec::new();
        for row in self.transaction.query(select, &values).await? {
            let (day, group, data): (i64, i64, &[u8]) = (row.get(0), row.get(1), row.get(2));
            let Some(wanted) = groups.get(&group) else { continue };
            let page = Page::open(data, level, start_of(day));
            for (series, place) in wanted {
                let spans = match &page {
                    Ok(page) => page.series(slot_of(*series)).map(Option::unwrap_or_default),
                    Err(Malformed(detail)) => Err(Malformed(detail.clone())),
                };
                found.push((*place, day, spans));
            }
        }
        Ok(found)
    }

    /// The times of some days' samples that are asked for.
    fn span(&self, (first, last): (i64, i64)) -> (i64, i64) {
        let asked = self.request.samples();
        let from_ms = asked.from_ms.max(start_of(first).saturating_add(1));
        (from_ms, asked.to_ms.min(start_of(last.saturating_add(1))))
    }

    fn asked(&self, mut spans: Spans) -> Spans {
        let asked = self.request.from_ms..=self.request.to_ms;
        spans.retain(|(end_ms, _)| asked.contains(end_ms));
        spans
    }

    /// Notes that a page no longer reads.
    fn lacks(
        &mut self,
        agent: i64,
        day: i64,
        groups: &BTreeMap<i64, Wanted>,
        Malformed(detail): Malformed,
    ) {
        tracing::error!(agent, day, detail, "a page of rollups no longer reads");
        let wanted: BTreeSet<usize> = groups.values().flat_map(BTreeMap::values).copied().collect();
        self.damaged.get_or_insert_with(|| StoreError::Damaged {
            what: format!("rollups of day {day}"),
            detail,
            series: wanted.into_iter().collect(),
        });
    }
}

/// Gathers rollups into chunks.
struct Out<'a> {
    sink: &'a Sink,
    waiting: BTreeMap<usize, Spans>,
}

impl Out<'_> {
    /// Takes rollups; `false` when nobody takes chunks any more.
    async fn give(&mut self, series: usize, spans: Spans) -> bool {
        if spans.is_empty() {
            return true;
        }
        let waiting = self.waiting.entry(series).or_default();
        waiting.extend(spans);
        if waiting.len() < CHUNK {
            return true;
        }
        let rollups = std::mem::take(waiting);
        self.sink.send(Ok(RollupChunk { series, rollups })).await.is_ok()
    }

    async fn give_all(&mut self) -> bool {
        for (series, rollups) in std::mem::take(&mut self.waiting) {
            let is_empty = rollups.is_empty();
            if !is_empty && self.sink.send(Ok(RollupChunk { series, rollups })).await.is_err() {
                return false;
            }
        }
        true
    }
}

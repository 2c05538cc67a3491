//! What is stored at some times of some series: looked at when samples come that may be there already.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, params};

use super::{
    catalog::unsigned,
    columns::{Block, Malformed},
    head::{self, HeadReader},
    ledger::Seqs,
    registry::place_of,
};

/// Columns that are unpacked for one request: what lies beyond is not compared, and of two values at one
/// time the one sent last counts. Half a second of the writer's time, and more than any sender's retry
/// needs.
const COLUMNS_MAX: usize = 20_000;

/// Times by series.
pub(crate) type Wanted = BTreeMap<i64, Vec<i64>>;
/// Bits of values by series and time.
pub(crate) type Held = HashMap<(i64, i64), u64>;

/// The values that a target's series have at these times, the one sent last where there are several.
/// What doesn't read back isn't there: whoever reads or seals it tells.
pub(crate) fn held(
    connection: &Connection,
    stream: i64,
    wanted: &mut Wanted,
) -> rusqlite::Result<Held> {
    for times in wanted.values_mut() {
        times.sort_unstable();
    }
    let mut looking = Looking { wanted, held: Held::new(), columns: 0 };
    let groups: Vec<i64> = looking.wanted.keys().map(|series| place_of(*series).0).collect();
    for group in groups.chunk_by(|a, b| a == b) {
        looking.blocks(connection, group[0])?;
    }
    looking.head(connection, stream)?;
    Ok(looking.held)
}

struct Looking<'a> {
    wanted: &'a Wanted,
    held: Held,
    columns: usize,
}

impl Looking<'_> {
    /// Blocks are looked at in the order in which they were sealed: that of sending.
    fn blocks(&mut self, connection: &Connection, group: i64) -> rusqlite::Result<()> {
        let Some((from_ms, to_ms)) = span(self.of_group(group).map(|(_, times)| times)) else {
            return Ok(());
        };
        let blocks: Vec<(i64, i64, i64)> = connection
            .prepare_cached(
                "SELECT id, min_ms, max_ms FROM blocks INDEXED BY blocks_by_time \
                 WHERE grp = ?1 AND max_ms >= ?2 AND min_ms <= ?3 ORDER BY id",
            )?
            .query_map([group, from_ms, to_ms], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let mut data = connection.prepare_cached("SELECT data FROM blocks WHERE id = ?1")?;
        for (id, min_ms, max_ms) in blocks {
            let is_hit = |times: &[i64]| !within(times, min_ms, max_ms).is_empty();
            if self.of_group(group).any(|(_, times)| is_hit(times)) {
                data.query_row([id], |row| {
                    // Whoever reads it says that it is damaged.
                    let _ = self.block(row.get_ref(0)?.as_blob()?, group, (min_ms, max_ms));
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    fn of_group(&self, group: i64) -> impl Iterator<Item = (i64, &[i64])> {
        let in_group = move |(series, _): &(&i64, &Vec<i64>)| place_of(**series).0 == group;
        self.wanted.iter().filter(in_group).map(|(series, times)| (*series, times.as_slice()))
    }

    fn block(
        &mut self,
        bytes: &[u8],
        group: i64,
        (min_ms, max_ms): (i64, i64),
    ) -> Result<(), Malformed> {
        let block = Block::open(bytes)?;
        let mut found = Vec::new();
        for (series, times) in self.of_group(group) {
            let times = within(times, min_ms, max_ms);
            if times.is_empty() || self.columns + found.len() >= COLUMNS_MAX {
                continue;
            }
            if let Some(column) = block.column(place_of(series).1)? {
                found.push((series, column));
            }
        }
        self.columns += found.len();
        for (series, column) in found {
            for (tick, value) in column.ticks.iter().zip(&column.values) {
                self.note(series, block.times[*tick], *value);
            }
        }
        Ok(())
    }

    fn head(&mut self, connection: &Connection, stream: i64) -> rusqlite::Result<()> {
        let Some((from_ms, to_ms)) = span(self.wanted.values().map(Vec::as_slice)) else {
            return Ok(());
        };
        let mut all: Vec<i64> = self.wanted.values().flatten().copied().collect();
        all.sort_unstable();
        let (first, last) = head::row_ids(stream);
        let mut statement = connection.prepare_cached(
            "SELECT min_ms, max_ms, first_seq, last_seq, body FROM head \
             WHERE id BETWEEN ?1 AND ?2 AND max_ms >= ?3 AND min_ms <= ?4 ORDER BY id",
        )?;
        let mut rows = statement.query(params![first, last, from_ms, to_ms])?;
        let Ok(mut heads) = HeadReader::new() else { return Ok(()) };
        while let Some(row) = rows.next()? {
            if within(&all, row.get(0)?, row.get(1)?).is_empty() {
                continue;
            }
            let seqs = Seqs { first: unsigned(row, 2)?, last: unsigned(row, 3)? };
            let body = row.get_ref(4)?.as_blob()?;
            // As above.
            let _ = heads.ticks(body, seqs, |_, tick| {
                for (series, value) in tick.ids().iter().zip(&tick.values) {
                    self.note(*series, tick.time_ms, *value);
                }
                Ok(())
            });
        }
        Ok(())
    }

    fn note(&mut self, series: i64, time_ms: i64, value: f64) {
        let times = self.wanted.get(&series);
        if times.is_some_and(|times| times.binary_search(&time_ms).is_ok()) {
            self.held.insert((series, time_ms), value.to_bits());
        }
    }
}

/// Those of some ascending times that lie between two.
fn within(times: &[i64], from_ms: i64, to_ms: i64) -> &[i64] {
    let start = times.partition_point(|time_ms| *time_ms < from_ms);
    let end = times.partition_point(|time_ms| *time_ms <= to_ms);
    times.get(start..end).unwrap_or_default()
}

/// The earliest and the latest of all, each ascending.
fn span<'a>(all: impl Iterator<Item = &'a [i64]>) -> Option<(i64, i64)> {
    let spans = all.filter_map(|times| Some((*times.first()?, *times.last()?)));
    spans.reduce(|(from_ms, to_ms), (first, last)| (from_ms.min(first), to_ms.max(last)))
}

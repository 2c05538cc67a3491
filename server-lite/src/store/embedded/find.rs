//! Which series fit a selector, without reading those that can't.
//!
//! - **By name.** Matchers of the metric's name are asked once a name: there are a few hundred, however many
//!   hosts. An index of series by name gives the rest.
//! - **By instance.** That is the name of the agent's host, so matchers of it are asked once an agent; but a
//!   series may have come with an instance of its own. An index has those, by that label
//!   ([`INDEX`]): a handful on most hubs.
//! - **By labels.** A fleet has few sets of labels, each many times: each text of labels is parsed, and
//!   matchers are asked of it, once a query.

use std::{
    cell::Cell,
    collections::{BTreeSet, HashMap, HashSet},
    rc::Rc,
};

use promql::{METRIC_NAME, MatchOp, Matcher};
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};
use wire::AgentId;

use super::select::labels_of;
use crate::store::{
    Host, INSTANCE_LABEL, Labels, Selector, Series, SeriesId, rows::kind_of, series::given,
};

/// Series that came with an instance of their own, by it. It is no part of the format: a hub that doesn't
/// know it keeps it up to date, and one that doesn't find it makes it.
pub(crate) const INDEX: &str = "CREATE INDEX IF NOT EXISTS series_by_own_instance \
    ON series (json_extract(labels, '$.instance')) WHERE instr(labels, '\"instance\":') > 0";

const COLUMNS: &str = "SELECT id, agent, name, kind, labels FROM series";
/// Place of the labels in it.
const LABELS: usize = 4;
/// Series that came with an instance.
const OF_OWN_INSTANCE: &str =
    "WHERE instr(labels, '\"instance\":') > 0 AND json_extract(labels, '$.instance') = ?1";
/// The names of all series.
const NAMES: &str = "WITH RECURSIVE names (name) AS (SELECT min(s.name) FROM series s UNION ALL \
    SELECT (SELECT min(s.name) FROM series s WHERE s.name > names.name) FROM names \
    WHERE names.name IS NOT NULL) SELECT t.id, t.text FROM names n JOIN texts t ON t.id = n.name";
/// Agents that are few enough to be gone through one by one, or so many times fewer than all.
const FEW_AGENTS: usize = 16;
const FEWER_AGENTS: usize = 4;
/// Names that are looked for one by one within an agent.
const FEW_NAMES: usize = 8;

/// The series that fit, by host, agent and name.
pub(crate) fn series(
    connection: &Connection,
    selector: &Selector,
) -> rusqlite::Result<Vec<Series>> {
    let most = selector.limit.unwrap_or(usize::MAX);
    let mut found: Vec<(usize, Series)> = Vec::new();
    if most == 0 {
        return Ok(vec![]);
    }
    find(connection, selector, &mut |one| {
        found.push((one.sender.rank, one.series()));
        found.len() < most
    })?;
    found.sort_by(|(a, one), (b, other)| (a, &one.metric).cmp(&(b, &other.metric)));
    Ok(found.into_iter().map(|(_, series)| series).collect())
}

/// The names of labels of the series that fit.
pub(crate) fn label_names(
    connection: &Connection,
    selector: &Selector,
) -> rusqlite::Result<Vec<String>> {
    let mut names = BTreeSet::new();
    find(connection, selector, &mut |one| {
        if !one.labels.is_seen[usize::from(one.sender.is_written)].replace(true) {
            let all = one.series();
            names.extend(all.each_label().map(|(name, _)| name.to_owned()));
        }
        true
    })?;
    Ok(names.into_iter().collect())
}

/// The values of a label of the series that fit.
pub(crate) fn label_values(
    connection: &Connection,
    label: &str,
    selector: &Selector,
) -> rusqlite::Result<Vec<String>> {
    let mut values = BTreeSet::new();
    match label {
        METRIC_NAME if is_everything(selector) => values.extend(names(connection)?.into_values()),
        INSTANCE_LABEL if is_everything(selector) => {
            let senders = senders(connection, None)?.into_values();
            let senders = senders.filter(|one| one.has_series && !one.is_written);
            values.extend(senders.map(|one| one.hostname));
            values.extend(own_instances(connection)?);
        }
        _ => find(connection, selector, &mut |one| {
            let value = one.value(label);
            if !values.contains(value) {
                values.insert(value.to_owned());
            }
            true
        })?,
    }
    values.remove("");
    Ok(values.into_iter().collect())
}

fn is_everything(selector: &Selector) -> bool {
    selector.host.is_none() && selector.matchers.is_empty()
}

/// Who sends series.
struct Sender {
    agent_id: AgentId,
    hostname: String,
    has_series: bool,
    /// Whether it is a target of remote write, whose series have the labels that were sent and no others.
    is_written: bool,
    /// Place among all, by name of host.
    rank: usize,
}

/// Labels as they lie there, and whether they fit, but for what the sender gives.
struct LabelSet {
    labels: Labels,
    fits: bool,
    /// With what agents are given, and without.
    is_seen: [Cell<bool>; 2],
}

/// A series that fits.
struct Found<'a> {
    id: i64,
    kind: i64,
    sender: &'a Sender,
    metric: &'a str,
    labels: &'a LabelSet,
}

impl Found<'_> {
    fn value(&self, label: &str) -> &str {
        match (label, self.labels.labels.get(label)) {
            (METRIC_NAME, _) => self.metric,
            (_, Some(value)) => value,
            (_, None) if self.sender.is_written => "",
            (_, None) => given(label, &self.sender.hostname),
        }
    }

    fn series(&self) -> Series {
        Series {
            id: SeriesId(self.id),
            agent_id: self.sender.agent_id,
            hostname: self.sender.hostname.clone(),
            metric: self.metric.to_owned(),
            kind: kind_of(self.kind),
            labels: self.labels.labels.clone(),
            is_written: self.sender.is_written,
        }
    }
}

/// Takes what fits; false for no more.
type Each<'a> = dyn FnMut(&Found<'_>) -> bool + 'a;

/// Shows every series that fits.
fn find(connection: &Connection, selector: &Selector, each: &mut Each<'_>) -> rusqlite::Result<()> {
    let names = fitting_names(connection, selector)?;
    let senders = senders(connection, selector.host.as_ref())?;
    let mut finder = Finder { connection, selector, senders, names, label_sets: HashMap::new() };
    if selector.host.is_some() {
        let all: Vec<i64> = finder.senders.keys().copied().collect();
        return finder.of_agents(&all, each).map(drop);
    }
    match finder.agents_by_instance() {
        Some(agents) => {
            if finder.of_agents(&agents, each)? {
                finder.of_own_instances(&agents.into_iter().collect(), each)?;
            }
            Ok(())
        }
        None => finder.of_all_agents(each),
    }
}

struct Finder<'a> {
    connection: &'a Connection,
    selector: &'a Selector,
    senders: HashMap<i64, Sender>,
    /// The names that fit, by their texts.
    names: Names,
    label_sets: HashMap<Box<str>, Rc<LabelSet>>,
}

/// Names of metrics by the ids of their texts.
type Names = HashMap<i64, String>;

impl Finder<'_> {
    /// The agents whose hosts' names are an instance that fits, if they are few and nothing else can fit
    /// but a series with an instance of its own.
    fn agents_by_instance(&self) -> Option<Vec<i64>> {
        let of_instance = || matchers_of(self.selector, INSTANCE_LABEL);
        if of_instance().all(|one| one.matches("")) {
            return None;
        }
        let fits = |sender: &Sender| of_instance().all(|one| one.matches(&sender.hostname));
        let found = self.senders.iter().filter(|(_, sender)| fits(sender));
        let found: Vec<i64> = found.map(|(agent, _)| *agent).collect();
        let is_few = found.len() <= FEW_AGENTS || found.len() * FEWER_AGENTS <= self.senders.len();
        is_few.then_some(found)
    }

    fn of_agents(&mut self, agents: &[i64], each: &mut Each<'_>) -> rusqlite::Result<bool> {
        let names: Vec<i64> = self.names.keys().copied().collect();
        for agent in agents {
            let goes_on = if names.len() <= FEW_NAMES {
                self.of_agent_by_name(*agent, &names, each)?
            } else {
                self.rows("WHERE agent = ?1", params![agent], None, each)?
            };
            if !goes_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn of_agent_by_name(
        &mut self,
        agent: i64,
        names: &[i64],
        each: &mut Each<'_>,
    ) -> rusqlite::Result<bool> {
        for name in names {
            if !self.rows("WHERE agent = ?1 AND name = ?2", params![agent, name], None, each)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Series with an instance of their own, but for those of some agents.
    fn of_own_instances(
        &mut self,
        but: &HashSet<i64>,
        each: &mut Each<'_>,
    ) -> rusqlite::Result<()> {
        for instance in own_instances(self.connection)? {
            let fits = matchers_of(self.selector, INSTANCE_LABEL).all(|one| one.matches(&instance));
            if fits && !self.rows(OF_OWN_INSTANCE, params![instance], Some(but), each)? {
                break;
            }
        }
        Ok(())
    }

    fn of_all_agents(&mut self, each: &mut Each<'_>) -> rusqlite::Result<()> {
        if matchers_of(self.selector, METRIC_NAME).next().is_none() {
            return self.rows("", [], None, each).map(drop);
        }
        let mut names: Vec<i64> = self.names.keys().copied().collect();
        names.sort_unstable();
        for name in names {
            if !self.rows("WHERE name = ?1", params![name], None, each)? {
                break;
            }
        }
        Ok(())
    }

    /// Shows what fits of some rows, but for those of some agents; false if no more is wanted.
    fn rows(
        &mut self,
        condition: &str,
        parameters: impl Params,
        but: Option<&HashSet<i64>>,
        each: &mut Each<'_>,
    ) -> rusqlite::Result<bool> {
        let connection = self.connection;
        let mut statement = connection.prepare_cached(&format!("{COLUMNS} {condition}"))?;
        let mut rows = statement.query(parameters)?;
        while let Some(row) = rows.next()? {
            let (agent, name) = (row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
            if but.is_some_and(|but| but.contains(&agent)) || !self.names.contains_key(&name) {
                continue;
            }
            let labels = self.label_set(row)?;
            // Rows of both are never there without each other.
            let (Some(sender), Some(metric)) = (self.senders.get(&agent), self.names.get(&name))
            else {
                continue;
            };
            let (id, kind) = (row.get(0)?, row.get(3)?);
            let found = Found { id, kind, sender, metric, labels: &labels };
            if labels.fits && self.fits_as_given(&found) && !each(&found) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn label_set(&mut self, row: &Row<'_>) -> rusqlite::Result<Rc<LabelSet>> {
        let text = row.get_ref(LABELS)?.as_str()?;
        if let Some(known) = self.label_sets.get(text) {
            return Ok(Rc::clone(known));
        }
        let labels = labels_of(row, LABELS)?;
        let own = self.selector.matchers.iter().filter(|one| !is_given(&one.name));
        let fits = own.into_iter().all(|one| one.matches(labels.get(&one.name).map_or("", |v| v)));
        let set = Rc::new(LabelSet { labels, fits, is_seen: Default::default() });
        self.label_sets.insert(text.into(), Rc::clone(&set));
        Ok(set)
    }

    /// Whether the labels fit that a sender gives where a series has none of its own.
    fn fits_as_given(&self, found: &Found<'_>) -> bool {
        let mut matchers = self.selector.matchers.iter();
        matchers.all(|one| {
            one.name == METRIC_NAME || !is_given(&one.name) || one.matches(found.value(&one.name))
        })
    }
}

/// Whether a label can come from elsewhere than the labels of a series.
fn is_given(label: &str) -> bool {
    label == METRIC_NAME || !given(label, "any").is_empty()
}

fn matchers_of<'a>(selector: &'a Selector, label: &'a str) -> impl Iterator<Item = &'a Matcher> {
    selector.matchers.iter().filter(move |one| one.name == label)
}

/// The names that fit.
fn fitting_names(connection: &Connection, selector: &Selector) -> rusqlite::Result<Names> {
    let is_exact = |one: &&Matcher| matches!(one.op, MatchOp::Equal);
    let mut found = match matchers_of(selector, METRIC_NAME).find(is_exact) {
        Some(exact) => {
            let id = text_id(connection, &exact.value)?;
            id.into_iter().map(|id| (id, exact.value.clone())).collect()
        }
        None => names(connection)?,
    };
    found.retain(|_, name| matchers_of(selector, METRIC_NAME).all(|one| one.matches(name)));
    Ok(found)
}

/// The names of all series: as many steps through the index as there are names.
fn names(connection: &Connection) -> rusqlite::Result<Names> {
    let mut statement = connection.prepare_cached(NAMES)?;
    let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    found.collect()
}

/// The instances that series came with, each once, in as many steps.
fn own_instances(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection.prepare_cached(&own_instances_sql())?.query_map([], |row| row.get(0))?.collect()
}

fn own_instances_sql() -> String {
    let own = "instr(labels, '\"instance\":') > 0";
    let of = "json_extract(labels, '$.instance')";
    format!(
        "WITH RECURSIVE own (value) AS (SELECT min({of}) FROM series WHERE {own} UNION ALL \
         SELECT (SELECT min({of}) FROM series WHERE {own} AND {of} > value) FROM own \
         WHERE value IS NOT NULL) SELECT value FROM own WHERE value IS NOT NULL"
    )
}

/// Who sends series, of one host or of all, by row.
fn senders(connection: &Connection, host: Option<&Host>) -> rusqlite::Result<HashMap<i64, Sender>> {
    let (name, id) = match host {
        None => (None, None),
        Some(Host::Name(name)) => (Some(name), None),
        Some(Host::Agent(id)) => (None, Some(id.as_bytes().to_vec())),
    };
    let condition = match host {
        None => "?1 IS NULL AND ?2 IS NULL",
        Some(Host::Name(_)) => "hostname = ?1 AND ?2 IS NULL",
        Some(Host::Agent(_)) => "?1 IS NULL AND uuid = ?2",
    };
    let sql = format!(
        "SELECT id, uuid, hostname, series > 0, id IN (SELECT agent FROM targets) FROM agents \
         WHERE {condition} ORDER BY hostname, uuid"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rank = 0;
    let found = statement.query_map(params![name, id], |row| {
        rank += 1;
        let agent_id = AgentId::from_bytes(row.get(1)?);
        let (hostname, has_series, is_written) = (row.get(2)?, row.get(3)?, row.get(4)?);
        Ok((row.get(0)?, Sender { agent_id, hostname, has_series, is_written, rank }))
    })?;
    found.collect()
}

fn text_id(connection: &Connection, text: &str) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM texts WHERE text = ?1")?;
    statement.query_row([text], |row| row.get(0)).optional()
}

#[cfg(test)]
mod tests;

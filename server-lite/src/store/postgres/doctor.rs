//! Looks a database over, beside running hubs or without them. Changes nothing.

use tokio_postgres::Client;

use super::{
    address,
    connect::{Purpose, Server, database, get, pool},
    migrate, pages, unusable,
};
use crate::store::{Finding, StoreError, Verdict};

/// Rollups that wait for longer are told of: what comes late waits for an hour.
const UNPAGED_MS_MAX: i64 = 3 * 24 * 60 * 60 * 1_000;

/// Says what a database is and whether a hub can use it. Changes nothing.
///
/// # Errors
/// [`StoreError`]: it can't be reached or used.
pub async fn examine(url: &str, now_ms: i64) -> Result<Vec<Finding>, StoreError> {
    let address = address::read(url).map_err(unusable)?;
    let pool = pool(&address, Purpose::Read, 1)?;
    let client = get(&pool).await?;
    let server = Server::of(&client).await?;
    let timescale = match &server.timescale {
        Some((version, licence)) => format!(" with TimescaleDB {version} ({licence} licence)"),
        None => String::new(),
    };
    let kind = format!("PostgreSQL {}{timescale}", server.version);
    let flushes = if server.flushes {
        Finding::new(Verdict::Good, "durability", "what is committed survives a power cut")
    } else {
        let says = "fsync is off: a power cut may damage the whole database, turn it on";
        Finding::new(Verdict::Bad, "durability", says)
    };
    let mut findings = vec![Finding::new(Verdict::Good, "database", kind), flushes];
    findings.push(tables(&client).await?);
    if migrate::found(&client).await? == Some(migrate::newest()) {
        let rollups = rollups(&client, now_ms).await;
        findings.push(rollups.map_err(database("look at rollups"))?);
    }
    Ok(findings)
}

/// Whether they are made.
async fn rollups(client: &Client, now_ms: i64) -> Result<Finding, tokio_postgres::Error> {
    let waiting = "SELECT count(*), count(*) FILTER (WHERE since_ms < $2), \
        pg_total_relation_size('holdfast.pages') FROM holdfast.unpaged WHERE day < $1";
    let long_ago_ms = now_ms.saturating_sub(UNPAGED_MS_MAX);
    let row = client.query_one(waiting, &[&pages::over_before(now_ms), &long_ago_ms]).await?;
    let [waiting, late, bytes] = [0, 1, 2].map(|at| row.get::<_, i64>(at));
    let says = format!("{bytes} bytes; {waiting} days of agents wait for theirs");
    Ok(match late {
        0 => Finding::new(Verdict::Good, "rollups", says),
        _ => Finding::new(
            Verdict::Doubtful,
            "rollups",
            format!("{says}, {late} for days: does a hub lead, does its log say why?"),
        ),
    })
}

/// How its tables stand.
async fn tables(client: &Client) -> Result<Finding, StoreError> {
    let found = migrate::found(client).await?;
    let newest = migrate::newest();
    let (verdict, says) = match found {
        None => (Verdict::Doubtful, "none: no hub has used this database yet".to_owned()),
        Some(found) if found == newest => (Verdict::Good, format!("version {found}")),
        Some(found) if found < newest => (
            Verdict::Doubtful,
            format!("version {found}: `migrate`, or a start, makes it {newest}"),
        ),
        Some(found) => {
            (Verdict::Bad, format!("version {found} is of a newer hub, this one knows {newest}"))
        }
    };
    Ok(Finding::new(verdict, "tables", says))
}

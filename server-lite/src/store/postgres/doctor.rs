//! Looks a database over, beside running hubs or without them. Changes nothing.

use tokio_postgres::Client;

use super::{
    address,
    connect::{Purpose, Server, get, pool},
    migrate, unusable,
};
use crate::store::{Finding, StoreError, Verdict};

/// Says what a database is and whether a hub can use it. Changes nothing.
///
/// # Errors
/// [`StoreError`]: it can't be reached or used.
pub async fn examine(url: &str) -> Result<Vec<Finding>, StoreError> {
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
    Ok(vec![Finding::new(Verdict::Good, "database", kind), flushes, tables(&client).await?])
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

//! Alerts in a database, and hubs that share it.

use tokio::runtime::Runtime;

use super::*;
use crate::store::{
    Postgres, Store as _,
    postgres::{Options, tests::database::Database},
};

/// A database, and a runtime for the connections to it; what blocks, blocks the thread of the test.
struct Bench {
    runtime: Runtime,
    database: Database,
}

impl Bench {
    fn new() -> Option<Self> {
        let runtime = Runtime::new().unwrap();
        let database = runtime.block_on(Database::plain())?;
        Some(Self { runtime, database })
    }

    fn hub(&self) -> (Postgres, AlertStore) {
        let options = Options::new(&self.database.url);
        self.runtime.block_on(async {
            let hub = Postgres::open(&options).await.unwrap();
            let alerts = AlertStore::shared(hub.shared());
            (hub, alerts)
        })
    }

    /// Waits until a hub leads.
    fn takes_over(&self, hub: &Postgres) {
        self.runtime.block_on(async {
            let leads = async {
                while !hub.is_leader() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(15), leads).await.expect("within 15 s");
        });
    }

    fn run(&self, sql: &str) {
        self.runtime.block_on(async {
            self.database.connect().await.batch_execute(sql).await.unwrap();
        });
    }
}

#[test]
fn a_database_does_what_it_has_to() {
    for test in EITHER {
        let Some(bench) = Bench::new() else { return };
        let (hub, alerts) = bench.hub();
        test(&|| alerts.clone());
        bench.runtime.block_on(hub.close());
    }
}

#[test]
fn a_commit_to_a_database_is_whole_or_nothing() {
    let Some(bench) = Bench::new() else { return };
    let (_hub, store) = bench.hub();
    let mut broken = pending("b");
    // No text of PostgreSQL has it, so it serves to make the last write fail.
    broken.after.as_mut().unwrap().host = "\0".to_owned();
    let error = store.commit(&[fired("a"), broken], &names(&["log"]), NOW).unwrap_err();
    assert!(matches!(error, AlertStoreError::Shared(_)), "{error}");
    assert_eq!(store.load().unwrap(), AlertStates::default());
    assert_eq!(store.next_delivery("log").unwrap(), None);
    assert_eq!(store.incidents(10).unwrap(), []);
}

#[test]
fn a_hub_that_takes_over_goes_on_where_the_one_before_was() {
    let Some(bench) = Bench::new() else { return };
    let ((first, alerts), (second, others)) = (bench.hub(), bench.hub());
    let (both, changes) = (names(&["log", "webhook:ops"]), [pending("a"), fired("b")]);
    assert_eq!(alerts.commit(&changes, &both, NOW).unwrap(), 2);
    assert_eq!(drain(&alerts, "log"), [key("b", "firing", "log")]);
    // Who follows shows what is, tells nobody and changes nothing.
    assert_eq!(others.load().unwrap(), alerts.load().unwrap());
    assert_eq!(others.next_delivery("webhook:ops").unwrap(), None);
    assert!(matches!(others.commit(&[fired("a")], &both, NOW), Err(AlertStoreError::NotLeading)));
    assert_eq!(others.bury_unconfigured(&[], NOW).unwrap(), 0);
    // This is being delivered when the first goes.
    let sent = alerts.next_delivery("webhook:ops").unwrap().unwrap();
    bench.runtime.block_on(first.close());
    bench.takes_over(&second);
    let mut expected = AlertStates::default();
    expected.apply(changes.to_vec());
    assert_eq!(others.load().unwrap(), expected);
    assert_eq!(others.next_delivery("log").unwrap(), None, "told before");
    assert_eq!(others.next_delivery("webhook:ops").unwrap(), None, "may still be delivered");
    bench.run("UPDATE holdfast.alert_outbox SET leased_until = now() - interval '1 second'");
    let again = others.next_delivery("webhook:ops").unwrap().unwrap();
    assert_eq!(again.notification.id, sent.notification.id, "the receiver can tell");
    assert_eq!(others.commit(&[resolved("b", 900)], &both, NOW).unwrap(), 2);
    assert_eq!(drain(&others, "log"), [key("b", "resolved", "log")]);
}

#[test]
fn a_hub_that_has_lost_the_lead_unawares_changes_nothing() {
    let Some(bench) = Bench::new() else { return };
    let (hub, alerts) = bench.hub();
    alerts.commit(&[fired("a")], &names(&["log"]), NOW).unwrap();
    bench.run("UPDATE holdfast.leader SET epoch = epoch + 1");
    assert!(hub.is_leader(), "as far as it knows");
    let refused = alerts.commit(&[resolved("a", 900)], &names(&["log"]), NOW);
    assert!(matches!(refused, Err(AlertStoreError::NotLeading)), "{refused:?}");
    assert_eq!(alerts.next_delivery("log").unwrap(), None);
    assert_eq!(alerts.load().unwrap().iter().count(), 1);
}

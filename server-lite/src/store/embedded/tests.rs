//! What is the embedded store's own: sealing, crashes, damage, limits.

mod written;

use std::{collections::BTreeSet, path::Path, time::Duration};

use super::{inspect::Audit, *};
use crate::store::{
    LedgerReason,
    conformance::{
        self, EVER, Fake, FakeAgent, START_MS, check_samples, samples_of, schema, tick, time_of,
        told, value_of,
    },
};

const FOR_EVER: Retention = Retention::all(Duration::from_secs(u32::MAX as u64));

fn open(directory: &Path) -> Embedded {
    Embedded::open(&Options::new(directory)).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Runs on an empty store of its own.
fn with_store<F: Future<Output = ()>>(test: impl FnOnce(PathBuf, Embedded) -> F) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    runtime().block_on(test(directory.path().to_owned(), store));
}

/// Seals all there is, by what the store itself does with records that lie for too long.
async fn seal_all(store: &Embedded) {
    store.maintain(START_MS + retain::HEAD_AGE_MAX_MS + 1, FOR_EVER).await.unwrap();
    while store.stats().unsealed_samples > 0 {
        assert_eq!(store.stats().seal_failures, 0);
        tokio::task::yield_now().await;
    }
}

#[test]
fn conforms() {
    with_store(|_directory, store| async move { conformance::run(&store).await });
}

#[test]
fn rollups_answer_when_samples_have_gone() {
    with_store(|_directory, store| async move {
        conformance::rollups::run_without_samples(&store).await;
    });
}

#[test]
fn conforms_when_reopened_and_sealed_between() {
    with_store(|directory, store| async move {
        let schema = schema("cut", 70);
        let agent = FakeAgent::new(1, 1, &[&schema]);
        let mut expected = Vec::new();
        let mut store = Some(store);
        // Every cut between requests, seals and restarts leaves the same samples.
        for (index, size) in [1_u64, 3, 200, 7, 500, 1, 1].into_iter().enumerate() {
            let open_store = store.get_or_insert_with(|| open(&directory));
            let first = expected.last().map_or(1, |last| last + 1);
            let ticks: Vec<Fake> = (first..first + size).map(|seq| tick(seq, &schema)).collect();
            agent.send(open_store, &ticks).await;
            expected.extend(first..first + size);
            check_samples(open_store, "host-1", "cut", &expected).await;
            if index % 2 == 0 {
                seal_all(open_store).await;
                check_samples(open_store, "host-1", "cut", &expected).await;
            }
            let again = agent.send(open_store, &ticks).await;
            assert_eq!((again.records, again.duplicates), (0, size));
            if index % 3 == 0 {
                store.take().unwrap().close().await;
            }
        }
        let audits = inspect::audit(&directory).unwrap();
        let audit = &audits[0];
        assert_eq!((audit.ticks, audit.samples), (713, 713 * 70));
        assert_eq!(
            (audit.doubled, audit.out_of_order, audit.duplicates, audit.damaged),
            (0, 0, 0, 0)
        );
    });
}

#[test]
fn a_clock_that_was_set_back_is_no_reordering() {
    with_store(|directory, store| async move {
        let schema = schema("again", 2);
        let agent = FakeAgent::new(1, 1, &[&schema]);
        let at = |seq, of| Fake::TickAt(seq, time_of(of), vec![(schema.id, vec![1.0, 2.0])]);
        let jump = Fake::Gap(301, told(wire::GapReason::ClockJump, time_of(301), time_of(201)));
        let before: Vec<Fake> = (1..=300).map(|seq| at(seq, seq)).collect();
        let after: Vec<Fake> = (302..=600).map(|seq| at(seq, seq - 101)).collect();
        let check = |ticks, duplicates, time_backwards| {
            let audit = inspect::audit(&directory).unwrap().remove(0);
            let Audit { doubled, out_of_order, unexplained_records, .. } = audit;
            assert_eq!((doubled, out_of_order, unexplained_records), (0, 0, 0));
            let found = (audit.ticks, audit.duplicates, audit.time_backwards);
            assert_eq!(found, (ticks, duplicates, time_backwards));
        };
        agent.send(&store, &before).await;
        agent.send(&store, &[jump]).await;
        agent.send(&store, &after).await;
        check(599, 0, 2);
        seal_all(&store).await;
        check(599, 0, 2);
        // Exactly once goes by number, not by time.
        assert_eq!(agent.send(&store, &after).await.duplicates, 299);
        check(599, 0, 2);
        // Nobody told of another one.
        agent.send(&store, &[at(601, 400)]).await;
        check(600, 2, 4);
    });
}

#[test]
fn a_reply_that_is_lost_costs_nothing() {
    with_store(|directory, store| async move {
        let schema = schema("lost", 2);
        let agent = FakeAgent::new(1, 1, &[&schema]);
        let ticks: Vec<Fake> = (1..=5).map(|seq| tick(seq, &schema)).collect();
        // Queued, and nobody waits for the answer: as when the connection breaks.
        drop(agent_request(&store, &agent, &ticks));
        drop(store);
        let store = open(&directory);
        let reply = agent.send(&store, &ticks).await;
        assert_eq!((reply.acked_seq, reply.duplicates, reply.records), (5, 5, 0));
        check_samples(&store, "host-1", "lost", &[1, 2, 3, 4, 5]).await;
    });
}

/// Queues a request without waiting.
fn agent_request(store: &Embedded, agent: &FakeAgent, records: &[Fake]) -> impl Sized + use<> {
    let incoming = Incoming::from(agent.batch(records));
    let change = move |writing: &mut Writing<'_>| apply::apply(writing, &incoming, 100);
    store.writer().unwrap().queue(1, change).unwrap()
}

#[test]
fn a_change_that_fails_leaves_its_group_alone() {
    with_store(|_directory, store| async move {
        let schema = schema("group", 1);
        let (good, bad) = (FakeAgent::new(1, 1, &[&schema]), FakeAgent::new(2, 1, &[&schema]));
        let writer = store.writer().unwrap();
        // Holds the writer until all three are queued behind it: they make one group.
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let held = writer.queue(0, move |_| {
            let _ = wait.recv();
            Ok::<(), StoreError>(())
        });
        let first = agent_request(&store, &good, &[tick(1, &schema)]);
        let failing = Incoming::from(bad.batch(&[tick(1, &schema)]));
        let failed = writer.queue(1, move |writing: &mut Writing<'_>| {
            apply::apply(writing, &failing, 100)?;
            Err::<(), _>(IngestError::Busy("as a test"))
        });
        let second = agent_request(&store, &good, &[tick(2, &schema)]);
        release.send(()).unwrap();
        held.unwrap().await.unwrap().unwrap();
        assert!(failed.unwrap().await.unwrap().is_err());
        drop((first, second));
        store.check().await.unwrap();
        check_samples(&store, "host-1", "group", &[1, 2]).await;
        assert_eq!(store.agents().await.unwrap().len(), 1);
        let stats = store.stats();
        assert_eq!((stats.agents, stats.series, stats.unsealed_samples), (1, 1, 2));
        let reply = bad.send(&store, &[tick(1, &schema)]).await;
        assert_eq!(reply.records, 1, "what was remembered of it was forgotten");
    });
}

#[test]
fn sealing_begins_by_itself() {
    with_store(|_directory, store| async move {
        let schema = schema("due", 2);
        let agent = FakeAgent::new(1, 1, &[&schema]);
        let all: Vec<u64> = (1..=1_300).collect();
        for seqs in all.chunks(650) {
            let ticks: Vec<Fake> = seqs.iter().map(|seq| tick(*seq, &schema)).collect();
            agent.send(&store, &ticks).await;
        }
        while store.stats().unsealed_samples > 0 {
            tokio::task::yield_now().await;
        }
        check_samples(&store, "host-1", "due", &all).await;
        let span = (time_of(300), time_of(310));
        assert_eq!(samples_of(&store, "host-1", "due", span).await[1].len(), 11);
        assert_eq!(store.stats().sealed_samples, 2_600);
    });
}

#[test]
fn series_come_go_and_grow_beyond_a_group() {
    with_store(|directory, store| async move {
        let (few, many, other) = (schema("grow", 3), schema("grow", 150), schema("other", 2));
        let agent = FakeAgent::new(1, 1, &[&few, &many, &other]);
        let values = |seq, n| (0..n).map(|n| value_of(seq, n)).collect::<Vec<_>>();
        let ticks: Vec<Fake> = (1..=90_u64)
            .map(|seq| match seq % 3 {
                0 => Fake::Tick(seq, vec![(few.id, values(seq, 3)), (other.id, values(seq, 2))]),
                1 => Fake::Tick(seq, vec![(many.id, values(seq, 150))]),
                _ => Fake::Tick(seq, vec![(other.id, values(seq, 2)), (few.id, values(seq, 3))]),
            })
            .collect();
        agent.send(&store, &ticks).await;
        for sealed in [false, true] {
            if sealed {
                seal_all(&store).await;
            }
            let seqs = |keep: &[u64]| {
                (1..=90).filter(|seq| keep.contains(&(seq % 3))).collect::<Vec<u64>>()
            };
            check_samples(&store, "host-1", "other", &seqs(&[0, 2])).await;
            let grow = samples_of(&store, "host-1", "grow", EVER).await;
            assert_eq!((grow.len(), grow[2].len(), grow[3].len()), (150, 90, 30));
            assert_eq!(grow[149][1], (time_of(4), value_of(4, 149)));
        }
        let audit = inspect::audit(&directory).unwrap().remove(0);
        assert_eq!(
            (audit.series, audit.ticks, audit.samples),
            (152, 90, 60 * 3 + 30 * 150 + 60 * 2)
        );
    });
}

#[test]
fn too_many_series_are_counted_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { series_per_agent: 5, ..Options::new(directory.path()) };
    let store = Embedded::open(&options).unwrap();
    runtime().block_on(async {
        let (first, second) = (schema("first", 4), schema("second", 4));
        let agent = FakeAgent::new(1, 1, &[&first, &second]);
        let ticks = [tick(1, &first), tick(2, &second), tick(3, &second), tick(4, &first)];
        assert_eq!(agent.send(&store, &ticks).await.acked_seq, 4);
        for sealed in [false, true] {
            if sealed {
                seal_all(&store).await;
            }
            check_samples(&store, "host-1", "first", &[1, 4]).await;
            let second = samples_of(&store, "host-1", "second", EVER).await;
            assert_eq!((second.len(), second[0].len()), (1, 2));
        }
        let filter = GapFilter { host: None, from_ms: 0, to_ms: i64::MAX, limit: 10 };
        let gaps = store.gaps(filter).await.unwrap();
        assert_eq!(gaps.len(), 1);
        assert_eq!((gaps[0].reason, gaps[0].samples), (LedgerReason::SeriesLimit, 6));
        assert_eq!((store.stats().refused_samples, store.stats().series), (6, 5));
    });
}

#[test]
fn what_is_old_goes_and_what_is_used_stays() {
    with_store(|_directory, store| async move {
        let day_ms = 24 * 60 * 60 * 1_000;
        let (old, kept) = (schema("old", 2), schema("kept", 2));
        let agent = FakeAgent::new(1, 1, &[&old, &kept]);
        let at = |seq, schema: &wire::EncodedSchema, time_ms| {
            Fake::TickAt(seq, time_ms, vec![(schema.id, vec![1.0, 2.0])])
        };
        agent.send(&store, &[at(1, &old, START_MS), at(2, &kept, START_MS)]).await;
        seal_all(&store).await;
        let later = START_MS + 20 * day_ms;
        let mut batch = agent.batch(&[at(3, &kept, later)]);
        batch.received_ms = later;
        store.ingest(batch).await.unwrap();
        for _ in 0..2 {
            let keep = Retention::all(Duration::from_secs(10 * 24 * 60 * 60));
            store.maintain(later + day_ms, keep).await.unwrap();
        }
        assert_eq!(samples_of(&store, "host-1", "old", EVER).await.concat(), []);
        assert!(conformance::series_of(&store, "host-1", "old").await.is_empty());
        let kept_samples = samples_of(&store, "host-1", "kept", EVER).await;
        assert_eq!(kept_samples, [[(later, 1.0)], [(later, 2.0)]]);
        assert_eq!(store.stats().series, 2);
        // The forgotten schema is asked for again, and its series come back as new ones.
        let unsent = FakeAgent { send: vec![], ..agent.clone() };
        assert_eq!(unsent.send(&store, &[at(4, &old, later + 1)]).await.need_schemas, [old.id]);
        agent.send(&store, &[at(4, &old, later + 1), at(5, &kept, later + 1)]).await;
        assert_eq!(samples_of(&store, "host-1", "old", EVER).await.concat().len(), 2);
    });
}

#[test]
fn damage_costs_what_it_hit_and_is_told() {
    with_store(|directory, store| async move {
        let schema = schema("damage", 2);
        let agent = FakeAgent::new(1, 1, &[&schema]);
        for seq in 1..=6 {
            agent.send(&store, &[tick(seq, &schema)]).await;
        }
        store.close().await;
        let connection = Connection::open(database::path_in(&directory)).unwrap();
        let broken = "UPDATE head SET body = zeroblob(length(body)) WHERE first_seq = 3";
        assert_eq!(connection.execute(broken, []).unwrap(), 1);
        drop(connection);
        let store = open(&directory);
        let series = conformance::series_of(&store, "host-1", "damage").await;
        let request = ReadRequest { series: vec![series[0].id], from_ms: 0, to_ms: i64::MAX };
        let mut samples = store.read(request).await.unwrap();
        let chunk = samples.next().await.unwrap().unwrap();
        assert_eq!(chunk.values.len(), 5, "the others are read");
        assert!(matches!(samples.next().await, Err(StoreError::Damaged { .. })));
        seal_all(&store).await;
        check_samples(&store, "host-1", "damage", &[1, 2, 4, 5, 6]).await;
        let filter = GapFilter { host: None, from_ms: 0, to_ms: i64::MAX, limit: 10 };
        let gaps = store.gaps(filter).await.unwrap();
        let found: Vec<_> =
            gaps.iter().map(|g| (g.reason, g.first_seq, g.last_seq, g.samples)).collect();
        assert_eq!(found, [(LedgerReason::StoreDamaged, 3, 3, 2)]);
        assert_eq!(inspect::audit(&directory).unwrap()[0].damaged, 1);
    });
}

#[test]
fn a_clock_that_jumps_makes_no_block_that_spans_it() {
    with_store(|directory, store| async move {
        let schema = schema("jump", 2);
        let agent = FakeAgent::new(1, 1, &[&schema]);
        let year_ms = 365 * 24 * 60 * 60 * 1_000;
        let at = |seq: u64, time_ms| Fake::TickAt(seq, time_ms, vec![(schema.id, vec![1.0, 2.0])]);
        // Set forward by a year for ten ticks, and back; later it never stands still.
        let steady = (1..=30)
            .map(|seq| at(seq, time_of(seq) + i64::from((11..=20).contains(&seq)) * year_ms));
        let wild = (31..=130).map(|seq| at(seq, time_of(seq) + seq.cast_signed() % 2 * year_ms));
        agent.send(&store, &steady.chain(wild).collect::<Vec<_>>()).await;
        seal_all(&store).await;
        let connection = database::open_reader(&directory).unwrap();
        let spans: Vec<i64> = connection
            .prepare("SELECT max_ms - min_ms FROM blocks ORDER BY first_seq")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap();
        assert_eq!(spans[..3], [90_000, 90_000, 90_000], "before, during and after");
        assert_eq!(spans.len(), 17, "and no more blocks than that");
        let found = samples_of(&store, "host-1", "jump", EVER).await;
        assert_eq!(found[0].len(), 130);
    });
}

#[test]
fn a_second_hub_is_refused_and_a_reader_is_not() {
    with_store(|directory, store| async move {
        let schema = schema("beside", 1);
        FakeAgent::new(1, 1, &[&schema]).send(&store, &[tick(1, &schema), tick(2, &schema)]).await;
        let error = Embedded::open(&Options::new(&directory)).err().unwrap();
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
        let mut found = Vec::new();
        let selector = Selector::metric("beside");
        inspect::samples(&directory, &selector, |series, stored| {
            found.push((series.hostname.clone(), stored.seq, stored.time_ms, stored.place));
            Ok(())
        })
        .unwrap();
        let stored = |seq| ("host-1".to_owned(), seq, time_of(seq), inspect::Place::Head);
        assert_eq!(found, [stored(1), stored(2)]);
        store.close().await;
        assert!(matches!(store.check().await, Err(StoreError::Closed)));
        assert!(store.agents().await.is_err());
        open(&directory);
    });
}

#[test]
fn many_agents_at_once_get_their_own() {
    with_store(|_directory, store| async move {
        let store = Arc::new(store);
        let schema = schema("many", 2);
        let tasks: Vec<_> = (1..=40_u8)
            .map(|n| {
                let (store, schema) = (Arc::clone(&store), Arc::clone(&schema));
                tokio::spawn(async move {
                    let agent = FakeAgent::new(n, 1, &[&schema]);
                    for seq in 1..=20 {
                        let reply = agent.send(store.as_ref(), &[tick(seq, &schema)]).await;
                        assert_eq!(reply.acked_seq, seq);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let seqs: Vec<u64> = (1..=20).collect();
        for n in 1..=40 {
            check_samples(store.as_ref(), &format!("host-{n}"), "many", &seqs).await;
        }
        let ids: BTreeSet<_> = store.agents().await.unwrap().iter().map(|a| a.agent_id).collect();
        assert_eq!(ids.len(), 40);
        assert!(store.stats().commits <= 800, "{:?}", store.stats());
    });
}

#[test]
fn a_full_disk_refuses_and_forgets_nothing() {
    with_store(|_directory, store| async move {
        let schema = schema("full", 200);
        let agent = FakeAgent::new(1, 1, &[&schema]);
        agent.send(&store, &[tick(1, &schema)]).await;
        let pages = |pages: &'static str| {
            store.change(move |writing| {
                let sql = format!("PRAGMA max_page_count = {pages}");
                writing
                    .connection
                    .query_row(&sql, [], |row| row.get::<_, i64>(0))
                    .map_err(database(""))
            })
        };
        pages("1").await.unwrap();
        let many: Vec<Fake> = (2..400).map(|seq| tick(seq, &schema)).collect();
        for _ in 0..2 {
            let error = store.ingest(agent.batch(&many)).await.unwrap_err();
            assert!(matches!(error, IngestError::Store(_)), "{error:?}");
        }
        check_samples(&store, "host-1", "full", &[1]).await;
        pages("100000").await.unwrap();
        assert_eq!(agent.send(&store, &many).await.acked_seq, 399);
        check_samples(&store, "host-1", "full", &(1..400).collect::<Vec<_>>()).await;
    });
}

#[test]
fn schemas_that_nothing_uses_are_forgotten_and_asked_for_again() {
    with_store(|directory, store| async move {
        let schemas: Vec<_> = (0..300).map(|n| schema(&format!("churn_{n}"), 1)).collect();
        let hour_ms = 60 * 60 * 1_000;
        let mut seq = 0;
        for (n, schema) in (0_i64..).zip(&schemas) {
            seq += 1;
            let mut batch = FakeAgent::new(1, 1, &[schema]).batch(&[tick(seq, schema)]);
            batch.received_ms = START_MS + n * hour_ms;
            store.ingest(batch).await.unwrap();
            if n % 50 == 0 {
                store.maintain(START_MS + 400 * hour_ms, FOR_EVER).await.unwrap();
                while store.stats().unsealed_samples > 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        let connection = database::open_reader(&directory).unwrap();
        let kept: i64 =
            connection.query_row("SELECT count(*) FROM schemas", [], |row| row.get(0)).unwrap();
        assert!((250..=257).contains(&kept), "{kept} schemas kept");
        let unsent = FakeAgent::new(1, 1, &[]);
        let records = [tick(seq + 1, &schemas[0]), tick(seq + 2, &schemas[299])];
        assert_eq!(unsent.send(&store, &records).await.need_schemas, [schemas[0].id]);
        let sent = FakeAgent::new(1, 1, &[&schemas[0]]);
        assert_eq!(sent.send(&store, &records).await.acked_seq, seq + 2);
        check_samples(&store, "host-1", "churn_0", &[1, seq + 1]).await;
        check_samples(&store, "host-1", "churn_299", &[300, seq + 2]).await;
    });
}

//! What comes again under a number: a retry, what was late on the way, another log.

use super::*;

pub(super) async fn run(store: &dyn Store) {
    other_content_under_a_stored_number_is_refused_whole(store).await;
    a_gap_in_the_place_of_a_record_is_a_retry(store).await;
    a_retry_is_one_however_far_back_it_lies(store).await;
    two_hosts_that_come_in_turn_lose_nothing(store).await;
    a_log_that_was_set_back_goes_on(store).await;
    what_comes_late_is_no_log_that_was_set_back(store).await;
}

/// A request of which another process of the same agent was heard moments ago.
async fn send_contested(
    store: &dyn Store,
    agent: &FakeAgent,
    records: &[Fake],
) -> Result<Ingested, IngestError> {
    store.ingest(IngestBatch { is_alone: false, ..agent.batch(records) }).await
}

/// The tick of that number on another host: its values are the next one's.
fn elsewhere(seq: u64, schema: &EncodedSchema) -> Fake {
    let Fake::Tick(_, values) = tick(seq + 1, schema) else { unreachable!("a tick is one") };
    Fake::Tick(seq, values)
}

async fn other_content_under_a_stored_number_is_refused_whole(store: &dyn Store) {
    let schema = schema("cloned", 1);
    let mut agent = FakeAgent::new(15, 1, &[&schema]);
    let ticks: Vec<Fake> = (1..=5).map(|seq| tick(seq, &schema)).collect();
    assert_eq!(agent.send(store, &ticks).await.acked_seq, 5);
    // Same numbers at the same times: two hosts. It can't go on while the other is there, or when this
    // may have been late on the way.
    let clone: Vec<Fake> = (4..=9).map(|seq| elsewhere(seq, &schema)).collect();
    for (is_alone, after) in [(false, 0), (false, 1), (true, 0)] {
        let batch = IngestBatch { is_alone, after, ..agent.batch(&clone) };
        let error = store.ingest(batch).await.unwrap_err();
        assert!(matches!(error, IngestError::Conflict { seq: 4, .. }), "{error:?}");
        assert!(error.to_string().contains("record 4 is stored already"), "{error}");
    }
    // One that ends before what is stored, although nothing of it can be compared.
    agent.header.last_seq = Some(3);
    let error = send_contested(store, &agent, &[]).await.unwrap_err();
    assert!(error.to_string().contains("its log ends with 3"), "{error}");
    // Or that was late on the way.
    let late = IngestBatch { after: 0, ..agent.batch(&[]) };
    let error = store.ingest(late).await.unwrap_err();
    assert!(matches!(error, IngestError::Busy(_)), "{error:?}");
    agent.header.last_seq = Some(6);
    let again = send_contested(store, &agent, &ticks).await.unwrap();
    assert_eq!((again.acked_seq, again.duplicates), (5, 5), "a retry is one");
    assert_eq!(agent.send(store, &[tick(6, &schema)]).await.acked_seq, 6);
    check_samples(store, "host-15", "cloned", &[1, 2, 3, 4, 5, 6]).await;
    assert_eq!(gaps_of(store, "host-15").await, []);
}

async fn a_gap_in_the_place_of_a_record_is_a_retry(store: &dyn Store) {
    let schema = schema("replaced", 1);
    let agent = FakeAgent::new(12, 1, &[&schema]);
    let rejected = Fake::Gap(2, gap(2, 2));
    let dropped = Fake::Gap(5, gap(3, 5));
    agent.send(store, &[tick(1, &schema), rejected.clone(), tick(3, &schema)]).await;
    // The reply was lost; the agent has crashed and knows nothing of the replacement any more.
    let again = [tick(1, &schema), tick(2, &schema), tick(3, &schema), tick(4, &schema)];
    assert_eq!(send_contested(store, &agent, &again).await.unwrap().acked_seq, 4);
    assert_eq!(agent.send(store, &[tick(5, &schema)]).await.acked_seq, 5);
    // Again the reply was lost, and then the log has dropped what it waited with.
    let overflow = [rejected, dropped, tick(6, &schema)];
    assert_eq!(send_contested(store, &agent, &overflow).await.unwrap().acked_seq, 6);
    check_samples(store, "host-12", "replaced", &[1, 3, 4, 5, 6]).await;
}

async fn a_retry_is_one_however_far_back_it_lies(store: &dyn Store) {
    let schema = schema("far_back", 1);
    let agent = FakeAgent::new(13, 1, &[&schema]);
    let ticks: Vec<Fake> = (1..=2_000).map(|seq| tick(seq, &schema)).collect();
    agent.send(store, &ticks).await;
    for again in [&ticks[..5], &ticks[700..800], &ticks[1_995..], &ticks[..]] {
        let found = send_contested(store, &agent, again).await.unwrap();
        assert_eq!((found.acked_seq, found.duplicates), (2_000, again.len() as u64));
    }
    let mut forked = ticks[700..800].to_vec();
    forked[60] = elsewhere(761, &schema);
    let error = send_contested(store, &agent, &forked).await.unwrap_err();
    assert!(matches!(error, IngestError::Conflict { seq: 761, .. }), "{error:?}");
}

async fn two_hosts_that_come_in_turn_lose_nothing(store: &dyn Store) {
    let schema = schema("in_turn", 1);
    let first = FakeAgent::new(17, 1, &[&schema]);
    let mut second = first.clone();
    second.header.instance_id = InstanceId::from_bytes([18; 16]);
    // Copied when 50 was the last; it goes on in the same time, with values of its own.
    let on_second = |seq: u64| match seq {
        ..=50 => tick(seq, &schema),
        _ => Fake::TickAt(seq, time_of(seq) + 1, vec![(schema.id, vec![value_of(seq, 1)])]),
    };
    let from_first = |from, to| (from..=to).map(|seq| tick(seq, &schema)).collect::<Vec<Fake>>();
    let from_second = |from, to| (from..=to).map(on_second).collect::<Vec<Fake>>();
    // What is sent, how far it is stored then, and how much of it was stored already.
    let check = async |agent: &FakeAgent, records: Vec<Fake>, acked_seq, duplicates| {
        let new = records.len() as u64 - duplicates;
        let found = agent.send(store, &records).await;
        assert_eq!(
            (found.acked_seq, found.duplicates, found.records),
            (acked_seq, duplicates, new)
        );
    };
    check(&first, from_first(1, 300), 300, 0).await;
    // Far back, in parts, and further than the first has come; with some that it had sent before.
    check(&second, from_second(48, 60), 60, 3).await;
    check(&second, from_second(61, 400), 400, 0).await;
    // In turn, each right behind what it has sent, or with some of it again after a crash.
    check(&first, from_first(301, 310), 310, 0).await;
    check(&second, from_second(395, 410), 410, 6).await;
    check(&first, from_first(290, 311), 311, 21).await;
    check(&second, from_second(411, 411), 411, 0).await;
    // Before both went their own way, it is the same in both.
    check(&second, from_second(40, 45), 411, 6).await;
    let agents = store.agents().await.unwrap();
    let found = agents.iter().find(|one| one.agent_id == first.header.agent_id).unwrap();
    let mut ends: Vec<u64> = found.streams.iter().map(|stream| stream.acked_seq).collect();
    ends.sort_unstable();
    assert_eq!(ends, [311, 411]);
    assert_eq!(gaps_of(store, "host-17").await, []);
    let mut expected: Vec<_> = (1..=311).map(|seq| (time_of(seq), value_of(seq, 0))).collect();
    expected.extend((51..=411).map(|seq| (time_of(seq) + 1, value_of(seq, 1))));
    expected.sort_by_key(|sample| sample.0);
    assert_eq!(samples_of(store, "host-17", "in_turn", EVER).await, [expected]);
}

async fn a_log_that_was_set_back_goes_on(store: &dyn Store) {
    let schema = schema("restored", 1);
    let mut agent = FakeAgent::new(14, 1, &[&schema]);
    let ticks: Vec<Fake> = (1..=5).map(|seq| tick(seq, &schema)).collect();
    agent.send(store, &ticks).await;
    // A snapshot of when record 2 was the last; time has gone on.
    let late = |seq: u64| {
        let values = vec![(schema.id, vec![value_of(seq + 10, 0)])];
        Fake::TickAt(seq, time_of(seq + 10), values)
    };
    agent.header.last_seq = Some(3);
    let error = send_contested(store, &agent, &[late(3)]).await.unwrap_err();
    assert!(matches!(error, IngestError::Conflict { .. }), "{error:?}");
    assert_eq!(agent.send(store, &[late(3)]).await.acked_seq, 3);
    let again = send_contested(store, &agent, &[late(3), late(4)]).await.unwrap();
    assert_eq!((again.acked_seq, again.duplicates), (4, 1));
    check_samples(store, "host-14", "restored", &[1, 2, 3, 4, 5, 13, 14]).await;
    assert_eq!(gaps_of(store, "host-14").await, []);
    // Set back once more, and no two streams of one name.
    agent.header.last_seq = Some(3);
    let later = Fake::TickAt(3, time_of(20), vec![(schema.id, vec![value_of(20, 0)])]);
    assert_eq!(agent.send(store, &[later]).await.acked_seq, 3);
    check_samples(store, "host-14", "restored", &[1, 2, 3, 4, 5, 13, 14, 20]).await;
    let agents = store.agents().await.unwrap();
    let found = agents.iter().find(|one| one.agent_id == agent.header.agent_id).unwrap();
    assert_eq!(found.streams.len(), 3);
    assert_eq!(found.streams.last().unwrap().stream_id, agent.header.stream_id);
}

async fn what_comes_late_is_no_log_that_was_set_back(store: &dyn Store) {
    let schema = schema("late", 1);
    let mut agent = FakeAgent::new(16, 1, &[&schema]);
    let at = |seq: u64, tick: u64| {
        Fake::TickAt(seq, time_of(tick), vec![(schema.id, vec![value_of(tick, 0)])])
    };
    // A clock that ran ahead for the first ten and was then set back.
    let first: Vec<Fake> = (1..=10).map(|seq| at(seq, seq + 1_000)).collect();
    let later: Vec<Fake> = (11..=200).map(|seq| at(seq, seq)).collect();
    agent.send(store, &first).await;
    agent.send(store, &later).await;
    // Said when 190 was the last: it is the same, and nobody is told of more than it shows.
    agent.header.last_seq = Some(190);
    let copy = agent.send(store, &later[170..180]).await;
    assert_eq!((copy.acked_seq, copy.duplicates), (190, 10));
    // Said when 10 was the last, and at a later time than the last tick.
    agent.header.last_seq = Some(10);
    let copy = agent.send(store, &first).await;
    assert_eq!((copy.acked_seq, copy.duplicates), (10, 10));
    let agents = store.agents().await.unwrap();
    let found = agents.iter().find(|one| one.agent_id == agent.header.agent_id).unwrap();
    assert_eq!(found.streams.len(), 1, "no stream was set aside");
    agent.header.last_seq = Some(201);
    assert_eq!(agent.send(store, &[at(201, 201)]).await.acked_seq, 201);
}

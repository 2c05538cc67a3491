//! The agent as any program would embed it.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::{cell::RefCell, rc::Rc, time::Duration};

use agent_core::{
    Agent, Batch, BatchLimits, CollectError, Collector, Metric, Samples, Sink, SinkError,
    sink::BoxFuture,
};
use tokio::sync::Notify;
use wire::{Kind, Tick, envelope};

struct Answer;

impl Collector for Answer {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        out.push(&Metric::gauge("answer", "To everything."), &[], 42.0);
        Ok(())
    }
}

/// Number and answer of a record; a gap, where a life began late, has none.
type Arrived = (u64, Option<f64>);

#[derive(Clone, Default)]
struct Memory {
    records: Rc<RefCell<Vec<Arrived>>>,
    arrived: Rc<Notify>,
}

impl Sink for Memory {
    fn limits(&self) -> BatchLimits {
        BatchLimits { records: 10, bytes: 1 << 20 }
    }

    fn send<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<u64, SinkError>> {
        for record in &batch.records {
            let (found, _) = envelope::split_first(&record.bytes).unwrap();
            let answer = (found.kind == Kind::Metrics).then(|| {
                let tick = Tick::decode(found.payload).unwrap();
                let schema = &batch.schemas[&tick.schemas[0]].schema;
                assert_eq!(schema.families[0].name, "answer");
                tick.values[0]
            });
            self.records.borrow_mut().push((record.seq, answer));
        }
        self.arrived.notify_one();
        let last = batch.records.last().unwrap().seq;
        Box::pin(std::future::ready(Ok(last)))
    }
}

#[tokio::test]
async fn what_a_collector_says_reaches_the_sink() {
    let directory = tempfile::tempdir().unwrap();
    let sink = Memory::default();
    let arrived = Rc::clone(&sink.arrived);
    for life in 1..=2 {
        let agent = Agent::builder(directory.path())
            .collector("answer", Answer)
            .sink("memory", sink.clone())
            .interval(Duration::from_millis(100));
        agent.run(arrived.notified()).await.unwrap();
        let records = sink.records.borrow();
        let seqs: Vec<u64> = records.iter().map(|(seq, _)| *seq).collect();
        let expected: Vec<u64> = (1..=records.len() as u64).collect();
        assert_eq!(seqs, expected, "in order, each once, over {life} lives");
        let answers: Vec<f64> = records.iter().filter_map(|(_, answer)| *answer).collect();
        assert!(answers.iter().all(|answer| *answer == 42.0), "{answers:?}");
        assert!(answers.len() >= life && seqs.len() - answers.len() < life, "{records:?}");
    }
}

//! The agent as any program would embed it.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::{cell::RefCell, rc::Rc, time::Duration};

use agent_core::{
    Agent, Batch, BatchLimits, CollectError, Collector, Metric, Samples, Sink, SinkError,
    sink::BoxFuture,
};
use tokio::sync::Notify;
use wire::{Tick, envelope};

struct Answer;

impl Collector for Answer {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        out.push(&Metric::gauge("answer", "To everything."), &[], 42.0);
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Memory {
    records: Rc<RefCell<Vec<(u64, f64)>>>,
    arrived: Rc<Notify>,
}

impl Sink for Memory {
    fn limits(&self) -> BatchLimits {
        BatchLimits { records: 10, bytes: 1 << 20 }
    }

    fn send<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<u64, SinkError>> {
        for record in &batch.records {
            let (found, _) = envelope::split_first(&record.bytes).unwrap();
            let tick = Tick::decode(found.payload).unwrap();
            let schema = &batch.schemas[&tick.schemas[0]].schema;
            assert_eq!(schema.families[0].name, "answer");
            self.records.borrow_mut().push((record.seq, tick.values[0]));
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
        let expected: Vec<(u64, f64)> = (1..=records.len() as u64).map(|seq| (seq, 42.0)).collect();
        assert_eq!(*records, expected, "in order, each once, over {life} lives");
        assert!(records.len() >= life);
    }
}

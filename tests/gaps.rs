//! Gaps as an operator sees them: the real agent is killed and stopped, the real hub's ledger is read.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::{fs, path::Path, time::Duration};

use serde::Deserialize;
use xtask::programs::{Agent, Binaries, Hub, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(1);

/// A line of the ledger.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Line {
    reason: String,
    from_ms: i64,
    to_ms: i64,
    records: u64,
    detail: String,
}

struct Fleet {
    directory: tempfile::TempDir,
    hub: Hub,
    agent: Agent,
}

impl Fleet {
    fn start() -> Self {
        let agent = Path::new(env!("CARGO_BIN_EXE_holdfast-agent"));
        let binaries = Binaries::below(agent.parent().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let hub = Hub::start(&binaries, directory.path(), "gaps").unwrap();
        let agent = Agent::start(&binaries, directory.path(), INTERVAL, &hub).unwrap();
        Self { directory, hub, agent }
    }

    /// Waits until the hub has so many records more than the agent said are durable by now.
    fn await_more(&mut self, more: u64) {
        let durable = self.agent.witness().last().map_or(0, |durable| durable.seq);
        self.await_acked(durable + more);
    }

    fn await_acked(&mut self, seq: u64) {
        wait_for(PATIENCE, || {
            self.agent.check_running()?;
            let hosts = self.hub.get("/api/v1/hosts").unwrap_or_default();
            Ok((hosts["hosts"][0]["acked_seq"].as_u64() >= Some(seq)).then_some(()))
        })
        .unwrap();
    }

    fn ledger(&self, query: &str) -> Vec<Line> {
        let answer = self.hub.get(&format!("/api/v1/gaps?{query}")).unwrap();
        serde_json::from_value(answer["gaps"].clone()).unwrap()
    }

    /// Brings the agent up again, after it was down for longer than a tick. Returns the one line that
    /// is new in the ledger, and checks that it lies between what the two lives said is durable.
    fn come_back(&mut self, known: usize) -> Line {
        // The time in which ticks fall out: it is what the test is about.
        std::thread::sleep(INTERVAL * 3);
        let before = self.agent.witness();
        self.agent.restart().unwrap();
        self.await_more(2);
        let after = self.agent.witness().split_off(before.len());
        let ledger = self.ledger("");
        assert_eq!(ledger.len(), known + 1, "{ledger:?}");
        let line = ledger.last().unwrap().clone();
        // Killed between the write and the word, an agent has one more durable tick than it said.
        let last_ms = before.last().unwrap().time_ms;
        assert!([last_ms, last_ms + 1_000].contains(&line.from_ms), "{line:?} {before:?}");
        // The gap's own record and the first tick have one time.
        assert_eq!((line.to_ms, line.to_ms), (after[0].time_ms, after[1].time_ms), "{after:?}");
        assert_eq!(line.records, 0);
        let fell_out = (line.to_ms - line.from_ms) / 1_000 - 1;
        assert!(line.detail.starts_with(&format!("{fell_out} ticks of 1s fell out")), "{line:?}");
        line
    }
}

#[test]
fn the_ledger_tells_an_agent_that_was_down_from_a_host_that_was_off() {
    let mut fleet = Fleet::start();
    fleet.await_acked(2);
    assert_eq!(fleet.ledger(""), []);

    fleet.agent.kill().unwrap();
    let killed = fleet.come_back(0);
    assert_eq!(killed.reason, "agent_down");
    assert!(killed.detail.ends_with("killed, crashed or cut off"), "{killed:?}");

    fleet.agent.stop().unwrap();
    let stopped = fleet.come_back(1);
    assert_eq!(stopped.reason, "agent_down");
    assert!(stopped.detail.ends_with("the agent had been stopped"), "{stopped:?}");

    // As if the kernel were another: what the agent left is edited.
    fleet.agent.kill().unwrap();
    let path = fleet.directory.path().join("agent/life");
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(boot_id.trim()), "{text}");
    fs::write(&path, text.replace(boot_id.trim(), "another")).unwrap();
    let rebooted = fleet.come_back(2);
    assert_eq!(rebooted.reason, "host_off");

    // The hub is killed with what it has, and gets some of it again: nothing is told twice.
    fleet.hub.kill().unwrap();
    fleet.hub.restart().unwrap();
    fleet.await_more(1);
    assert_eq!(fleet.ledger(""), [killed.clone(), stopped.clone(), rebooted]);

    let between = format!("from={}&to={}", killed.from_ms, stopped.from_ms);
    assert_eq!(fleet.ledger(&between), [killed]);
    fleet.agent.stop().unwrap();
    fleet.hub.stop().unwrap();
}

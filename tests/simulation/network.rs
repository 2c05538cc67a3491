//! The network: carries requests to the hub and replies back, or doesn't, or twice, or late.
//!
//! Every copy of a request travels on its own, also when its sender has given up or was killed. Who
//! sends gets the first reply that comes to any copy, as over a connection.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use agent_core::sink::BoxFuture;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER};
use sinks::http::{Post, REQUEST_TIMEOUT, Reply, Transport};
use tokio::{
    sync::mpsc,
    task::spawn_local,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use wire::{api::INGEST_PATH, request};

use crate::{
    hub::Hub,
    random::Random,
    world::{World, agent_name},
};

/// Delay once nothing goes wrong any more.
const HEALED_DELAY_MAX: Duration = Duration::from_millis(20);

/// Between all agents and the hub.
pub(crate) struct Network {
    world: Rc<World>,
    hub: Rc<Hub>,
    random: RefCell<Random>,
    links: Vec<Link>,
    requests: Cell<u64>,
    /// Copies that have not come to their end.
    travelling: Cell<u64>,
}

/// One agent's way to the hub: until when it carries nothing.
struct Link {
    requests_cut: Cell<Instant>,
    replies_cut: Cell<Instant>,
}

/// What comes of a copy: a reply, or word that there will be none.
type Outcome = Result<Reply, String>;

/// One copy of a request on its way.
struct Copy {
    agent: usize,
    /// For the trace: number of the request, and of the copy.
    name: String,
    late: bool,
    post: Post,
    outcome: mpsc::UnboundedSender<Outcome>,
}

impl Network {
    pub(crate) fn new(world: &Rc<World>, hub: &Rc<Hub>) -> Rc<Self> {
        let now = Cell::new(Instant::now());
        let link = |_| Link { requests_cut: now.clone(), replies_cut: now.clone() };
        Rc::new(Self {
            world: Rc::clone(world),
            hub: Rc::clone(hub),
            random: RefCell::new(world.fork()),
            links: (0..world.agents()).map(link).collect(),
            requests: Cell::new(0),
            travelling: Cell::new(0),
        })
    }

    /// An agent's end of it.
    pub(crate) fn end_of(self: &Rc<Self>, agent: usize) -> impl Transport + 'static {
        End { network: Rc::clone(self), agent }
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.travelling.get() == 0
    }

    /// Cuts links now and then, in either direction or both, of one agent or of all.
    pub(crate) async fn part(self: Rc<Self>) {
        let plan = &self.world.plan.network;
        loop {
            let at = self.world.trouble_at(&mut self.random.borrow_mut(), plan.partition);
            let Some(at) = at else { return };
            sleep_until(at).await;
            let random = &mut *self.random.borrow_mut();
            let length = random.duration(Duration::from_secs(1), plan.partition_max);
            let until = (at + length).min(self.world.heals_at());
            let (requests, replies) = random.one_of(&[(true, true), (true, false), (false, true)]);
            let all = random.chance(0.5);
            let one = random.index(self.links.len());
            for (agent, link) in self.links.iter().enumerate().filter(|(n, _)| all || *n == one) {
                let cut = format!("cut for {length:?}, requests: {requests}, replies: {replies}");
                self.world.note(agent_name(agent), cut);
                let cut = |end: &Cell<Instant>| end.set(until.max(end.get()));
                if requests {
                    cut(&link.requests_cut);
                }
                if replies {
                    cut(&link.replies_cut);
                }
            }
        }
    }

    async fn exchange(self: &Rc<Self>, agent: usize, post: Post) -> Outcome {
        let number = self.requests.get() + 1;
        self.requests.set(number);
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let (outcome, mut outcomes) = mpsc::unbounded_channel();
        for copy in 0..self.copies() {
            let (outcome, post) = (outcome.clone(), post.clone());
            let what = if post.url.ends_with(INGEST_PATH) { "request" } else { "heartbeat" };
            let name = format!("{what} {number}{}", "'".repeat(copy));
            let copy = Copy { agent, name, late: copy > 0, post, outcome };
            self.travelling.set(self.travelling.get() + 1);
            spawn_local(Rc::clone(self).carry(copy));
        }
        drop(outcome);
        match timeout_at(deadline, outcomes.recv()).await {
            Ok(Some(outcome)) => return outcome,
            // Every copy is lost, which nobody says.
            Ok(None) => sleep_until(deadline).await,
            Err(_) => {}
        }
        self.world.note(agent_name(agent), format_args!("gives up request {number}"));
        Err("operation timed out".to_owned())
    }

    fn copies(&self) -> usize {
        let duplicate = self.world.plan.network.duplicate;
        let mut copies = 1;
        while copies < 4 && self.happens(duplicate) {
            copies += 1;
        }
        copies
    }

    async fn carry(self: Rc<Self>, copy: Copy) {
        let outcome = self.round_trip(&copy).await;
        let reset = self.random.borrow_mut().chance(self.world.plan.network.reset);
        let who = agent_name(copy.agent);
        match outcome {
            Ok(reply) => {
                self.world.note(who, format_args!("{}: reply {}", copy.name, reply.status));
                // Who sent it may be gone.
                let _ = copy.outcome.send(Ok(reply));
            }
            Err(why) => {
                self.world.note(who, format_args!("{}: {why}", copy.name));
                if reset {
                    let _ = copy.outcome.send(Err("connection reset".to_owned()));
                }
            }
        }
        self.travelling.set(self.travelling.get() - 1);
    }

    /// One copy there and its reply back; or how it was lost.
    async fn round_trip(&self, copy: &Copy) -> Result<Reply, &'static str> {
        let (plan, link) = (&self.world.plan.network, &self.links[copy.agent]);
        sleep(self.delay(copy.late)).await;
        if self.happens(plan.lose_request) || Instant::now() < link.requests_cut.get() {
            return Err("request lost");
        }
        let reply = match self.proxy(&copy.post) {
            Some(reply) => reply,
            None => self.hub.take(&copy.name, copy.post.clone()).await.ok_or("hub is down")?,
        };
        sleep(self.delay(false)).await;
        if self.happens(plan.lose_reply) || Instant::now() < link.replies_cut.get() {
            return Err("reply lost");
        }
        Ok(reply)
    }

    /// What stands before the hub refuses now and then, and what is too large always.
    fn proxy(&self, post: &Post) -> Option<Reply> {
        let plan = &self.world.plan.network;
        // One record is never too large.
        let is_too_large = plan.bytes_max.is_some_and(|most| {
            // The records, and not the body: its size depends on random identities.
            let records = request::decode(&post.body).map_or(Vec::new(), |request| request.records);
            let bytes: usize = records.iter().map(|record| record.bytes.len()).sum();
            records.len() > 1 && bytes > most
        });
        if is_too_large {
            return Some(refusal(StatusCode::PAYLOAD_TOO_LARGE, None));
        }
        if !self.happens(plan.refuse) {
            return None;
        }
        let random = &mut *self.random.borrow_mut();
        let status = random.one_of(&[
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
        ]);
        let after = random.chance(0.7).then(|| random.between(0, 90));
        Some(refusal(status, after))
    }

    /// Whether something goes wrong that does with this chance.
    fn happens(&self, chance: f64) -> bool {
        !self.world.is_healed() && self.random.borrow_mut().chance(chance)
    }

    fn delay(&self, is_late: bool) -> Duration {
        let plan = &self.world.plan.network;
        let is_late = is_late && self.random.borrow_mut().chance(0.5) || self.happens(plan.late);
        let most = match (is_late, self.world.is_healed()) {
            (true, _) => plan.late_max,
            (false, false) => plan.delay_max,
            (false, true) => HEALED_DELAY_MAX,
        };
        self.random.borrow_mut().duration(Duration::from_millis(1), most)
    }
}

/// An agent's end of the network.
struct End {
    network: Rc<Network>,
    agent: usize,
}

impl Transport for End {
    fn post(&self, request: Post) -> BoxFuture<'_, Outcome> {
        Box::pin(self.network.exchange(self.agent, request))
    }
}

/// As a proxy says it: no JSON.
fn refusal(status: StatusCode, retry_after_s: Option<u64>) -> Reply {
    let mut headers = HeaderMap::new();
    if let Some(seconds) = retry_after_s {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    Reply { status, headers, body: b"<html>no</html>".to_vec() }
}

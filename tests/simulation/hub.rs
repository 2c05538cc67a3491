//! The hub: everything of it but the socket, on a store that is killed and opened again.
//!
//! The store has threads of its own. Simulated time stands still while they work ([`Meanwhile`]).

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fs,
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    task::Poll,
    thread,
    time::Duration,
};

use axum::{
    Router,
    body::{self, Body},
    http::{Request, StatusCode, header},
    response::Response,
};
use server_lite::{
    api::{self, Hub as Answering},
    clock::Clock,
    ingest::Ingest,
    instances::Instances,
    query::{
        QueryLimits,
        expression::{Bounds, Expressions},
    },
    rules::{AlertStore, Rules},
    store::{
        Embedded, GapFilter, Host, Labels, LedgerReason, ReadRequest, Retention, Selector, Store,
        StoreError,
        embedded::{self, inspect},
    },
};
use settings::Secret;
use sinks::http::{Post, Reply};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, sleep_until},
};
use tower_service::Service as _;
use wire::api::{HEARD_HEADER, INGEST_PATH, IngestReply};

use crate::{
    book::{Name, Sample, sample_of},
    meanwhile::Meanwhile,
    random::Random,
    ticks,
    world::{World, agent_name, copy},
};

/// What agents and hub share.
pub(crate) const SECRET: &str = "known to both";
/// Samples are kept for longer than any run takes.
const KEEP: Retention = Retention::all(Duration::from_secs(30 * 24 * 60 * 60));
/// Beyond this age the hub seals what it has, however little: no run takes that long.
const HEAD_AGE_MS: i64 = 3 * 60 * 60 * 1_000;
const REPLY_BYTES_MAX: usize = 64 << 10;

/// The hub, running or not.
pub(crate) struct Hub {
    world: Rc<World>,
    random: RefCell<Random>,
    meanwhile: Meanwhile,
    /// Unix milliseconds, for the hub's threads.
    now_ms: Arc<AtomicI64>,
    /// Where requests go; nowhere while it is down.
    desk: RefCell<Option<mpsc::UnboundedSender<Waiting>>>,
    directory: RefCell<PathBuf>,
}

/// A request that waits for its reply.
struct Waiting {
    name: String,
    post: Post,
    reply: oneshot::Sender<Reply>,
}

impl Waiting {
    fn brings_records(&self) -> bool {
        self.post.url.ends_with(INGEST_PATH)
    }
}

/// How one life of the hub ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Stopped,
    Killed,
}

/// One life of the hub.
struct Life {
    store: Arc<dyn Store>,
    router: Router,
    sealed_samples: Cell<u64>,
    waiting: mpsc::UnboundedReceiver<Waiting>,
}

impl Hub {
    pub(crate) fn new(world: &Rc<World>) -> Rc<Self> {
        Rc::new(Self {
            world: Rc::clone(world),
            random: RefCell::new(world.fork()),
            meanwhile: Meanwhile::new(),
            now_ms: Arc::default(),
            desk: RefCell::default(),
            directory: RefCell::new(world.new_path("hub")),
        })
    }

    /// Takes a request; `None` if the hub is down, or goes down before it has answered.
    pub(crate) async fn take(&self, name: &str, post: Post) -> Option<Reply> {
        let (reply, replied) = oneshot::channel();
        let waiting = Waiting { name: name.to_owned(), post, reply };
        self.desk.borrow().as_ref()?.send(waiting).ok()?;
        replied.await.ok()
    }

    /// Lives, dies and lives again.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            let mut life = match self.open() {
                Ok(life) => life,
                Err(why) => return self.world.check("hub", Err(why)),
            };
            self.note("starts");
            self.look(&life);
            let end = self.live(&mut life).await;
            self.desk.take();
            self.note(format_args!("{end:?}"));
            if let Err(error) = self.end(life, end) {
                return self.world.check("hub", Err(format!("copy its files: {error}")));
            }
            let down_max = self.world.plan.hub.down_max;
            let down = self.random.borrow_mut().duration(Duration::from_millis(10), down_max);
            sleep(down).await;
        }
    }

    fn open(&self) -> Result<Life, String> {
        let directory = self.directory.borrow();
        let opened = Embedded::open(&embedded::Options::new(&directory));
        let store: Arc<dyn Store> = Arc::new(opened.map_err(|error| format!("opening: {error}"))?);
        let now_ms = Arc::clone(&self.now_ms);
        now_ms.store(self.world.now_ms(), Relaxed);
        let clock: Clock = Arc::new(move || now_ms.load(Relaxed));
        let memory_bytes = self.world.plan.hub.memory_bytes;
        let (presence, telemetry) = (Arc::default(), Arc::default());
        let instances = Arc::new(Instances::new(clock()));
        let (time_max, settings) = (Duration::from_secs(1), Default::default());
        let bounds = Bounds { settings, time_max, at_once: 1, waiting_max: 0 };
        let answering = Answering {
            ingest: Ingest::new(
                Arc::clone(&store),
                Arc::clone(&instances),
                Arc::clone(&presence),
                Arc::clone(&telemetry),
                Arc::clone(&clock),
                memory_bytes,
            ),
            store: Arc::clone(&store),
            instances,
            presence,
            telemetry,
            // Rules are not what this is about.
            alerts: AlertStore::open(Path::new(":memory:")).map_err(|error| error.to_string())?,
            rules: Rules::default(),
            rule_interval: Duration::from_secs(60),
            rule_metrics: Arc::default(),
            token: Some(Secret::new(SECRET)),
            query_limits: QueryLimits { series: 1_000, points: 1_000_000 },
            // Nor are questions.
            expressions: Expressions::new(Arc::clone(&store) as _, bounds),
            clock,
        };
        let (desk, waiting) = mpsc::unbounded_channel();
        self.desk.replace(Some(desk));
        let (router, sealed_samples) = (api::router(Arc::new(answering)), Cell::new(0));
        Ok(Life { store, router, sealed_samples, waiting })
    }

    async fn live(&self, life: &mut Life) -> End {
        let plan = &self.world.plan.hub;
        let end = self.world.trouble_at(&mut self.random.borrow_mut(), plan.life);
        let killed = self.random.borrow_mut().chance(plan.kill);
        let ended = async {
            match end {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = ended => if killed { End::Killed } else { End::Stopped },
            () = self.serve(life) => End::Killed,
        }
    }

    fn end(&self, life: Life, end: End) -> io::Result<()> {
        let old = self.directory.borrow().clone();
        if end == End::Killed {
            let new = self.world.new_path("hub");
            copy_database(&old, &new)?;
            self.directory.replace(new);
        } else {
            let store = Arc::clone(&life.store);
            self.run_now(async move { store.close().await });
        }
        drop(life);
        if end == End::Killed { fs::remove_dir_all(old) } else { Ok(()) }
    }

    /// Answers requests, those that come together in one go, until it is killed in between.
    async fn serve(&self, life: &mut Life) {
        let plan = &self.world.plan.hub;
        while let Some(first) = life.waiting.recv().await {
            if self.happens(plan.stall) {
                let stall = self.random.borrow_mut().duration(Duration::ZERO, plan.stall_max);
                sleep(stall).await;
            }
            let mut group = vec![first];
            while let Ok(more) = life.waiting.try_recv() {
                group.push(more);
            }
            self.random.borrow_mut().shuffle(&mut group);
            if self.happens(plan.kill_before_commit) {
                return self.note("dies before a commit");
            }
            let replies = self.answer(life, &group);
            if group.iter().any(Waiting::brings_records) {
                self.look(life);
            }
            self.compare(&group, &replies);
            let dies = self.happens(plan.kill_after_commit);
            let answered = self.random.borrow_mut().index(group.len());
            for (n, (waiting, reply)) in group.into_iter().zip(replies).enumerate() {
                if dies && n == answered {
                    return self.note("dies after a commit");
                }
                // Who waits may be gone.
                let _ = waiting.reply.send(reply);
            }
            self.keep_house(life);
        }
    }

    /// What the real hub answers to requests that come at one time.
    fn answer(&self, life: &Life, group: &[Waiting]) -> Vec<Reply> {
        let calls = group.iter().map(|waiting| {
            let call = life.router.clone().call(request(&waiting.post));
            Box::pin(async move {
                let response = call.await.unwrap_or_else(|never| match never {});
                reply(response).await
            })
        });
        self.run_now(all(calls.collect()))
    }

    /// Runs the hub's code at one moment.
    fn run_now<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.now_ms.store(self.world.now_ms(), Relaxed);
        self.meanwhile.run(work)
    }

    /// Asks the store something.
    fn ask<T: Send + 'static, A: Future<Output = T> + Send + 'static>(
        &self,
        life: &Life,
        ask: impl FnOnce(Arc<dyn Store>) -> A,
    ) -> T {
        self.run_now(ask(Arc::clone(&life.store)))
    }

    /// Notes what the store has committed, and that nothing is missing in between.
    fn look(&self, life: &Life) {
        self.settle(life);
        let agents = match self.ask(life, |store| async move { store.agents().await }) {
            Ok(agents) => agents,
            Err(error) => return self.world.check("hub", Err(format!("read agents: {error}"))),
        };
        for found in agents {
            let Some(agent) = self.world.agent_of(found.agent_id) else { continue };
            for stream in &found.streams {
                let noted = self.world.book(agent).committed(stream.stream_id, stream.acked_seq);
                self.world.check(agent_name(agent), noted);
            }
        }
        let gaps = self.ask(life, |store| async move { store.gaps(all_gaps()).await });
        let is_hole = |reason| !matches!(reason, LedgerReason::Agent(_));
        let hole = gaps.as_ref().map(|gaps| gaps.iter().find(|gap| is_hole(gap.reason)));
        match hole {
            Ok(None) => {}
            Ok(Some(hole)) => self.world.check("hub", Err(format!("a hole: {hole:?}"))),
            Err(error) => self.world.check("hub", Err(format!("read gaps: {error}"))),
        }
    }

    /// Waits for the sealer, a thread that goes on after an answer: a kill is to find the store in a state
    /// that the seed decides.
    fn settle(&self, life: &Life) {
        let mut stats = life.store.stats();
        while stats.sealing > 0 {
            thread::yield_now();
            stats = life.store.stats();
        }
        let before = life.sealed_samples.replace(stats.sealed_samples);
        if stats.sealed_samples > before {
            self.note(format_args!("sealed {} samples", stats.sealed_samples - before));
        }
    }

    /// What is answered against what is committed.
    fn compare(&self, group: &[Waiting], replies: &[Reply]) {
        for (waiting, reply) in group.iter().zip(replies) {
            let name = &waiting.name;
            // There is no clone, however late a dead process's word comes.
            let is_taken_for_two = reply.status == StatusCode::CONFLICT;
            let said = || Err(format!("{name}: {}", String::from_utf8_lossy(&reply.body)));
            self.world.check("hub", if is_taken_for_two { said() } else { Ok(()) });
            if !waiting.brings_records() {
                continue;
            }
            let Ok(told) = serde_json::from_slice::<IngestReply>(&reply.body) else {
                self.note(format_args!("{name}: {}", reply.status));
                continue;
            };
            let request = wire::request::decode(&waiting.post.body);
            let id = request.map(|request| request.header.agent_id);
            let Some(agent) = id.ok().and_then(|id| self.world.agent_of(id)) else { continue };
            let IngestReply { acked_seq, need_schemas, .. } = told;
            let need = need_schemas.len();
            self.note(format_args!("{name}: stored up to {acked_seq}, needs {need} schemas"));
            let checked = self.world.book(agent).answered(acked_seq, &need_schemas);
            self.world.check("hub", checked);
        }
    }

    fn keep_house(&self, life: &Life) {
        if self.happens(self.world.plan.hub.maintain) {
            self.note("keeps house");
            let seems_ms = self.world.now_ms() + self.random.borrow_mut().one_of(&[0, HEAD_AGE_MS]);
            let keep = |store: Arc<dyn Store>| async move { store.maintain(seems_ms, KEEP).await };
            let kept = self.ask(life, keep);
            self.world.check("hub", kept.map_err(|error| format!("keep house: {error}")));
            self.settle(life);
        }
    }

    /// Whether something goes wrong that does with this chance.
    fn happens(&self, chance: f64) -> bool {
        !self.world.is_healed() && self.random.borrow_mut().chance(chance)
    }

    fn note(&self, what: impl std::fmt::Display) {
        self.world.note("hub", what);
    }

    /// Compares everything that is stored with everything that was sent.
    pub(crate) fn audit(&self) -> Result<(), String> {
        let failed = |error: StoreError| format!("audit: {error}");
        let directory = self.world.new_path("audit");
        copy_database(&self.directory.borrow(), &directory)
            .map_err(|error| format!("copy for the audit: {error}"))?;
        let store = Embedded::open(&embedded::Options::new(&directory)).map_err(failed)?;
        let store: Arc<dyn Store> = Arc::new(store);
        let audits = inspect::audit(&directory).map_err(failed)?;
        for agent in 0..self.world.agents() {
            let book = self.world.book(agent);
            let host = Host::Agent(book.agent_id);
            let filter = GapFilter { host: Some(host.clone()), ..all_gaps() };
            let asked = Arc::clone(&store);
            let gaps = self.run_now(async move { asked.gaps(filter).await }).map_err(failed)?;
            book.ledger(&gaps)?;
            book.ended()?;
            let stored = |metric| stored(&directory, &host, metric).map_err(failed);
            let seqs: BTreeSet<u64> = stored(ticks::BASE)?.iter().map(|sample| sample.1).collect();
            let sent = book.samples(&gaps, |seq| seqs.contains(&seq))?;
            let id = book.agent_id.to_string();
            let audit = audits.iter().find(|audit| audit.agent_id == id);
            sent.audited(audit.unwrap_or(&inspect::Audit::default()))?;
            for metric in ticks::METRICS {
                sent.stored((metric, 0), &stored(metric)?)?;
                let read = read_back(Arc::clone(&store), host.clone(), metric);
                let read = self.run_now(read).map_err(failed)?;
                read.iter().try_for_each(|(name, samples)| sent.read_back(*name, samples))?;
            }
        }
        Ok(())
    }
}

const fn all_gaps() -> GapFilter {
    GapFilter { host: None, from_ms: i64::MIN, to_ms: i64::MAX, limit: 10_000 }
}

/// Every sample of a metric's first series, in the order in which it lies there: of the others an audit
/// counts what is double and out of order, which takes less time.
fn stored(directory: &Path, host: &Host, metric: &'static str) -> Result<Vec<Sample>, StoreError> {
    let mut found = Vec::new();
    let labels = Labels::from([("n".to_owned(), "0".to_owned())]);
    let selector = Selector::metric(metric).labelled(&labels).on(Some(host.clone()));
    inspect::samples(directory, &selector, |_, stored| {
        found.push(sample_of(stored));
        Ok(())
    })?;
    Ok(found)
}

/// The samples of all of a metric's series, as a query reads them.
async fn read_back(
    store: Arc<dyn Store>,
    host: Host,
    metric: &'static str,
) -> Result<Vec<(Name, Vec<(i64, f64)>)>, StoreError> {
    let series = store.series(Selector::metric(metric).on(Some(host))).await?;
    let ids = series.iter().map(|series| series.id).collect();
    let request = ReadRequest { series: ids, from_ms: i64::MIN, to_ms: i64::MAX };
    let samples = store.read(request).await?.collect(series.len()).await?;
    let number = |labels: &Labels| labels.get("n").and_then(|n| n.parse().ok());
    let names = series.iter().map(|series| (metric, number(&series.labels).unwrap_or(usize::MAX)));
    Ok(names.zip(samples).collect())
}

/// Copies a store that may be writing. Its write-ahead log is only appended to, until it begins anew,
/// which its header shows; what isn't committed is ignored when it is opened.
fn copy_database(from: &Path, to: &Path) -> io::Result<()> {
    let log = from.join("hub.sqlite-wal");
    let header = || fs::read(&log).map(|bytes| bytes.get(..32).map(<[u8]>::to_vec)).ok();
    loop {
        let before = header();
        copy(from, to)?;
        // Of the process that is gone.
        let _ = fs::remove_file(to.join("hub.sqlite-shm"));
        if header() == before {
            return Ok(());
        }
        fs::remove_dir_all(to)?;
    }
}

fn request(post: &Post) -> Request<Body> {
    let path = post.url.splitn(4, '/').nth(3).unwrap_or_default();
    let request = Request::post(format!("/{path}"))
        .header(header::CONTENT_TYPE, post.content_type)
        .header(header::CONTENT_LENGTH, post.body.len());
    let request = match &post.authorization {
        Some(authorization) => request.header(header::AUTHORIZATION, authorization),
        None => request,
    };
    let request = match post.heard {
        Some(word) => request.header(HEARD_HEADER, word.to_string()),
        None => request,
    };
    request.body(Body::from(post.body.clone())).unwrap()
}

async fn reply(response: Response) -> Reply {
    let (parts, body) = response.into_parts();
    let body = body::to_bytes(body, REPLY_BYTES_MAX).await.unwrap();
    Reply { status: parts.status, headers: parts.headers, body: body.to_vec() }
}

/// Polls all until all are done: they go on at one time.
fn all<F: Future>(mut futures: Vec<Pin<Box<F>>>) -> impl Future<Output = Vec<F::Output>> {
    let mut done: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, done) in futures.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                *done = Some(output);
            }
        }
        match done.iter().all(Option::is_some) {
            true => Poll::Ready(done.iter_mut().filter_map(Option::take).collect()),
            false => Poll::Pending,
        }
    })
}

use super::*;

const AGENT: AgentId = AgentId::from_bytes([9; 16]);
/// Long enough after the hub's start that it knows who is there.
const NOW_MS: i64 = 1_000_000;

/// What comes of something that is said.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// Let in, and known to be alone.
    Alone,
    /// Let in.
    In,
    /// Let in, known to be old.
    Old,
    /// Asked to come again.
    Unknown,
    Conflict,
}
use Then::{Alone, Conflict as Refuse, In, Old, Unknown};

/// A hub, and processes that hear it.
struct Scene {
    instances: Instances,
    /// By process: the latest word that it has got.
    heard: HashMap<u8, Word>,
}

fn caller(sent_ms: i64, instance: u8, heard: Option<Word>, host: &str) -> Caller<'_> {
    let instance_id = InstanceId::from_bytes([instance; 16]);
    Caller { agent_id: AGENT, instance_id, sent_ms, heard, host, addresses: &[] }
}

impl Scene {
    fn new() -> Self {
        Self { instances: Instances::new(0), heard: HashMap::new() }
    }

    /// A process says something at a time after [`NOW_MS`], which comes at once, and hears the answer.
    fn says(&mut self, at_ms: i64, instance: u8) -> Then {
        let heard = self.heard.get(&instance).copied();
        let then = self.comes(at_ms, instance, at_ms, heard);
        self.heard.insert(instance, self.instances.word());
        then
    }

    /// Something comes that was said then, when that word had been heard; nobody hears the answer.
    fn comes(&self, at_ms: i64, instance: u8, sent_ms: i64, heard: Option<Word>) -> Then {
        let host = format!("host-{instance}");
        match self.instances.admit(&caller(sent_ms, instance, heard, &host), NOW_MS + at_ms) {
            Ok(Admitted { is_late: true, .. }) => Old,
            Ok(Admitted { is_alone: true, .. }) => Alone,
            Ok(_) => In,
            Err(Refused::Unknown) => Unknown,
            Err(Refused::Conflict(_)) => Refuse,
        }
    }

    /// The hosts of the conflict that is shown at that time, the refused one first.
    fn shown(&self, at_ms: i64) -> Vec<String> {
        let conflict = self.instances.conflicts(NOW_MS + at_ms).remove(&AGENT);
        conflict.map_or_else(Vec::new, |conflict| {
            conflict.hosts.into_iter().map(|place| place.host).collect()
        })
    }
}

#[test]
fn what_had_come_before_something_was_said_is_known() {
    let scene = check(&[(0, 1, In), (1, 1, Alone)]);
    let admit = |heard| {
        let caller = caller(9, 1, heard, "host-1");
        scene.instances.admit(&caller, NOW_MS + 9).unwrap()
    };
    let first = admit(None);
    let told = scene.instances.word();
    let late = admit(scene.heard.get(&1).copied());
    let fresh = admit(Some(told));
    assert!(first.number < late.number && late.number < fresh.number);
    assert!(late.after < first.number && first.number < fresh.after && fresh.after < late.number);
    assert_eq!(first.after, 0);
}

/// Lets processes speak: at what time after [`NOW_MS`], which, and what comes of it.
fn check(calls: &[(i64, u8, Then)]) -> Scene {
    let mut scene = Scene::new();
    for (at_ms, instance, expected) in calls {
        let found = scene.says(*at_ms, *instance);
        assert_eq!(found, *expected, "process {instance} at {at_ms} ms of {calls:?}");
    }
    scene
}

#[test]
fn restarts_are_no_conflict() {
    let scene = check(&[
        (0, 1, In),
        (5_000, 1, Alone),
        // Within moments of the one before, and again, and after a while.
        (6_000, 2, Unknown),
        (7_000, 2, In),
        (8_000, 3, Unknown),
        (9_000, 3, In),
        (60_000, 3, Alone),
        (90_000, 4, In),
        (91_000, 4, Alone),
        (120_000, 4, Alone),
    ]);
    assert_eq!((scene.shown(120_000), scene.instances.begun()), (vec![], 0));
}

#[test]
fn the_second_of_two_that_run_is_refused() {
    let scene = check(&[
        (0, 1, In),
        (1_000, 1, Alone),
        (2_000, 2, Unknown),
        // It has not heard a word that was given after 2 had come.
        (6_000, 1, In),
        (7_000, 2, In),
        (11_000, 1, In),
        (12_000, 2, Refuse),
        (16_000, 1, In),
        (17_000, 2, Refuse),
    ]);
    assert_eq!(scene.shown(17_000), ["host-2", "host-1"]);
    assert_eq!(scene.instances.begun(), 1, "once for all requests");
    assert_eq!(scene.instances.conflicts(NOW_MS + 17_000)[&AGENT].since_ms, NOW_MS + 12_000);
    // Also when it took over before the first had come again.
    check(&[
        (0, 1, In),
        (1_000, 2, Unknown),
        (2_000, 2, In),
        (3_000, 1, Unknown),
        (4_000, 1, In),
        (5_000, 2, Refuse),
    ]);
}

#[test]
fn a_conflict_fades() {
    let calls = [(0, 1, In), (1, 2, Unknown), (2, 1, In), (3, 1, In), (4, 2, Refuse)];
    let scene = check(&calls);
    assert_eq!(scene.shown(4), ["host-2", "host-1"]);
    assert_eq!(scene.shown(4 + FADE_MS), [""; 0]);
}

#[test]
fn when_the_other_has_gone_the_refused_one_is_let_in() {
    let scene = check(&[
        (0, 1, In),
        (1_000, 2, Unknown),
        (2_000, 1, In),
        (3_000, 1, In),
        (4_000, 2, Refuse),
        (22_999, 2, Refuse),
        (23_000, 2, Alone),
        (28_000, 2, Alone),
        // And it comes back: it was there first.
        (29_000, 1, In),
        (33_000, 2, Refuse),
    ]);
    assert_eq!(scene.shown(33_000), ["host-2", "host-1"]);
}

#[test]
fn a_restart_of_the_first_leaves_the_second_refused() {
    check(&[
        (0, 1, In),
        (1_000, 2, Unknown),
        (2_000, 1, In),
        (3_000, 1, In),
        (4_000, 2, Refuse),
        (5_000, 3, Unknown),
        (6_000, 2, Refuse),
        (7_000, 3, In),
        (8_000, 2, Refuse),
        (9_000, 3, In),
    ]);
}

#[test]
fn what_was_late_on_the_way_is_no_conflict() {
    let mut scene = check(&[(0, 1, In), (5_000, 1, Alone)]);
    let old = scene.heard[&1];
    // Of the process that speaks: only its word on its log is old. The same twice is as new as it was.
    assert_eq!(scene.comes(6_000, 1, 0, None), Old);
    assert_eq!(scene.comes(6_000, 1, 5_000, None), Alone);
    // Of one that is gone: copies, and what had never come, however much of it.
    assert_eq!(scene.says(7_000, 2), Unknown);
    assert_eq!(scene.says(8_000, 2), In);
    for at_ms in 0..10 {
        assert_eq!(scene.comes(9_000 + at_ms, 1, 0, None), Unknown);
        assert_eq!(scene.comes(9_000 + at_ms, 1, 5_500 + at_ms, Some(old)), Unknown);
        assert_eq!(
            scene.comes(9_000 + at_ms, 7, at_ms, None),
            Unknown,
            "forgotten, or never heard of"
        );
    }
    assert_eq!(scene.says(12_000, 2), In);
    // Also when the one that speaks is silent: a copy isn't let in, and what is takes nothing from it.
    assert_eq!(scene.comes(60_000, 1, 5_500, Some(old)), Unknown);
    assert_eq!(scene.comes(61_000, 1, 5_600, Some(old)), In);
    assert_eq!(scene.says(62_000, 2), In);
    assert_eq!(scene.instances.begun(), 0);
}

#[test]
fn another_hubs_word_says_nothing() {
    let scene = check(&[(0, 1, In)]);
    let mine = scene.heard[&1];
    for word in [Word { hub: !mine.hub, ..mine }, Word { n: u64::MAX, ..mine }] {
        assert_eq!(scene.comes(1_000, 1, 1, Some(word)), In, "not known to run: {word}");
    }
    assert_eq!(scene.comes(1_000, 1, 1, Some(mine)), Alone);
}

#[test]
fn one_whose_records_are_not_those_stored_gives_way() {
    let mut scene = check(&[(0, 1, In), (500, 1, Alone), (1_000, 2, Unknown), (2_000, 2, In)]);
    let reason = || "record 7 is stored already".to_owned();
    let second = |scene: &Scene, at_ms| {
        let caller = caller(at_ms, 2, scene.heard.get(&2).copied(), "host-2");
        scene.instances.diverged(&caller, reason(), NOW_MS + at_ms)
    };
    let said = second(&scene, 2_000).to_string();
    for expected in [
        "09090909-0909-0909-0909-090909090909 is in use with another log on host host-1",
        "record 7 is stored already: stop this agent, delete the file `agent-id`",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(scene.says(3_000, 1), In, "it speaks, and need not show that it runs");
    let refused = caller(4_000, 2, Some(scene.heard[&2]), "host-2");
    let refused = scene.instances.admit(&refused, NOW_MS + 4_000).unwrap_err().to_string();
    let expected = "by another process on host host-1: stop one of the two agents, delete";
    assert!(refused.contains(expected), "{refused}");
    assert_eq!(scene.shown(4_000), ["host-2", "host-1"]);
    assert_eq!(scene.instances.begun(), 1);

    // With nobody else there, it stays who speaks, and is told all the same.
    let mut scene = check(&[(0, 1, In), (60_000, 2, In)]);
    assert_eq!(second(&scene, 60_000).evidence, Evidence::Records(reason(), None));
    assert_eq!(scene.says(61_000, 2), Alone);
    assert_eq!(scene.shown(61_000), ["host-2"]);
}

#[test]
fn a_hub_that_has_just_started_takes_nobody_to_be_alone() {
    let mut scene = Scene { instances: Instances::new(NOW_MS), heard: HashMap::new() };
    let found: Vec<Then> = [0, SILENT_MS - 1, SILENT_MS].map(|at_ms| scene.says(at_ms, 1)).into();
    assert_eq!(found, [In, In, Alone]);
}

#[test]
fn addresses_are_told_once_they_are_known() {
    let mut scene = check(&[(0, 1, In), (1, 1, Alone)]);
    let addresses: Vec<String> = (1..=5).map(|n| format!("10.0.0.{n}")).collect();
    let first = Caller { addresses: &addresses, ..caller(2, 1, Some(scene.heard[&1]), "web-1") };
    scene.instances.admit(&first, NOW_MS).unwrap();
    let found = [scene.says(3, 2), scene.says(4, 1), scene.says(5, 1)];
    assert_eq!(found, [Unknown, In, In]);
    let second = caller(6, 2, Some(scene.heard[&2]), "web-2");
    let refused = scene.instances.admit(&second, NOW_MS).unwrap_err().to_string();
    let expected = "on host host-1 (10.0.0.1, 10.0.0.2, 10.0.0.3): stop";
    assert!(refused.contains(expected), "{refused}");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut scene = Scene::new();
    // A template with the identity in it, started a hundred times: one goes on.
    assert_eq!(scene.says(0, 0), In);
    for round in 1..4_i64 {
        let others = (1..100).map(|instance| scene.says(round * 1_000, instance));
        assert!(others.collect::<Vec<_>>().iter().all(|then| [Unknown, Refuse].contains(then)));
        let first = [scene.says(round * 1_000, 0), scene.says(round * 1_000 + 1, 0)];
        assert_eq!(first, [In, In], "round {round}");
    }
    // One that is started again and again.
    let mut scene = Scene::new();
    for instance in 0..100 {
        let at_ms = i64::from(instance) * 100;
        scene.says(at_ms, instance);
        assert_eq!(scene.says(at_ms + 50, instance), if instance == 0 { Alone } else { In });
    }

    let mut agents: HashMap<_, _> = (0..AGENTS_MAX as u128)
        .map(|n| {
            let agent_id = AgentId::from_bytes(n.to_be_bytes());
            let caller = Caller { agent_id, ..caller(0, 1, None, "h") };
            (agent_id, Speakers::new(&caller, 1, i64::from(n % 2 == 0) * SILENT_MS))
        })
        .collect();
    make_room(&mut agents, AgentId::from_bytes([0; 16]), SILENT_MS);
    assert_eq!(agents.len(), AGENTS_MAX, "one that is known needs no room");
    make_room(&mut agents, AGENT, SILENT_MS);
    assert_eq!(agents.len(), AGENTS_MAX / 2);
}

mod model;

use super::*;

const AGENT: AgentId = AgentId::from_bytes([9; 16]);
/// Long enough after the hub's start that it knows who is there.
const NOW_MS: i64 = 1_000_000;

/// Says something by a right clock at that time, in milliseconds after [`NOW_MS`].
fn caller(at_ms: i64, instance: u8, host: &str) -> Caller<'_> {
    let (instance_id, sent_ms) = (InstanceId::from_bytes([instance; 16]), NOW_MS + at_ms);
    Caller { agent_id: AGENT, instance_id, sent_ms, host, addresses: &[] }
}

/// Lets instances call at times in milliseconds after [`NOW_MS`]: whether each is let in and, if so,
/// is alone.
fn check(calls: &[(i64, u8, Option<bool>)]) -> Instances {
    let instances = Instances::new(0);
    for (at_ms, instance, expected) in calls {
        let host = format!("host-{instance}");
        let found = instances.admit(&caller(*at_ms, *instance, &host), NOW_MS + at_ms);
        let found = found.ok().map(|admitted| admitted.is_alone);
        assert_eq!(found, *expected, "instance {instance} at {at_ms} ms of {calls:?}");
    }
    instances
}

/// The hosts of the conflict that is shown at that time, the refused one first.
fn shown(instances: &Instances, at_ms: i64) -> Vec<String> {
    let conflict = instances.conflicts(NOW_MS + at_ms).remove(&AGENT);
    conflict.map_or_else(Vec::new, |conflict| {
        conflict.hosts.into_iter().map(|place| place.host).collect()
    })
}

#[test]
fn restarts_are_no_conflict() {
    let instances = check(&[
        (0, 1, Some(true)),
        (5_000, 1, Some(true)),
        // within moments of the one before, and again, and after a while
        (6_000, 2, Some(false)),
        (7_000, 3, Some(false)),
        (8_000, 3, Some(false)),
        (60_000, 3, Some(true)),
        (90_000, 4, Some(true)),
    ]);
    assert_eq!((shown(&instances, 90_000), instances.begun()), (vec![], 0));
}

#[test]
fn one_that_was_taken_over_from_is_refused_while_the_other_is_there() {
    let instances = check(&[
        (0, 1, Some(true)),
        (1_000, 2, Some(false)),
        (1_500, 2, Some(false)),
        (5_000, 1, None),
        (6_000, 2, Some(false)),
        (10_000, 1, None),
        (20_000, 2, Some(false)),
        (21_000, 1, None),
    ]);
    assert_eq!(shown(&instances, 21_000), ["host-1", "host-2"]);
    assert_eq!(instances.begun(), 1, "once for all requests");
    assert_eq!(instances.conflicts(NOW_MS + 21_000)[&AGENT].since_ms, NOW_MS + 5_000);
}

#[test]
fn a_conflict_fades() {
    let instances = check(&[
        (0, 1, Some(true)),
        (1_000, 2, Some(false)),
        (1_500, 2, Some(false)),
        (2_000, 1, None),
    ]);
    assert_eq!(shown(&instances, 2_000), ["host-1", "host-2"]);
    assert_eq!(shown(&instances, 2_000 + FADE_MS), [""; 0]);
    // Not even when the one that runs has been silent: one request is nobody who is there.
    check(&[
        (0, 1, Some(true)),
        (1_000, 2, Some(false)),
        (1_500, 2, Some(false)),
        (60_000, 1, None),
        (61_000, 2, Some(false)),
    ]);
    check(&[
        (0, 1, Some(true)),
        (1_000, 2, Some(false)),
        (1_500, 2, Some(false)),
        (2_000, 1, None),
        (2_000 + FADE_MS, 1, None),
        (3_000 + FADE_MS, 2, Some(false)),
    ]);
}

/// What comes of something that is heard later than it was said.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// Let in as if it had come at once.
    In,
    /// Let in, known to be old.
    Old,
    /// To be asked again.
    Late,
    Conflict,
}

/// Lets instances call: when it is heard, who, when it was said.
fn check_late(calls: &[(i64, u8, i64, Then)]) {
    let instances = Instances::new(0);
    for (at_ms, instance, said_ms, expected) in calls {
        let found = match instances.admit(&caller(*said_ms, *instance, "h"), NOW_MS + at_ms) {
            Ok(Admitted { is_late: true, .. }) => Then::Old,
            Ok(Admitted { is_late: false, .. }) => Then::In,
            Err(Refused::Late) => Then::Late,
            Err(Refused::Conflict(_)) => Then::Conflict,
        };
        assert_eq!(found, *expected, "instance {instance} at {at_ms} ms of {calls:?}");
    }
    let conflicts = calls.iter().filter(|call| call.3 == Then::Conflict).count();
    assert_eq!(instances.begun(), conflicts.min(1) as u64, "{calls:?}");
}

#[test]
fn what_was_late_on_the_way_is_no_conflict() {
    use Then::{Conflict, In, Late, Old};
    // Of the process that speaks: only its word on its log is old. The same twice is as new as it was.
    check_late(&[(0, 1, 0, In), (5_000, 1, 5_000, In), (6_000, 1, 0, Old), (7_000, 1, 5_000, In)]);
    // Of one that is gone: said before what was heard of it, or before the one after it had begun.
    let restarted = [(0, 1, 0, In), (1_000, 2, 1_000, In)];
    check_late(&[restarted[0], restarted[1], (1_100, 1, 0, Late), (1_200, 1, 900, Late)]);
    // Also when the one that speaks is silent for a while: it isn't let in for that.
    check_late(&[
        restarted[0],
        restarted[1],
        (60_000, 1, 0, Late),
        (61_000, 1, 0, Late),
        (62_000, 2, 62_000, In),
    ]);
    // Of one that is forgotten: it seems to take over, until the one that speaks goes on.
    check_late(&[
        (0, 2, 0, In),
        (5_000, 2, 5_000, In),
        (6_000, 1, -60_000, In),
        (10_000, 2, 10_000, In),
        (11_000, 1, -60_000, Late),
        (12_000, 1, -50_000, Late),
        (15_000, 2, 15_000, In),
    ]);
    // What goes on in both is one.
    check_late(&[
        (0, 2, 0, In),
        (1_000, 1, 1_000, In),
        (2_000, 2, 2_000, In),
        (3_000, 1, 3_000, Conflict),
        (4_000, 2, 4_000, In),
    ]);
}

#[test]
fn a_clock_that_was_set_back_is_no_conflict() {
    use Then::{Conflict, In, Late, Old};
    // By a restarted process, or while it runs.
    check_late(&[
        (0, 1, 0, In),
        (5_000, 2, -600_000, In),
        (6_000, 2, -599_000, In),
        (7_000, 2, -700_000, Old),
    ]);
    // Forgotten, its last process late on the way: it is asked to come again, and soon let in.
    check_late(&[
        (0, 2, -600_000, In),
        (1_000, 1, 0, In),
        (2_000, 2, -598_000, Late),
        (15_999, 2, -590_000, Late),
        (16_000, 2, -584_000, In),
    ]);
    // Another host that runs with a clock behind is told once the clocks have met.
    check_late(&[
        (0, 1, -3_000, In),
        (1_000, 2, 1_000, In),
        (1_500, 2, 1_500, In),
        (2_000, 1, -1_000, Late),
        (5_000, 2, 5_000, In),
        (6_000, 1, 3_000, Conflict),
    ]);
}

#[test]
fn when_the_other_has_gone_the_refused_one_is_let_in() {
    let instances = check(&[
        (0, 1, Some(true)),
        (1_000, 2, Some(false)),
        (1_500, 2, Some(false)),
        (5_000, 1, None),
        (10_000, 1, None),
        (16_499, 1, None),
        (16_500, 1, Some(true)),
        (20_000, 1, Some(true)),
        // and it comes back
        (21_000, 2, None),
        (22_000, 1, Some(false)),
    ]);
    assert_eq!(shown(&instances, 22_000), ["host-2", "host-1"]);
    // A restart of either takes over.
    check(&[
        (0, 1, Some(true)),
        (1_000, 2, Some(false)),
        (1_500, 2, Some(false)),
        (2_000, 1, None),
        (3_000, 3, Some(false)),
    ]);
}

#[test]
fn one_whose_records_are_not_those_stored_gives_way() {
    let instances = check(&[
        (0, 1, Some(true)),
        (1_000, 2, Some(false)),
        (1_500, 2, Some(false)),
        (2_000, 1, None),
    ]);
    let reason = || "record 7 is stored already".to_owned();
    let second = |at_ms| caller(at_ms, 2, "host-2");
    let conflict = instances.diverged(&second(3_000), reason(), NOW_MS + 3_000);
    let said = conflict.to_string();
    for expected in [
        "09090909-0909-0909-0909-090909090909 is in use with another log on host host-1",
        "record 7 is stored already: stop this agent, delete the file `agent-id`",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    assert!(instances.admit(&caller(4_000, 1, "host-1"), NOW_MS + 4_000).is_ok());
    let refused = instances.admit(&second(5_000), NOW_MS + 5_000).unwrap_err().to_string();
    let expected = "by another process on host host-1: stop one of the two agents, delete";
    assert!(refused.contains(expected), "{refused}");
    assert_eq!(shown(&instances, 5_000), ["host-2", "host-1"]);
    assert_eq!(instances.begun(), 1);

    // With nobody else there, it stays who speaks, and is told all the same.
    let instances = check(&[(0, 1, Some(true)), (60_000, 2, Some(true))]);
    let conflict = instances.diverged(&second(60_000), reason(), NOW_MS + 60_000);
    assert_eq!(conflict.evidence, Evidence::Records(reason(), None));
    assert!(instances.admit(&second(61_000), NOW_MS + 61_000).unwrap().is_alone);
    assert_eq!(shown(&instances, 61_000), ["host-2"]);
}

#[test]
fn a_hub_that_has_just_started_takes_nobody_to_be_alone() {
    let instances = Instances::new(NOW_MS);
    let admit = |at_ms| instances.admit(&caller(at_ms, 1, "h"), NOW_MS + at_ms).unwrap().is_alone;
    assert!(!admit(0) && !admit(SILENT_MS - 1) && admit(SILENT_MS));
}

#[test]
fn addresses_are_told_once_they_are_known() {
    let instances = Instances::new(0);
    let addresses: Vec<String> = (1..=5).map(|n| format!("10.0.0.{n}")).collect();
    let second = Caller { addresses: &addresses, ..caller(1, 2, "web-2") };
    instances.admit(&caller(0, 1, "web-1"), NOW_MS).unwrap();
    instances.admit(&second, NOW_MS).unwrap();
    instances.admit(&caller(2, 2, "web-2"), NOW_MS).unwrap();
    let refused = instances.admit(&caller(3, 1, "web-1"), NOW_MS).unwrap_err().to_string();
    assert!(refused.contains("on host web-2 (10.0.0.1, 10.0.0.2, 10.0.0.3): stop"), "{refused}");
}

#[test]
fn what_is_remembered_is_bounded() {
    let instances = Instances::new(0);
    let admit =
        |instance, at_ms| instances.admit(&caller(at_ms, instance, "h"), NOW_MS + at_ms).is_ok();
    // A template with the identity in it, started a hundred times.
    let first = (0..=OTHERS_MAX as u8).filter(|instance| admit(*instance, 0)).count();
    assert_eq!(first, OTHERS_MAX + 1);
    assert!((10..100).all(|instance| !admit(instance, 1)), "no room for more of them");
    assert!(admit(OTHERS_MAX as u8, 2), "and one can go on");
    assert!(admit(100, SILENT_MS), "those that have gone make room");

    let mut agents: HashMap<_, _> = (0..AGENTS_MAX as u128)
        .map(|n| {
            let agent_id = AgentId::from_bytes(n.to_be_bytes());
            let caller = Caller { agent_id, ..caller(0, 1, "h") };
            (agent_id, Speakers::of(Speaker::new(&caller, i64::from(n % 2 == 0) * SILENT_MS)))
        })
        .collect();
    make_room(&mut agents, AgentId::from_bytes([0; 16]), SILENT_MS);
    assert_eq!(agents.len(), AGENTS_MAX, "one that is known needs no room");
    make_room(&mut agents, AGENT, SILENT_MS);
    assert_eq!(agents.len(), AGENTS_MAX / 2);
}

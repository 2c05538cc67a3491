use super::*;

const AGENT: AgentId = AgentId::from_bytes([9; 16]);
/// Long enough after the hub's start that it knows who is there.
const NOW_MS: i64 = 1_000_000;

fn caller(instance: u8, host: &str) -> Caller<'_> {
    let instance_id = InstanceId::from_bytes([instance; 16]);
    Caller { agent_id: AGENT, instance_id, host, addresses: &[] }
}

/// Lets instances call at times in milliseconds after [`NOW_MS`]: whether each is let in and, if so,
/// is alone.
fn check(calls: &[(i64, u8, Option<bool>)]) -> Instances {
    let instances = Instances::new(0);
    for (at_ms, instance, expected) in calls {
        let host = format!("host-{instance}");
        let found = instances.admit(&caller(*instance, &host), NOW_MS + at_ms);
        assert_eq!(found.ok(), *expected, "instance {instance} at {at_ms} ms of {calls:?}");
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
fn a_late_request_of_a_process_that_is_gone_fades() {
    let instances = check(&[(0, 1, Some(true)), (1_000, 2, Some(false)), (2_000, 1, None)]);
    assert_eq!(shown(&instances, 2_000), ["host-1", "host-2"]);
    assert_eq!(shown(&instances, 2_000 + FADE_MS), [""; 0]);
    // Not even when the one that runs has been silent: one request is nobody who is there.
    check(&[
        (0, 1, Some(true)),
        (1_000, 2, Some(false)),
        (60_000, 1, None),
        (61_000, 2, Some(false)),
    ]);
    check(&[
        (0, 1, Some(true)),
        (1_000, 2, Some(false)),
        (2_000, 1, None),
        (2_000 + FADE_MS, 1, None),
        (3_000 + FADE_MS, 2, Some(false)),
    ]);
}

#[test]
fn when_the_other_has_gone_the_refused_one_is_let_in() {
    let instances = check(&[
        (0, 1, Some(true)),
        (1_000, 2, Some(false)),
        (5_000, 1, None),
        (10_000, 1, None),
        (15_999, 1, None),
        (16_000, 1, Some(true)),
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
        (2_000, 1, None),
        (3_000, 3, Some(false)),
    ]);
}

#[test]
fn one_whose_records_are_not_those_stored_gives_way() {
    let instances = check(&[(0, 1, Some(true)), (1_000, 2, Some(false)), (2_000, 1, None)]);
    let reason = || "record 7 is stored already".to_owned();
    let second = caller(2, "host-2");
    let conflict = instances.diverged(&second, reason(), NOW_MS + 3_000);
    let said = conflict.to_string();
    for expected in [
        "09090909-0909-0909-0909-090909090909 is in use with another log on host host-1",
        "record 7 is stored already: stop this agent, delete the file `agent-id`",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    assert!(instances.admit(&caller(1, "host-1"), NOW_MS + 4_000).is_ok());
    let refused = instances.admit(&second, NOW_MS + 5_000).unwrap_err().to_string();
    let expected = "by another process on host host-1: stop one of the two agents, delete";
    assert!(refused.contains(expected), "{refused}");
    assert_eq!(shown(&instances, 5_000), ["host-2", "host-1"]);
    assert_eq!(instances.begun(), 1);

    // With nobody else there, it stays who speaks, and is told all the same.
    let instances = check(&[(0, 1, Some(true)), (60_000, 2, Some(true))]);
    let conflict = instances.diverged(&second, reason(), NOW_MS + 60_000);
    assert_eq!(conflict.evidence, Evidence::Records(reason(), None));
    assert!(instances.admit(&second, NOW_MS + 61_000).unwrap());
    assert_eq!(shown(&instances, 61_000), ["host-2"]);
}

#[test]
fn a_hub_that_has_just_started_takes_nobody_to_be_alone() {
    let instances = Instances::new(NOW_MS);
    let admit = |at_ms| instances.admit(&caller(1, "h"), NOW_MS + at_ms).unwrap();
    assert!(!admit(0) && !admit(SILENT_MS - 1) && admit(SILENT_MS));
}

#[test]
fn addresses_are_told_once_they_are_known() {
    let instances = Instances::new(0);
    let addresses: Vec<String> = (1..=5).map(|n| format!("10.0.0.{n}")).collect();
    let second = Caller { addresses: &addresses, ..caller(2, "web-2") };
    instances.admit(&caller(1, "web-1"), NOW_MS).unwrap();
    instances.admit(&second, NOW_MS).unwrap();
    instances.admit(&caller(2, "web-2"), NOW_MS).unwrap();
    let refused = instances.admit(&caller(1, "web-1"), NOW_MS).unwrap_err().to_string();
    assert!(refused.contains("on host web-2 (10.0.0.1, 10.0.0.2, 10.0.0.3): stop"), "{refused}");
}

#[test]
fn what_is_remembered_is_bounded() {
    let instances = Instances::new(0);
    let admit = |instance, at_ms| instances.admit(&caller(instance, "h"), NOW_MS + at_ms).is_ok();
    // A template with the identity in it, started a hundred times.
    let first = (0..=OTHERS_MAX as u8).filter(|instance| admit(*instance, 0)).count();
    assert_eq!(first, OTHERS_MAX + 1);
    assert!((10..100).all(|instance| !admit(instance, 1)), "no room for more of them");
    assert!(admit(OTHERS_MAX as u8, 2), "and one can go on");
    assert!(admit(100, SILENT_MS), "those that have gone make room");

    let mut agents: HashMap<_, _> = (0..AGENTS_MAX as u128)
        .map(|n| {
            let agent_id = AgentId::from_bytes(n.to_be_bytes());
            let caller = Caller { agent_id, ..caller(1, "h") };
            (agent_id, Speakers::of(Speaker::new(&caller, i64::from(n % 2 == 0) * SILENT_MS)))
        })
        .collect();
    make_room(&mut agents, AgentId::from_bytes([0; 16]), SILENT_MS);
    assert_eq!(agents.len(), AGENTS_MAX, "one that is known needs no room");
    make_room(&mut agents, AGENT, SILENT_MS);
    assert_eq!(agents.len(), AGENTS_MAX / 2);
}

//! Processes that beat over a network that delays, doubles and loses, before a hub that restarts:
//! without a clone nobody is ever refused, and a clone always is, soon.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const BEAT_MS: i64 = 5_000;

/// A process: from when to when it runs.
#[derive(Clone, Copy, Debug)]
struct Process {
    from_ms: i64,
    to_ms: i64,
}

/// What the network does to a message, for each of its copies: how late it comes, if it does, and
/// whether the answer is heard.
type Fate = Vec<(u32, bool)>;

/// When it comes, and how often something came before: which process, when it was said, with what
/// heard, and whether the answer is.
type Travelling = BTreeMap<(i64, usize), (u8, i64, Option<Word>, bool)>;

/// Lets them beat; returns the times at which each was refused.
fn run(processes: &[Process], fates: &[Fate], hub_restarts: &[i64]) -> Vec<Vec<i64>> {
    let end_ms = processes.iter().map(|one| one.to_ms).max().unwrap_or(0);
    let mut scene = Scene::new();
    let (mut travelling, mut count) = (Travelling::new(), 0);
    let mut refused = vec![Vec::new(); processes.len()];
    for now_ms in (0..end_ms + 700_000).step_by(100) {
        if hub_restarts.contains(&now_ms) {
            scene.instances = Instances::new(NOW_MS + now_ms);
        }
        while let Some(((at_ms, _), _)) = travelling.first_key_value()
            && *at_ms <= now_ms
        {
            let Some((_, (instance, sent_ms, heard, is_answered))) = travelling.pop_first() else {
                break;
            };
            if scene.comes(now_ms, instance, sent_ms, heard) == Refuse {
                refused[usize::from(instance)].push(now_ms);
            }
            let word = scene.instances.word();
            if is_answered && now_ms < processes[usize::from(instance)].to_ms {
                scene.heard.insert(instance, word);
            }
        }
        for (instance, process) in (0..).zip(processes) {
            let beats = (process.from_ms..process.to_ms).contains(&now_ms)
                && (now_ms - process.from_ms) % BEAT_MS == 0;
            let fate = &fates[count % fates.len()];
            for (late_ms, is_answered) in fate.iter().filter(|_| beats) {
                count += 1;
                let heard = scene.heard.get(&instance).copied();
                let at_ms = now_ms + i64::from(*late_ms);
                travelling.insert((at_ms, count), (instance, now_ms, heard, *is_answered));
            }
            count += usize::from(beats);
        }
    }
    refused
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let late_ms = prop_oneof![4 => 0..500_u32, 1 => 0..600_000_u32];
    let copy = (late_ms, proptest::bool::weighted(0.7));
    let fate = proptest::collection::vec(copy, 0..3);
    proptest::collection::vec(fate, 1..60)
}

/// Processes one after the other.
fn lives() -> impl Strategy<Value = Vec<Process>> {
    let life = (1..600_i64, prop_oneof![0..20_i64, 0..600_i64]);
    proptest::collection::vec(life, 1..8).prop_map(|lives| {
        let mut now_ms = 0;
        let life = |(runs, down): (i64, i64)| {
            let from_ms = now_ms;
            now_ms += (runs + down) * 100;
            Process { from_ms, to_ms: from_ms + runs * 100 }
        };
        lives.into_iter().map(life).collect()
    })
}

fn hub_restarts() -> impl Strategy<Value = Vec<i64>> {
    let at_ms = (0..5_000_i64).prop_map(|tenth| tenth * 100);
    proptest::collection::vec(at_ms, 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn without_a_clone_nobody_is_refused(
        lives in lives(), fates in fates(), hub_restarts in hub_restarts()
    ) {
        let refused = run(&lives, &fates, &hub_restarts);
        prop_assert!(refused.iter().all(Vec::is_empty), "{refused:?}");
    }

    /// Delays of less than half a second, and nothing lost: the one that is first heard of never is
    /// refused; the other is within three beats, and again and again.
    #[test]
    fn a_clone_is_refused_soon(after in 1..600_i64, late in proptest::collection::vec(0..500_u32, 1..9)) {
        let (from_ms, to_ms) = (after * 100, after * 100 + 60_000);
        // Of two that begin at nearly the same time, the second may be heard of first; a beat and its
        // copy count two.
        let first_late_ms = i64::from(late[0]);
        let second_late_ms = i64::from(late[2 % late.len()]);
        let (first, second) = if first_late_ms <= from_ms + second_late_ms { (0, 1) } else { (1, 0) };
        let fates: Vec<Fate> = late.into_iter().map(|late_ms| vec![(late_ms, true)]).collect();
        let refused = run(&[Process { from_ms: 0, to_ms }, Process { from_ms, to_ms }], &fates, &[]);
        let first_ms = refused[second].first().copied().unwrap_or(i64::MAX);
        prop_assert!(first_ms <= from_ms + 3 * BEAT_MS + 500, "{refused:?}");
        prop_assert!(refused[first].is_empty() && refused[second].len() >= 8, "{refused:?}");
    }
}

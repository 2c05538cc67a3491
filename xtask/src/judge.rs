//! Holds what a hub has stored against a witness: what the agent itself said is durable.
//!
//! A tick is named by its number and its time. What the agent said is durable has to be in the store,
//! once and in order. What is in the store must have been said, with one exception: an agent that is
//! killed between the write and the word leaves one durable record that nobody heard of. So each life
//! that ended by a kill explains at most one more tick, taken in that life and after its last word.
//!
//! Where ticks fell out because the agent was dead, the ledger has to say so once, from the tick
//! before to the tick after.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::AddAssign,
    time::Duration,
};

use crate::{
    programs::{Durable, Life, millis},
    store::{Audit, StoredTick, ToldGap},
};

/// What was found of one agent, or of several together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Ticks that the agent said are durable, or that a kill kept it from saying so.
    pub expected: usize,
    /// Of these, the ones in the store.
    pub stored: usize,
    /// Of these, the ones not in the store.
    pub lost: usize,
    /// Samples in the store that are there already, over every series.
    pub doubled: usize,
    /// Samples in the store after a later one of their series, over every series.
    pub out_of_order: usize,
    /// Ticks in the store that nobody said are durable and no kill explains.
    pub unexplained: usize,
    /// Of those expected, the ones that were durable, and the agent killed before it could say so.
    pub unheard: usize,
    /// Ticks that fell in the time when the agent itself was dead.
    pub agent_down: usize,
    /// Ticks that the running agent should have taken and did not.
    pub missed: usize,
    /// Gaps that the agent said are durable and the hub's ledger doesn't have.
    pub gaps_lost: usize,
    /// Times that ticks fell out because the agent was dead and the ledger doesn't say so from the last
    /// tick before to the first after, and times that it says so and they did not.
    pub downs_wrong: usize,
    /// Gaps in the hub's ledger, by reason.
    pub gaps: BTreeMap<String, usize>,
    /// Samples in the store, over every series.
    pub samples: usize,
}

/// The only reason for which something may be missing when programs are killed and nothing else
/// happens: the agent was dead.
const REASON_OF_A_KILL: &str = "agent_down";

impl Verdict {
    /// Whether the promise was kept: N, N, 0, 0, 0, and no gap but what a kill explains.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let faults = [self.lost, self.doubled, self.out_of_order, self.unexplained];
        self.expected > 0
            && self.stored == self.expected
            && faults == [0; 4]
            && (self.gaps_lost, self.downs_wrong) == (0, 0)
            && self.gaps.keys().all(|reason| reason == REASON_OF_A_KILL)
    }

    /// Takes in what an audit of every series found.
    pub fn add_audit(&mut self, audit: &Audit) {
        self.samples += audit.samples;
        self.doubled = self.doubled.max(audit.duplicates);
        self.out_of_order = self.out_of_order.max(audit.out_of_order);
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        self.expected += other.expected;
        self.stored += other.stored;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.out_of_order += other.out_of_order;
        self.unexplained += other.unexplained;
        self.unheard += other.unheard;
        self.agent_down += other.agent_down;
        self.missed += other.missed;
        self.gaps_lost += other.gaps_lost;
        self.downs_wrong += other.downs_wrong;
        for (reason, gaps) in other.gaps {
            *self.gaps.entry(reason).or_default() += gaps;
        }
        self.samples += other.samples;
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "ticks expected       {:>8}", self.expected)?;
        writeln!(f, "ticks stored         {:>8}", self.stored)?;
        writeln!(f, "lost                 {:>8}", self.lost)?;
        writeln!(f, "doubled              {:>8}", self.doubled)?;
        writeln!(f, "out of order         {:>8}", self.out_of_order)?;
        writeln!(f, "not accounted for    {:>8}", self.unexplained)?;
        writeln!(f, "killed before word   {:>8}", self.unheard)?;
        writeln!(f, "agent down (ticks)   {:>8}", self.agent_down)?;
        writeln!(f, "missed by scheduler  {:>8}", self.missed)?;
        writeln!(f, "gaps not told        {:>8}", self.gaps_lost)?;
        writeln!(f, "agent down, untold   {:>8}", self.downs_wrong)?;
        for (reason, gaps) in &self.gaps {
            writeln!(f, "gaps: {reason:<14} {gaps:>8}")?;
        }
        write!(f, "samples stored       {:>8}", self.samples)
    }
}

/// Holds one agent's ticks, in the order of storage, and its gaps against the agent's lives.
#[must_use]
pub fn judge(
    lives: &[Life],
    stored: &[StoredTick],
    gaps: &[ToldGap],
    interval: Duration,
) -> Verdict {
    let said = || lives.iter().flat_map(|life| &life.said);
    let mut expected: BTreeSet<StoredTick> =
        said().filter(|durable| !durable.is_gap).map(tick).collect();
    let there: BTreeSet<StoredTick> = stored.iter().copied().collect();
    let mut unheard = Unheard { lives, explained: BTreeSet::new() };
    let (explained, unexplained): (Vec<StoredTick>, Vec<StoredTick>) =
        there.difference(&expected).partition(|tick| unheard.explains(tick));
    expected.extend(&explained);
    let interval_ms = millis(interval).max(1);
    let Holes { downs, missed } = holes(lives, &expected, interval_ms);
    let mut by_reason = BTreeMap::new();
    for gap in gaps {
        *by_reason.entry(gap.reason.clone()).or_default() += 1;
    }
    let is_told = |durable: &&Durable| gaps.iter().any(|gap| gap.to_ms == durable.time_ms);
    Verdict {
        expected: expected.len(),
        stored: expected.intersection(&there).count(),
        lost: expected.difference(&there).count(),
        doubled: doubled(stored),
        out_of_order: stored.windows(2).filter(|pair| is_reversed(pair[0], pair[1])).count(),
        unexplained: unexplained.len(),
        unheard: explained.len(),
        agent_down: downs.iter().map(|down| down.ticks(interval_ms)).sum(),
        missed,
        downs_wrong: downs_wrong(&downs, gaps, interval_ms),
        gaps_lost: said().filter(|said| said.is_gap && !is_told(said)).count(),
        gaps: by_reason,
        samples: 0,
    }
}

fn tick(durable: &Durable) -> StoredTick {
    StoredTick { seq: durable.seq, time_ms: durable.time_ms }
}

/// Ticks whose number or time is there already.
fn doubled(stored: &[StoredTick]) -> usize {
    let (mut seqs, mut times) = (BTreeSet::new(), BTreeSet::new());
    let is_new = |tick: &&StoredTick| seqs.insert(tick.seq) & times.insert(tick.time_ms);
    stored.len() - stored.iter().filter(is_new).count()
}

const fn is_reversed(before: StoredTick, after: StoredTick) -> bool {
    after.seq < before.seq || after.time_ms < before.time_ms
}

/// Records that were durable, and the agent killed before it could say so: one a life.
struct Unheard<'a> {
    lives: &'a [Life],
    /// Lives that have explained theirs.
    explained: BTreeSet<usize>,
}

impl Unheard<'_> {
    fn explains(&mut self, tick: &StoredTick) -> bool {
        let taken_in = |life: &Life| {
            life.killed
                && life.began_ms < tick.time_ms
                && life.ended_ms.is_some_and(|ended_ms| tick.time_ms <= ended_ms)
        };
        let Some(index) = self.lives.iter().position(taken_in) else { return false };
        let (until, after) = self.lives.split_at(index + 1);
        let heard = |lives: &[Life]| -> Vec<u64> {
            lives.iter().flat_map(|life| &life.said).map(|durable| durable.seq).collect()
        };
        heard(until).iter().all(|seq| *seq < tick.seq)
            && heard(after).iter().all(|seq| *seq > tick.seq)
            && self.explained.insert(index)
    }
}

/// What is missing between ticks that are there.
#[derive(Debug, Default)]
struct Holes {
    /// Because the agent was dead.
    downs: Vec<Hole>,
    /// Ticks that are missing without that.
    missed: usize,
}

/// Two ticks, one after the other, between which others should be.
#[derive(Clone, Copy, Debug)]
struct Hole {
    from_ms: i64,
    to_ms: i64,
}

impl Hole {
    fn ticks(self, interval_ms: i64) -> usize {
        usize::try_from((self.to_ms - self.from_ms) / interval_ms - 1).unwrap_or(0)
    }
}

fn holes(lives: &[Life], ticks: &BTreeSet<StoredTick>, interval_ms: i64) -> Holes {
    let times: Vec<i64> = ticks.iter().map(|tick| tick.time_ms).collect();
    let mut holes = Holes::default();
    for pair in times.windows(2) {
        let hole = Hole { from_ms: pair[0], to_ms: pair[1] };
        let ticks = hole.ticks(interval_ms);
        if ticks == 0 {
            continue;
        }
        if lives.iter().any(|life| (pair[0]..pair[1]).contains(&life.began_ms)) {
            holes.downs.push(hole);
        } else {
            holes.missed += ticks;
        }
    }
    holes
}

/// Holes that are not told, and gaps told that are no holes.
fn downs_wrong(downs: &[Hole], gaps: &[ToldGap], interval_ms: i64) -> usize {
    let mut told: Vec<&ToldGap> =
        gaps.iter().filter(|gap| gap.reason == REASON_OF_A_KILL).collect();
    told.sort_by_key(|gap| gap.from_ms);
    let within =
        |down: &Hole, gap: &ToldGap| gap.from_ms >= down.from_ms && gap.to_ms <= down.to_ms;
    let untold = downs.iter().filter(|down| {
        // Killed right after it had told, an agent tells the rest in its next life: one gap begins
        // where the other ends. If no tick fell out between them, the rest is nothing.
        let end_ms = told
            .iter()
            .filter(|gap| within(down, gap))
            .try_fold(down.from_ms, |end_ms, gap| (gap.from_ms == end_ms).then_some(gap.to_ms));
        !end_ms.is_some_and(|end_ms| end_ms >= down.to_ms - interval_ms && end_ms > down.from_ms)
    });
    let no_hole = |gap: &&&ToldGap| !downs.iter().any(|down| within(down, gap));
    untold.count() + told.iter().filter(no_hole).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ticks(pairs: &[(u64, i64)]) -> Vec<StoredTick> {
        pairs.iter().map(|&(seq, time_s)| StoredTick { seq, time_ms: time_s * 1000 }).collect()
    }

    /// Half a second around the seconds named, with what was said.
    fn life(from_s: i64, to_s: i64, killed: bool, said: &[(u64, i64)]) -> Life {
        let said = ticks(said).into_iter();
        let durable = |StoredTick { seq, time_ms }| Durable { seq, time_ms, is_gap: false };
        Life {
            began_ms: from_s * 1000 - 500,
            ended_ms: Some(to_s * 1000 + 500),
            killed,
            said: said.map(durable).collect(),
        }
    }

    /// Killed once, twice in a row, and stopped.
    fn lives() -> Vec<Life> {
        vec![
            life(1, 4, true, &[(1, 1), (2, 2), (3, 3)]),
            life(6, 6, true, &[]),
            life(8, 9, false, &[(5, 8), (6, 9)]),
        ]
    }

    fn told(reason: &str, from_s: i64, to_s: i64) -> ToldGap {
        let (from_ms, to_ms) = (from_s * 1000, to_s * 1000);
        ToldGap { reason: reason.to_owned(), from_ms, to_ms, ..ToldGap::default() }
    }

    /// With a ledger that says truly when the agent was down.
    fn judged(stored: &[(u64, i64)]) -> Verdict {
        let times: BTreeSet<i64> =
            stored.iter().map(|(_, time_s)| *time_s).chain([1, 2, 3, 8, 9]).collect();
        let times: Vec<i64> = times.into_iter().collect();
        let downs = times.windows(2).filter(|pair| pair[1] - pair[0] > 1);
        let downs: Vec<ToldGap> =
            downs.map(|pair| told(REASON_OF_A_KILL, pair[0], pair[1])).collect();
        let mut report = judge(&lives(), &ticks(stored), &downs, SECOND);
        report.gaps.clear();
        report
    }

    #[test]
    fn a_kept_promise() {
        let clean = Verdict { expected: 5, stored: 5, agent_down: 4, ..Verdict::default() };
        assert_eq!(judged(&[(1, 1), (2, 2), (3, 3), (5, 8), (6, 9)]), clean);
        assert!(clean.is_clean());
    }

    #[test]
    fn each_kill_explains_one_tick_that_died_before_its_word() {
        let check = |more: &[(u64, i64)], expected: (usize, usize)| {
            let mut stored = vec![(1, 1), (2, 2), (3, 3), (5, 8), (6, 9)];
            stored.extend(more);
            stored.sort_unstable();
            let report = judged(&stored);
            assert_eq!((report.unheard, report.unexplained), expected, "{more:?}");
            assert_eq!(report.is_clean(), expected.1 == 0, "{more:?}");
        };
        check(&[(4, 4)], (1, 0));
        check(&[(4, 6)], (1, 0));
        // after the word of a later number, before that of an earlier one
        check(&[(7, 4)], (0, 1));
        check(&[(2, 6)], (0, 1));
        // in nobody's life, and in one that ended by itself
        check(&[(4, 5)], (0, 1));
        check(&[(7, 10)], (0, 1));
    }

    #[test]
    fn a_kill_explains_no_second_tick() {
        let lives = [life(1, 9, true, &[(1, 1)])];
        let report = judge(&lives, &ticks(&[(1, 1), (2, 2), (3, 3)]), &[], SECOND);
        assert_eq!((report.unheard, report.unexplained), (1, 1));
    }

    #[test]
    fn every_broken_promise_is_counted() {
        let check = |stored: &[(u64, i64)], expected: [usize; 4]| {
            let report = judged(stored);
            let found = [report.lost, report.doubled, report.out_of_order, report.unexplained];
            assert_eq!(found, expected, "{stored:?}");
            assert!(!report.is_clean());
        };
        check(&[(1, 1), (2, 2), (5, 8), (6, 9)], [1, 0, 0, 0]);
        check(&[(1, 1), (2, 2), (2, 2), (3, 3), (5, 8), (6, 9)], [0, 1, 0, 0]);
        check(&[(1, 1), (3, 3), (2, 2), (5, 8), (6, 9)], [0, 0, 1, 0]);
        // one tick under two numbers; another tick's number
        check(&[(1, 1), (2, 2), (3, 3), (5, 8), (6, 9), (7, 9)], [0, 1, 0, 1]);
        check(&[(1, 1), (2, 3), (3, 3), (5, 8), (6, 9)], [1, 1, 0, 1]);
        check(&[], [5, 0, 0, 0]);
    }

    #[test]
    fn ticks_that_fell_out_are_told_apart() {
        let lives = [life(1, 5, true, &[(1, 1), (2, 2), (3, 5)]), life(8, 9, false, &[(4, 9)])];
        let report = judge(&lives, &[], &[], SECOND);
        assert_eq!((report.missed, report.agent_down), (2, 3));
    }

    #[test]
    fn gaps_are_told_and_only_a_kill_is_a_reason() {
        let mut lives = [life(1, 2, true, &[(1, 1)]), life(5, 6, false, &[(2, 5), (3, 5)])];
        lives[1].said[0].is_gap = true;
        let down = || told(REASON_OF_A_KILL, 1, 5);
        let judged = |gaps: &[ToldGap]| judge(&lives, &ticks(&[(1, 1), (3, 5)]), gaps, SECOND);
        assert!(judged(&[down()]).is_clean());
        assert_eq!((judged(&[]).gaps_lost, judged(&[]).downs_wrong), (1, 1));
        assert!(!judged(&[]).is_clean());
        assert!(!judged(&[down(), told("unexplained", 3, 3)]).is_clean());
    }

    #[test]
    fn the_ledger_says_once_and_truly_when_the_agent_was_down() {
        let lives =
            [life(1, 2, true, &[(1, 1)]), life(5, 6, true, &[]), life(8, 9, false, &[(3, 9)])];
        let check = |gaps: &[(i64, i64)], wrong: usize| {
            let gaps: Vec<ToldGap> =
                gaps.iter().map(|(from_s, to_s)| told(REASON_OF_A_KILL, *from_s, *to_s)).collect();
            let report = judge(&lives, &ticks(&[(1, 1), (3, 9)]), &gaps, SECOND);
            assert_eq!((report.downs_wrong, report.is_clean()), (wrong, wrong == 0), "{gaps:?}");
        };
        check(&[(1, 9)], 0);
        // Killed between the gap and the tick.
        check(&[(1, 6), (6, 9)], 0);
        check(&[(1, 8)], 0);
        check(&[], 1);
        check(&[(1, 9), (1, 9)], 1);
        check(&[(1, 6)], 1);
        check(&[(1, 6), (7, 9)], 1);
        check(&[(2, 9)], 1);
        check(&[(1, 9), (12, 15)], 1);
        check(&[(1, 10)], 2);
    }
}

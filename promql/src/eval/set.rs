//! `and`, `or`, `unless`: whole series, kept or not by what the other side has at a step.

use crate::{
    error::Result,
    eval::{Evaluator, Grid, Series, groups::Groups, has_values, series::merged},
    expr::{Matching, SetOp},
    source::{STALE, is_stale},
};

impl Evaluator<'_> {
    pub(super) fn set(
        &self,
        op: SetOp,
        matching: &Matching,
        left: Vec<Series>,
        right: Vec<Series>,
        grid: Grid,
    ) -> Result<Vec<Series>> {
        match op {
            SetOp::And => self.kept(left, &right, matching, true, grid),
            SetOp::Unless => self.kept(left, &right, matching, false, grid),
            SetOp::Or => {
                let others = self.kept(right, &left, matching, false, grid)?;
                merged(left.into_iter().chain(others).collect())
            }
        }
    }

    /// Keeps values at those steps at which the other side has, or hasn't, a series of the same group.
    fn kept(
        &self,
        mut all: Vec<Series>,
        other: &[Series],
        matching: &Matching,
        if_there: bool,
        grid: Grid,
    ) -> Result<Vec<Series>> {
        let groups = Groups::new(other, &matching.labels);
        self.budget.take(groups.groups.len().saturating_mul(grid.steps))?;
        let members = groups.groups.iter().map(|group| presence(other, &group.members, grid));
        let present: Vec<_> = members.collect();
        for series in &mut all {
            self.budget.work(grid.steps)?;
            let group = groups.find(&matching.labels.of(&series.labels));
            match group.map(|group| &present[group]) {
                None if if_there => series.values.fill(STALE),
                None => {}
                Some(present) => {
                    for (value, present) in series.values.iter_mut().zip(present) {
                        if *present != if_there {
                            *value = STALE;
                        }
                    }
                }
            }
        }
        all.retain(|series| has_values(&series.values));
        merged(all)
    }
}

fn presence(all: &[Series], members: &[usize], grid: Grid) -> Vec<bool> {
    let mut present = vec![false; grid.steps];
    for member in members {
        for (present, value) in present.iter_mut().zip(&all[*member].values) {
            *present |= !is_stale(*value);
        }
    }
    present
}

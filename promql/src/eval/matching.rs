//! Binary operators between two vectors: which series meet, and what the result is called.
//!
//! One side of a match may have several series of a group (the "many" side, if grouping says so), the
//! other only one at a step. Whether that holds is asked step by step: series may take turns.

use crate::{
    error::{Result, execution},
    eval::{
        Evaluator, Grid, Series,
        groups::Groups,
        has_values,
        series::{merged, merged_or},
    },
    expr::{Binary, Cardinality, Grouping, Matching},
    labels::{Labels, METRIC_NAME},
    source::{STALE, is_stale},
};

/// Both sides, turned so that the right one is the "one" side.
struct Sides<'a> {
    many: &'a [Series],
    one: &'a [Series],
    turned: bool,
}

impl Evaluator<'_> {
    pub(super) fn matched(
        &self,
        binary: &Binary,
        left: &[Series],
        right: &[Series],
        grid: Grid,
    ) -> Result<Vec<Series>> {
        let turned = matches!(binary.matching.cardinality, Cardinality::OneToMany(_));
        let (many, one) = if turned { (right, left) } else { (left, right) };
        let sides = Sides { many, one, turned };
        let groups = Groups::new(one, &binary.matching.labels);
        self.check_ones(&sides, &groups, &binary.matching, grid)?;
        let mut results: Vec<Vec<Series>> = groups.groups.iter().map(|_| Vec::new()).collect();
        let mut order = Vec::with_capacity(many.len());
        for series in many {
            let signature = binary.matching.labels.of(&series.labels);
            let Some(group) = groups.find(&signature) else { continue };
            for member in &groups.groups[group].members {
                self.budget.take(grid.steps)?;
                let values = column(binary, series, &one[*member], turned);
                if has_values(&values) {
                    let labels = result_labels(binary, &series.labels, &one[*member].labels);
                    order.push((group, results[group].len()));
                    results[group].push(Series { labels, values });
                }
            }
        }
        check_groups(&results, &binary.matching, grid)?;
        let mut results: Vec<Vec<_>> =
            results.into_iter().map(|group| group.into_iter().map(Some).collect()).collect();
        let in_order = order.into_iter().filter_map(|(group, at)| results[group][at].take());
        merged(in_order.collect())
    }

    /// At no step may the "one" side have two series of a group, as long as the other has any at all.
    fn check_ones(
        &self,
        sides: &Sides<'_>,
        groups: &Groups,
        matching: &Matching,
        grid: Grid,
    ) -> Result<()> {
        for group in groups.groups.iter().filter(|group| group.members.len() > 1) {
            self.budget.work(group.members.len().saturating_mul(grid.steps))?;
            for step in 0..grid.steps {
                let members = group.members.iter().map(|at| &sides.one[*at]);
                let mut present = members.filter(|series| series.at(step).is_some());
                let (Some(first), Some(second)) = (present.next(), present.next()) else {
                    continue;
                };
                if sides.many.iter().any(|series| series.at(step).is_some()) {
                    return duplicate(sides, matching, first, second);
                }
            }
        }
        Ok(())
    }
}

fn duplicate(
    sides: &Sides<'_>,
    matching: &Matching,
    first: &Series,
    second: &Series,
) -> Result<()> {
    let group = matching.labels.of(&second.labels).in_braces();
    let side = if sides.turned { "left" } else { "right" };
    let (first, second) = (first.labels.in_braces(), second.labels.in_braces());
    execution(format!(
        "found duplicate series for the match group {group} on the {side} hand-side of the \
         operation: [{second}, {first}];many-to-many matching not allowed: matching labels must be \
         unique on one side"
    ))
}

/// Within a group no two results may be one series at one step.
fn check_groups(results: &[Vec<Series>], matching: &Matching, grid: Grid) -> Result<()> {
    for group in results.iter().filter(|group| group.len() > 1) {
        if matching.cardinality != Cardinality::OneToOne {
            let conflict = || {
                execution("multiple matches for labels: grouping labels must ensure unique matches")
            };
            merged_or(group.clone(), conflict)?;
            continue;
        }
        let mut taken = vec![false; grid.steps];
        for series in group {
            for (taken, value) in taken.iter_mut().zip(&series.values) {
                if is_stale(*value) {
                    continue;
                }
                if *taken {
                    return execution(
                        "multiple matches for labels: many-to-one matching must be explicit \
                         (group_left/group_right)",
                    );
                }
                *taken = true;
            }
        }
    }
    Ok(())
}

fn column(binary: &Binary, many: &Series, one: &Series, turned: bool) -> Vec<f64> {
    let of = |(many, one): (&f64, &f64)| {
        if is_stale(*many) || is_stale(*one) {
            return STALE;
        }
        let (left, right) = if turned { (*one, *many) } else { (*many, *one) };
        binary.of(left, right, left).unwrap_or(STALE)
    };
    many.values.iter().zip(&one.values).map(of).collect()
}

/// The "many" side's labels; of a match one to one, only those that were matched by.
fn result_labels(binary: &Binary, many: &Labels, one: &Labels) -> Labels {
    let mut labels = match (&binary.matching.cardinality, &binary.matching.labels) {
        (Cardinality::OneToOne, Grouping::Only(names)) => {
            many.filtered(|name| names.iter().any(|on| on == name))
        }
        (Cardinality::OneToOne, Grouping::Without(names)) => {
            many.filtered(|name| !names.iter().any(|ignored| ignored == name))
        }
        _ => many.clone(),
    };
    if binary.drops_name() {
        labels = labels.without_name();
    }
    let taken = match &binary.matching.cardinality {
        Cardinality::ManyToOne(taken) | Cardinality::OneToMany(taken) if !taken.is_empty() => taken,
        _ => return labels,
    };
    let mut builder = labels.builder();
    for name in taken {
        builder.set(name, one.get(name));
    }
    let labels = builder.build();
    // of the name, too, only what isn't meant by it any more is dropped
    if binary.returns_bool { labels.filtered(|name| name != METRIC_NAME) } else { labels }
}

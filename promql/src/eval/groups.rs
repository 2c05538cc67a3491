//! Which series belong together, by their labels.

use std::collections::HashMap;

use crate::{
    eval::Series,
    expr::Grouping,
    labels::{Labels, METRIC_NAME},
};

impl Grouping {
    /// The labels of a series that name its group. Without certain labels is without the name, too.
    pub(super) fn of(&self, labels: &Labels) -> Labels {
        match self {
            Self::Only(names) => labels.filtered(|name| names.iter().any(|only| only == name)),
            Self::Without(names) => labels
                .filtered(|name| name != METRIC_NAME && !names.iter().any(|other| other == name)),
        }
    }
}

/// Some series' places, by group; groups in the order of their first series.
#[derive(Default)]
pub(super) struct Groups {
    places: HashMap<Labels, usize>,
    pub(super) groups: Vec<Group>,
}

pub(super) struct Group {
    pub(super) labels: Labels,
    /// Places of its series among those that were grouped.
    pub(super) members: Vec<usize>,
}

impl Groups {
    pub(super) fn new(all: &[Series], grouping: &Grouping) -> Self {
        let mut groups = Self::default();
        for (place, series) in all.iter().enumerate() {
            groups.add(grouping.of(&series.labels), place);
        }
        groups
    }

    pub(super) fn add(&mut self, labels: Labels, member: usize) {
        let next = self.groups.len();
        let place = *self.places.entry(labels.clone()).or_insert(next);
        if place == next {
            self.groups.push(Group { labels, members: Vec::new() });
        }
        self.groups[place].members.push(member);
    }

    /// The place of a group.
    pub(super) fn find(&self, labels: &Labels) -> Option<usize> {
        self.places.get(labels).copied()
    }
}

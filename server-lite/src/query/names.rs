//! Series under the labels that an expression sees, and those that would have the same.
//!
//! Two agents may share a name of host; what they send then has equal labels, which no expression could
//! tell apart. Where both have something to show, and only there, their series have [`AGENT_LABEL`] too.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use promql::Labels;

use crate::store::Series;

/// The agent's identity, on series that would otherwise be the same.
pub const AGENT_LABEL: &str = "agent_id";

/// Series that have equal labels: one, mostly.
#[derive(Debug)]
pub(crate) struct Group {
    /// What they have.
    pub(crate) labels: Labels,
    /// Their places.
    pub(crate) members: Vec<usize>,
}

/// Series by their labels, in the order in which labels first appear.
pub(crate) fn groups(series: &[Series]) -> Vec<Group> {
    let mut texts = Texts::default();
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(series.len());
    let mut groups: Vec<Group> = Vec::with_capacity(series.len());
    for (index, one) in series.iter().enumerate() {
        let labels = Labels::new(one.each_label().map(|(n, v)| (texts.get(n), texts.get(v))));
        let place = *places.entry(labels.clone()).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.members.push(index),
            None => groups.push(Group { labels, members: vec![index] }),
        }
    }
    groups
}

/// The labels of one of several that have the same.
pub(crate) fn with_agent(labels: &Labels, series: &Series) -> Labels {
    let own = labels.iter().map(|label| (Arc::clone(&label.name), Arc::clone(&label.value)));
    let agent = (Arc::from(AGENT_LABEL), Arc::from(series.agent_id.to_string()));
    Labels::new(own.chain([agent]))
}

/// Texts that many labels share, each once in memory.
#[derive(Default)]
struct Texts(HashSet<Arc<str>>);

impl Texts {
    fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = Arc::from(text);
        self.0.insert(Arc::clone(&text));
        text
    }
}

#[cfg(test)]
mod tests {
    use wire::{AgentId, MetricKind};

    use super::*;
    use crate::store::SeriesId;

    #[test]
    fn equal_labels_are_told_apart_by_the_agent() {
        let series = |agent: u8, hostname: &str| Series {
            id: SeriesId(agent.into()),
            agent_id: AgentId::from_bytes([agent; 16]),
            hostname: hostname.into(),
            metric: "up".into(),
            kind: MetricKind::Gauge,
            labels: [("a".to_owned(), "1".to_owned())].into(),
            is_written: false,
        };
        let all = [series(1, "twin"), series(2, "other"), series(3, "twin")];
        let groups = groups(&all);
        let found: Vec<_> =
            groups.iter().map(|group| (group.labels.to_string(), group.members.clone())).collect();
        let labels = |host: &str| format!("up{{a=\"1\", instance=\"{host}\", job=\"node\"}}");
        assert_eq!(found, [(labels("twin"), vec![0, 2]), (labels("other"), vec![1])]);
        let named = with_agent(&groups[0].labels, &all[2]);
        assert_eq!(named.get(AGENT_LABEL), "03030303-0303-0303-0303-030303030303");
        assert_eq!((named.get("instance"), named.get("a")), ("twin", "1"));
    }
}

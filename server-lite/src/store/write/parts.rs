//! A batch, with what can be known of it before a store looks at it: which targets it is of, and by what
//! each series is found in memory.

use std::{
    hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState},
    sync::{Arc, LazyLock},
};

use wire::AgentId;

use super::{Target, WriteBatch};

/// What a series is known by in memory: two keyed hashes of its labels. Whoever doesn't know the keys,
/// which are drawn once a process, can't make two series that share it; by chance it takes 2^64 series.
pub(crate) type SeriesKey = u128;

static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);

/// The key of a series, its labels in the order of their names.
pub(crate) fn key<'a>(metric: &str, labels: impl Iterator<Item = (&'a str, &'a str)>) -> SeriesKey {
    let [mut first, mut second] = KEYS.each_ref().map(RandomState::build_hasher);
    let mut put = |text: &str| {
        text.hash(&mut first);
        text.hash(&mut second);
    };
    put(metric);
    for (name, value) in labels {
        put(name);
        put(value);
    }
    u128::from(first.finish()) << 64 | u128::from(second.finish())
}

/// See the module's opening.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// What was sent.
    pub(crate) batch: Arc<WriteBatch>,
    /// Its targets, each in the order in which it first comes.
    pub(crate) targets: Vec<TargetPart>,
}

/// What a batch has of one target.
#[derive(Debug)]
pub(crate) struct TargetPart {
    /// The target's.
    pub(crate) id: AgentId,
    job: String,
    instance: String,
    /// Places of its series in the batch, and their keys.
    pub(crate) series: Vec<(usize, SeriesKey)>,
}

impl TargetPart {
    /// Whose part it is.
    pub(crate) fn target(&self) -> Target<'_> {
        Target { job: &self.job, instance: &self.instance }
    }
}

impl From<Arc<WriteBatch>> for Prepared {
    fn from(batch: Arc<WriteBatch>) -> Self {
        let key = |at: usize| batch.series(at).map(|one| (at, key(one.metric(), one.labels())));
        let parts = batch.by_target().into_iter().map(|(target, places)| TargetPart {
            id: target.id(),
            job: target.job.to_owned(),
            instance: target.instance.to_owned(),
            series: places.into_iter().filter_map(key).collect(),
        });
        let targets = parts.collect();
        Self { batch, targets }
    }
}

impl Prepared {
    /// Samples in it: what it costs to write.
    pub(crate) fn samples(&self) -> usize {
        self.batch.samples()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_all_labels() {
        let check =
            |metric, labels: &[(&'static str, &'static str)]| key(metric, labels.iter().copied());
        let one = check("up", &[("a", "b"), ("c", "d")]);
        assert_eq!(one, check("up", &[("a", "b"), ("c", "d")]));
        for other in [
            check("up", &[("a", "b")]),
            check("up", &[("ab", ""), ("c", "d")]),
            check("upa", &[("", "b"), ("c", "d")]),
            check("up", &[("a", "bc"), ("", "d")]),
        ] {
            assert_ne!(one, other);
        }
    }
}

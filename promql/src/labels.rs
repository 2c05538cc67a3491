//! Label sets: sorted by name, no empty values, cheap to clone.

use std::{fmt, sync::Arc};

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";
/// The label that holds the upper bound of a classic histogram's bucket.
pub const BUCKET: &str = "le";

/// One label. Texts are shared, so that thousands of series don't each own "instance".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// Name; no label set has it twice.
    pub name: Arc<str>,
    /// Value; never empty, as an empty value means that the label isn't there.
    pub value: Arc<str>,
}

/// The labels of one series, its name among them as [`METRIC_NAME`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[Label]>);

impl Labels {
    /// No labels at all.
    #[must_use]
    pub fn empty() -> Self {
        Self(Arc::from([]))
    }

    /// Labels in any order; those with an empty value are left out, of two with one name the last counts.
    #[must_use]
    pub fn new<N: Into<Arc<str>>, V: Into<Arc<str>>>(
        labels: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let mut builder = Builder(Vec::new());
        for (name, value) in labels {
            builder.put(name.into(), value.into());
        }
        builder.build()
    }

    /// The value of a label; empty when it isn't there.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.find(name).map_or("", |label| &label.value)
    }

    /// All labels, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Label> {
        self.0.iter()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All labels in braces, the name too: how Prometheus writes them in errors.
    pub(crate) fn in_braces(&self) -> String {
        let all: Vec<_> = self.iter().map(|l| format!("{}={:?}", l.name, l.value)).collect();
        format!("{{{}}}", all.join(", "))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Label> {
        self.0.iter().find(|label| &*label.name == name)
    }

    /// These labels without the metric's name: what nearly every function returns.
    pub(crate) fn without_name(&self) -> Self {
        if self.find(METRIC_NAME).is_none() {
            return self.clone();
        }
        self.filtered(|name| name != METRIC_NAME)
    }

    pub(crate) fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|label| keep(&label.name)).cloned().collect())
    }

    pub(crate) fn builder(&self) -> Builder {
        Builder(self.0.to_vec())
    }
}

impl fmt::Display for Labels {
    /// As Prometheus writes a series: the name first, then the other labels in braces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.get(METRIC_NAME);
        f.write_str(name)?;
        let others: Vec<_> = self
            .iter()
            .filter(|label| &*label.name != METRIC_NAME)
            .map(|label| format!("{}={:?}", label.name, label.value))
            .collect();
        if name.is_empty() || !others.is_empty() {
            write!(f, "{{{}}}", others.join(", "))?;
        }
        Ok(())
    }
}

/// Labels being changed.
pub(crate) struct Builder(Vec<Label>);

impl Builder {
    /// Sets a label; an empty value removes it.
    pub(crate) fn put(&mut self, name: Arc<str>, value: Arc<str>) {
        let found = self.0.binary_search_by(|label| (*label.name).cmp(&name));
        match (found, value.is_empty()) {
            (Ok(at), true) => drop(self.0.remove(at)),
            (Ok(at), false) => self.0[at].value = value,
            (Err(_), true) => {}
            (Err(at), false) => self.0.insert(at, Label { name, value }),
        }
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.put(Arc::from(name), Arc::from(value));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|label| &*label.name != name);
    }

    pub(crate) fn build(self) -> Labels {
        Labels(self.0.into())
    }
}

/// Whether a text may be a label's name where an expression makes one (`label_replace`, `count_values`).
pub(crate) fn is_label_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|other| other.is_ascii_alphanumeric() || other == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_sorted_unique_and_never_empty() {
        let labels = Labels::new([("b", "2"), ("a", "1"), ("c", ""), ("b", "3")]);
        let seen: Vec<_> = labels.iter().map(|l| (&*l.name, &*l.value)).collect();
        assert_eq!(seen, [("a", "1"), ("b", "3")]);
        assert_eq!(labels.get("c"), "");
    }

    #[test]
    fn print_as_prometheus_prints_them() {
        let check = |labels: &[(&str, &str)], expected: &str| {
            assert_eq!(Labels::new(labels.iter().copied()).to_string(), expected);
        };
        check(&[], "{}");
        check(&[("__name__", "up")], "up");
        check(&[("__name__", "up"), ("job", "a\"b"), ("z", "1")], r#"up{job="a\"b", z="1"}"#);
        check(&[("job", "x")], r#"{job="x"}"#);
    }

    #[test]
    fn label_names() {
        let check =
            |text: &str, expected: bool| assert_eq!(is_label_name(text), expected, "{text}");
        check("abc_9", true);
        check("_", true);
        check("", false);
        check("9a", false);
        check("a-b", false);
        check("a:b", false);
    }
}

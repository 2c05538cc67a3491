//! The statistics of NFS clients and servers: `/proc/net/rpc/nfs` and `/proc/net/rpc/nfsd` are lines of a
//! key and numbers.
//!
//! What a kernel doesn't count (an NFS version it was built without, operations that came later) has no
//! series. Keys and numbers beyond those we know are ignored, as new kernels append them.

use std::path::PathBuf;

use agent_core::{CollectError, Collector, Metric, Samples};

use crate::{
    parse::{ParseError, Words, numbered},
    reader::KeptFile,
};

/// Procedures of NFS 2, in the order of the protocol's numbers.
pub(crate) const V2: [&str; 18] = [
    "Null", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write",
    "Create", "Remove", "Rename", "Link", "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];
/// Procedures of NFS 3.
pub(crate) const V3: [&str; 22] = [
    "Null",
    "GetAttr",
    "SetAttr",
    "Lookup",
    "Access",
    "ReadLink",
    "Read",
    "Write",
    "Create",
    "MkDir",
    "SymLink",
    "MkNod",
    "Remove",
    "RmDir",
    "Rename",
    "Link",
    "ReadDir",
    "ReadDirPlus",
    "FsStat",
    "FsInfo",
    "PathConf",
    "Commit",
];

/// A line that counts: its key, and what its numbers are.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) key: &'static str,
    pub(crate) columns: Columns,
}

/// What the numbers of a line are, in order.
#[derive(Debug)]
pub(crate) enum Columns {
    /// Metrics of their own; `None` is left out.
    Metrics(&'static [Option<Column>]),
    /// How many there are, then the calls of each procedure of this version of the protocol; an empty
    /// name is left out.
    Procedures { proto: &'static str, methods: &'static [&'static str] },
}

/// One number's metric and its label, if it has one.
#[derive(Debug)]
pub(crate) struct Column(
    pub(crate) Metric<'static>,
    pub(crate) Option<(&'static str, &'static str)>,
);

/// Collects one side's statistics.
pub(crate) struct Statistics {
    file: KeptFile,
    lines: &'static [Line],
    requests: &'static Metric<'static>,
}

impl Statistics {
    /// Of that file, which has these lines; procedures are of the metric `requests`.
    pub(crate) fn new(
        file: PathBuf,
        lines: &'static [Line],
        requests: &'static Metric<'static>,
    ) -> Self {
        Self { file: KeptFile::new(file), lines, requests }
    }
}

impl Collector for Statistics {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let text = self.file.text()?;
        parse(text.content, self.lines, self.requests, &mut |metric, labels, value| {
            out.push(metric, labels, value);
        })
        .map_err(|error| text.malformed(&error))
    }
}

/// A series and its value: metric, labels.
pub(crate) type Push<'a> = &'a mut dyn FnMut(&Metric<'_>, &[(&str, &str)], f64);

/// Reads the lines that count; procedures are of the metric `requests`.
pub(crate) fn parse(
    text: &str,
    lines: &[Line],
    requests: &Metric<'_>,
    push: Push<'_>,
) -> Result<(), ParseError> {
    for (index, text) in numbered(text) {
        let mut words = Words::new(index, text);
        let key = words.word("key")?;
        match lines.iter().find(|line| line.key == key).map(|line| &line.columns) {
            Some(Columns::Metrics(columns)) => metrics(&mut words, columns, push)?,
            Some(Columns::Procedures { proto, methods }) => {
                procedures(&mut words, proto, methods, requests, push)?;
            }
            None => {}
        }
    }
    Ok(())
}

fn metrics(
    words: &mut Words<'_>,
    columns: &[Option<Column>],
    push: Push<'_>,
) -> Result<(), ParseError> {
    for column in columns {
        let Some(Column(metric, label)) = column else {
            words.word("a count")?;
            continue;
        };
        push(metric, label.as_slice(), words.number(metric.name)? as f64);
    }
    Ok(())
}

fn procedures(
    words: &mut Words<'_>,
    proto: &str,
    methods: &[&str],
    requests: &Metric<'_>,
    push: Push<'_>,
) -> Result<(), ParseError> {
    let count = usize::try_from(words.number("number of procedures")?).unwrap_or(usize::MAX);
    for method in methods.iter().take(count) {
        let calls = words.number("calls of a procedure")?;
        if !method.is_empty() {
            push(requests, &[("method", method), ("proto", proto)], calls as f64);
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a text is read as: the sum of each metric's values, or the place that is wrong.
    pub(crate) fn read(
        text: &str,
        lines: &[Line],
        requests: &Metric<'_>,
    ) -> Result<Vec<(String, f64)>, String> {
        let mut series: Vec<(String, f64)> = Vec::new();
        let read = parse(text, lines, requests, &mut |metric, labels, value| {
            let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let short = metric.name.trim_start_matches("node_nfs");
            series.push((format!("{short}{{{}}}", labels.join(",")), value));
        });
        read.map(|()| series).map_err(|error| error.to_string())
    }
}

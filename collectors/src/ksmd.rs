//! Memory that processes share because it is the same: `/sys/kernel/mm/ksm`.
//!
//! What a kernel doesn't have of it is left out: `merge_across_nodes` needs NUMA.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{parse::Words, reader::KeptFile};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "ksmd",
    summary: "Memory pages that are the same and shared, and how the kernel looks for them.",
    reads: &["/sys/kernel/mm/ksm"],
    default_enabled: false,
    options: &[],
    build,
};

/// Files, and what their number is divided by.
const FILES: [(&str, Metric<'_>, f64); 9] = [
    ("run", Metric::gauge("node_ksmd_run", "ksmd 'run' file."), 1.0),
    ("full_scans", Metric::counter("node_ksmd_full_scans_total", "ksmd 'full_scans' file."), 1.0),
    (
        "merge_across_nodes",
        Metric::gauge("node_ksmd_merge_across_nodes", "ksmd 'merge_across_nodes' file."),
        1.0,
    ),
    ("pages_shared", Metric::gauge("node_ksmd_pages_shared", "ksmd 'pages_shared' file."), 1.0),
    ("pages_sharing", Metric::gauge("node_ksmd_pages_sharing", "ksmd 'pages_sharing' file."), 1.0),
    ("pages_to_scan", Metric::gauge("node_ksmd_pages_to_scan", "ksmd 'pages_to_scan' file."), 1.0),
    (
        "pages_unshared",
        Metric::gauge("node_ksmd_pages_unshared", "ksmd 'pages_unshared' file."),
        1.0,
    ),
    (
        "pages_volatile",
        Metric::gauge("node_ksmd_pages_volatile", "ksmd 'pages_volatile' file."),
        1.0,
    ),
    (
        "sleep_millisecs",
        Metric::gauge("node_ksmd_sleep_seconds", "ksmd 'sleep_millisecs' file."),
        1_000.0,
    ),
];

struct Ksmd {
    files: Vec<KeptFile>,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let file =
        |(name, ..): &(&str, _, _)| KeptFile::new(context.roots.sys("kernel/mm/ksm").join(name));
    Ok(Box::new(Ksmd { files: FILES.iter().map(file).collect() }))
}

impl Collector for Ksmd {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        for (file, (_, metric, divisor)) in self.files.iter_mut().zip(&FILES) {
            let text = match file.text() {
                // without the first one there is nothing of it
                Err(CollectError::Unavailable { .. }) if !out.is_empty() => continue,
                text => text?,
            };
            let number = Words::new(1, text.content).number("number");
            let number = number.map_err(|error| text.malformed(&error))?;
            out.push(metric, &[], number as f64 / divisor);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use agent_core::Roots;

    use super::*;

    #[test]
    fn what_a_kernel_has_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let ksm = directory.path().join("kernel/mm/ksm");
        let roots = Roots { sysfs: directory.path().to_owned(), ..Roots::default() };
        let options = BTreeMap::new();
        let context = Context { roots: &roots, options: &options, registration: &REGISTRATION };
        let mut ksmd = build(&context).unwrap();
        let mut check = |expected: Result<&[f64], &str>| {
            let mut out = Samples::new("ksmd");
            let got = ksmd.collect(&mut out).map(|()| out.finish().1.to_vec());
            let shown = format!("{}/", ksm.display());
            let got = got.map_err(|error| error.to_string().replace(&shown, ""));
            assert_eq!(got, expected.map(<[_]>::to_vec).map_err(str::to_owned));
        };
        check(Err("unavailable: run: No such file or directory (os error 2)"));
        fs::create_dir_all(&ksm).unwrap();
        fs::write(ksm.join("run"), "1\n").unwrap();
        fs::write(ksm.join("sleep_millisecs"), "20\n").unwrap();
        check(Ok(&[1.0, 0.02]));
        fs::write(ksm.join("pages_shared"), "many\n").unwrap();
        check(Err("pages_shared: line 1, number: \"many\" is not a number, or too large"));
    }
}

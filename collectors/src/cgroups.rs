//! How many control groups each controller has: `/proc/cgroups`.
//!
//! A summary only. The help of both metrics is node_exporter's, though the second says whether the
//! controller is on.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    parse::{ParseError, Words, numbered},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "cgroups",
    summary: "How many control groups each controller has, and whether it is on.",
    reads: &["/proc/cgroups"],
    default_enabled: false,
    options: &[],
    build,
};

const CGROUPS: Metric<'_> =
    Metric::gauge("node_cgroups_cgroups", "Current cgroup number of the subsystem.");
const ENABLED: Metric<'_> =
    Metric::gauge("node_cgroups_enabled", "Current cgroup number of the subsystem.");

struct Cgroups {
    file: KeptFile,
}

/// One controller's line.
#[derive(Debug, PartialEq, Eq)]
struct Controller<'a> {
    name: &'a str,
    cgroups: u64,
    enabled: u64,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Cgroups { file: KeptFile::new(context.roots.proc("cgroups")) }))
}

impl Collector for Cgroups {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let cgroups = self.file.text()?;
        for line in parse(cgroups.content) {
            let line = line.map_err(|error| cgroups.malformed(&error))?;
            let labels = [("subsys_name", line.name)];
            out.push(&CGROUPS, &labels, line.cgroups as f64);
            out.push(&ENABLED, &labels, line.enabled as f64);
        }
        Ok(())
    }
}

/// The lines below the headings: name, hierarchy, number of groups, whether it is on.
fn parse(text: &str) -> impl Iterator<Item = Result<Controller<'_>, ParseError>> {
    numbered(text).filter(|(_, line)| !line.starts_with('#')).map(|(index, line)| {
        let mut words = Words::new(index, line);
        let name = words.word("controller")?;
        words.number("hierarchy")?;
        let (cgroups, enabled) = (words.number("cgroups")?, words.number("enabled")?);
        Ok(Controller { name, cgroups, enabled })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const CGROUPS: &str =
        "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t3\t41\t1\nmemory\t0\t97\t0\n";

    #[test]
    fn lines_are_read_or_the_place_is_named() {
        let check = |text: &str, expected: Result<&[(&str, u64, u64)], &str>| {
            let got: Result<Vec<_>, _> = parse(text).collect();
            let line = |&(name, cgroups, enabled): &_| Controller { name, cgroups, enabled };
            let expected = expected.map(|lines| lines.iter().map(line).collect());
            assert_eq!(got.map_err(|e| e.to_string()), expected.map_err(str::to_owned), "{text:?}");
        };
        check(CGROUPS, Ok(&[("cpu", 41, 1), ("memory", 97, 0)]));
        check("", Ok(&[]));
        check("cpu 3 41\n", Err("line 1, enabled: missing"));
        check("\ncpu 3 x 1\n", Err("line 1, controller: missing"));
        check("cpu 3 x 1\n", Err("line 1, cgroups: \"x\" is not a number, or too large"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(CGROUPS)) {
            let _ = parse(&text).count();
        }
    }
}

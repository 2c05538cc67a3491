//! Load averages: `/proc/loadavg`.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    parse::{ParseError, Words},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "loadavg",
    summary: "Load averages of one, five and fifteen minutes.",
    reads: &["/proc/loadavg"],
    default_enabled: true,
    options: &[],
    build,
};

const LOAD1: Metric<'_> = Metric::gauge("node_load1", "1m load average.");
const LOAD5: Metric<'_> = Metric::gauge("node_load5", "5m load average.");
const LOAD15: Metric<'_> = Metric::gauge("node_load15", "15m load average.");

struct Loadavg {
    file: KeptFile,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Loadavg { file: KeptFile::new(context.roots.proc("loadavg")) }))
}

impl Collector for Loadavg {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let loadavg = self.file.text()?;
        let loads = parse(loadavg.content).map_err(|error| loadavg.malformed(&error))?;
        for (metric, load) in [LOAD1, LOAD5, LOAD15].iter().zip(loads) {
            out.push(metric, &[], load);
        }
        Ok(())
    }
}

/// The averages of one, five and fifteen minutes; what follows them is not ours.
fn parse(text: &str) -> Result<[f64; 3], ParseError> {
    let mut words = Words::new(1, text);
    Ok([words.decimal("1m load")?, words.decimal("5m load")?, words.decimal("15m load")?])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    #[test]
    fn averages_are_read_or_the_field_is_named() {
        let check = |text: &str, expected: Result<[f64; 3], &str>| {
            assert_eq!(parse(text).map_err(|e| e.to_string()), expected.map_err(str::to_owned));
        };
        check("0.00 0.36 123.41 1/92 14720\n", Ok([0.0, 0.36, 123.41]));
        check("0.00 0.36", Err("line 1, 15m load: missing"));
        check("", Err("line 1, 1m load: missing"));
        check("0.00 x 1", Err("line 1, 5m load: \"x\" is not a number, or too large"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text("0.00 0.36 0.41 1/92 14720\n")) {
            let _ = parse(&text);
        }
    }
}

//! Open files of the whole system: `/proc/sys/fs/file-nr`.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    parse::{ParseError, Words},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "filefd",
    summary: "Open files of the whole system, and how many there may be.",
    reads: &["/proc/sys/fs/file-nr"],
    default_enabled: true,
    options: &[],
    build,
};

const ALLOCATED: Metric<'_> =
    Metric::gauge("node_filefd_allocated", "File descriptor statistics: allocated.");
const MAXIMUM: Metric<'_> =
    Metric::gauge("node_filefd_maximum", "File descriptor statistics: maximum.");

struct Filefd {
    file: KeptFile,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Filefd { file: KeptFile::new(context.roots.proc("sys/fs/file-nr")) }))
}

impl Collector for Filefd {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let file_nr = self.file.text()?;
        let [allocated, maximum] =
            parse(file_nr.content).map_err(|error| file_nr.malformed(&error))?;
        out.push(&ALLOCATED, &[], allocated as f64);
        out.push(&MAXIMUM, &[], maximum as f64);
        Ok(())
    }
}

/// Allocated and maximum; the number between them has been 0 since Linux 2.6.
fn parse(text: &str) -> Result<[u64; 2], ParseError> {
    let mut words = Words::new(1, text);
    let allocated = words.number("allocated")?;
    words.number("unused")?;
    Ok([allocated, words.number("maximum")?])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    #[test]
    fn numbers_are_read_or_the_field_is_named() {
        let check = |text: &str, expected: Result<[u64; 2], &str>| {
            assert_eq!(parse(text).map_err(|e| e.to_string()), expected.map_err(str::to_owned));
        };
        check("1024\t0\t1631329\n", Ok([1024, 1_631_329]));
        check("1024\t0\t9223372036854775807\n", Ok([1024, 9_223_372_036_854_775_807]));
        check("1024 0", Err("line 1, maximum: missing"));
        check("", Err("line 1, allocated: missing"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text("1024\t0\t1631329\n")) {
            let _ = parse(&text);
        }
    }
}

//! Paging and swapping: `/proc/vmstat`, the fields that a regular expression takes.

use agent_core::{
    CollectError, Collector, MetricKind, Registration, Samples,
    collector::{BuildError, Context, OptionSpec},
};
use regex_lite::Regex;

use crate::{
    filter::regex,
    names::{Names, part},
    parse::{ParseError, Words, numbered},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "vmstat",
    summary: "Pages read, written, swapped and faulted, and processes killed for memory.",
    reads: &["/proc/vmstat"],
    default_enabled: true,
    options: &[OptionSpec {
        key: "fields",
        default: "^(oom_kill|pgpg|pswp|pg.*fault).*",
        doc: "Regular expression of the fields to take.",
    }],
    build,
};

struct Vmstat {
    file: KeptFile,
    fields: Option<Regex>,
    names: Names,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Vmstat {
        file: KeptFile::new(context.roots.proc("vmstat")),
        fields: regex(context, "fields")?,
        names: Names::new(MetricKind::Untyped),
    }))
}

impl Collector for Vmstat {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { file, fields, names } = self;
        let vmstat = file.text()?;
        names.restart();
        for line in parse(vmstat.content) {
            let (field, mut value) = line.map_err(|error| vmstat.malformed(&error))?;
            if let Some(metric) = names.next("", field, || name_of(fields, field)) {
                let value = value.decimal("value").map_err(|error| vmstat.malformed(&error))?;
                out.push(&metric, &[], value);
            }
        }
        Ok(())
    }
}

fn name_of(fields: &Option<Regex>, field: &str) -> Option<(String, String)> {
    let takes = fields.as_ref().is_none_or(|regex| regex.is_match(field));
    let help = || format!("/proc/vmstat information field {field}.");
    takes.then(|| (format!("node_vmstat_{}", part(field)), help()))
}

/// Fields, each with the words behind it: most are left out and not worth a number.
fn parse(text: &str) -> impl Iterator<Item = Result<(&str, Words<'_>), ParseError>> {
    numbered(text).map(|(index, line)| {
        let mut words = Words::new(index, line);
        Ok((words.word("field")?, words))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const VMSTAT: &str = "nr_free_pages 3977\npgpgin 7344136\nnr_dirty -1\n";

    fn read(text: &str) -> Result<String, String> {
        let read = parse(text).map(|line| {
            let (field, mut value) = line?;
            Ok(format!("{field} {}", value.decimal("value")?))
        });
        let read: Result<Vec<String>, ParseError> = read.collect();
        read.map(|read| read.join(", ")).map_err(|error| error.to_string())
    }

    #[test]
    fn fields_are_read_or_the_line_is_named() {
        let check = |text: &str, expected: Result<&str, &str>| {
            assert_eq!(read(text), expected.map(str::to_owned).map_err(str::to_owned));
        };
        check(VMSTAT, Ok("nr_free_pages 3977, pgpgin 7344136, nr_dirty -1"));
        check("", Ok(""));
        check("pgpgin\n", Err("line 1, value: missing"));
        check("a 1\n\n", Err("line 2, field: missing"));
        check("a b\n", Err("line 1, value: \"b\" is not a number, or too large"));
    }

    #[test]
    fn the_default_takes_what_dashboards_use() {
        let fields = Some(Regex::new(REGISTRATION.options[0].default).unwrap());
        for (field, taken) in [("oom_kill", true), ("pgmajfault", true), ("nr_dirty", false)] {
            assert_eq!(name_of(&fields, field).is_some(), taken, "{field}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(VMSTAT)) {
            let _ = read(&text);
        }
    }
}

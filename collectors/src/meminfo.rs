//! Memory: `/proc/meminfo`, one gauge a line.
//!
//! The kernel's field makes the name, as in node_exporter: `MemTotal:  24684092 kB` becomes
//! `node_memory_MemTotal_bytes`, `Active(anon)` becomes `Active_anon`. Names are made when a field is
//! first seen at its place and kept.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    parse::{ParseError, Words, numbered},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "meminfo",
    summary: "Memory, swap and huge pages: every field of the kernel.",
    reads: &["/proc/meminfo"],
    default_enabled: true,
    options: &[],
    build,
};

/// Longer than any field of the kernel by far; names of metrics are bounded too.
const FIELD_BYTES_MAX: usize = 100;
const BYTES_PER_KIB: f64 = 1024.0;

struct Meminfo {
    file: KeptFile,
    /// The names made so far, by the place of their line.
    names: Vec<Name>,
}

/// A metric made of a field.
#[derive(Debug)]
struct Name {
    field: String,
    in_kib: bool,
    name: String,
    help: String,
}

/// One line of the file.
#[derive(Debug, PartialEq)]
struct Line<'a> {
    /// Without its colon.
    field: &'a str,
    value: u64,
    /// A number of kB, by which the kernel means 1024 bytes; otherwise a plain number.
    in_kib: bool,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Meminfo { file: KeptFile::new(context.roots.proc("meminfo")), names: Vec::new() }))
}

impl Collector for Meminfo {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let meminfo = self.file.text()?;
        for (place, line) in parse(meminfo.content).enumerate() {
            let line = line.map_err(|error| meminfo.malformed(&error))?;
            let name = name_at(&mut self.names, place, &line);
            let scale = if line.in_kib { BYTES_PER_KIB } else { 1.0 };
            out.push(&Metric::gauge(&name.name, &name.help), &[], line.value as f64 * scale);
        }
        match out.is_empty() {
            true => Err(meminfo.malformed(&ParseError::new(1, "MemTotal", "missing"))),
            false => Ok(()),
        }
    }
}

fn name_at<'a>(names: &'a mut Vec<Name>, place: usize, line: &Line<'_>) -> &'a Name {
    let known = |name: &Name| name.field == line.field && name.in_kib == line.in_kib;
    if !names.get(place).is_some_and(known) {
        names.truncate(place);
        names.push(name_of(line));
    }
    &names[place]
}

fn name_of(line: &Line<'_>) -> Name {
    let mut key: String = line.field.chars().filter(|c| *c != ')').map(allowed).collect();
    if line.in_kib {
        key.push_str("_bytes");
    }
    Name {
        field: line.field.to_owned(),
        in_kib: line.in_kib,
        help: format!("Memory information field {key}."),
        name: format!("node_memory_{key}"),
    }
}

fn allowed(c: char) -> char {
    if c.is_ascii_alphanumeric() { c } else { '_' }
}

/// The lines that are not empty; an old kernel of CentOS 6 has empty ones.
fn parse(text: &str) -> impl Iterator<Item = Result<Line<'_>, ParseError>> {
    let lines = numbered(text).filter(|(_, line)| !line.trim_ascii().is_empty());
    lines.map(|(index, line)| parse_line(index, line))
}

fn parse_line(index: usize, line: &str) -> Result<Line<'_>, ParseError> {
    let mut words = Words::new(index, line);
    let wrong = |reason: String| Err(ParseError::new(index, "field", reason));
    let field = match words.word("field")?.strip_suffix(':') {
        Some(field) if !field.is_empty() && field.len() <= FIELD_BYTES_MAX => field,
        _ => return wrong("not a name of at most 100 bytes and a colon".to_owned()),
    };
    let value = words.number("value")?;
    let in_kib = match words.next() {
        None => false,
        Some("kB") if words.next().is_none() => true,
        Some(unit) => {
            let reason = format!("{unit:?} is not kB and the end of the line");
            return Err(ParseError::new(index, "unit", reason));
        }
    };
    Ok(Line { field, value, in_kib })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::schema::is_metric_name;

    use super::*;
    use crate::testing::kernel_text;

    const MEMINFO: &str = "\
MemTotal:       24684092 kB
Active(anon):       1552 kB

HugePages_Total:       3
Hugepagesize:       2048 kB
";

    fn read(text: &str) -> Result<Vec<Line<'_>>, String> {
        parse(text).collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    #[test]
    fn lines_are_read_or_the_field_is_named() {
        let check = |text: &str, expected: Result<Vec<(&str, u64, bool)>, &str>| {
            let line = |(field, value, in_kib)| Line { field, value, in_kib };
            let expected = expected.map(|lines| lines.into_iter().map(line).collect());
            assert_eq!(read(text), expected.map_err(str::to_owned), "{text:?}");
        };
        check(
            MEMINFO,
            Ok(vec![
                ("MemTotal", 24_684_092, true),
                ("Active(anon)", 1552, true),
                ("HugePages_Total", 3, false),
                ("Hugepagesize", 2048, true),
            ]),
        );
        check("", Ok(vec![]));
        check("MemTotal:", Err("line 1, value: missing"));
        check("MemTotal: 1.5 kB", Err("line 1, value: \"1.5\" is not a number, or too large"));
        check("MemTotal: 1 MB", Err("line 1, unit: \"MB\" is not kB and the end of the line"));
        check("MemTotal: 1 kB x", Err("line 1, unit: \"kB\" is not kB and the end of the line"));
        let wrong = Err("line 2, field: not a name of at most 100 bytes and a colon");
        check("A: 1\nMemTotal 1 kB", wrong.clone());
        check("A: 1\n: 1 kB", wrong.clone());
        check(&format!("A: 1\n{}: 1", "x".repeat(101)), wrong);
    }

    #[test]
    fn fields_make_names() {
        let check = |field: &str, in_kib: bool, expected: &str| {
            let name = name_of(&Line { field, value: 0, in_kib });
            assert_eq!(name.name, format!("node_memory_{expected}"));
            assert_eq!(name.help, format!("Memory information field {expected}."));
        };
        check("MemTotal", true, "MemTotal_bytes");
        check("Active(anon)", true, "Active_anon_bytes");
        check("HugePages_Free", false, "HugePages_Free");
        check("Odd-µ:field", false, "Odd___field");
    }

    #[test]
    fn names_follow_their_places() {
        let mut names = Vec::new();
        let mut check = |fields: &[&str]| {
            for (place, field) in fields.iter().enumerate() {
                let name = name_at(&mut names, place, &Line { field, value: 0, in_kib: false });
                assert_eq!(name.name, format!("node_memory_{field}"));
            }
        };
        check(&["A", "B", "C"]);
        check(&["A", "X", "B", "C"]);
        check(&["B"]);
        check(&["A", "B", "C"]);
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_makes_names(text in kernel_text(MEMINFO)) {
            for line in parse(&text).flatten() {
                prop_assert!(is_metric_name(&name_of(&line).name));
            }
        }
    }
}

//! Sockets by protocol: `/proc/net/sockstat` and `/proc/net/sockstat6`, of the network namespace that the
//! agent runs in.

use agent_core::{
    CollectError, Collector, Metric, MetricKind, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{
    names::{Names, part},
    parse::{ParseError, Words, numbered},
    reader::KeptFile,
};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "sockstat",
    summary: "Sockets in use by protocol, and the memory of their buffers.",
    reads: &["/proc/net/sockstat", "/proc/net/sockstat6"],
    default_enabled: true,
    options: &[],
    build,
};

const USED: Metric<'_> =
    Metric::gauge("node_sockstat_sockets_used", "Number of IPv4 sockets in use.");

struct Sockstat {
    v4: KeptFile,
    /// Absent where there is no IPv6.
    v6: KeptFile,
    names: Names,
    page_bytes: f64,
}

/// `inuse 4` of the line `TCP`.
#[derive(Debug, PartialEq, Eq)]
struct Field<'a> {
    protocol: &'a str,
    name: &'a str,
    value: u64,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let file = |name: &str| KeptFile::new(context.roots.proc(name));
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    Ok(Box::new(Sockstat {
        v4: file("net/sockstat"),
        v6: file("net/sockstat6"),
        names: Names::new(MetricKind::Gauge),
        page_bytes: page.unwrap_or(4096) as f64,
    }))
}

impl Collector for Sockstat {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { v4, v6, names, page_bytes } = self;
        names.restart();
        let mut push = |Field { protocol, name, value }: Field<'_>| {
            if (protocol, name) == ("sockets", "used") {
                out.push(&USED, &[], value as f64);
                return;
            }
            if let Some(metric) = names.next(protocol, name, || Some(name_of(protocol, name))) {
                out.push(&metric, &[], value as f64);
            }
            if name == "mem" {
                let made = || Some(name_of(protocol, "mem_bytes"));
                if let Some(metric) = names.next(protocol, "mem_bytes", made) {
                    out.push(&metric, &[], value as f64 * *page_bytes);
                }
            }
        };
        let text = v4.text()?;
        parse(text.content, &mut push).map_err(|error| text.malformed(&error))?;
        match v6.text() {
            Ok(text) => parse(text.content, &mut push).map_err(|error| text.malformed(&error)),
            Err(CollectError::Unavailable { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn name_of(protocol: &str, name: &str) -> (String, String) {
    let help = format!("Number of {protocol} sockets in state {name}.");
    (format!("node_sockstat_{}_{}", part(protocol), part(name)), help)
}

/// Lines such as `TCP: inuse 4 orphan 0`.
fn parse<'a>(text: &'a str, push: &mut impl FnMut(Field<'a>)) -> Result<(), ParseError> {
    for (index, line) in numbered(text) {
        let mut words = Words::new(index, line);
        let wrong = || ParseError::new(index, "protocol", "not a name and a colon");
        let protocol = words.word("protocol")?.strip_suffix(':').ok_or_else(wrong)?;
        while let Some(name) = words.next() {
            push(Field { protocol, name, value: words.number("value")? });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const SOCKSTAT: &str = "sockets: used 42\nTCP: inuse 4 orphan 0 mem 1\nUDPLITE: inuse 0\n";

    #[test]
    fn lines_are_read_or_the_place_is_named() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let mut found = Vec::new();
            let got = parse(text, &mut |field: Field<'_>| {
                found.push(format!("{} {} {}", field.protocol, field.name, field.value));
            });
            let got = got.map(|()| found.join(", ")).map_err(|error| error.to_string());
            assert_eq!(got, expected.map(str::to_owned).map_err(str::to_owned));
        };
        let all = "sockets used 42, TCP inuse 4, TCP orphan 0, TCP mem 1, UDPLITE inuse 0";
        check(SOCKSTAT, Ok(all));
        check("", Ok(""));
        check("TCP inuse 4", Err("line 1, protocol: not a name and a colon"));
        check("TCP: inuse", Err("line 1, value: missing"));
        check("TCP: inuse x", Err("line 1, value: \"x\" is not a number, or too large"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(SOCKSTAT)) {
            let _ = parse(&text, &mut |_| ());
        }
    }
}

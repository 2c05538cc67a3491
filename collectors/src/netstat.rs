//! Protocol counters: `/proc/net/netstat`, `/proc/net/snmp`, `/proc/net/snmp6`, of the network namespace
//! that the agent runs in.
//!
//! The kernel has some four hundred; as in node_exporter a regular expression over `Tcp_InSegs` and the
//! like takes those that count.

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
    name: "netstat",
    summary: "Counters of IP, ICMP, TCP and UDP.",
    reads: &["/proc/net/netstat", "/proc/net/snmp", "/proc/net/snmp6"],
    default_enabled: true,
    options: &[OptionSpec {
        key: "fields",
        default: "^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|\
                  Icmp6?_(InMsgs|OutMsgs)|TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts)|\
                  Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|\
                  Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$",
        doc: "Regular expression of the fields to take, such as Tcp_InSegs.",
    }],
    build,
};

struct Netstat {
    /// Headings above values.
    pairs: [KeptFile; 2],
    /// One field a line; absent where there is no IPv6.
    snmp6: KeptFile,
    fields: Option<Regex>,
    names: Names,
}

/// One counter.
#[derive(Debug, PartialEq)]
struct Field<'a> {
    protocol: &'a str,
    name: &'a str,
    value: f64,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let file = |name: &str| KeptFile::new(context.roots.proc(name));
    Ok(Box::new(Netstat {
        pairs: [file("net/netstat"), file("net/snmp")],
        snmp6: file("net/snmp6"),
        fields: regex(context, "fields")?,
        names: Names::new(MetricKind::Untyped),
    }))
}

impl Collector for Netstat {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { pairs, snmp6, fields, names } = self;
        names.restart();
        let mut push = |field: Field<'_>| {
            let Field { protocol, name, value } = field;
            if let Some(metric) = names.next(protocol, name, || name_of(fields, protocol, name)) {
                out.push(&metric, &[], value);
            }
        };
        for file in pairs {
            let text = file.text()?;
            parse_pairs(text.content, &mut push).map_err(|error| text.malformed(&error))?;
        }
        match snmp6.text() {
            Ok(text) => {
                parse_lines(text.content, &mut push).map_err(|error| text.malformed(&error))
            }
            Err(CollectError::Unavailable { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn name_of(fields: &Option<Regex>, protocol: &str, name: &str) -> Option<(String, String)> {
    let key = format!("{protocol}_{name}");
    let takes = fields.as_ref().is_none_or(|regex| regex.is_match(&key));
    takes.then(|| (format!("node_netstat_{}", part(&key)), format!("Statistic {protocol}{name}.")))
}

/// `Tcp: RtoMin RtoMax` above `Tcp: 200 120000`.
fn parse_pairs<'a>(text: &'a str, push: &mut impl FnMut(Field<'a>)) -> Result<(), ParseError> {
    let mut lines = numbered(text);
    while let Some((index, headings)) = lines.next() {
        let (mut names, protocol) = protocol(index, headings)?;
        let (index, values) =
            lines.next().ok_or_else(|| ParseError::new(index + 1, "values", "missing"))?;
        let (mut values, below) = self::protocol(index, values)?;
        if below != protocol {
            let reason = format!("of {below:?} below the headings of {protocol:?}");
            return Err(ParseError::new(index, "values", reason));
        }
        while let Some(name) = names.next() {
            push(Field { protocol, name, value: values.decimal("value")? });
        }
    }
    Ok(())
}

fn protocol(index: usize, line: &str) -> Result<(Words<'_>, &str), ParseError> {
    let mut words = Words::new(index, line);
    let first = words.word("protocol")?;
    let protocol = first.strip_suffix(':').filter(|protocol| !protocol.is_empty());
    let wrong = || ParseError::new(index, "protocol", "not a name and a colon");
    Ok((words, protocol.ok_or_else(wrong)?))
}

/// `Ip6InReceives 7`: the protocol ends with the 6.
fn parse_lines<'a>(text: &'a str, push: &mut impl FnMut(Field<'a>)) -> Result<(), ParseError> {
    for (index, line) in numbered(text) {
        let mut words = Words::new(index, line);
        let key = words.word("field")?;
        let value = words.decimal("value")?;
        if let Some(six) = key.find('6') {
            let (protocol, name) = key.split_at(six + 1);
            push(Field { protocol, name, value });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const SNMP: &str = "\
Ip: Forwarding DefaultTTL
Ip: 1 64
Tcp: MaxConn InSegs
Tcp: -1 57252008
";
    const SNMP6: &str = "Ip6InReceives      \t7\nIcmp6InErrors                   \t0\nodd 3\n";

    type Parser = for<'a> fn(&'a str, &mut dyn FnMut(Field<'a>)) -> Result<(), ParseError>;

    fn read(parse: Parser, text: &str) -> Result<String, String> {
        let mut found = Vec::new();
        parse(text, &mut |field: Field<'_>| {
            found.push(format!("{} {} {}", field.protocol, field.name, field.value));
        })
        .map_err(|error| error.to_string())?;
        Ok(found.join(", "))
    }

    #[test]
    fn pairs_of_lines_are_read_or_the_place_is_named() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let got = read(|text, mut push| parse_pairs(text, &mut push), text);
            assert_eq!(got, expected.map(str::to_owned).map_err(str::to_owned));
        };
        check(SNMP, Ok("Ip Forwarding 1, Ip DefaultTTL 64, Tcp MaxConn -1, Tcp InSegs 57252008"));
        check("", Ok(""));
        check("Ip: A\n", Err("line 2, values: missing"));
        check("Ip: A\nIp: x\n", Err("line 2, value: \"x\" is not a number, or too large"));
        check("Ip: A B\nIp: 1\n", Err("line 2, value: missing"));
        check("Ip A\nIp 1\n", Err("line 1, protocol: not a name and a colon"));
        check("Ip: A\nTcp: 1\n", Err("line 2, values: of \"Tcp\" below the headings of \"Ip\""));
    }

    #[test]
    fn lines_are_read_or_the_place_is_named() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let got = read(|text, mut push| parse_lines(text, &mut push), text);
            assert_eq!(got, expected.map(str::to_owned).map_err(str::to_owned));
        };
        check(SNMP6, Ok("Ip6 InReceives 7, Icmp6 InErrors 0"));
        check("Ip6InReceives", Err("line 1, value: missing"));
    }

    #[test]
    fn the_default_takes_what_dashboards_use() {
        let fields = Some(Regex::new(REGISTRATION.options[0].default).unwrap());
        let check = |protocol: &str, name: &str, expected: Option<&str>| {
            let found = name_of(&fields, protocol, name).map(|(name, _)| name);
            assert_eq!(found.as_deref(), expected);
        };
        check("Tcp", "RetransSegs", Some("node_netstat_Tcp_RetransSegs"));
        check("TcpExt", "ListenDrops", Some("node_netstat_TcpExt_ListenDrops"));
        check("Udp6", "InErrors", Some("node_netstat_Udp6_InErrors"));
        check("Tcp", "RtoMin", None);
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(pairs in kernel_text(SNMP), lines in kernel_text(SNMP6)) {
            let _ = parse_pairs(&pairs, &mut |_| ());
            let _ = parse_lines(&lines, &mut |_| ());
        }
    }
}

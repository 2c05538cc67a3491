use proptest::prelude::*;

use super::*;
use crate::testing::kernel_text;

const STATS: &str = "   Total Incoming Outgoing         Incoming         Outgoing
   Conns  Packets  Packets            Bytes            Bytes
 3A9F10C 5C8812B4  7D0021A     2F61B00C19E8      1A02B6F0C4D

 Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s
       9     1C20       7F            9E210             3B01
";
const SERVICES: &str = "IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0000201:01BB wrr
  -> C6336407:20FB      Route   10     31         4
  -> C6336408:20FB      Route   5      12         1
UDP  [2001:0DB8:0000:0000:0000:0000:0000:0035]:0035 rr
  -> [2001:0DB8:0000:0000:0000:0000:0000:0036]:0035      Route   1    0      3
FWM  0000002A wlc
  -> C6336407:20FB      Route   20     64         1
";

fn read(text: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    parse_backends(text, &mut |backend| {
        let mut line = String::new();
        for label in 0..LABELS.len() {
            write_label(&mut line, label, &backend);
            line.push(' ');
        }
        found.push(format!("{line}{:?}", backend.counts));
    })
    .map_err(|error| error.to_string())?;
    Ok(found)
}

#[test]
fn totals_are_read_or_the_place_is_named() {
    let check = |text: &str, expected: Result<[u64; 5], &str>| {
        let got = parse_totals(text).map_err(|error| error.to_string());
        assert_eq!(got, expected.map_err(str::to_owned));
    };
    check(STATS, Ok([0x3A9_F10C, 0x5C88_12B4, 0x7D0_021A, 0x2F61_B00C_19E8, 0x1A0_2B6F_0C4D]));
    check("a\nb\n", Err("line 3, totals: missing"));
    check("a\nb\n1 2 3 4\n", Err("line 3, node_ipvs_outgoing_bytes_total: missing"));
    check(
        "a\nb\n1 x\n",
        Err("line 3, node_ipvs_incoming_packets_total: \"x\" is not a number, or too large"),
    );
}

#[test]
fn backends_are_read_or_the_place_is_named() {
    let check = |text: &str, expected: Result<&[&str], &str>| {
        let expected = expected.map(|lines| lines.iter().map(|&line| line.to_owned()).collect());
        assert_eq!(read(text), expected.map_err(str::to_owned), "{text}");
    };
    check(
        SERVICES,
        Ok(&[
            "192.0.2.1  443 TCP 198.51.100.7 8443 [10, 31, 4]",
            "192.0.2.1  443 TCP 198.51.100.8 8443 [5, 12, 1]",
            "2001:db8::35  53 UDP 2001:db8::36 53 [1, 0, 3]",
            " 0000002A 0 FWM 198.51.100.7 8443 [20, 64, 1]",
        ]),
    );
    check("", Ok(&[]));
    check("  -> C6336407:20FB Route 1 2 3\n", Err("line 1, backend: no service above it"));
    check("TCP C0000201 wlc\n", Err("line 1, local address: not an address and a port"));
    check("TCP 1C0000201:01BB wrr\n", Err("line 1, local address: not an address and a port"));
    check("TCP C0000201:101BB wlc\n", Err("line 1, local address: not an address and a port"));
    check("UDP [2620:0:]:0050 wlc\n", Err("line 1, local address: not an address and a port"));
    check("FWM\n", Err("line 1, firewall mark: missing"));
    check("FWM 1 wlc\n-> C6336407:20FB Route 1 2\n", Err("line 2, inactive connections: missing"));
}

fn sums(list: &str, ticks: &[&str]) -> Vec<String> {
    let mut backends = Backends { wanted: wanted(list).unwrap(), ..Backends::default() };
    for text in ticks {
        backends.begin();
        parse_backends(text, &mut |backend| backends.add(&backend)).unwrap();
        backends.end();
        assert_eq!(backends.places.len(), backends.sums.len());
    }
    let shown = |sum: &Sum| format!("{} {:?}", sum.values.join(" "), sum.counts);
    backends.sums.iter().map(shown).collect()
}

#[test]
fn backends_that_look_the_same_are_added_up() {
    assert_eq!(
        sums("remote_address", &[SERVICES]),
        ["198.51.100.7 [30, 95, 5]", "198.51.100.8 [5, 12, 1]", "2001:db8::36 [1, 0, 3]"]
    );
    assert_eq!(sums("", &[SERVICES]), [" [36, 107, 9]"]);
    assert_eq!(sums("local_mark,proto", &[SERVICES])[2], "0000002A FWM [20, 64, 1]");
}

#[test]
fn backends_come_and_go() {
    let head: String = SERVICES.split_inclusive('\n').take(4).collect();
    let all = ["198.51.100.7 [10, 31, 4]", "198.51.100.8 [5, 12, 1]"];
    let (first, second) = ("-> C6336407:20FB Route 10 31 4\n", "-> C6336408:20FB Route 5 12 1\n");
    let (both, one, other) =
        (format!("{head}{first}{second}"), format!("{head}{first}"), format!("{head}{second}"));
    assert_eq!(sums("remote_address", &[&both, &both]), all);
    assert_eq!(sums("remote_address", &[&both, &other]), all[1..]);
    assert_eq!(sums("remote_address", &[&both, &head, &one]), all[..1]);
    assert_eq!(sums("remote_address", &[&both, &other, &both]), [all[1], all[0]]);
}

#[test]
fn labels_that_are_none_are_named() {
    assert_eq!(
        wanted("proto, port"),
        Err("'port' is not one of local_address, local_mark, local_port, proto, remote_address, \
             remote_port"
            .to_owned())
    );
}

proptest! {
    #[test]
    fn any_text_is_refused_or_read(totals in kernel_text(STATS), services in kernel_text(SERVICES)) {
        let _ = parse_totals(&totals);
        let _ = read(&services);
    }
}

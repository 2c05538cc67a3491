//! The collectors that ask over D-Bus, against a bus of our own that speaks the protocol, and breaks it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

mod bus;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use agent_core::{CollectError, Collector, Roots, Samples};

use self::bus::{
    Asked, FakeBus, Manner, Reply, Values, variant_bool, variant_text, variant_u32, variant_u64,
};

const START: u64 = 1_700_000_000_000_000;

type Unit = (&'static str, &'static str, &'static str);

/// Name, load state, active state.
const UNITS: &[Unit] = &[
    ("ssh.service", "loaded", "active"),
    ("-.mount", "loaded", "active"),
    ("apt-daily.timer", "loaded", "active"),
    ("auditd.service", "not-found", "inactive"),
    ("cups.socket", "loaded", "active"),
    ("dev-sda.device", "loaded", "active"),
    ("nginx.service", "loaded", "reloading"),
    ("backup.service", "loaded", "failed"),
    ("café-größe.target", "loaded", "inactive"),
];

fn path(unit: &str) -> String {
    let escaped = unit.bytes().map(|byte| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("_{byte:02x}"),
    });
    format!("/org/freedesktop/systemd1/unit/{}", escaped.collect::<String>())
}

fn list_units(units: &[Unit]) -> Reply {
    let one = |values: Values, (name, load, active): &Unit| {
        let texts = [*name, "What it is", load, active, "running", "", &path(name)];
        let values = texts.iter().fold(values, |values, text| values.text(text));
        values.number(0).text("").text("/")
    };
    Reply::Values("a(ssssssouso)", Values::new().structs(units, one).done())
}

/// A small host.
fn host(asked: &Asked) -> Reply {
    match asked.destination.as_str() {
        "org.freedesktop.systemd1" => systemd(asked, UNITS),
        "org.freedesktop.login1" => logind(asked),
        _ => Reply::Error("org.freedesktop.DBus.Error.ServiceUnknown"),
    }
}

fn systemd(asked: &Asked, units: &[Unit]) -> Reply {
    match asked.short().as_str() {
        "Manager.ListUnits" => list_units(units),
        "systemd1: Manager.Version" => variant_text("252.38-1~deb12u1"),
        "systemd1: Manager.Virtualization" => variant_text("kvm"),
        "systemd1: Manager.SystemState" => variant_text("degraded"),
        "unit/ssh_2eservice: Service.Type" => variant_text("notify"),
        "unit/backup_2eservice: Service.Type" => variant_text("oneshot"),
        "unit/_2d_2emount: Mount.Type" => variant_text("ext4"),
        "unit/cups_2esocket: Socket.NAccepted" => variant_u32(7),
        "unit/cups_2esocket: Socket.NConnections" => variant_u32(2),
        "unit/apt_2ddaily_2etimer: Timer.LastTriggerUSec" => variant_u64(START + 500_000),
        "unit/ssh_2eservice: Service.TasksCurrent" => variant_u64(3),
        "unit/ssh_2eservice: Service.TasksMax" => variant_u64(u64::MAX),
        "unit/ssh_2eservice: Service.NRestarts" => variant_u32(4),
        text if text.ends_with("Unit.ActiveEnterTimestamp") => variant_u64(START),
        _ => Reply::Error("org.freedesktop.DBus.Error.UnknownProperty"),
    }
}

fn logind(asked: &Asked) -> Reply {
    let sessions = [("1", "", "_31"), ("c2", "seat0", "c2"), ("9", "seat0", "_39")];
    match asked.short().as_str() {
        "Manager.ListSeats" => {
            let seats = Values::new().structs(&["seat0"], |values, seat| {
                values.text(seat).text("/org/freedesktop/login1/seat/seat0")
            });
            Reply::Values("a(so)", seats.done())
        }
        "Manager.ListSessions" => {
            let sessions = Values::new().structs(&sessions, |values, (id, seat, path)| {
                let values = values.text(id).number(1000).text("me").text(seat);
                values.text(&format!("/org/freedesktop/login1/session/{path}"))
            });
            Reply::Values("a(susso)", sessions.done())
        }
        "session/_31: Session.Remote" => variant_bool(true),
        "session/_31: Session.Type" => variant_text("tty"),
        "session/c2: Session.Remote" => variant_bool(false),
        "session/c2: Session.Type" => variant_text("wayland"),
        "session/_31: Session.Class" => variant_text("user"),
        "session/c2: Session.Class" => variant_text("greeter-of-tomorrow"),
        // session 9 has ended since
        _ => Reply::Error("org.freedesktop.DBus.Error.UnknownObject"),
    }
}

fn build(name: &str, address: &str, options: &[(&str, &str)]) -> Box<dyn Collector> {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let mut options: BTreeMap<_, _> = options.iter().map(own).collect();
    options.insert("bus_address".to_owned(), address.to_owned());
    collectors::build(collectors::find(name).unwrap(), &Roots::default(), &options).unwrap()
}

/// A tick: its series in the order in which they come, or the error.
fn tick(collector: &mut dyn Collector, samples: &mut Samples) -> Result<String, CollectError> {
    samples.clear();
    collector.collect(samples)?;
    let (schema, values) = samples.finish();
    let mut text = String::new();
    for ((family, labels), value) in schema.schema.iter().zip(values) {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        let name = family.name.strip_prefix("node_").unwrap();
        writeln!(text, "{name}{{{}}} {value}", labels.join(",")).unwrap();
    }
    Ok(text)
}

fn once(name: &str, bus: &FakeBus, options: &[(&str, &str)]) -> Result<String, CollectError> {
    tick(build(name, &bus.address(), options).as_mut(), &mut Samples::new(name))
}

const MANAGER_LINES: &str = r#"systemd_version{version="252.38-1~deb12u1"} 252.38
systemd_virtualization_info{virtualization_type="kvm"} 1
systemd_system_running{} 0
systemd_units{state="active"} 5
systemd_units{state="activating"} 0
systemd_units{state="deactivating"} 0
systemd_units{state="failed"} 1
systemd_units{state="inactive"} 2
systemd_units{state="reloading"} 1
"#;

#[test]
fn units_have_their_states_and_what_is_switched_on() {
    let bus = FakeBus::start(Manner::default(), host);
    let check = |options: &[(&str, &str)], expected: &[&str]| {
        let got = once("systemd", &bus, options).unwrap();
        let got = got.strip_prefix(MANAGER_LINES).unwrap_or_else(|| panic!("{got}"));
        // a unit's state is the one that is 1
        let is_shown =
            |line: &&str| !line.starts_with("systemd_unit_state") || line.ends_with(" 1");
        assert_eq!(got.lines().filter(is_shown).collect::<Vec<_>>(), expected, "{options:?}");
    };
    let timer = r#"systemd_timer_last_trigger_seconds{name="apt-daily.timer"} 1700000000.5"#;
    let sockets = [
        r#"systemd_socket_accepted_connections_total{name="cups.socket"} 7"#,
        r#"systemd_socket_current_connections{name="cups.socket"} 2"#,
    ];
    let states = [
        r#"systemd_unit_state{name="apt-daily.timer",state="active",type=""} 1"#,
        r#"systemd_unit_state{name="backup.service",state="failed",type="oneshot"} 1"#,
        r#"systemd_unit_state{name="café-größe.target",state="inactive",type=""} 1"#,
        r#"systemd_unit_state{name="cups.socket",state="active",type=""} 1"#,
        // nginx is reloading: a state without a series
        r#"systemd_unit_state{name="ssh.service",state="active",type="notify"} 1"#,
    ];
    check(&[], &[&states[..], &sockets, &[timer]].concat());
    check(&[("unit_include", "ssh.*"), ("unit_exclude", "")], &states[4..]);
    check(&[("unit_include", "ssh")], &[]);
    let root = r#"systemd_unit_state{name="-.mount",state="active",type="ext4"} 1"#;
    check(&[("unit_include", r".*\.(mount|device)"), ("unit_exclude", ".+device")], &[root]);
    let switches = [
        ("unit_include", "(ssh|nginx|auditd)\\.service"),
        ("enable_task_metrics", "true"),
        ("enable_restarts_metrics", "true"),
        ("enable_start_time_metrics", "true"),
    ];
    let more = [
        r#"systemd_service_restart_total{name="ssh.service"} 4"#,
        r#"systemd_unit_start_time_seconds{name="nginx.service"} 0"#,
        r#"systemd_unit_start_time_seconds{name="ssh.service"} 1700000000"#,
        r#"systemd_unit_tasks_current{name="ssh.service"} 3"#,
    ];
    check(&switches, &[&states[4..], &more].concat());
}

#[test]
fn every_state_has_a_series() {
    let bus = FakeBus::start(Manner::default(), host);
    let got = once("systemd", &bus, &[("unit_include", "nginx.service")]).unwrap();
    let states = ["active", "activating", "deactivating", "failed", "inactive"];
    let expected = states.map(|state| {
        format!("systemd_unit_state{{name=\"nginx.service\",state=\"{state}\",type=\"\"}} 0\n")
    });
    assert_eq!(got.strip_prefix(MANAGER_LINES), Some(expected.concat().as_str()));
}

#[test]
fn sessions_are_counted_by_what_they_are() {
    let bus = FakeBus::start(Manner::default(), host);
    let got = once("logind", &bus, &[]).unwrap();
    assert_eq!(got.lines().count(), 2 * 7 * 5 * 2);
    let counted: Vec<_> = got.lines().filter(|line| !line.ends_with(" 0")).collect();
    let expected = [
        r#"logind_sessions{class="user",remote="true",seat="",type="tty"} 1"#,
        r#"logind_sessions{class="other",remote="false",seat="seat0",type="wayland"} 1"#,
    ];
    assert_eq!(counted, expected);
}

/// Calls that arrived.
fn counted() -> (Arc<Mutex<u32>>, Arc<Mutex<u32>>) {
    let calls = Arc::new(Mutex::new(0));
    (Arc::clone(&calls), calls)
}

const SERVICES: [&str; 24] = [
    "a.service",
    "b.service",
    "c.service",
    "d.service",
    "e.service",
    "f.service",
    "g.service",
    "h.service",
    "i.service",
    "j.service",
    "k.service",
    "l.service",
    "m.service",
    "n.service",
    "o.service",
    "p.service",
    "q.service",
    "r.service",
    "s.service",
    "t.service",
    "u.service",
    "v.service",
    "w.service",
    "x.service",
];

#[test]
fn a_steady_host_keeps_its_schema_and_is_asked_less() {
    let (asked, log) = counted();
    let bus = FakeBus::start(Manner::default(), move |call| {
        assert_eq!(call.flags, 2, "nothing is started for our sake");
        *log.lock().unwrap() += 1;
        match call.short().as_str() {
            "Manager.ListUnits" => list_units(&SERVICES.map(|name| (name, "loaded", "active"))),
            text if text.ends_with("Service.Type") => variant_text("simple"),
            _ => host(call),
        }
    });
    let check = |name: &str, first: u32, later: u32| {
        let mut collector = build(name, &bus.address(), &[]);
        let mut samples = Samples::new(name);
        let calls = || std::mem::take(&mut *asked.lock().unwrap());
        let said = tick(collector.as_mut(), &mut samples).unwrap();
        let schema = samples.finish().0.id;
        assert_eq!(calls(), first, "{name}");
        for _ in 0..2 {
            assert_eq!(tick(collector.as_mut(), &mut samples).unwrap(), said);
            assert_eq!(samples.finish().0.id, schema);
            assert_eq!(calls(), later, "{name}");
        }
    };
    // four of the manager, and the types: all, then eight a tick
    check("systemd", 4 + 24, 4 + 8);
    // seats, sessions, and three of each session
    check("logind", 11, 11);
}

#[test]
fn units_that_come_and_go_are_followed() {
    let units = Arc::new(Mutex::new(UNITS));
    let now = Arc::clone(&units);
    let bus = FakeBus::start(Manner::default(), move |call| systemd(call, *now.lock().unwrap()));
    let mut collector = build("systemd", &bus.address(), &[]);
    let mut samples = Samples::new("systemd");
    let mut check = |list: &'static [Unit]| {
        *units.lock().unwrap() = list;
        let got = tick(collector.as_mut(), &mut samples).unwrap();
        let fresh = build("systemd", &bus.address(), &[]);
        let expected = tick({ fresh }.as_mut(), &mut Samples::new("systemd")).unwrap();
        assert_eq!(got, expected);
    };
    check(UNITS);
    check(&UNITS[..1]);
    check(&[]);
    check(&UNITS[3..]);
    check(UNITS);
    check(&[("ssh.service", "loaded", "active"), ("ssh.service", "loaded", "failed")]);
    check(&[("a.service", "masked", "active"), ("zz.timer", "loaded", "activating")]);
}

#[test]
fn units_beyond_the_bound_are_said() {
    let bus = FakeBus::start(Manner::default(), |asked| match asked.short().as_str() {
        "Manager.ListUnits" => {
            let name = |number: u32| format!("job-{number:05}.target");
            let many: Vec<String> = (0..4_100).map(name).collect();
            let one = |values: Values, name: &String| {
                let texts = [name.as_str(), "", "loaded", "active", "", "", "/a"];
                let values = texts.iter().fold(values, |values, text| values.text(text));
                values.number(0).text("").text("/")
            };
            Reply::Values("a(ssssssouso)", Values::new().structs(&many, one).done())
        }
        _ => Reply::Error("org.freedesktop.DBus.Error.UnknownProperty"),
    });
    let mut collector = build("systemd", &bus.address(), &[]);
    let mut samples = Samples::new("systemd");
    collector.collect(&mut samples).unwrap();
    assert!(samples.remarks().starts_with("4100 units match, the first 4000 have series"));
    let got = tick(collector.as_mut(), &mut samples).unwrap();
    assert!(got.contains("systemd_units{state=\"active\"} 4100\n"));
    assert_eq!(got.lines().filter(|line| line.starts_with("systemd_unit_state")).count(), 20_000);
}

#[test]
fn a_bus_that_is_not_there_or_refuses_is_told_apart() {
    fn check(manner: Manner, answer: fn(&Asked) -> Reply, expected: &str) {
        let bus = FakeBus::start(manner, answer);
        for name in ["systemd", "logind"] {
            let error = once(name, &bus, &[]).unwrap_err().to_string();
            let error = error.replace(&bus.address(), "BUS");
            let (manager, list) = match name {
                "systemd" => ("org.freedesktop.systemd1", "ListUnits"),
                _ => ("org.freedesktop.login1", "ListSeats"),
            };
            let expected =
                expected.replace("LIST", &format!("{manager}.Manager.{list} of {manager}"));
            assert_eq!(error, expected, "{name}");
        }
    }
    let error = |name: &'static str| match name {
        "unknown" => |_: &Asked| Reply::Error("org.freedesktop.DBus.Error.ServiceUnknown"),
        "owner" => |_: &Asked| Reply::Error("org.freedesktop.DBus.Error.NameHasNoOwner"),
        "denied" => |_: &Asked| Reply::Error("org.freedesktop.DBus.Error.AccessDenied"),
        _ => |_: &Asked| Reply::Error("org.example.Odd"),
    };
    let usual = Manner::default;
    let said = "BUS: LIST: org.freedesktop.DBus.Error.";
    check(usual(), error("unknown"), &format!("unavailable: {said}ServiceUnknown: no"));
    check(usual(), error("owner"), &format!("unavailable: {said}NameHasNoOwner: no"));
    check(usual(), error("denied"), &format!("may not be read: {said}AccessDenied: no"));
    check(usual(), error("odd"), "BUS: LIST: org.example.Odd: no");
    check(usual(), |_| Reply::Close, "BUS: the bus closed the connection");
    let rejected = Manner { welcome: "REJECTED EXTERNAL\r\n", ..usual() };
    let refused = "may not be read: BUS: the bus doesn't take this user (REJECTED EXTERNAL)";
    check(rejected, host, refused);
    let odd = Manner { welcome: "HTTP/1.1 400 Bad Request\r\n", ..usual() };
    check(odd, host, "BUS: \"HTTP/1.1 400 Bad Request\" in answer to AUTH EXTERNAL");
}

#[test]
fn a_host_without_a_bus_has_none_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("bus");
    let address = format!("unix:path={}", socket.display());
    let check = |expected: &str| {
        let got = build("systemd", &address, &[]).collect(&mut Samples::new("systemd"));
        assert_eq!(got.unwrap_err().to_string(), expected.replace("BUS", &address));
    };
    check("unavailable: BUS: No such file or directory (os error 2)");
    // nobody listens any more
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    check("unavailable: BUS: Connection refused (os error 111)");
}

#[test]
fn a_bus_that_was_started_anew_is_connected_again() {
    let (calls, seen) = counted();
    let bus = FakeBus::start(Manner::default(), move |asked| {
        let mut calls = seen.lock().unwrap();
        *calls += 1;
        // the first tick has eleven
        if *calls > 11 { Reply::Close } else { host(asked) }
    });
    let mut collector = build("systemd", &bus.address(), &[]);
    let mut samples = Samples::new("systemd");
    let before = tick(collector.as_mut(), &mut samples).unwrap();
    bus.listen(Manner::default(), host);
    assert_eq!(tick(collector.as_mut(), &mut samples).unwrap(), before);
    assert_eq!(*calls.lock().unwrap(), 12);
}

#[test]
fn a_bus_that_says_nothing_is_left_alone() {
    let bus = FakeBus::start(Manner::default(), |_| Reply::Silence);
    let error = once("logind", &bus, &[]).unwrap_err().to_string();
    assert_eq!(error.replace(&bus.address(), "BUS"), "BUS: no answer within 4 s");
}

#[test]
fn answers_of_another_type_are_named() {
    fn check(answer: fn(&Asked) -> Option<Reply>, expected: &str) {
        let answer = move |asked: &Asked| answer(asked).unwrap_or_else(|| host(asked));
        let bus = FakeBus::start(Manner::default(), answer);
        let error = once("systemd", &bus, &[]).unwrap_err().to_string();
        assert_eq!(error.replace(&bus.address(), "BUS"), expected);
    }
    check(
        |asked| (asked.member == "ListUnits").then(|| variant_text("all")),
        "BUS: org.freedesktop.systemd1.Manager.ListUnits of org.freedesktop.systemd1: \
         a value of type 'v' where a(ssssssouso) was expected",
    );
    check(
        |asked| asked.short().ends_with("Socket.NAccepted").then(|| variant_text("many")),
        "BUS: org.freedesktop.DBus.Properties.Get of org.freedesktop.systemd1: \
         Text(\"many\") where a number was expected",
    );
    check(
        |asked| asked.short().ends_with("Service.Type").then(|| variant_u32(1)),
        "BUS: org.freedesktop.DBus.Properties.Get of org.freedesktop.systemd1: \
         Number(1.0) where a text was expected",
    );
    check(
        |asked| {
            let list = || Reply::Values("a(ssssssouso)", Values::new().number(400).done());
            (asked.member == "ListUnits").then(list)
        },
        "BUS: org.freedesktop.systemd1.Manager.ListUnits of org.freedesktop.systemd1: \
         byte 4: padding of 4 bytes, and 0 are left",
    );
}

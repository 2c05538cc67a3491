//! Any bytes from a bus: no panic, no waiting, an error that names the bus; and once the bus is sound again,
//! so is what is read of it.
//!
//! `HOLDFAST_TEST_SEED=n` damages other places, `HOLDFAST_TEST_TIMES=n` that many times as many.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test ends it")]

#[expect(dead_code, reason = "this bus refuses nobody")]
mod bus;
mod random;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use agent_core::{CollectError, Collector, Roots, Samples};

use self::{
    bus::{
        Asked, FakeBus, Manner, Reply, Values, variant_bool, variant_text, variant_u32, variant_u64,
    },
    random::{Random, from_env},
};

const CASES: u64 = 400;

/// A host with one of everything.
fn host(asked: &Asked) -> Reply {
    let property = asked.short();
    match property.rsplit_once('.').map_or("", |(_, name)| name) {
        "ListUnits" => {
            let names = ["a.service", "b.socket", "c.timer"];
            let units = Values::new().structs(&names, |values, name| {
                let texts = [*name, "A unit", "loaded", "active", "on", "", "/org/one"];
                let values = texts.iter().fold(values, |values, text| values.text(text));
                values.number(0).text("").text("/")
            });
            Reply::Values("a(ssssssouso)", units.done())
        }
        "ListSeats" => {
            let seats = Values::new().structs(&["seat0"], |v, name| v.text(name).text("/seat"));
            Reply::Values("a(so)", seats.done())
        }
        "ListSessions" => {
            let sessions = Values::new().structs(&["seat0", ""], |values, seat| {
                let path = format!("/s{}", seat.len());
                values.text("1").number(0).text("root").text(seat).text(&path)
            });
            Reply::Values("a(susso)", sessions.done())
        }
        "Remote" => variant_bool(true),
        "NAccepted" | "NConnections" | "NRefused" | "NRestarts" => variant_u32(5),
        "LastTriggerUSec" | "ActiveEnterTimestamp" | "TasksCurrent" | "TasksMax" => variant_u64(6),
        _ => variant_text("simple"),
    }
}

fn build(name: &str, bus: &FakeBus) -> Box<dyn Collector> {
    let line = collectors::find(name).unwrap();
    let switches = line.options.iter().filter(|option| option.default == "false");
    let mut options: BTreeMap<_, _> =
        switches.map(|option| (option.key.to_owned(), "true".to_owned())).collect();
    options.insert("bus_address".to_owned(), bus.address());
    collectors::build(line, &Roots::default(), &options).unwrap()
}

fn tick(collector: &mut dyn Collector, samples: &mut Samples) -> Result<usize, CollectError> {
    samples.clear();
    collector.collect(samples)?;
    let series = samples.finish().0.schema.series.len();
    assert!(samples.fault().is_none(), "{:?}", samples.fault());
    Ok(series)
}

/// Which message is damaged next, counted from now, and how; `None` for none.
type Armed = Arc<Mutex<Option<(usize, u64)>>>;

#[test]
fn damaged_messages_are_refused_and_never_panic() {
    let armed = Armed::default();
    let state = Arc::clone(&armed);
    let damage = move |message: &[u8]| {
        let mut armed = state.lock().unwrap();
        let (left, seed) = armed.take()?;
        if left > 0 {
            *armed = Some((left - 1, seed));
            return None;
        }
        Some(damaged(message, &mut Random(seed)))
    };
    let bus = FakeBus::start(Manner { damage: Arc::new(damage), ..Manner::default() }, host);
    let (mut random, mut refused) = (Random::from_env(), 0);
    let cases = CASES * from_env("HOLDFAST_TEST_TIMES");
    for case in 0..cases {
        let name = if case % 2 == 0 { "systemd" } else { "logind" };
        // the last message of a tick is the 14th, or the eighth
        let (place, seed) = (random.below(14), random.below(usize::MAX) as u64);
        let damage = || *armed.lock().unwrap() = Some((place, seed));
        let soothe = || *armed.lock().unwrap() = None;
        let is_fresh = random.below(2) == 0;
        let checked = check(name, &bus, is_fresh, damage, soothe);
        refused += u64::from(checked.unwrap_or_else(|why| {
            panic!("{name}, message {place}, seed {seed}, fresh {is_fresh}: {why}");
        }));
    }
    // the others hit a message that is none of a tick's, or a byte that nobody reads
    assert!(refused > cases / 4, "only {refused} of {cases} damages were noticed");
}

/// One message is damaged: of the first tick or of a later one. Whether that was noticed.
fn check(
    name: &str,
    bus: &FakeBus,
    is_fresh: bool,
    damage: impl Fn(),
    soothe: impl Fn(),
) -> Result<bool, String> {
    let mut collector = build(name, bus);
    let mut samples = Samples::new(name);
    let whole = tick(build(name, bus).as_mut(), &mut samples).unwrap();
    if !is_fresh {
        assert_eq!(tick(collector.as_mut(), &mut samples).unwrap(), whole);
    }
    damage();
    let damaged = tick(collector.as_mut(), &mut samples);
    let is_noticed = damaged.is_err();
    if let Err(error) = damaged {
        let text = error.to_string();
        if !text.contains(&bus.address()) || text.contains("no answer within") {
            return Err(text);
        }
    }
    soothe();
    // what was harmless stands until it is asked for again
    for _ in 0..2 {
        tick(collector.as_mut(), &mut samples).map_err(|error| format!("still: {error}"))?;
    }
    let healed = tick(collector.as_mut(), &mut samples).unwrap();
    if healed == whole { Ok(is_noticed) } else { Err(format!("{healed} series, and not {whole}")) }
}

/// A message that went wrong in one way.
fn damaged(message: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = message.to_vec();
    let at = random.below(bytes.len());
    match random.below(9) {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = random.byte(),
        3 => bytes.insert(at, random.byte()),
        4 => _ = bytes.remove(at),
        // lengths: of the body, of the fields, or of whatever is there
        5 => bytes[4..8].fill(0xff),
        6 => bytes[12..16].copy_from_slice(&(15_u32 << 20).to_ne_bytes()),
        7 => {
            let at = at / 4 * 4;
            let end = (at + 4).min(bytes.len());
            bytes[at..end].fill(if random.below(2) == 0 { 0xff } else { 0x7f });
        }
        _ => bytes.iter_mut().skip(at).for_each(|byte| *byte = random.byte()),
    }
    bytes
}

//! Any bytes from a D-Bus bus after its greeting: samples or an error, never a panic.
//!
//! `cargo +nightly fuzz run bus`. The collectors connect to a real socket; an input is what they are sent
//! instead of the first answer, before the connection is closed.
#![no_main]

#[expect(dead_code, reason = "this bus says what it is told to")]
#[path = "../../collectors/tests/bus/mod.rs"]
mod bus;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock},
};

use agent_core::{Roots, Samples};

use bus::{FakeBus, Manner, Reply};

static SAID: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static BUS: OnceLock<FakeBus> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    *SAID.lock().unwrap() = bytes.to_vec();
    let bus = BUS.get_or_init(|| {
        let damage = Arc::new(|_: &[u8]| Some(SAID.lock().unwrap().clone()));
        FakeBus::start(Manner { damage, ..Manner::default() }, |_| Reply::Silence)
    });
    let options = BTreeMap::from([("bus_address".to_owned(), bus.address())]);
    for name in ["logind", "systemd"] {
        let line = collectors::find(name).unwrap();
        let mut collector = collectors::build(line, &Roots::default(), &options).unwrap();
        let _ = collector.collect(&mut Samples::new(name));
    }
});

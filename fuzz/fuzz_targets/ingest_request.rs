//! Any body a stranger may send to the hub's ingest is read or refused, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let _ = wire::request::decode(body);
});

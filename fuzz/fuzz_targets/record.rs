//! Any bytes found where a record should be are read or refused; what is read encodes to the same.
#![no_main]

use wire::{EncodedSchema, Tick, envelope, request::Body};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Payloads on their own: a checksum would keep the fuzzer out.
    let _ = EncodedSchema::from_payload(bytes);
    if let Ok(tick) = Tick::decode(bytes) {
        check(&tick);
    }
    if let Ok((found, _)) = envelope::split_first(bytes) {
        let _ = Body::decode(&found);
        let again = envelope::encode(found.kind, found.seq, found.payload).unwrap();
        assert_eq!(bytes[..again.len()], again);
    }
});

fn check(tick: &Tick) {
    let Some((first, rest)) = tick.schemas.split_first() else { return };
    let mut blocks = vec![(*first, tick.values.as_slice())];
    blocks.extend(rest.iter().map(|id| (*id, &[][..])));
    let again = Tick::decode(&Tick::encode(tick.time_ms, &blocks)).unwrap();
    assert_eq!(again.values.len(), tick.values.len());
    assert_eq!(again.schemas, tick.schemas);
}

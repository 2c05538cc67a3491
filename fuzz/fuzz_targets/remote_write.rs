//! Any body that a stranger may send as remote write is read or refused, never a panic; what is read
//! and written again is read as the same.
#![no_main]

use remote_write::{Encoder, Limits, Version, decode, labels, snappy};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { message_bytes: 1 << 20, ..Limits::default() };
    let _ = snappy::decompress(bytes, limits.message_bytes);
    // messages on their own: the compression would keep the fuzzer out
    for version in [Version::V1, Version::V2] {
        let Ok(request) = decode(version, bytes, &limits) else { continue };
        let mut encoder = Encoder::new(version);
        for series in request.series() {
            let _ = labels::check(series.labels, &limits);
            encoder.series(series.labels, series.samples, &series.metadata);
        }
        let again = encoder.finish();
        let again = decode(version, &again, &limits).unwrap();
        assert_eq!(again.series().len(), request.series().len());
        for (again, first) in again.series().zip(request.series()) {
            assert_eq!(again.labels, first.labels);
            assert_eq!(again.samples.len(), first.samples.len());
        }
    }
});

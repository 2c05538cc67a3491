//! Any bytes as a part of the kernel's answer about its sockets: connections or an error, never a panic.
//!
//! `cargo +nightly fuzz run netlink`. The first four bytes of an input say which question was asked.
#![no_main]

#[allow(dead_code, reason = "asking is not what is fuzzed")]
#[path = "../../collectors/src/tcpstat/answer.rs"]
mod answer;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((sequence, part)) = bytes.split_first_chunk() else { return };
    let mut left = 1_000_u32;
    let _ = answer::read(part, u32::from_ne_bytes(*sequence), |_| {
        left = left.checked_sub(1).ok_or("enough")?;
        Ok::<(), &str>(())
    });
});

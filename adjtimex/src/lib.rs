//! What the kernel says of how well its clock is kept: [adjtimex(2)], asked and never told.
//!
//! The call sets what its `modes` name; here they are always 0, so nothing can be changed, and no
//! privilege is needed. No crate that we link wraps it, so this one does, and does nothing else: it is
//! the only one in which the compiler accepts unsafe code, and there is one function of it.
//!
//! [adjtimex(2)]: https://man7.org/linux/man-pages/man2/adjtimex.2.html

use std::{
    ffi::{c_int, c_long},
    io, mem,
};

/// The bit of [`Reading::status`] that says nanoseconds, where microseconds stand without it.
pub const STA_NANO: c_int = libc::STA_NANO;
/// The [`Reading::state`] of a clock that nothing keeps, or nothing any longer.
pub const TIME_ERROR: c_int = libc::TIME_ERROR;

/// What the kernel answered, in its units, under the names of its `struct timex`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// State of the clock: [`TIME_ERROR`] when it isn't synchronised; others tell of leap seconds.
    pub state: c_int,
    /// How far the clock still is from what it is steered to: nanoseconds with [`STA_NANO`], else
    /// microseconds.
    pub offset: c_long,
    /// By how much the clock is made faster, in 2⁻¹⁶ ppm.
    pub freq: c_long,
    /// How far off the clock can be at most, in microseconds.
    pub maxerror: c_long,
    /// How far off the clock is estimated to be, in microseconds.
    pub esterror: c_long,
    /// The `STA_…` bits.
    pub status: c_int,
    /// Time constant of the phase-locked loop.
    pub constant: c_long,
    /// Between two ticks of the clock, in microseconds.
    pub tick: c_long,
    /// Frequency by the pulse per second, in 2⁻¹⁶ ppm.
    pub ppsfreq: c_long,
    /// Jitter of the pulse per second, in the unit of [`offset`](Self::offset).
    pub jitter: c_long,
    /// Interval over which the pulse per second is calibrated, as the kernel gives it.
    pub shift: c_int,
    /// How far the frequency by the pulse per second wanders, in 2⁻¹⁶ ppm.
    pub stabil: c_long,
    /// How often the pulse per second jittered more than its limit.
    pub jitcnt: c_long,
    /// How many intervals the pulse per second has been calibrated over.
    pub calcnt: c_long,
    /// How many of these calibrations failed.
    pub errcnt: c_long,
    /// How often the frequency by the pulse per second wandered more than its limit.
    pub stbcnt: c_long,
    /// International Atomic Time less UTC, in seconds; 0 until something has set it.
    pub tai: c_int,
}

/// Asks the kernel. Changes nothing.
///
/// # Errors
/// What the system call says. Asking needs no privilege, so [`io::ErrorKind::PermissionDenied`] comes
/// from a filter of system calls: systemd's `ProtectClock=`, a container runtime's.
pub fn read() -> io::Result<Reading> {
    let (state, raw) = call()?;
    Ok(reading(state, &raw))
}

#[expect(unsafe_code, reason = "adjtimex(2) has no safe wrapper in nix or rustix")]
fn call() -> io::Result<(c_int, libc::timex)> {
    // SAFETY: `timex` is a C struct of integers and nothing else, so zeros are a value of it.
    let mut raw: libc::timex = unsafe { mem::zeroed() };
    // said, though it is: with no mode the kernel takes nothing from the struct
    raw.modes = 0;
    // SAFETY: the pointer is to a whole `timex` that nothing else sees during the call. The kernel
    // writes into that struct, integers again, and keeps no pointer to it.
    let state = unsafe { libc::adjtimex(&raw mut raw) };
    if state == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok((state, raw))
}

fn reading(state: c_int, raw: &libc::timex) -> Reading {
    Reading {
        state,
        offset: raw.offset,
        freq: raw.freq,
        maxerror: raw.maxerror,
        esterror: raw.esterror,
        status: raw.status,
        constant: raw.constant,
        tick: raw.tick,
        ppsfreq: raw.ppsfreq,
        jitter: raw.jitter,
        shift: raw.shift,
        stabil: raw.stabil,
        jitcnt: raw.jitcnt,
        calcnt: raw.calcnt,
        errcnt: raw.errcnt,
        stbcnt: raw.stbcnt,
        tai: raw.tai,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A reading, or `None` where a filter of system calls refuses it, said past the test runner.
    fn asked<T>(answer: io::Result<T>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let _ = writeln!(io::stderr(), "SKIPPED: adjtimex(2) is refused here: {error}");
                None
            }
            Err(error) => panic!("adjtimex: {error}"),
        }
    }

    #[test]
    fn every_field_keeps_its_value() {
        let Some((_, mut raw)) = asked(call()) else { return };
        (raw.offset, raw.freq, raw.maxerror, raw.esterror) = (-1, -2, 3, 4);
        (raw.status, raw.constant, raw.tick) = (5, 6, 7);
        (raw.ppsfreq, raw.jitter, raw.shift, raw.stabil) = (-8, 9, 10, 11);
        (raw.jitcnt, raw.calcnt, raw.errcnt, raw.stbcnt, raw.tai) = (12, 13, 14, 15, 37);
        let expected = Reading {
            state: TIME_ERROR,
            offset: -1,
            freq: -2,
            maxerror: 3,
            esterror: 4,
            status: 5,
            constant: 6,
            tick: 7,
            ppsfreq: -8,
            jitter: 9,
            shift: 10,
            stabil: 11,
            jitcnt: 12,
            calcnt: 13,
            errcnt: 14,
            stbcnt: 15,
            tai: 37,
        };
        assert_eq!(reading(TIME_ERROR, &raw), expected);
    }

    #[test]
    fn the_kernel_answers_within_what_it_documents() {
        let Some(reading) = asked(read()) else { return };
        assert!((0..=TIME_ERROR).contains(&reading.state), "{reading:?}");
        // a tenth around a hundredth of a second, which is a tick wherever we run
        assert!((9_000..=11_000).contains(&reading.tick), "{reading:?}");
        // 500 ppm at most
        assert!(reading.freq.abs() <= 500 << 16, "{reading:?}");
        assert!(reading.maxerror >= 0 && reading.esterror >= 0, "{reading:?}");
    }
}

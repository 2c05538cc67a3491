//! What a life of the agent leaves behind for the next one.
//!
//! The next life has to tell a host that was off from an agent that was down, and when that began. The
//! time of the last durable tick is in the log, which survives a kill and a power cut. The rest lies in
//! the file `life` beside the identity. It is written when a life has begun (after the gap before it
//! is durable, so that a kill in between tells it again and never loses it), when the clock was set, and
//! when the agent is stopped. It always has the same length and is overwritten in place: within one
//! sector, and on a full disk too.
//!
//! ```text
//! boot_id = "f18a0ee5-5e3c-44db-a61d-4fcd85f1a5ac"   of the kernel; empty where it has none
//! booted_ms = 1700000000000                         when the host came up, by the wall clock
//! interval_ms = 10000                               between two ticks
//! tick_ms = 1700000360000                           a tick: the first, or the last when stopped
//! stopped = false                                   whether it was told to stop
//! lost_ticks = 0                                    that waited in memory when it was stopped
//! ```

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::FileExt as _,
    path::Path,
};

use serde::Deserialize;

use crate::identity;

const FILE_NAME: &str = "life";
/// One sector: a power cut leaves the old or the new one.
const FILE_BYTES: usize = 512;
/// Always the agent's own `/proc`, whatever root the collectors read.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const BOOT_ID_BYTES_MAX: usize = 64;

/// What is known of a life of the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Life {
    /// What the kernel calls this run of the host; empty if it isn't known.
    #[serde(default)]
    pub boot_id: String,
    /// Unix milliseconds when the host came up, by the wall clock of that life. As the host's uptime
    /// goes by a clock that nobody sets, this moves when the wall clock is set.
    pub booted_ms: Option<i64>,
    /// Milliseconds between two ticks.
    pub interval_ms: i64,
    /// Unix milliseconds of a tick: of a past life the last that is known, of this one the first.
    pub tick_ms: i64,
    /// Whether it was told to stop.
    #[serde(default)]
    pub stopped: bool,
    /// Ticks that waited in memory when it was stopped, because the log refused them.
    #[serde(default)]
    pub lost_ticks: u64,
    /// Whether its last tick may have been later than `tick_ms`: the log that knew it is gone.
    #[serde(skip)]
    pub is_vague: bool,
}

impl Life {
    /// The last life: what it left below `data_dir`, and what the log says of its last record
    /// (`None` if it never had one). `None` if there was none.
    #[must_use]
    pub fn last(data_dir: &Path, log_last_ms: Option<i64>) -> Option<Self> {
        let path = data_dir.join(FILE_NAME);
        let left = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str::<Self>(&text).map_err(|error| error.message().to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(String::new()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = &left
            && !reason.is_empty()
        {
            let path = path.display();
            tracing::warn!(%path, reason, "can't read what the last life left, going by the log alone");
        }
        match (left.ok(), log_last_ms) {
            (Some(left), None) => Some(Self { is_vague: !left.stopped, ..left }),
            (left, Some(tick_ms)) => Some(Self { tick_ms, ..left.unwrap_or_default() }),
            (None, None) => None,
        }
    }

    /// Writes it durably below `data_dir`.
    ///
    /// # Errors
    /// The system's; what was there before may then be gone.
    pub fn leave(&self, data_dir: &Path) -> io::Result<()> {
        let text = format!("{:<width$}\n", self.to_toml(), width = FILE_BYTES - 1);
        let path = data_dir.join(FILE_NAME);
        match OpenOptions::new().write(true).open(&path) {
            Ok(file) if file.metadata()?.len() == text.len() as u64 => {
                file.write_all_at(text.as_bytes(), 0)?;
                file.sync_data()
            }
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => {
                let aside = data_dir.join(format!("{FILE_NAME}.new"));
                identity::write_durably(data_dir, &aside, &path, &text)
            }
        }
    }

    fn to_toml(&self) -> String {
        let Self { boot_id, booted_ms, interval_ms, tick_ms, stopped, lost_ticks, .. } = self;
        let booted = booted_ms.map_or_else(String::new, |ms| format!("booted_ms = {ms}\n"));
        format!(
            "boot_id = \"{boot_id}\"\n{booted}interval_ms = {interval_ms}\ntick_ms = {tick_ms}\n\
             stopped = {stopped}\nlost_ticks = {lost_ticks}\n"
        )
    }
}

/// What the kernel calls this run of the host; empty where it doesn't say.
#[must_use]
pub fn boot_id() -> String {
    let id = fs::read_to_string(BOOT_ID).unwrap_or_default();
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let sound = id.trim_end().bytes().all(is_sound) && id.len() <= BOOT_ID_BYTES_MAX;
    if sound { id.trim_end().to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life() -> Life {
        Life {
            boot_id: boot_id(),
            booted_ms: Some(1_700_000_000_000),
            interval_ms: 10_000,
            tick_ms: 1_700_000_360_000,
            stopped: false,
            lost_ticks: 0,
            is_vague: false,
        }
    }

    #[test]
    fn what_was_left_is_found_with_the_time_that_the_log_knows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(Life::last(path, None), None);
        let of_log = Life { tick_ms: 5, ..Life::default() };
        assert_eq!(Life::last(path, Some(5)), Some(of_log));

        let (begun, stopped) = (life(), Life { stopped: true, lost_ticks: 7, ..life() });
        for life in [&begun, &stopped, &Life { boot_id: String::new(), booted_ms: None, ..life() }]
        {
            life.leave(path).unwrap();
            let vague = Life { is_vague: !life.stopped, ..life.clone() };
            assert_eq!(Life::last(path, None), Some(vague));
            let known = Life { tick_ms: 5, ..life.clone() };
            assert_eq!(Life::last(path, Some(5)), Some(known));
            assert_eq!(fs::metadata(path.join(FILE_NAME)).unwrap().len(), FILE_BYTES as u64);
        }
    }

    #[test]
    fn what_is_damaged_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for foreign in [&b""[..], b"hello", b"\xff\0\xfe", &[0; FILE_BYTES]] {
            fs::write(path.join(FILE_NAME), foreign).unwrap();
            assert_eq!(Life::last(path, None), None);
            life().leave(path).unwrap();
            assert_eq!(Life::last(path, Some(life().tick_ms)), Some(life()));
        }
    }

    #[test]
    fn it_is_overwritten_in_place() {
        use std::os::unix::fs::MetadataExt as _;
        let directory = tempfile::tempdir().unwrap();
        life().leave(directory.path()).unwrap();
        let inode = || fs::metadata(directory.path().join(FILE_NAME)).unwrap().ino();
        let before = inode();
        Life { stopped: true, ..life() }.leave(directory.path()).unwrap();
        assert_eq!(inode(), before);
    }
}

//! What a process uses: CPU by its own clock, memory from `/proc/<pid>/smaps_rollup` and
//! `/proc/<pid>/status`, how often it got onto a CPU from `/proc/<pid>/task/*/schedstat`.

use std::{fs, io, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use nix::{time::clock_getcpuclockid, unistd::Pid};

/// What a process has used since it started, and holds now.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// CPU of all its threads, of those too that have ended.
    pub cpu: Duration,
    /// How often its living threads got onto a CPU.
    pub switches: f64,
    /// Proportional set size, in bytes.
    pub pss_bytes: f64,
    /// The most that was resident at one time, in bytes.
    pub resident_max_bytes: f64,
    /// Threads.
    pub threads: usize,
}

impl Usage {
    /// Of a running process.
    ///
    /// # Errors
    /// When /proc can't be read, or says something else than expected.
    pub fn of(pid: u32) -> Result<Self> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?))?;
        let mut usage = Self {
            cpu: clock.now()?.into(),
            switches: 0.0,
            pss_bytes: kib(&fs::read_to_string(process.join("smaps_rollup"))?, "Pss:")? * 1024.0,
            resident_max_bytes: kib(&fs::read_to_string(process.join("status"))?, "VmHWM:")?
                * 1024.0,
            threads: 0,
        };
        for task in fs::read_dir(process.join("task"))? {
            // time on a CPU in ns, time waiting for one, times on a CPU
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let switches = text.split_ascii_whitespace().nth(2).context("schedstat is short")?;
            usage.switches += switches.parse::<f64>().context("schedstat")?;
            usage.threads += 1;
        }
        Ok(usage)
    }
}

/// The figure of a line such as `Pss:   123 kB`.
fn kib(text: &str, name: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    Ok(kib.ok_or_else(|| io::Error::other(format!("there is no {name:?}")))?)
}

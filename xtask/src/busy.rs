//! A procfs as of a host with many network devices, so that a real agent's ticks are large.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Figures of one device.
const FIGURES: u64 = 16;

/// Makes a procfs below `directory` that is this host's but for its network devices: so many, each
/// with 130 bytes a tick that don't compress. For `HOLDFAST_PROCFS`.
///
/// # Errors
/// When it can't be made.
pub fn procfs(directory: &Path, devices: u64) -> Result<PathBuf> {
    let procfs = directory.join("proc");
    fill(&procfs, devices).with_context(|| format!("make {}", procfs.display()))?;
    Ok(procfs)
}

fn fill(procfs: &Path, devices: u64) -> Result<()> {
    fs::create_dir_all(procfs.join("net"))?;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let is_process = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        if !is_process && name != "net" {
            symlink(Path::new("/proc").join(&name), procfs.join(&name))?;
        }
    }
    Ok(fs::write(procfs.join("net/dev"), net_dev(devices))?)
}

fn net_dev(devices: u64) -> String {
    let mut text = String::from("Inter-|   Receive\n face |bytes\n");
    for device in 0..devices {
        let _ = write!(text, "  busy{device}:");
        for figure in 1..=FIGURES {
            // An odd multiplier spreads what follows one another over all bits.
            let spread = (device * FIGURES + figure).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8;
            let _ = write!(text, " {spread}");
        }
        text.push('\n');
    }
    text
}

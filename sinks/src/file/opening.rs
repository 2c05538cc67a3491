//! Opening the file after whatever happened to it, and learning what the files hold.

use std::{
    fs::File,
    io::{self, Read as _, SeekFrom},
};

use super::{
    disk::{Disk, LineFile},
    lines::{Current, Extent, Held},
    recover::{self, Found},
    rotation::Names,
};

/// Opens the file, makes it if it isn't there, cuts a torn end off, and makes what is left durable.
/// Where whole lines come after damaged ones, a copy of that part is set aside first.
pub(crate) fn open(disk: &dyn Disk, names: &Names) -> io::Result<Current> {
    let mut file = disk.open(&names.current)?;
    let found = recover::examine(&mut *file)?;
    if found.lines_after {
        set_aside(disk, names, &mut *file, &found)?;
    }
    if found.whole_bytes < found.bytes {
        file.set_len(found.whole_bytes)?;
    }
    // what is found after a kill lies in the page cache: it counts once it is on the disk
    file.sync()?;
    disk.sync_directory(&names.directory)?;
    let first_ms = found.first.map(|mark| mark.time_ms);
    let extent = Extent { bytes: found.whole_bytes, first_ms, last: found.last };
    Ok(Current { id: file.id()?, file, written: extent, synced: extent, torn: false })
}

/// Copies what comes after the whole lines: either nobody has acknowledged it and it comes again, or
/// it was damaged at rest and this is all there is of it.
fn set_aside(
    disk: &dyn Disk,
    names: &Names,
    file: &mut dyn LineFile,
    found: &Found,
) -> io::Result<()> {
    let path = names.free(found.last.map_or(0, |mark| mark.time_ms), true)?;
    let mut copy = || {
        file.seek(SeekFrom::Start(found.whole_bytes))?;
        let mut aside = disk.open(&path)?;
        io::copy(&mut file.take(found.bytes - found.whole_bytes), &mut aside)?;
        aside.sync()
    };
    if let Err(error) = copy() {
        let _ = disk.remove(&path);
        return Err(error);
    }
    tracing::warn!(
        path = %names.current.display(), aside = %path.display(),
        bytes = found.bytes - found.whole_bytes,
        "the end of the file is damaged, set it aside"
    );
    Ok(())
}

/// The last records of the rotated files: after a crash between two files the current one is empty.
pub(crate) fn held_by_rotated(names: &Names) -> io::Result<Held> {
    let mut held = Held::new();
    for rotated in names.rotated()?.iter().filter(|file| !file.damaged) {
        match recover::last_mark(&mut File::open(&rotated.path)?) {
            Ok(Some(mark)) => {
                let last = held.entry(mark.stream_id).or_insert(mark.seq);
                *last = mark.seq.max(*last);
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!(path = %rotated.path.display(), %error, "a rotated file is passed over");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(held)
}

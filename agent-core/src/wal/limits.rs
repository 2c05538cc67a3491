//! Every bound of the log, by name.

use std::time::Duration;

/// Bytes on disk that a log may take unless told otherwise.
pub const MAX_BYTES_DEFAULT: u64 = 256 << 20;

/// Smallest bound that still holds something worth replaying; less is raised to it.
pub const MAX_BYTES_MIN: u64 = 8 << 20;

/// Age at which records go unless told otherwise: a week.
pub const MAX_AGE_DEFAULT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Live bytes at which a generation is full, under a large bound.
pub(super) const GENERATION_BYTES_MAX: u64 = 4 << 20;

/// A bound holds at least this many generations: what a drop takes is this part of it.
pub(super) const GENERATIONS_PER_BOUND: u64 = 32;

/// A generation in which nothing waits is left behind once it holds this part of a full one.
pub(super) const IDLE_ROLL_PART: u64 = 4;

/// A generation is left behind at this part of the greatest age, so that age drops little at once.
pub(super) const AGE_ROLL_PART: i64 = 8;

/// sled's unit of space on disk. A page larger than a quarter of it would become a blob file, which
/// sled never syncs.
pub(super) const SEGMENT_BYTES: usize = 1 << 20;

/// sled's page cache. No bound in practice; small, it keeps little beyond what is being read.
pub(super) const CACHE_BYTES: u64 = 1 << 20;

/// Bytes of one value. A leaf holds up to 17 values before sled splits it, and must stay below a
/// quarter of a segment.
pub(super) const PART_BYTES: usize = 15 << 10;

/// Generations besides the newest that are kept open for reading.
pub(super) const READERS_MAX: usize = 2;

/// Appends after which the counts of the newest generation are written, if nothing else is.
pub(super) const COUNTS_EVERY: u64 = 256;

/// Appends after which blob files are looked for.
pub(super) const BLOBS_EVERY: u64 = 64;

/// Space below the bound at which dropping begins: what may be written before it is looked at again.
pub(super) const HEADROOM_BYTES: u64 = SEGMENT_BYTES as u64;

/// Space kept back so that a full disk still lets generations be opened and given back.
pub(super) const RESERVE_BYTES: u64 = 2 * SEGMENT_BYTES as u64;

/// Damaged generations kept for a person to look at.
pub(super) const QUARANTINE_ENTRIES_MAX: usize = 8;

/// They may take this part of the bound.
pub(super) const QUARANTINE_PART: u64 = 4;

/// How long sled's own lock is waited for: a dropped database lets go of it late.
pub(super) const DATABASE_LOCK_WAIT: Duration = Duration::from_secs(5);

/// Pause between two tries at it.
pub(super) const DATABASE_LOCK_PAUSE: Duration = Duration::from_millis(2);

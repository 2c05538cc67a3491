//! Every bound of the log, by name.

use std::time::Duration;

use wire::limits::RECORD_PAYLOAD_BYTES_MAX;

/// Bytes on disk that a log may take unless told otherwise.
pub const MAX_BYTES_DEFAULT: u64 = 256 << 20;

/// Smallest bound that still holds something worth replaying; less is raised to it.
pub const MAX_BYTES_MIN: u64 = 8 << 20;

/// Age at which records go unless told otherwise: a week.
pub const MAX_AGE_DEFAULT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Live bytes at which a generation is full, under a large bound. Measured with a backlog of 8 640
/// records of 1.8 kB: 1, 2 and 4 MiB take 2.7, 2.2 and 2.5 times the payload on disk, and 9, 11 and
/// 16 MB of memory if `MALLOC_MMAP_THRESHOLD_` is fixed; if not, 27, 33 and 48, for glibc then keeps
/// the tables of megabytes that each sled database allocates.
pub(super) const GENERATION_BYTES_MAX: u64 = 2 << 20;

/// A small bound holds this many generations' worth of live bytes: what a drop takes is small.
pub(super) const GENERATIONS_PER_BOUND: u64 = 16;

/// A generation in which nothing waits is left behind once it holds this part of a full one.
pub(super) const IDLE_ROLL_PART: u64 = 2;

/// A generation is left behind at this part of the greatest age, so that age drops little at once.
pub(super) const AGE_ROLL_PART: i64 = 8;

/// sled's unit of space on disk. A page larger than a quarter of it would become a blob file, which
/// sled never syncs. With 1 MiB a generation takes a fifth more on disk.
pub(super) const SEGMENT_BYTES: usize = 256 << 10;

/// sled's page cache. No bound in practice: a generation that is open lies in memory as a whole.
pub(super) const CACHE_BYTES: u64 = 256 << 10;

/// Bytes of one value: a leaf holds up to 17, at times 18 of them before sled splits it, and must stay
/// below a quarter of a segment.
pub(super) const PART_BYTES: usize = 3_600;

/// Records in one frame of a packed generation. Of ticks of 349 series, frames of 16, 32, 64 and 128 take
/// 1.42, 1.37, 1.34 and 1.31 bytes a sample (alone: 2.2): more saves little, and a bit that flips costs a
/// whole frame.
pub(super) const FRAME_RECORDS: usize = 32;

/// Bytes of records, as appended, at which a frame is full before it has that many.
pub(super) const FRAME_BYTES: usize = 128 << 10;

/// Bytes that a frame may decompress to: one short of full, and the largest record on top.
pub(super) const FRAME_RAW_BYTES_MAX: usize = FRAME_BYTES + RECORD_PAYLOAD_BYTES_MAX + 64;

/// How hard zstd tries. Level 3 takes 16 ms for 2 MiB, and 7 saves 3 % more in 90 ms;
/// what is above 3 isn't compiled in (`.cargo/config.toml`).
pub(super) const PACK_LEVEL: i32 = 3;

/// Bytes of a packed generation; one that would be larger (schemas of megabytes) stays a database.
pub(super) const PACKED_BYTES_MAX: u64 = 32 << 20;

/// A sealed generation of which at most this part waits is as good as given back: it is packed only if
/// it is still there after [`PACK_TAIL_RECORDS`].
pub(super) const PACK_TAIL_PART: u64 = 8;

/// Records in the newest generation after which the one before it is packed whatever waits in it.
pub(super) const PACK_TAIL_RECORDS: u64 = 64;

/// Records after which packing is tried again once it failed.
pub(super) const PACK_AGAIN_RECORDS: u64 = 64;

/// Bytes read at once when a data file is scanned.
pub(super) const SCAN_BYTES: u64 = 256 << 10;

/// Generations besides the newest that are kept open for reading.
pub(super) const READERS_MAX: usize = 2;

/// Appends after which the counts of the newest generation are written, if nothing else is.
pub(super) const COUNTS_EVERY: u64 = 256;

/// Appends after which blob files are looked for.
pub(super) const BLOBS_EVERY: u64 = 64;

/// Space below the bound at which dropping begins: what may be written before it is looked at again.
pub(super) const HEADROOM_BYTES: u64 = 512 << 10;

/// Space kept back so that a full disk still lets generations be opened and given back.
pub(super) const RESERVE_BYTES: u64 = 1 << 20;

/// Damaged generations kept for a person to look at.
pub(super) const QUARANTINE_ENTRIES_MAX: usize = 8;

/// They may take this part of the bound.
pub(super) const QUARANTINE_PART: u64 = 4;

/// How long sled's own lock is waited for: a dropped database lets go of it late.
pub(super) const DATABASE_LOCK_WAIT: Duration = Duration::from_secs(5);

/// Pause between two tries at it.
pub(super) const DATABASE_LOCK_PAUSE: Duration = Duration::from_millis(2);

/// How late sled's idle threads may wake: an hour, in nanoseconds.
pub(super) const POOL_TIMER_SLACK_NS: u64 = 3_600_000_000_000;

/// How often an owner tries the lock: somebody who only looks may hold it for a moment.
pub(super) const LOCK_TRIES: u32 = 20;

/// Pause between two tries.
pub(super) const LOCK_PAUSE: Duration = Duration::from_millis(5);

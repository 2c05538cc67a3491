//! Which file of a control group tells what, in both versions. Formats: the kernel's documentation,
//! admin-guide/cgroup-v2 and admin-guide/cgroup-v1. Names and help: cAdvisor's.

use agent_core::Metric;

/// A file of a group.
#[derive(Debug)]
pub(super) struct Source {
    /// Version 1: the controller's directory. Version 2 has only one.
    pub(super) controller: &'static str,
    pub(super) file: &'static str,
    pub(super) format: Format,
}

/// How a file is written, and what its numbers are.
#[derive(Debug)]
pub(super) enum Format {
    /// A number, divided by that.
    Number(Metric<'static>, f64),
    /// A number of bytes, or none: `max`, or more than there is memory in the world.
    Limit(Metric<'static>),
    /// Bytes in use; with the inactive file cache of [`Format::Fields`] they make the working set.
    Usage,
    /// Lines of a name and a number.
    Fields(&'static [Field]),
    /// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`
    IoV2,
    /// `8:0 Read 1`, and a line `8:0 Write 2`.
    IoV1 {
        /// What is counted of reads.
        reads: Metric<'static>,
        /// And of writes.
        writes: Metric<'static>,
    },
    /// `some … total=1` and `full … total=2`, in microseconds.
    Pressure {
        /// What `some` is.
        waiting: Metric<'static>,
        /// What `full` is.
        stalled: Metric<'static>,
    },
}

/// A line that counts.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) key: &'static str,
    pub(super) what: What,
}

/// What a line is.
#[derive(Debug)]
pub(super) enum What {
    /// A sample, divided by that.
    Sample(Metric<'static>, f64),
    /// Page faults, of this kind.
    Faults(&'static str),
    /// The file cache that could go at once.
    InactiveFile,
}

const NS: f64 = 1e9;
const US: f64 = 1e6;
/// What the kernel gives to user space as a second's ticks, on every architecture that we build for.
const TICKS: f64 = 100.0;
const ONE: f64 = 1.0;

macro_rules! metrics {
    ($($id:ident: $make:ident $name:literal, $help:literal;)*) => {
        $(pub(super) const $id: Metric<'static> = Metric::$make($name, $help);)*
    };
}

metrics! {
    CPU_USAGE: counter "container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.";
    CPU_USER: counter "container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.";
    CPU_SYSTEM: counter "container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.";
    CFS_PERIODS: counter "container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.";
    CFS_THROTTLED: counter "container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.";
    CFS_THROTTLED_TIME: counter "container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.";
    MEMORY_USAGE: gauge "container_memory_usage_bytes", "Current memory usage in bytes, including all memory regardless of when it was accessed";
    MEMORY_WORKING_SET: gauge "container_memory_working_set_bytes", "Current working set in bytes.";
    MEMORY_RSS: gauge "container_memory_rss", "Size of RSS in bytes.";
    MEMORY_CACHE: gauge "container_memory_cache", "Number of bytes of page cache memory.";
    MEMORY_MAPPED: gauge "container_memory_mapped_file", "Size of memory mapped files in bytes.";
    MEMORY_SWAP: gauge "container_memory_swap", "Container swap usage in bytes.";
    MEMORY_FAILURES: counter "container_memory_failures_total", "Cumulative count of memory allocation failures.";
    MEMORY_LIMIT: gauge "container_spec_memory_limit_bytes", "Memory limit for the container.";
    OOM_EVENTS: counter "container_oom_events_total", "Count of out of memory events observed for the container";
    THREADS: gauge "container_threads", "Number of threads running inside the container";
    READ_BYTES: counter "container_fs_reads_bytes_total", "Cumulative count of bytes read";
    WRITTEN_BYTES: counter "container_fs_writes_bytes_total", "Cumulative count of bytes written";
    READS: counter "container_fs_reads_total", "Cumulative count of reads completed";
    WRITES: counter "container_fs_writes_total", "Cumulative count of writes completed";
    CPU_WAITING: counter "container_pressure_cpu_waiting_seconds_total", "Total time duration tasks in the container have waited due to CPU congestion.";
    CPU_STALLED: counter "container_pressure_cpu_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to CPU congestion.";
    MEMORY_WAITING: counter "container_pressure_memory_waiting_seconds_total", "Total time duration tasks in the container have waited due to memory congestion.";
    MEMORY_STALLED: counter "container_pressure_memory_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to memory congestion.";
    IO_WAITING: counter "container_pressure_io_waiting_seconds_total", "Total time duration tasks in the container have waited due to IO congestion.";
    IO_STALLED: counter "container_pressure_io_stalled_seconds_total", "Total time duration no tasks in the container could make progress due to IO congestion.";
}

const fn sample(key: &'static str, metric: Metric<'static>, unit: f64) -> Field {
    Field { key, what: What::Sample(metric, unit) }
}

const fn source(controller: &'static str, file: &'static str, format: Format) -> Source {
    Source { controller, file, format }
}

/// Version 2: one directory a group.
pub(super) const V2: &[Source] = &[
    source(
        "",
        "cpu.stat",
        Format::Fields(&[
            sample("usage_usec", CPU_USAGE, US),
            sample("user_usec", CPU_USER, US),
            sample("system_usec", CPU_SYSTEM, US),
            sample("nr_periods", CFS_PERIODS, ONE),
            sample("nr_throttled", CFS_THROTTLED, ONE),
            sample("throttled_usec", CFS_THROTTLED_TIME, US),
        ]),
    ),
    source("", "memory.current", Format::Usage),
    source(
        "",
        "memory.stat",
        Format::Fields(&[
            sample("anon", MEMORY_RSS, ONE),
            sample("file", MEMORY_CACHE, ONE),
            sample("file_mapped", MEMORY_MAPPED, ONE),
            Field { key: "inactive_file", what: What::InactiveFile },
            Field { key: "pgfault", what: What::Faults("pgfault") },
            Field { key: "pgmajfault", what: What::Faults("pgmajfault") },
        ]),
    ),
    source("", "memory.swap.current", Format::Number(MEMORY_SWAP, ONE)),
    source("", "memory.max", Format::Limit(MEMORY_LIMIT)),
    source("", "memory.events", Format::Fields(&[sample("oom_kill", OOM_EVENTS, ONE)])),
    source("", "io.stat", Format::IoV2),
    source("", "pids.current", Format::Number(THREADS, ONE)),
    source("", "cpu.pressure", Format::Pressure { waiting: CPU_WAITING, stalled: CPU_STALLED }),
    source(
        "",
        "memory.pressure",
        Format::Pressure { waiting: MEMORY_WAITING, stalled: MEMORY_STALLED },
    ),
    source("", "io.pressure", Format::Pressure { waiting: IO_WAITING, stalled: IO_STALLED }),
];

/// Version 1: a directory a controller and group. It has no pressure.
pub(super) const V1: &[Source] = &[
    source("cpuacct", "cpuacct.usage", Format::Number(CPU_USAGE, NS)),
    source(
        "cpuacct",
        "cpuacct.stat",
        Format::Fields(&[sample("user", CPU_USER, TICKS), sample("system", CPU_SYSTEM, TICKS)]),
    ),
    source(
        "cpu",
        "cpu.stat",
        Format::Fields(&[
            sample("nr_periods", CFS_PERIODS, ONE),
            sample("nr_throttled", CFS_THROTTLED, ONE),
            sample("throttled_time", CFS_THROTTLED_TIME, NS),
        ]),
    ),
    source("memory", "memory.usage_in_bytes", Format::Usage),
    source(
        "memory",
        "memory.stat",
        Format::Fields(&[
            sample("total_rss", MEMORY_RSS, ONE),
            sample("total_cache", MEMORY_CACHE, ONE),
            sample("total_mapped_file", MEMORY_MAPPED, ONE),
            sample("total_swap", MEMORY_SWAP, ONE),
            Field { key: "total_inactive_file", what: What::InactiveFile },
            Field { key: "total_pgfault", what: What::Faults("pgfault") },
            Field { key: "total_pgmajfault", what: What::Faults("pgmajfault") },
        ]),
    ),
    source("memory", "memory.limit_in_bytes", Format::Limit(MEMORY_LIMIT)),
    source("memory", "memory.oom_control", Format::Fields(&[sample("oom_kill", OOM_EVENTS, ONE)])),
    source(
        "blkio",
        "blkio.throttle.io_service_bytes_recursive",
        Format::IoV1 { reads: READ_BYTES, writes: WRITTEN_BYTES },
    ),
    source(
        "blkio",
        "blkio.throttle.io_serviced_recursive",
        Format::IoV1 { reads: READS, writes: WRITES },
    ),
    source("pids", "pids.current", Format::Number(THREADS, ONE)),
];

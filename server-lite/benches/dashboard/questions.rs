//! Ten questions as dashboards of node_exporter ask them: panels of a host over the last hour, panels of a
//! fleet over three hours, and tables.

use xtask::fleet::{Kind, Question};

const HOUR_MS: i64 = 3_600_000;

/// A question and what it is called.
pub(crate) struct Asked {
    pub(crate) name: &'static str,
    pub(crate) question: Question,
    /// Of windows of samples VictoriaMetrics leaves out the first: their mean is another.
    pub(crate) is_of_window: bool,
}

/// All of them, up to a time that is a whole minute.
pub(crate) fn all(end_ms: i64) -> Vec<Asked> {
    let host = |name, query: &str| {
        let query = query.replace("HOST", "instance=\"host-7\"");
        let span = (end_ms - HOUR_MS, end_ms);
        Asked { name, question: Question::range(query, span, 15_000), is_of_window: false }
    };
    let fleet = |name, query: &str| {
        let span = (end_ms - 3 * HOUR_MS, end_ms);
        let is_of_window = query.contains("_over_time");
        Asked { name, question: Question::range(query, span, 60_000), is_of_window }
    };
    let now = |name, query: &str| {
        let question = Question::instant(query, end_ms);
        Asked { name, question, is_of_window: false }
    };
    vec![
        host("CPU by mode, a host", "sum by (mode) (rate(node_cpu_seconds_total{HOST}[5m]))"),
        host(
            "memory used %, a host",
            "100 * (1 - node_memory_MemAvailable_bytes{HOST} / node_memory_MemTotal_bytes{HOST})",
        ),
        host(
            "filesystems available %, a host",
            "100 * node_filesystem_avail_bytes{HOST,fstype!=\"tmpfs\"} \
             / node_filesystem_size_bytes{HOST,fstype!=\"tmpfs\"}",
        ),
        host(
            "disk IO, a host",
            "rate(node_disk_read_bytes_total{HOST}[5m]) + rate(node_disk_written_bytes_total{HOST}[5m])",
        ),
        host(
            "network, a host",
            "8 * rate(node_network_receive_bytes_total{HOST,device!=\"lo\"}[5m])",
        ),
        fleet("load, all hosts", "node_load1"),
        fleet(
            "network by host, all hosts",
            "sum by (instance) (rate(node_network_receive_bytes_total{device!=\"lo\"}[5m]))",
        ),
        fleet(
            "the five busiest, all hosts",
            "topk(5, 1 - avg by (instance) (rate(node_cpu_seconds_total{mode=\"idle\"}[5m])))",
        ),
        fleet("a quantile of means, all hosts", "quantile(0.95, avg_over_time(node_load5[10m]))"),
        now(
            "table of CPU use now, all hosts",
            "100 * (1 - avg by (instance) (rate(node_cpu_seconds_total{mode=\"idle\"}[5m])))",
        ),
    ]
}

/// How far numbers may lie apart, as a part of the larger. The ends of windows fall on samples here, so
/// that extrapolating (Prometheus, the hub) and not (VictoriaMetrics) come to the same.
pub(crate) fn tolerance(kind: &Kind, asked: &Asked) -> f64 {
    match (kind, asked.is_of_window) {
        (Kind::VictoriaMetrics, true) => 0.1,
        (Kind::VictoriaMetrics, false) => 1e-6,
        _ => 1e-9,
    }
}

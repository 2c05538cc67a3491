//! What a receiver takes at most, by name.

/// Bounds of a request. Those of memory hold while a message is read, before anything is set aside
/// for what exceeds them; [`labels::check`](crate::labels::check) applies those of labels to a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a message after decompression. Prometheus takes as many.
    pub message_bytes: usize,
    /// Series in a message.
    pub series: usize,
    /// Samples in a message, over all its series; histograms and exemplars count as samples.
    pub samples: usize,
    /// Labels in a message, over all its series.
    pub labels: usize,
    /// Strings in a 2.0 message's table.
    pub symbols: usize,
    /// Metric families that a 1.0 message describes.
    pub families: usize,
    /// Labels of one series, `__name__` among them.
    pub series_labels: usize,
    /// Bytes of a label's name.
    pub name_bytes: usize,
    /// Bytes of a label's value, and of a metric's name.
    pub value_bytes: usize,
}

impl Default for Limits {
    /// Far above what senders put into a request (Prometheus: 500 to 2 000 samples; vmagent: 10 000).
    /// A hostile message that exhausts all of them costs less than 200 MB while it is read.
    fn default() -> Self {
        Self {
            message_bytes: 32 << 20,
            series: 100_000,
            samples: 1_000_000,
            labels: 1_000_000,
            symbols: 500_000,
            families: 50_000,
            series_labels: 64,
            name_bytes: 1_024,
            value_bytes: 2_048,
        }
    }
}

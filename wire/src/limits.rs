//! Every bound of the protocol, by name. Both sides refuse what exceeds them.

/// Bytes of one ingest body as sent (compressed).
pub const REQUEST_BYTES_MAX: usize = 8 << 20;

/// Bytes of one ingest body after decompression.
pub const REQUEST_DECODED_BYTES_MAX: usize = 32 << 20;

/// Records in one ingest body.
pub const REQUEST_RECORDS_MAX: usize = 10_000;

/// Schemas in one ingest body.
pub const REQUEST_SCHEMAS_MAX: usize = 1_024;

/// Bytes of one record's payload (without its envelope).
pub const RECORD_PAYLOAD_BYTES_MAX: usize = 4 << 20;

/// Series in one tick, over all its schemas.
pub const TICK_SERIES_MAX: usize = 100_000;

/// Schemas in one tick (one for each collector that ran).
pub const TICK_SCHEMAS_MAX: usize = 512;

/// Series in one schema.
pub const SCHEMA_SERIES_MAX: usize = 50_000;

/// Bytes of a metric or label name.
pub const NAME_BYTES_MAX: usize = 256;

/// Bytes of a label value; collectors cut longer ones.
pub const LABEL_VALUE_BYTES_MAX: usize = 1_024;

/// Bytes of a metric's help text.
pub const HELP_BYTES_MAX: usize = 1_024;

/// Labels of one series.
pub const LABELS_MAX: usize = 32;

/// Bytes of a host name (Linux allows 64, DNS 253).
pub const HOSTNAME_BYTES_MAX: usize = 253;

/// Bytes of free text in a gap, a header or a heartbeat.
pub const TEXT_BYTES_MAX: usize = 1_024;

/// Bytes of a heartbeat body.
pub const HEARTBEAT_BYTES_MAX: usize = 64 << 10;

/// Addresses in one heartbeat.
pub const ADDRESSES_MAX: usize = 64;

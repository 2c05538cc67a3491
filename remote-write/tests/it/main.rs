//! The codec from outside: against another implementation, against bytes that were fixed once, and
//! against a real Prometheus.

mod bounds;
mod golden;
mod oracle;
mod prometheus;
mod round_trip;

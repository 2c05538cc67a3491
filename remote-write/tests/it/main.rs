//! The codec from outside: against another implementation, against bytes that were fixed once, and
//! against a real Prometheus.

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod prometheus;
#[cfg(test)]
mod round_trip;

//! The sinks as the agent uses them, each with a real far side.

#[cfg(test)]
mod conformance;
#[cfg(test)]
#[path = "../../src/fixture.rs"]
mod fixture;
#[cfg(test)]
mod http;
#[cfg(test)]
mod hub;
#[cfg(test)]
mod tls;

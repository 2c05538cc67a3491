//! What the journal hears of collectors: what changed, not every tick. What this machine doesn't have, and
//! what this user may not read, is one line each, however many collectors it is.

use std::collections::BTreeMap;

use crate::runner::Outcome;

/// What was said of each collector last, and what is to be said of this tick.
#[derive(Debug, Default)]
pub(crate) struct News {
    said: BTreeMap<String, String>,
    absent: Vec<String>,
    denied: Vec<String>,
}

impl News {
    /// Forgets all collectors but these.
    pub(crate) fn forget_but(&mut self, collectors: &[&str]) {
        self.said.retain(|name, _| collectors.contains(&name.as_str()));
    }

    /// Notes how a collector did; says so if that is different from the last time.
    pub(crate) fn note(&mut self, name: &str, outcome: &Outcome, remarks: &str) {
        let text = match outcome {
            Outcome::Collected => remarks,
            Outcome::Unavailable(what) | Outcome::Denied(what) | Outcome::Failed(what) => what,
            Outcome::Stuck => "beyond its deadline",
        };
        let before = self.said.get(name).map_or("", String::as_str);
        if text == before {
            return;
        }
        match outcome {
            Outcome::Collected if remarks.is_empty() => {
                tracing::info!(collector = name, "collector is back");
            }
            Outcome::Collected => {
                tracing::warn!(collector = name, remarks, "collector goes without a part");
            }
            Outcome::Unavailable(what) => {
                tracing::debug!(collector = name, what, "collector is unavailable on this host");
                self.absent.push(name.to_owned());
            }
            Outcome::Denied(what) => self.denied.push(format!("{name} ({what})")),
            Outcome::Failed(reason) => tracing::warn!(collector = name, reason, "collector failed"),
            Outcome::Stuck => {
                tracing::warn!(collector = name, "collector is stuck, skipped until it returns");
            }
        }
        self.said.insert(name.to_owned(), text.to_owned());
    }

    /// All collectors of a tick were noted: says what is said of several at once.
    pub(crate) fn end_tick(&mut self) {
        if !self.absent.is_empty() {
            let collectors = std::mem::take(&mut self.absent).join(", ");
            tracing::info!(
                collectors,
                "nothing to collect on this host, debug says what was missing"
            );
        }
        if !self.denied.is_empty() {
            let collectors = std::mem::take(&mut self.denied).join(", ");
            tracing::warn!(
                collectors,
                "this user may not read what these collect: give it the right, or switch them off"
            );
        }
    }
}

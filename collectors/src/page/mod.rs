//! `docs/collectors.md`: the registry as a page for people.
//!
//! Everything that the registry says comes from there. What it can't say stands beside it by hand:
//! [`notes`] has what a collector needs and how it differs from node_exporter's, [`node_exporter`]
//! which collectors node_exporter has, and which of them we leave out and why.

mod node_exporter;
mod notes;

use std::fmt::Write;

use agent_core::{Registration, collector::OptionSpec};

use crate::{REGISTRY, environment::UNFIT, find};

/// Whether node_exporter 1.5.0 has a collector of that name, and whether it is on there by default.
#[must_use]
pub fn node_exporter_default(name: &str) -> Option<bool> {
    node_exporter::find(name).map(|peer| peer.default_enabled)
}

const INTRODUCTION: &str = "\
# Collectors

What the agent reads, one section a collector. Names, labels, types and values are node_exporter 1.5.0's \
wherever it has the metric, so its dashboards and alert rules work unchanged.

Each has a table `[collectors.NAME]` in the configuration: `enabled` switches it on or off, `interval` lets \
it run less often than the agent ticks, and the options below are named as node_exporter's flags \
(`--collector.filesystem.mount-points-exclude` is `mount_points_exclude` in `[collectors.filesystem]`). \
Changes take effect on reload. `holdfast-agent once` runs what is on and prints it, `once --all-collectors` \
runs every one.

An `interval` is a whole multiple of the agent's own. The collector then runs in the first tick of each of \
its multiples by the wall clock, and once after a start or a reload; the ticks between carry none of its \
series, and `node_scrape_collector_…` tell of its last run. Rules and Prometheus take a series for gone \
after five minutes without a sample: beyond two minutes nothing that reads a rate has two of them.

What can't be right on a kind of host is off there by default, and `enabled = true` wins: see \
[below](#off-by-default-where-it-cant-be-right). The agent says at its start, and `check-config` at any \
time, what kind of host it takes this one for, and what is off for it.

What a machine lacks, or what the agent's user may not read, costs a look for its file a minute, and is said \
once: so without the rights named below the agent runs, and says what is missing.

This page is made from the registry in `collectors/src`; `UPDATE_GOLDEN=1 cargo test -p holdfast --test \
configuration_pages` writes it.
";

/// The page, in Markdown.
#[must_use]
pub fn page() -> String {
    let mut text = INTRODUCTION.to_owned();
    write_overview(&mut text);
    for line in REGISTRY {
        write_collector(&mut text, line);
    }
    write_unfit(&mut text);
    write_others(&mut text);
    text
}

fn write_overview(text: &mut String) {
    text.push_str("\n| collector | on | |\n|---|---|---|\n");
    for line in REGISTRY {
        let Registration { name, summary, .. } = line;
        let on = if line.default_enabled { "yes" } else { "no" };
        let _ = writeln!(text, "| [`{name}`](#{name}) | {on} | {} |", cell(summary));
    }
}

fn write_collector(text: &mut String, line: &Registration) {
    let _ = write!(text, "\n## {}\n\n{}\n\n", line.name, line.summary);
    let _ = writeln!(text, "- {}", default_in_words(line));
    let reads: Vec<String> = line.reads.iter().map(|read| format!("`{read}`")).collect();
    let _ = writeln!(text, "- Reads {}.", reads.join(", "));
    let note = notes::of(line.name);
    if let Some(needs) = note.and_then(|note| note.needs) {
        let _ = writeln!(text, "- Needs more than an ordinary user's rights: {needs}");
    }
    for difference in note.map_or(&[][..], |note| note.differences) {
        let _ = writeln!(text, "- Not as node_exporter: {difference}");
    }
    if !line.options.is_empty() {
        text.push_str("\n| option | default | |\n|---|---|---|\n");
        line.options.iter().for_each(|option| write_option(text, option));
    }
}

fn default_in_words(line: &Registration) -> String {
    let ours = if line.default_enabled { "On" } else { "Off" };
    let peer = match node_exporter::find(line.name) {
        None => "node_exporter has none",
        Some(peer) if peer.default_enabled == line.default_enabled => "as in node_exporter",
        Some(_) if line.default_enabled => "node_exporter's is off",
        Some(_) => "node_exporter's is on",
    };
    format!("{ours} by default; {peer}.")
}

fn write_option(text: &mut String, option: &OptionSpec) {
    let default = match option.default {
        "" => "empty".to_owned(),
        default => format!("`{}`", cell(default)),
    };
    let _ = writeln!(text, "| `{}` | {default} | {} |", option.key, cell(option.doc));
}

/// What the kind of host switches off.
fn write_unfit(text: &mut String) {
    text.push_str(
        "\n# Off by default where it can't be right\n\n| kind | collectors | because |\n|---|---|---|\n",
    );
    for unfit in UNFIT {
        let ours = unfit.collectors.iter().filter(|name| find(name).is_some());
        let names: Vec<String> = ours.map(|name| format!("`{name}`")).collect();
        if !names.is_empty() {
            let (kind, why) = (unfit.kind.as_str(), cell(unfit.why));
            let _ = writeln!(text, "| {kind} | {} | {why} |", names.join(", "));
        }
    }
}

/// node_exporter's collectors that are none of ours: left out with a reason, and those to come.
fn write_others(text: &mut String) {
    text.push_str(
        "\n# What node_exporter has and Holdfast leaves out\n\n| collector | why |\n|---|---|\n",
    );
    for (name, why) in node_exporter::LEFT_OUT {
        let _ = writeln!(text, "| `{name}` | {} |", cell(why));
    }
    let to_come: Vec<String> = node_exporter::to_come().map(|name| format!("`{name}`")).collect();
    if !to_come.is_empty() {
        let _ = write!(text, "\nNot there yet: {}.\n", to_come.join(", "));
    }
}

/// Text that keeps to one cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_collector_and_option_is_on_the_page() {
        let page = page();
        for line in REGISTRY {
            assert!(page.contains(&format!("\n## {}\n\n{}\n", line.name, line.summary)));
            for option in line.options {
                assert!(page.contains(&format!("\n| `{}` | ", option.key)), "{}", option.key);
            }
        }
    }

    #[test]
    fn tables_keep_their_shape() {
        let columns = |row: &str| row.replace("\\|", "").matches('|').count();
        for row in page().lines().filter(|line| line.starts_with('|')) {
            assert!([3, 4].contains(&columns(row)), "{row}");
        }
    }
}

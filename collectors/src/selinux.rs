//! Whether SELinux is on: `/sys/fs/selinux`.

use std::path::PathBuf;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::sysfs::Attributes;

pub(crate) const REGISTRATION: Registration = Registration {
    name: "selinux",
    summary: "Whether SELinux is on, and whether it enforces.",
    reads: &["/sys/fs/selinux", "/etc/selinux/config"],
    default_enabled: true,
    options: &[],
    build,
};

const ENABLED: Metric<'_> =
    Metric::gauge("node_selinux_enabled", "SELinux is enabled, 1 is true, 0 is false");
const CONFIG_MODE: Metric<'_> =
    Metric::gauge("node_selinux_config_mode", "Configured SELinux enforcement mode");
const CURRENT_MODE: Metric<'_> =
    Metric::gauge("node_selinux_current_mode", "Current SELinux enforcement mode");

const ENFORCING: f64 = 1.0;
const PERMISSIVE: f64 = 0.0;
const DISABLED: f64 = -1.0;

struct Selinux {
    directory: PathBuf,
    config: PathBuf,
    attributes: Attributes,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Selinux {
        directory: context.roots.sys("fs/selinux"),
        config: context.roots.root("/etc/selinux"),
        attributes: Attributes::default(),
    }))
}

impl Collector for Selinux {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Some(current) = self.attributes.number(&self.directory, "enforce") else {
            out.push(&ENABLED, &[], 0.0);
            return Ok(());
        };
        let config = self.attributes.text(&self.config, "config").map_or(DISABLED, config_mode);
        out.push(&ENABLED, &[], 1.0);
        out.push(&CONFIG_MODE, &[], config);
        out.push(&CURRENT_MODE, &[], current);
        Ok(())
    }
}

/// The value of the line `SELINUX=`.
fn config_mode(text: &str) -> f64 {
    let mode = text.lines().rev().find_map(|line| line.trim_ascii().strip_prefix("SELINUX="));
    match mode.map(str::trim_ascii) {
        Some("enforcing") => ENFORCING,
        Some("permissive") => PERMISSIVE,
        _ => DISABLED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_mode_is_a_number() {
        let check = |text: &str, expected: f64| assert_eq!(config_mode(text), expected);
        check("# SELINUX= can be\nSELINUX=enforcing\nSELINUXTYPE=targeted\n", ENFORCING);
        check("SELINUX=permissive", PERMISSIVE);
        check("SELINUX=disabled", DISABLED);
        check("", DISABLED);
    }
}

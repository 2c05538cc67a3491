//! Bonds of network interfaces: `/sys/class/net/bonding_masters`, and each bond's `bonding/slaves`.

use std::path::{Path, PathBuf};

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::attribute::{Attribute, Page};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "bonding",
    summary: "Interfaces that a bond has, and how many of them are up.",
    reads: &["/sys/class/net"],
    default_enabled: true,
    options: &[],
    build,
};

const SLAVES: Metric<'_> =
    Metric::gauge("node_bonding_slaves", "Number of configured slaves per bonding interface.");
const ACTIVE: Metric<'_> =
    Metric::gauge("node_bonding_active", "Number of active slaves per bonding interface.");

struct Bonding {
    directory: PathBuf,
    masters: Attribute,
    /// The text of `masters` that the bonds were made of.
    seen: String,
    bonds: Vec<Bond>,
    page: Page,
}

struct Bond {
    name: String,
    directory: PathBuf,
    slaves: Attribute,
    /// The text of `slaves` that the states were made of.
    seen: String,
    states: Vec<Attribute>,
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let directory = context.roots.sys("class/net");
    let masters = Attribute::new(directory.join("bonding_masters"));
    let (seen, bonds, page) = (String::new(), Vec::new(), Page::default());
    Ok(Box::new(Bonding { directory, masters, seen, bonds, page }))
}

impl Collector for Bonding {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let Self { directory, masters, seen, bonds, page } = self;
        let names = masters.read(page);
        let names = names.map_err(|error| CollectError::from_io(masters.path(), &error))?;
        if seen != names {
            names.clone_into(seen);
            *bonds =
                names.split_ascii_whitespace().map(|name| Bond::new(name, directory)).collect();
        }
        if bonds.is_empty() {
            return Err(CollectError::unavailable("no bond"));
        }
        for bond in bonds {
            let (slaves, active) = bond.count(page)?;
            let labels = [("master", &*bond.name)];
            out.push(&SLAVES, &labels, slaves as f64);
            out.push(&ACTIVE, &labels, active as f64);
        }
        Ok(())
    }
}

impl Bond {
    fn new(name: &str, directory: &Path) -> Self {
        let directory = directory.join(name);
        let slaves = Attribute::new(directory.join("bonding/slaves"));
        Self { name: name.to_owned(), directory, slaves, seen: String::new(), states: Vec::new() }
    }

    /// How many interfaces there are, and how many of them are up. An interface of which that can't be
    /// read is an error: to count it as down would raise an alarm.
    fn count(&mut self, page: &mut Page) -> Result<(usize, usize), CollectError> {
        let names = read(&mut self.slaves, page)?;
        if self.seen != names {
            names.clone_into(&mut self.seen);
            let names = self.seen.split_ascii_whitespace();
            self.states = names.map(|slave| state(&self.directory, slave)).collect();
        }
        let mut active = 0;
        for state in &mut self.states {
            active += usize::from(read(state, page)? == "up");
        }
        Ok((self.states.len(), active))
    }
}

fn state(bond: &Path, slave: &str) -> Attribute {
    let path = |prefix: &str| bond.join(format!("{prefix}_{slave}/bonding_slave/mii_status"));
    let lower = path("lower");
    // kernels before 3.18
    Attribute::new(if lower.exists() { lower } else { path("slave") })
}

fn read<'p>(attribute: &mut Attribute, page: &'p mut Page) -> Result<&'p str, CollectError> {
    let text = attribute.read(page);
    text.map_err(|error| CollectError::failed(attribute.path().display().to_string(), error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn interfaces_come_and_go() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let write = |name: &str, text: &str| {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), text).unwrap();
        };
        let mut bonding = Bonding {
            directory: root.path().to_owned(),
            masters: Attribute::new(path("bonding_masters")),
            seen: String::new(),
            bonds: Vec::new(),
            page: Page::default(),
        };
        let mut out = Samples::new("bonding");
        let mut check = |expected: Result<&[f64], &str>| {
            out.clear();
            let got = bonding.collect(&mut out).map(|()| out.finish().1.to_vec());
            let shown = root.path().display().to_string();
            let got = got.map_err(|error| error.to_string().replace(&shown, "NET"));
            assert_eq!(got, expected.map(<[f64]>::to_vec).map_err(str::to_owned));
        };
        check(Err("unavailable: NET/bonding_masters: No such file or directory (os error 2)"));
        write("bonding_masters", "\n");
        check(Err("unavailable: no bond"));
        write("bonding_masters", "bond0\n");
        check(Err("NET/bond0/bonding/slaves: No such file or directory (os error 2)"));
        write("bond0/bonding/slaves", "");
        check(Ok(&[0.0, 0.0]));
        write("bond0/lower_eth0/bonding_slave/mii_status", "up\n");
        write("bond0/slave_eth1/bonding_slave/mii_status", "going down\n");
        write("bond0/bonding/slaves", "eth0 eth1\n");
        check(Ok(&[2.0, 1.0]));
        write("bond0/slave_eth1/bonding_slave/mii_status", "up\n");
        check(Ok(&[2.0, 2.0]));
        write("bond0/bonding/slaves", "eth0 eth1 eth2\n");
        check(Err(
            "NET/bond0/slave_eth2/bonding_slave/mii_status: No such file or directory (os error 2)",
        ));
        write("bonding_masters", "\n");
        check(Err("unavailable: no bond"));
    }
}

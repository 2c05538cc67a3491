//! What system this is: uname(2), of the namespace that the agent runs in, as node_exporter does.

use std::ffi::OsStr;

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};
use nix::sys::utsname;

pub(crate) const REGISTRATION: Registration = Registration {
    name: "uname",
    summary: "Names and versions of host and kernel.",
    reads: &["uname(2)"],
    default_enabled: true,
    options: &[],
    build,
};

const INFO: Metric<'_> = Metric::gauge(
    "node_uname_info",
    "Labeled system information as provided by the uname system call.",
);

struct Uname;

fn build(_: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    Ok(Box::new(Uname))
}

impl Collector for Uname {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        let uname = utsname::uname().map_err(|error| CollectError::failed("uname", error))?;
        let names = [
            ("domainname", uname.domainname()),
            ("machine", uname.machine()),
            ("nodename", uname.nodename()),
            ("release", uname.release()),
            ("sysname", uname.sysname()),
            ("version", uname.version()),
        ];
        let texts = names.map(|(_, name)| OsStr::to_string_lossy(name));
        let mut labels = [("", ""); 6];
        for ((label, (key, _)), text) in labels.iter_mut().zip(names).zip(&texts) {
            *label = (key, text);
        }
        out.push(&INFO, &labels, 1.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_kernel_says_the_same_in_proc() {
        let mut out = Samples::new("uname");
        Uname.collect(&mut out).unwrap();
        let (schema, values) = out.finish();
        assert_eq!(values, [1.0]);
        let labels = &schema.schema.series[0].labels;
        let check = |label: &str, file: &str| {
            let expected = fs::read_to_string(format!("/proc/sys/kernel/{file}")).unwrap();
            let found = labels.iter().find(|(name, _)| name == label).unwrap();
            assert_eq!(found.1, expected.trim_end());
        };
        check("domainname", "domainname");
        check("nodename", "hostname");
        check("release", "osrelease");
        check("sysname", "ostype");
        check("version", "version");
    }
}

//! The kernel's pool of entropy: `/proc/sys/kernel/random`.

use agent_core::{
    CollectError, Collector, Metric, Registration, Samples,
    collector::{BuildError, Context},
};

use crate::{parse::Words, reader::KeptFile};

pub(crate) const REGISTRATION: Registration = Registration {
    name: "entropy",
    summary: "Bits of entropy that the kernel has, and its pool's size.",
    reads: &["/proc/sys/kernel/random"],
    default_enabled: true,
    options: &[],
    build,
};

const FILES: [(&str, Metric<'_>); 2] = [
    ("entropy_avail", Metric::gauge("node_entropy_available_bits", "Bits of available entropy.")),
    ("poolsize", Metric::gauge("node_entropy_pool_size_bits", "Bits of entropy pool.")),
];

struct Entropy {
    files: [KeptFile; FILES.len()],
}

fn build(context: &Context<'_>) -> Result<Box<dyn Collector>, BuildError> {
    let file = |(name, _)| KeptFile::new(context.roots.proc("sys/kernel/random").join(name));
    Ok(Box::new(Entropy { files: FILES.map(file) }))
}

impl Collector for Entropy {
    fn collect(&mut self, out: &mut Samples) -> Result<(), CollectError> {
        for ((_, metric), file) in FILES.iter().zip(&mut self.files) {
            let text = file.text()?;
            let bits = Words::new(1, text.content).number("bits");
            out.push(metric, &[], bits.map_err(|error| text.malformed(&error))? as f64);
        }
        Ok(())
    }
}

//! node_exporter beside us: only what is compared, asked over HTTP as it is made to be asked.

use std::{
    fs,
    hint::black_box,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use agent_core::Roots;
use criterion::Criterion;

const EXPORTER: &str = "prometheus-node-exporter";

/// Whether it has a collector of that name.
pub(crate) fn is_shared(name: &str) -> bool {
    collectors::node_exporter_default(name).is_some()
}

/// Our default set, as far as it has it.
pub(crate) fn defaults() -> Vec<&'static str> {
    let names = collectors::REGISTRY.iter().filter(|line| line.default_enabled);
    names.map(|line| line.name).filter(|name| is_shared(name)).collect()
}

/// node_exporter, running until it is dropped.
pub(crate) struct Exporter {
    child: Child,
    address: SocketAddr,
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Exporter {
    /// One with these collectors alone; `None`, and said, where it isn't installed.
    pub(crate) fn start(roots: &Roots, names: &[&str]) -> Option<Self> {
        let address = TcpListener::bind(("127.0.0.1", 0)).ok()?.local_addr().ok()?;
        let mut command = Command::new(EXPORTER);
        command.arg(format!("--web.listen-address={address}"));
        command.args(["--web.disable-exporter-metrics", "--collector.disable-defaults"]);
        command.args(names.iter().map(|name| format!("--collector.{name}")));
        let Roots { procfs, sysfs, rootfs } = roots;
        let udev = rootfs.join("run/udev/data");
        for (flag, path) in
            [("procfs", procfs), ("sysfs", sysfs), ("rootfs", rootfs), ("udev.data", &udev)]
        {
            command.arg(format!("--path.{flag}={}", path.display()));
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let Ok(child) = child else {
            println!("SKIPPED: {EXPORTER} is not here (apt-get install {EXPORTER})");
            return None;
        };
        let exporter = Self { child, address };
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if exporter.scrape().is_ok() {
                return Some(exporter);
            }
            thread::sleep(Duration::from_millis(10));
        }
        println!("SKIPPED: {EXPORTER} does not answer");
        None
    }

    /// Bytes of the page.
    pub(crate) fn scrape(&self) -> io::Result<usize> {
        let mut stream = TcpStream::connect(self.address)?;
        write!(stream, "GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)
    }

    /// CPU time of all its threads, as the scheduler accounts it.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let of_task = |path: PathBuf| -> Option<u64> {
            let text = fs::read_to_string(path.join("schedstat")).ok()?;
            text.split_ascii_whitespace().next()?.parse().ok()
        };
        let tasks = tasks.into_iter().flatten().flatten();
        Duration::from_nanos(tasks.filter_map(|task| of_task(task.path())).sum())
    }

    pub(crate) fn bench(&self, criterion: &mut Criterion, name: &str) {
        criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let before = self.cpu();
                (0..times).for_each(|_| _ = black_box(self.scrape()));
                self.cpu().saturating_sub(before)
            });
        });
    }
}

use std::{collections::BTreeMap, fmt::Write as _};

use agent_core::Roots;
use nix::{sys::stat::Mode, unistd::mkfifo};

use super::*;

struct Directory(tempfile::TempDir, Box<dyn Collector>, Samples);

impl Directory {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display().to_string();
        let options = BTreeMap::from([("directory".to_owned(), path)]);
        let context =
            Context { roots: &Roots::default(), options: &options, registration: &REGISTRATION };
        let collector = build(&context).unwrap();
        Self(directory, collector, Samples::new("textfile"))
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    /// A tick: what was left out, and every series but the times.
    fn tick(&mut self) -> (String, String) {
        self.2.clear();
        self.1.collect(&mut self.2).unwrap();
        let remarks = self.tidy(&self.2.remarks());
        let (schema, values) = self.2.finish();
        let mut shown = String::new();
        for ((family, labels), value) in schema.schema.iter().zip(values) {
            let value =
                if family.name == MTIME.name { "…".to_owned() } else { value.to_string() };
            let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let (kind, labels) = (family.kind.as_str(), labels.join(","));
            writeln!(shown, "{}{{{labels}}} {kind} {value} {}", family.name, family.help).unwrap();
        }
        assert!(self.2.fault().is_none());
        (remarks, self.tidy(&shown).replace(ERROR.help, "E").replace(MTIME.help, "M"))
    }

    fn tidy(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }

    fn check(&mut self, remarks: &str, series: &str) {
        let (got_remarks, got) = self.tick();
        assert_eq!(got_remarks, remarks);
        assert_eq!(got, series);
        // and the same from what was kept
        assert_eq!(self.tick(), (got_remarks, got));
    }
}

#[test]
fn files_come_change_and_go() {
    let mut directory = Directory::new();
    directory.check("", "node_textfile_scrape_error{} gauge 0 E\n");
    directory.write("b.prom", "b 1\n");
    directory.write("a.prom", "# HELP a A.\n# TYPE a counter\na{x=\"1\"} 1\na 2\n");
    directory.write("not.prom.tmp", "x 1\n");
    directory.check(
        "",
        "a{x=1} counter 1 A.\na{} counter 2 A.\nb{} untyped 1 Metric read from b.prom\n\
         node_textfile_mtime_seconds{file=a.prom} gauge … M\n\
         node_textfile_mtime_seconds{file=b.prom} gauge … M\n\
         node_textfile_scrape_error{} gauge 0 E\n",
    );
    directory.write("b.prom", "b 2\n");
    fs::remove_file(directory.0.path().join("a.prom")).unwrap();
    directory.check(
        "",
        "b{} untyped 2 Metric read from b.prom\n\
         node_textfile_mtime_seconds{file=b.prom} gauge … M\n\
         node_textfile_scrape_error{} gauge 0 E\n",
    );
}

#[test]
fn a_bad_file_is_left_out_whole_and_told() {
    let mut directory = Directory::new();
    directory.write("a.prom", "a 1\na 1 1441205977284\n");
    directory.write("b.prom", "b 1\n");
    directory.write("c.prom", b"c{d=\"\xff\"} 1\n");
    directory.write("d.prom", "d 1");
    mkfifo(&directory.0.path().join("e.prom"), Mode::S_IRWXU).unwrap();
    fs::create_dir(directory.0.path().join("f.prom")).unwrap();
    directory.check(
        "e.prom: not a regular file; f.prom: not a regular file; \
         a.prom: line 2, timestamp: a tick has one time: write samples without timestamps; \
         c.prom: byte 5: not UTF-8; \
         d.prom: line 1, end: no line feed at the end of the file: is it still being written?",
        "b{} untyped 1 Metric read from b.prom\n\
         node_textfile_mtime_seconds{file=b.prom} gauge … M\n\
         node_textfile_scrape_error{} gauge 1 E\n",
    );
}

#[test]
fn where_files_disagree_the_first_one_stands() {
    let mut directory = Directory::new();
    directory.write("a.prom", "a{x=\"1\"} 1\na{x=\"1\"} 2\nb 1\n");
    directory.write(
        "b.prom",
        "# HELP a Late.\na{x=\"1\",y=\"\"} 3\na{x=\"2\"} 4\n# TYPE b gauge\nb 5\n",
    );
    directory.write("c.prom", "# HELP a Later.\na 6\nnode_textfile_scrape_error 7\n");
    directory.check(
        "a.prom: a{x=\"1\"} is there twice: the first one stands; \
         b.prom: a{x=\"1\"} is there twice: the first one stands; \
         b.prom: b is gauge here, untyped in a.prom; \
         c.prom: node_textfile_scrape_error is the agent's own",
        "a{x=1} untyped 1 Late.\na{x=2} untyped 4 Late.\na{} untyped 6 Late.\n\
         b{} untyped 1 Metric read from a.prom\n\
         node_textfile_mtime_seconds{file=a.prom} gauge … M\n\
         node_textfile_mtime_seconds{file=b.prom} gauge … M\n\
         node_textfile_mtime_seconds{file=c.prom} gauge … M\n\
         node_textfile_scrape_error{} gauge 1 E\n",
    );
}

#[test]
fn series_bytes_and_files_are_bounded() {
    let mut directory = Directory::new();
    let many: String = (0..SERIES_MAX).map(|n| format!("a{{n=\"{n}\"}} 1\n")).collect();
    directory.write("a.prom", &many);
    directory.write("b.prom", "b 1\n");
    let (remarks, series) = directory.tick();
    assert_eq!(remarks, "b.prom: line 1, series: more than there may be");
    assert_eq!(series.lines().count(), SERIES_MAX + 2);

    directory.write("a.prom", "#".repeat(BYTES_MAX) + "\n");
    let (remarks, series) = directory.tick();
    assert_eq!(remarks, "a.prom: all files together are larger than 4 MiB");
    assert!(series.starts_with("b{} untyped 1"), "{series}");

    for number in 0..FILES_MAX {
        directory.write(&format!("c{number}.prom"), "");
    }
    let (remarks, _) = directory.tick();
    assert!(remarks.ends_with("beyond the 256 files that there may be"), "{remarks}");
    assert!(directory.2.len() <= FILES_MAX + 2);
}

#[test]
fn an_absent_directory_is_an_error_of_files_only() {
    let mut directory = Directory::new();
    fs::remove_dir(directory.0.path()).unwrap();
    let (remarks, series) = directory.tick();
    assert!(remarks.ends_with("No such file or directory (os error 2)"), "{remarks}");
    assert_eq!(series, "node_textfile_scrape_error{} gauge 1 E\n");
}

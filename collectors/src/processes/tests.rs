use std::{collections::BTreeMap, fs};

use agent_core::Roots;
use proptest::prelude::*;

use super::*;
use crate::testing::kernel_text;

const STAT: &str = "17 (a (b) c) S 1 17 17 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 99 1 2 3\n";

#[test]
fn a_line_is_read_or_the_place_is_named() {
    let check = |text: &[u8], expected: Result<(u8, u64), &str>| {
        let got = parse(text).map(|stat| (stat.state, stat.threads));
        assert_eq!(got.map_err(|e| e.to_string()), expected.map_err(str::to_owned));
    };
    check(STAT.as_bytes(), Ok((b'S', 3)));
    check(b"1 (\xff) Z 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1", Ok((b'Z', 1)));
    check(b"", Err("line 1, name: not in parentheses"));
    check(b"1 (a)", Err("line 1, state: missing"));
    check(b"1 (a) SS", Err("line 1, state: not a letter"));
    check(b"1 (a) S 1 2", Err("line 1, a field between state and threads: missing"));
    check(
        b"1 (a) S 1 17 17 0 -1 4 1 2 3 4 5 6 7 8 20 0 x",
        Err("line 1, threads: \"x\" is not a number, or too large"),
    );
    check(b"1 (a) \xff", Err("line 1, fields: not UTF-8"));
}

struct Proc(tempfile::TempDir, Box<dyn Collector>);

impl Proc {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let roots = Roots { procfs: directory.path().to_owned(), ..Roots::default() };
        let options = BTreeMap::new();
        let context = Context { roots: &roots, options: &options, registration: &REGISTRATION };
        let collector = build(&context).unwrap();
        let proc = Self(directory, collector);
        proc.write("sys/kernel/pid_max", "4194304\n");
        proc.write("sys/kernel/threads-max", "254000\n");
        proc
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn add(&self, path: &str, state: char, threads: u32) {
        let between = "1 ".repeat(FIELDS_BETWEEN);
        self.write(&format!("{path}/stat"), &format!("1 (a) {state} {between}{threads} 0\n"));
    }

    fn check(&mut self, expected: Result<&str, &str>) {
        let mut out = Samples::new("processes");
        let got = self.1.collect(&mut out).map(|()| {
            let (schema, values) = out.finish();
            let there = schema.schema.iter().zip(values).filter(|(_, value)| **value > 0.0);
            let series = there.map(|((family, labels), value)| {
                let name = family.name.trim_start_matches("node_processes_");
                let state = labels.first().map_or("", |(_, state)| state.as_str());
                format!("{name}{state} {value}")
            });
            series.collect::<Vec<_>>().join(", ")
        });
        let shown = format!("{}/", self.0.path().display());
        let got = got.map_err(|error| error.to_string().replace(&shown, ""));
        assert_eq!(got, expected.map(str::to_owned).map_err(str::to_owned));
    }
}

#[test]
fn processes_and_threads_are_counted() {
    let mut proc = Proc::new();
    proc.check(Ok("max_threads 254000, max_processes 4194304"));
    proc.add("1", 'S', 1);
    proc.add("42", 'R', 3);
    proc.add("42/task/42", 'R', 3);
    proc.add("42/task/43", 'S', 3);
    proc.add("42/task/44", 'D', 3);
    // gone meanwhile
    fs::create_dir(proc.0.path().join("77")).unwrap();
    proc.write("not-a-pid/stat", "");
    proc.check(Ok("threads 4, max_threads 254000, stateR 1, stateS 1, threads_stateD 1, \
                   threads_stateR 1, threads_stateS 2, pids 2, max_processes 4194304"));
}

#[test]
fn known_states_have_series_always() {
    let mut proc = Proc::new();
    let mut out = Samples::new("processes");
    proc.1.collect(&mut out).unwrap();
    assert_eq!(out.len(), 4 + 2 * STATES.len());
}

#[test]
fn what_is_wrong_is_named() {
    let mut proc = Proc::new();
    proc.write("8/stat", "8 (a) S\n");
    proc.check(Err("8/stat: line 1, a field between state and threads: missing"));
    proc.add("8", 'S', 2);
    proc.write("8/task/9/stat", "9\n");
    proc.check(Err("8/task/9/stat: line 1, name: not in parentheses"));
    let mut proc = Proc::new();
    fs::remove_file(proc.0.path().join("sys/kernel/pid_max")).unwrap();
    proc.check(Err("unavailable: sys/kernel/pid_max: No such file or directory (os error 2)"));
}

#[test]
fn reads_are_bounded() {
    let proc = Proc::new();
    proc.add("3", 'S', 1);
    let directory = Directory::open(proc.0.path()).unwrap();
    let mut scan = Scan::new();
    assert!(scan.one(&directory, 3).unwrap_err().1.starts_with("more than 100000 processes"));
}

proptest! {
    #[test]
    fn any_text_is_refused_or_read(text in kernel_text(STAT)) {
        let _ = parse(text.as_bytes());
    }
}

//! Every script of the corpus, and that the runner notices what is wrong.

use std::{fs, path::Path};

use promql::script;

#[test]
fn the_corpus_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut passed = 0;
    let mut failures = Vec::new();
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for outcome in script::run(&fs::read_to_string(&path).unwrap()) {
            match outcome.failure {
                None => passed += 1,
                Some(failure) => {
                    failures
                        .push(format!("{name}:{} {}: {failure}", outcome.line, outcome.command));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(passed > 400, "only {passed} evaluations in the corpus");
}

/// Runs a script against `a` = 0, 1, 2, … and tells what its last command's failure says.
fn failure(command: &str) -> String {
    let script = format!("load 1m\n  a 0+1x10\n  b{{l=\"x\"}} 5\n\n{command}");
    let outcome = script::run(&script).pop().expect("an outcome");
    outcome.failure.unwrap_or_else(|| "passed".to_owned())
}

#[test]
fn the_runner_notices_what_is_wrong() {
    let check = |command: &str, expected: &str| {
        let found = failure(command);
        assert!(found.contains(expected), "{command}\nfound: {found}\nexpected: {expected}");
    };
    check("eval instant at 1m a\n  a 1", "passed");
    check("eval instant at 1m a\n  a 2", "got a 1@60s");
    check("eval instant at 1m a", "got unexpected a");
    check("eval instant at 1m a\n  a 1\n  b 1", "missing: b");
    check("eval instant at 1m a\n  c 1", "got unexpected a");
    check("eval instant at 1m 7\n  7", "passed");
    check("eval instant at 1m 7\n  8", "got the scalar 7");
    check("eval instant at 1m \"x\"\n  expect string \"y\"", "got the text");
    check("eval_fail instant at 1m a", "expected a failure");
    check("eval instant at 1m a +\n  expect fail", "passed");
    check("eval instant at 1m a\n  expect fail msg: nothing", "expected a failure");
    check(
        "eval_fail instant at 1m a + on() {__name__=~\".+\"}\n  expected_fail_message x",
        "other words",
    );
    check("eval range from 0 to 2m step 1m a\n  a 0 1 2", "passed");
    check("eval range from 0 to 2m step 1m a\n  a 0 1 3", "got a 0@0s 1@60s 2@120s");
    check("eval range from 0 to 2m step 1m a\n  a 0 1", "got a 0@0s");
    check("eval_ordered instant at 1m sort({__name__=~\".+\"})\n  a 1\n  b{l=\"x\"} 5", "passed");
    check(
        "eval_ordered instant at 1m sort({__name__=~\".+\"})\n  b{l=\"x\"} 5\n  a 1",
        "in this order",
    );
    check(
        "eval instant at 3m a[2m]\n  expect range vector from 1m to 3m step 1m\n  a 1 2 3",
        "passed",
    );
    check("eval_warn instant at 1m a", "not supported");
    check("reload", "not a command");
    check("load x", "not a time");
}

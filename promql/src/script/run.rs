//! Commands carried out: samples loaded, queries asked, answers compared.

use crate::{
    error::Error,
    limits::Limits,
    memory::Memory,
    query::{Query, Settings, Steps, Value},
    script::{
        Outcome,
        compare::{self, Expected},
        lines::Block,
        notation::{self, Described},
    },
    source::Sample,
};

/// What a script has loaded so far.
#[derive(Default)]
pub(super) struct Session {
    memory: Memory,
}

/// When a query is asked.
enum When {
    Instant(i64),
    Range(Steps),
}

impl Session {
    /// Carries out one command; loading says something only when it fails.
    pub(super) fn run(&mut self, block: &Block<'_>) -> Option<Outcome> {
        let words: Vec<_> = block.command.split_whitespace().collect();
        let (result, tells) = match *words {
            ["clear"] => {
                self.memory = Memory::default();
                (Ok(()), false)
            }
            ["load" | "load_with_nhcb", interval] => (self.load(interval, &block.body), false),
            [eval, ..] if eval == "eval" || eval.starts_with("eval_") => (self.eval(block), true),
            _ => (Err("not a command that is known here".to_owned()), true),
        };
        let failure = result.err();
        let (line, command) = (block.line, block.command.to_owned());
        (tells || failure.is_some()).then_some(Outcome { line, command, failure })
    }

    fn load(&mut self, interval: &str, body: &[&str]) -> Result<(), String> {
        let interval_ms = notation::time_ms(interval)?;
        let mut wrong = None;
        for line in body {
            match notation::series(line) {
                Ok(described) => self.add(described, interval_ms),
                // the others may be all that the evaluations need
                Err(message) => wrong = wrong.or(Some(message)),
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    fn add(&mut self, described: Described, interval_ms: i64) {
        let times = (0..).map(|step: i64| step * interval_ms);
        let samples = times.zip(described.values);
        let samples =
            samples.filter_map(|(time_ms, value)| Some(Sample { time_ms, value: value? }));
        self.memory.add(described.labels, samples);
    }

    fn eval(&self, block: &Block<'_>) -> Result<(), String> {
        let (command, rest) = block.command.split_once(char::is_whitespace).unwrap_or_default();
        let (when, text) = when(rest.trim())?;
        let expected = Expected::read(command, &block.body)?;
        let answer = self.answer(text, &when);
        let Some(steps) = compare::answer(answer, &expected, &when_steps(&when))? else {
            return Ok(());
        };
        if text.contains("start()") || text.contains("end()") {
            return Ok(());
        }
        // one step of many must be what it is alone
        let around = self.range(text, steps).map_err(|error| format!("as a range: {error}"))?;
        compare::middle(around, &expected, &steps).map_err(|error| format!("as a range: {error}"))
    }

    fn answer(&self, text: &str, when: &When) -> Result<Value, Error> {
        match when {
            When::Range(steps) => self.range(text, *steps).map(Value::Matrix),
            When::Instant(time_ms) => {
                let query = Query::parse(text)?;
                query.instant(&self.memory, *time_ms, &settings(), &|| Ok(()))
            }
        }
    }

    fn range(&self, text: &str, steps: Steps) -> Result<Vec<crate::SeriesSamples>, Error> {
        Query::parse(text)?.range(&self.memory, steps, &settings(), &|| Ok(()))
    }
}

/// Prometheus's own settings, with less room: a slip in a script shouldn't take the machine.
fn settings() -> Settings {
    let limits = Limits { samples_max: 2_000_000, ..Limits::default() };
    Settings { limits, ..Settings::default() }
}

/// The steps that a line's values stand for.
fn when_steps(when: &When) -> Steps {
    match when {
        When::Range(steps) => *steps,
        When::Instant(time_ms) => Steps { start_ms: *time_ms, end_ms: *time_ms, step_ms: 60_000 },
    }
}

/// `instant at T EXPR` or `range from A to B step C EXPR`.
fn when(text: &str) -> Result<(When, &str), String> {
    let mut rest = text;
    match word(&mut rest)? {
        "instant" => {
            keyword(&mut rest, "at")?;
            let time_ms = notation::time_ms(word(&mut rest)?)?;
            Ok((When::Instant(time_ms), rest))
        }
        "range" => {
            let steps = steps(&mut rest)?;
            Ok((When::Range(steps), rest))
        }
        other => Err(format!("expected `instant` or `range`, found {other}")),
    }
}

/// `from A to B step C`.
pub(super) fn steps(rest: &mut &str) -> Result<Steps, String> {
    keyword(rest, "from")?;
    let start_ms = notation::time_ms(word(rest)?)?;
    keyword(rest, "to")?;
    let end_ms = notation::time_ms(word(rest)?)?;
    keyword(rest, "step")?;
    let step_ms = notation::time_ms(word(rest)?)?;
    if step_ms <= 0 || end_ms < start_ms {
        return Err("a range needs a positive step and an end after its start".to_owned());
    }
    Ok(Steps { start_ms, end_ms, step_ms })
}

fn keyword(rest: &mut &str, wanted: &str) -> Result<(), String> {
    let found = word(rest)?;
    if found == wanted { Ok(()) } else { Err(format!("expected `{wanted}`, found {found}")) }
}

fn word<'a>(rest: &mut &'a str) -> Result<&'a str, String> {
    let text = rest.trim_start();
    let (found, after) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    *rest = after.trim_start();
    if found.is_empty() { Err("the line ends too early".to_owned()) } else { Ok(found) }
}

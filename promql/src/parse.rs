//! From text to [`Expr`]: the one file that names the parser.
//!
//! The parser is fed only what it can digest: its tree is recursive and it panics on some numbers,
//! so the text is bounded first and a panic becomes an error. What it lets through without a check
//! is checked here.

mod bounds;
mod lower;

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use promql_parser::parser::{
    self, Function as ParserFunction, register_extra_functions, value::ValueType,
};

use crate::{
    error::{Error, Result},
    expr::{Expr, Selector, Shift},
    source::Matcher,
};

/// Parses and types an expression.
pub(crate) fn parse(text: &str) -> Result<Expr> {
    lower::lower(&tree(text)?)
}

/// The matchers of a series selector such as `up{job="node"}`, alone: what Prometheus calls `match[]`.
///
/// # Errors
/// [`Error::Parse`] for whatever else, [`Error::Unsupported`] as [`crate::Query::parse`].
pub fn matchers(text: &str) -> Result<Vec<Matcher>> {
    match parse(text)? {
        Expr::Selector(Selector { matchers, shift }) if shift == Shift::default() => Ok(matchers),
        _ => Err(Error::Parse("expected a series selector and nothing else".to_owned())),
    }
}

/// An expression laid out for people to read.
///
/// # Errors
/// [`Error::Parse`] for what is no PromQL.
pub fn format(text: &str) -> Result<String> {
    Ok(tree(text)?.prettify())
}

fn tree(text: &str) -> Result<parser::Expr> {
    bounds::check(text)?;
    register_old_names();
    // durations like [1e30] make it panic, see the crate's documentation
    let parsed = panic::catch_unwind(AssertUnwindSafe(|| parser::parse(text)));
    let parsed = parsed.map_err(|_| Error::Parse("a number is out of range".to_owned()))?;
    parsed.map_err(|message| Error::Parse(words(&message)))
}

/// Functions of Prometheus 2 that the parser has under their later names only.
fn register_old_names() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let types = vec![ValueType::Matrix, ValueType::Scalar, ValueType::Scalar];
        let function = ParserFunction::new("holt_winters", types, 0, ValueType::Vector, false);
        // a conflict would mean that the parser knows it by now
        drop(register_extra_functions(vec![function]));
    });
}

/// The parser's types under the names that Prometheus's errors have for them.
fn words(message: &str) -> String {
    let typed = message.starts_with("expected type")
        || message.starts_with("unary expression only")
        || message.starts_with("subquery is only");
    if !typed {
        return message.to_owned();
    }
    let words = message.split(' ').map(|word| match word {
        "vector" => "instant vector",
        "vector," => "instant vector,",
        "matrix" => "range vector",
        "matrix," => "range vector,",
        other => other,
    });
    words.collect::<Vec<_>>().join(" ")
}

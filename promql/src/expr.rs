//! An expression as it is evaluated: typed, names resolved, times in milliseconds.

use crate::{functions::Function, source::Matcher};

/// What an expression evaluates to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Scalar,
    String,
    Vector,
    Range,
}

impl Type {
    /// The word that Prometheus uses in errors.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::String => "string",
            Self::Vector => "instant vector",
            Self::Range => "range vector",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Expr {
    Number(f64),
    Text(String),
    Selector(Selector),
    Range(Range),
    Negate(Box<Expr>),
    Binary(Box<Binary>),
    Aggregate(Box<Aggregate>),
    Call(Box<Call>),
}

impl Expr {
    pub(crate) fn value_type(&self) -> Type {
        match self {
            Self::Number(_) => Type::Scalar,
            Self::Text(_) => Type::String,
            Self::Selector(_) | Self::Aggregate(_) => Type::Vector,
            Self::Range(_) => Type::Range,
            Self::Negate(inner) => inner.value_type(),
            Self::Binary(binary) => binary.value_type,
            Self::Call(call) => call.function.returns,
        }
    }
}

/// The time that an `@` fixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Time(i64),
    Start,
    End,
}

/// `offset` and `@` of a selector or subquery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shift {
    pub(crate) offset_ms: i64,
    pub(crate) at: Option<At>,
}

#[derive(Debug, Clone)]
pub(crate) struct Selector {
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) shift: Shift,
}

/// A range vector: of raw samples, or of a subquery's values.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    pub(crate) of: RangeOf,
    pub(crate) range_ms: i64,
    pub(crate) shift: Shift,
}

#[derive(Debug, Clone)]
pub(crate) enum RangeOf {
    Samples(Vec<Matcher>),
    Subquery { inner: Box<Expr>, step_ms: Option<i64> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BinaryOp {
    Arithmetic(Arithmetic),
    Comparison(Comparison),
    Set(SetOp),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Atan2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetOp {
    And,
    Or,
    Unless,
}

#[derive(Debug, Clone)]
pub(crate) struct Binary {
    pub(crate) op: BinaryOp,
    pub(crate) left: Expr,
    pub(crate) right: Expr,
    pub(crate) returns_bool: bool,
    pub(crate) matching: Matching,
    pub(crate) value_type: Type,
}

/// Which series of two vectors belong together.
#[derive(Debug, Clone)]
pub(crate) struct Matching {
    pub(crate) labels: Grouping,
    pub(crate) cardinality: Cardinality,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cardinality {
    OneToOne,
    /// `group_left`, with the labels that are taken from the right.
    ManyToOne(Vec<String>),
    /// `group_right`, with the labels that are taken from the left.
    OneToMany(Vec<String>),
}

/// Labels that make a group: only these (`by`, `on`), or all but these (`without`, `ignoring`).
#[derive(Debug, Clone)]
pub(crate) enum Grouping {
    Only(Vec<String>),
    Without(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregator {
    Sum,
    Min,
    Max,
    Avg,
    Group,
    Stddev,
    Stdvar,
    Count,
    CountValues,
    Bottomk,
    Topk,
    Quantile,
    Limitk,
}

#[derive(Debug, Clone)]
pub(crate) struct Aggregate {
    pub(crate) aggregator: Aggregator,
    pub(crate) of: Expr,
    pub(crate) parameter: Option<Expr>,
    pub(crate) grouping: Grouping,
}

#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) function: &'static Function,
    pub(crate) arguments: Vec<Expr>,
}

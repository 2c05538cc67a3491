//! From the parser's tree to ours, with the checks that the parser leaves out.

use std::time::{Duration, UNIX_EPOCH};

use crate::{
    error::{Error, Result},
    expr::{
        Aggregate, Aggregator, Arithmetic, At, Binary, BinaryOp, Call, Cardinality, Comparison,
        Expr, Grouping, Matching, Range, RangeOf, Selector, SetOp, Shift, Type,
    },
    functions,
    source::{MatchOp, Matcher},
};
use promql_parser::{
    label::{self, METRIC_NAME},
    parser::{
        AggregateExpr, AtModifier, BinModifier, BinaryExpr, Call as ParsedCall, Expr as Parsed,
        LabelModifier, MatrixSelector, Offset, SubqueryExpr, VectorMatchCardinality,
        VectorMatchFillValues, VectorSelector, token, value::ValueType,
    },
};

pub(super) fn lower(parsed: &Parsed) -> Result<Expr> {
    match parsed {
        Parsed::Paren(paren) => lower(&paren.expr),
        Parsed::NumberLiteral(number) => Ok(Expr::Number(number.val)),
        Parsed::StringLiteral(text) => Ok(Expr::Text(text.val.clone())),
        Parsed::VectorSelector(selector) => Ok(Expr::Selector(lower_selector(selector)?)),
        Parsed::MatrixSelector(selector) => lower_matrix(selector),
        Parsed::Subquery(subquery) => lower_subquery(subquery),
        Parsed::Unary(unary) => Ok(Expr::Negate(Box::new(lower(&unary.expr)?))),
        Parsed::Binary(binary) => lower_binary(binary),
        Parsed::Aggregate(aggregate) => lower_aggregate(aggregate),
        Parsed::Call(call) => lower_call(call),
        Parsed::Extension(_) => Err(Error::Unsupported("an extension of the grammar".to_owned())),
    }
}

/// No sum of a few of these overflows.
const MILLISECONDS_MAX: i64 = 1 << 53;

fn milliseconds(duration: Duration) -> Result<i64> {
    let found = i64::try_from(duration.as_millis()).ok().filter(|ms| *ms <= MILLISECONDS_MAX);
    found.ok_or_else(|| Error::Parse("duration out of range".to_owned()))
}

fn positive(duration: Duration) -> Result<i64> {
    match milliseconds(duration)? {
        0 => Err(Error::Parse("duration must be greater than 0".to_owned())),
        range_ms => Ok(range_ms),
    }
}

fn lower_selector(selector: &VectorSelector) -> Result<Selector> {
    if !selector.matchers.or_matchers.is_empty() {
        return Err(Error::Unsupported("`or` between label matchers".to_owned()));
    }
    let name = selector.name.as_ref().map(|name| Matcher {
        name: METRIC_NAME.to_owned(),
        value: name.clone(),
        op: MatchOp::Equal,
    });
    let others = selector.matchers.matchers.iter().map(lower_matcher);
    let matchers = name.map(Ok).into_iter().chain(others).collect::<Result<_>>()?;
    Ok(Selector { matchers, shift: lower_shift(selector.offset.as_ref(), selector.at.as_ref())? })
}

fn lower_matcher(matcher: &label::Matcher) -> Result<Matcher> {
    let op = match &matcher.op {
        label::MatchOp::Equal => MatchOp::Equal,
        label::MatchOp::NotEqual => MatchOp::NotEqual,
        // the parser has anchored them
        label::MatchOp::Re(regex) => MatchOp::Regex(regex.clone()),
        label::MatchOp::NotRe(regex) => MatchOp::NotRegex(regex.clone()),
    };
    Ok(Matcher { name: matcher.name.clone(), value: matcher.value.clone(), op })
}

fn lower_shift(offset: Option<&Offset>, at: Option<&AtModifier>) -> Result<Shift> {
    let offset_ms = match offset {
        None => 0,
        Some(Offset::Pos(duration)) => milliseconds(*duration)?,
        Some(Offset::Neg(duration)) => -milliseconds(*duration)?,
    };
    Ok(Shift { offset_ms, at: at.map(lower_at).transpose()? })
}

fn lower_at(at: &AtModifier) -> Result<At> {
    let time = match at {
        AtModifier::Start => return Ok(At::Start),
        AtModifier::End => return Ok(At::End),
        AtModifier::At(time) => time,
    };
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => milliseconds(since).map(At::Time),
        Err(before) => milliseconds(before.duration()).map(|ms| At::Time(-ms)),
    }
}

fn lower_matrix(matrix: &MatrixSelector) -> Result<Expr> {
    let Selector { matchers, shift } = lower_selector(&matrix.vs)?;
    let of = RangeOf::Samples(matchers);
    Ok(Expr::Range(Range { of, range_ms: positive(matrix.range)?, shift }))
}

fn lower_subquery(subquery: &SubqueryExpr) -> Result<Expr> {
    let step_ms = subquery.step.map(positive).transpose()?;
    let of = RangeOf::Subquery { inner: Box::new(lower(&subquery.expr)?), step_ms };
    let shift = lower_shift(subquery.offset.as_ref(), subquery.at.as_ref())?;
    Ok(Expr::Range(Range { of, range_ms: positive(subquery.range)?, shift }))
}

fn lower_binary(binary: &BinaryExpr) -> Result<Expr> {
    let op = lower_op(binary.op.id())
        .ok_or_else(|| Error::Unsupported(format!("operator {}", binary.op)))?;
    let (left, right) = (lower(&binary.lhs)?, lower(&binary.rhs)?);
    let modifier = binary.modifier.as_ref();
    if modifier.is_some_and(|modifier| modifier.fill_values != VectorMatchFillValues::default()) {
        return Err(Error::Unsupported("fill of a vector match".to_owned()));
    }
    let scalars = left.value_type() == Type::Scalar && right.value_type() == Type::Scalar;
    let value_type = if scalars { Type::Scalar } else { Type::Vector };
    let returns_bool = modifier.is_some_and(|modifier| modifier.return_bool);
    let matching = lower_matching(modifier);
    Ok(Expr::Binary(Box::new(Binary { op, left, right, returns_bool, matching, value_type })))
}

fn lower_op(id: token::TokenId) -> Option<BinaryOp> {
    Some(match id {
        token::T_ADD => BinaryOp::Arithmetic(Arithmetic::Add),
        token::T_SUB => BinaryOp::Arithmetic(Arithmetic::Subtract),
        token::T_MUL => BinaryOp::Arithmetic(Arithmetic::Multiply),
        token::T_DIV => BinaryOp::Arithmetic(Arithmetic::Divide),
        token::T_MOD => BinaryOp::Arithmetic(Arithmetic::Modulo),
        token::T_POW => BinaryOp::Arithmetic(Arithmetic::Power),
        token::T_ATAN2 => BinaryOp::Arithmetic(Arithmetic::Atan2),
        token::T_EQLC => BinaryOp::Comparison(Comparison::Equal),
        token::T_NEQ => BinaryOp::Comparison(Comparison::NotEqual),
        token::T_GTR => BinaryOp::Comparison(Comparison::Greater),
        token::T_LSS => BinaryOp::Comparison(Comparison::Less),
        token::T_GTE => BinaryOp::Comparison(Comparison::GreaterOrEqual),
        token::T_LTE => BinaryOp::Comparison(Comparison::LessOrEqual),
        token::T_LAND => BinaryOp::Set(SetOp::And),
        token::T_LOR => BinaryOp::Set(SetOp::Or),
        token::T_LUNLESS => BinaryOp::Set(SetOp::Unless),
        _ => return None,
    })
}

fn lower_matching(modifier: Option<&BinModifier>) -> Matching {
    let labels = modifier.and_then(|modifier| modifier.matching.as_ref());
    let labels = labels.map_or(Grouping::Without(Vec::new()), lower_grouping);
    let cardinality = match modifier.map(|modifier| &modifier.card) {
        Some(VectorMatchCardinality::ManyToOne(taken)) => {
            Cardinality::ManyToOne(taken.labels.clone())
        }
        Some(VectorMatchCardinality::OneToMany(taken)) => {
            Cardinality::OneToMany(taken.labels.clone())
        }
        _ => Cardinality::OneToOne,
    };
    Matching { labels, cardinality }
}

fn lower_grouping(modifier: &LabelModifier) -> Grouping {
    match modifier {
        LabelModifier::Include(labels) => Grouping::Only(labels.labels.clone()),
        LabelModifier::Exclude(labels) => Grouping::Without(labels.labels.clone()),
    }
}

fn lower_aggregate(aggregate: &AggregateExpr) -> Result<Expr> {
    let aggregator = lower_aggregator(aggregate.op.id())
        .ok_or_else(|| Error::Unsupported(format!("aggregation {}", aggregate.op)))?;
    let of = lower(&aggregate.expr)?;
    let parameter = aggregate.param.as_ref().map(|parameter| lower(parameter)).transpose()?;
    let wanted = match aggregator {
        Aggregator::CountValues => Type::String,
        _ => Type::Scalar,
    };
    expect(Type::Vector, &of, "aggregation expression")?;
    if let Some(parameter) = &parameter {
        expect(wanted, parameter, "aggregation parameter")?;
    }
    let all = Grouping::Only(Vec::new());
    let grouping = aggregate.modifier.as_ref().map_or(all, lower_grouping);
    Ok(Expr::Aggregate(Box::new(Aggregate { aggregator, of, parameter, grouping })))
}

fn lower_aggregator(id: token::TokenId) -> Option<Aggregator> {
    Some(match id {
        token::T_SUM => Aggregator::Sum,
        token::T_MIN => Aggregator::Min,
        token::T_MAX => Aggregator::Max,
        token::T_AVG => Aggregator::Avg,
        token::T_GROUP => Aggregator::Group,
        token::T_STDDEV => Aggregator::Stddev,
        token::T_STDVAR => Aggregator::Stdvar,
        token::T_COUNT => Aggregator::Count,
        token::T_COUNT_VALUES => Aggregator::CountValues,
        token::T_BOTTOMK => Aggregator::Bottomk,
        token::T_TOPK => Aggregator::Topk,
        token::T_QUANTILE => Aggregator::Quantile,
        token::T_LIMITK => Aggregator::Limitk,
        _ => return None,
    })
}

fn lower_call(call: &ParsedCall) -> Result<Expr> {
    let name = call.func.name;
    let function = functions::find(name).ok_or_else(|| unsupported(name))?;
    let arguments = call.args.args.iter().map(|argument| lower(argument));
    let arguments = arguments.collect::<Result<Vec<_>>>()?;
    let types = &call.func.arg_types;
    for (at, argument) in arguments.iter().enumerate() {
        let Some(wanted) = types.get(at).or(types.last()) else { continue };
        expect(lower_type(*wanted), argument, &format!("call to function {name:?}"))?;
    }
    Ok(Expr::Call(Box::new(Call { function, arguments })))
}

fn unsupported(function: &str) -> Error {
    let native = ["avg", "count", "stddev", "stdvar", "sum"];
    let of_histograms = function.strip_prefix("histogram_").is_some_and(|of| native.contains(&of));
    let of = if of_histograms { " on native histograms" } else { "" };
    Error::Unsupported(format!("function {function:?}{of}"))
}

fn lower_type(parsed: ValueType) -> Type {
    match parsed {
        ValueType::Scalar => Type::Scalar,
        ValueType::String => Type::String,
        ValueType::Vector => Type::Vector,
        ValueType::Matrix => Type::Range,
    }
}

/// The parser lets `ln(-1)` and the parameter of `limitk` through whatever their type is.
fn expect(wanted: Type, found: &Expr, place: &str) -> Result<()> {
    let found = found.value_type();
    if found == wanted {
        return Ok(());
    }
    let (wanted, found) = (wanted.name(), found.name());
    Err(Error::Parse(format!("expected type {wanted} in {place}, got {found}")))
}

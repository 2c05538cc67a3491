//! `GET /api/v1/gaps`: what is missing, from when to when, and why.
//!
//! Parameters: `host`, `from`, `to` as for buckets, by default the last 24 hours; `limit`, 1 000 unless
//! said otherwise.

use std::sync::Arc;

use axum::{
    Json,
    extract::{RawQuery, State},
};
use serde::Serialize;

use super::{Hub, error::ApiError, params::Params};
use crate::store::{GapEntry, GapFilter};

const NAMES: [&str; 4] = ["host", "from", "to", "limit"];
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
const LIMIT_DEFAULT: u32 = 1_000;
const LIMIT_MAX: u32 = 10_000;

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gaps {
    /// Oldest first.
    pub gaps: Vec<GapEntry>,
    /// Whether there are more than were asked for.
    pub truncated: bool,
}

/// Answers a query.
///
/// # Errors
/// [`ApiError`]: a parameter is wrong, or the store can't be read.
pub async fn gaps(
    State(hub): State<Arc<Hub>>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Gaps>, ApiError> {
    let params = Params::parse(raw.as_deref().unwrap_or(""), &NAMES)?;
    let limit = params.number("limit", LIMIT_DEFAULT, LIMIT_MAX)? as usize;
    let (from_ms, to_ms) = params.span_of(hub.now_ms(), DAY_MS)?;
    // One more than asked for tells whether there are more.
    let filter = GapFilter { host: params.host(), from_ms, to_ms, limit: limit + 1 };
    let mut gaps = hub.store.gaps(filter).await?;
    let truncated = gaps.len() > limit;
    gaps.truncate(limit);
    Ok(Json(Gaps { gaps, truncated }))
}

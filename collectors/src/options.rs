//! Options that are switches.

use agent_core::collector::{BuildError, Context};

/// An option that is `true` or `false`.
pub(crate) fn switch(context: &Context<'_>, key: &'static str) -> Result<bool, BuildError> {
    let value = context.option(key);
    value.parse().map_err(|_| BuildError {
        collector: context.registration.name,
        key,
        reason: format!("'{value}' is neither 'true' nor 'false'"),
    })
}

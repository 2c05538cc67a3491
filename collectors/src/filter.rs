//! Options that are regular expressions: which devices, mount points and file systems count.

use std::collections::HashMap;

use agent_core::collector::{BuildError, Context, OptionSpec};
use regex_lite::Regex;

/// Names whose verdict is remembered; container hosts make new interface names for ever.
const REMEMBERED_MAX: usize = 4_096;

/// The options of [`DeviceFilter::from_options`] where devices are network interfaces.
pub(crate) const INTERFACE_OPTIONS: [OptionSpec; 2] = [
    OptionSpec {
        key: "device_exclude",
        default: "",
        doc: "Regular expression of interfaces to leave out.",
    },
    OptionSpec {
        key: "device_include",
        default: "",
        doc: "Regular expression of the only interfaces to take, instead of device_exclude.",
    },
];

/// An option as a regular expression, matched anywhere unless it is anchored; an empty one matches
/// nothing and is `None`.
pub(crate) fn regex(context: &Context<'_>, key: &'static str) -> Result<Option<Regex>, BuildError> {
    let pattern = context.option(key);
    if pattern.is_empty() {
        return Ok(None);
    }
    Regex::new(pattern).map(Some).map_err(|error| not_a_regex(context, key, &error))
}

fn not_a_regex(context: &Context<'_>, key: &'static str, error: &regex_lite::Error) -> BuildError {
    let pattern = context.option(key);
    let spec = context.registration.options.iter().find(|spec| spec.key == key);
    let example = spec.map(|spec| spec.default).filter(|default| !default.is_empty());
    let example = example.unwrap_or("^(lo|veth.*)$");
    let reason =
        format!("'{pattern}' is not a regular expression ({error}): write one such as '{example}'");
    BuildError { collector: context.registration.name, key, reason }
}

/// Two options: names that the one matches whole, and the other doesn't.
#[derive(Debug)]
pub(crate) struct WholeFilter {
    include: Regex,
    exclude: Regex,
}

impl WholeFilter {
    /// From the options of these keys.
    pub(crate) fn from_options(
        context: &Context<'_>,
        include: &'static str,
        exclude: &'static str,
    ) -> Result<Self, BuildError> {
        Ok(Self { include: whole(context, include)?, exclude: whole(context, exclude)? })
    }

    /// Whether the name counts.
    pub(crate) fn takes(&self, name: &str) -> bool {
        self.include.is_match(name) && !self.exclude.is_match(name)
    }
}

/// An option as a regular expression that has to match all of a name; an empty one matches none.
fn whole(context: &Context<'_>, key: &'static str) -> Result<Regex, BuildError> {
    let pattern = context.option(key);
    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| not_a_regex(context, key, &error))
}

/// `device_exclude` and `device_include`, of which only one counts.
#[derive(Debug)]
pub(crate) struct DeviceFilter {
    exclude: Option<Regex>,
    include: Option<Regex>,
    remembered: HashMap<String, bool>,
}

impl DeviceFilter {
    /// From `device_exclude` and `device_include`. To set both is an error; a `device_include`
    /// alone puts the default of `device_exclude` out of force.
    pub(crate) fn from_options(context: &Context<'_>) -> Result<Self, BuildError> {
        let include = regex(context, "device_include")?;
        let excluding = context.options.get("device_exclude").is_some_and(|v| !v.is_empty());
        if include.is_some() && excluding {
            return Err(BuildError {
                collector: context.registration.name,
                key: "device_include",
                reason: "device_exclude is set too: give only one of them".to_owned(),
            });
        }
        let exclude = if include.is_some() { None } else { regex(context, "device_exclude")? };
        Ok(Self { exclude, include, remembered: HashMap::new() })
    }

    /// Whether the device counts.
    pub(crate) fn takes(&mut self, device: &str) -> bool {
        if let Some(verdict) = self.remembered.get(device) {
            return *verdict;
        }
        let excluded = self.exclude.as_ref().is_some_and(|regex| regex.is_match(device));
        let included = self.include.as_ref().is_none_or(|regex| regex.is_match(device));
        if self.remembered.len() >= REMEMBERED_MAX {
            self.remembered.clear();
        }
        self.remembered.insert(device.to_owned(), included && !excluded);
        included && !excluded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_both_counts() {
        let check = |exclude: &str, include: &str, expected: &[&str]| {
            let regex = |pattern: &str| (!pattern.is_empty()).then(|| Regex::new(pattern).unwrap());
            let (exclude, include) = (regex(exclude), regex(include));
            let mut filter = DeviceFilter { exclude, include, remembered: HashMap::new() };
            // twice: the second time from memory
            for _ in 0..2 {
                let devices = ["lo", "eth0", "veth1"].into_iter();
                assert_eq!(devices.filter(|d| filter.takes(d)).collect::<Vec<_>>(), expected);
            }
        };
        check("", "", &["lo", "eth0", "veth1"]);
        check("^lo$", "", &["eth0", "veth1"]);
        check("", "eth", &["eth0", "veth1"]);
        check("", "^eth", &["eth0"]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut filter = DeviceFilter { exclude: None, include: None, remembered: HashMap::new() };
        for index in 0..REMEMBERED_MAX * 2 {
            assert!(filter.takes(&format!("veth{index}")));
        }
        assert!(filter.remembered.len() <= REMEMBERED_MAX);
    }
}

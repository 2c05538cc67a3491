//! The keys of rules in the hub's configuration, as its table of keys wants them.

use settings::{Key, Kind, UserTable};

/// One rule: `[[rules]]`.
pub const TABLE: UserTable = UserTable {
    path: "rules.#",
    doc: "A threshold rule: what is watched for. Each series of each host is judged on its own.",
    examples: &[],
};

/// The keys of [`super::Rules`], and `rule_interval` and `rule_stale_after` for
/// [`super::Parts`].
#[must_use]
pub fn keys() -> Vec<Key> {
    let key = |name: &str, kind, doc: &'static str| {
        Key::new(format!("rules.#.{name}"), kind, doc).restart()
    };
    vec![
        Key::new("rule_interval", Kind::Duration, "Time between two evaluations of all rules.")
            .default("10s").min("1s").max("1h").restart(),
        Key::new("rule_stale_after", Kind::Duration, "Age from which a series without newer samples is unknown: a firing alert then stays firing and says so, a pending one stays pending.")
            .default("5m").min("10s").max("1d").restart(),
        key("name", Kind::String, "Unique; alerts are known by it.").required().example("cpu_busy"),
        key("metric", Kind::String, "Name of the metric.").required().example("node_load1"),
        key("labels", Kind::Table, "Labels that a series has to have, with exactly these values; one with an empty value it must not have."),
        key("hosts", Kind::Strings, "Hosts, `*` for any characters and `?` for one. Without it: every host."),
        key("agg", Kind::Choice(&["avg", "min", "max", "last", "rate"]), "How the samples of the window become one value: mean, smallest, largest, newest, or change a second (counters may be reset in between).")
            .default("last"),
        key("window", Kind::Duration, "Before the newest sample, how far back samples count. Without it 1m, for a rate 5m: a rate needs two samples.")
            .min("1ms").max("1d"),
        key("op", Kind::Choice(&[">", ">=", "<", "<=", "==", "!="]), "How the value is compared with the threshold.")
            .required().example(">"),
        key("threshold", Kind::Float, "What the value is compared with.").required().example("4"),
        key("for", Kind::Duration, "For how long the comparison has to hold, in the time of the samples, before anyone is told. Time without samples doesn't count.")
            .default("0s").max("1d"),
        key("severity", Kind::String, "How bad it is, in any words.").default("warning"),
        key("summary", Kind::String, "What is said about it, with {host}, {metric}, {labels}, {value} and {threshold} filled in; {{ and }} for braces.")
            .example("load of {host} is {value}"),
    ]
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use settings::{Keys, Layers, Source};

    use super::*;
    use crate::rules::{Rule, Rules};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        rule_interval: settings::Duration,
        rule_stale_after: settings::Duration,
        #[serde(default)]
        rules: Rules,
    }

    fn load(text: &str) -> Result<Config, String> {
        let keys = Keys { keys: keys(), tables: vec![TABLE] };
        let layers = Layers {
            file: Some(Source { name: "hub.toml".to_owned(), text: text.to_owned() }),
            ..Layers::default()
        };
        settings::load(&keys, &layers)
            .map(|loaded| loaded.config)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_reaches_its_rule() {
        let values = "name = 'a'\nmetric = 'm'\nlabels = { a = 'b' }\nhosts = ['w*']\nagg = 'rate'\n\
                      window = '2m'\nop = '<='\nthreshold = -1\nfor = '3m'\nseverity = 'page'\n\
                      summary = '{host}'\n";
        let documented = keys().iter().filter(|key| key.path.starts_with("rules.#.")).count();
        assert_eq!(values.lines().count(), documented);
        let config = load(&format!("[[rules]]\n{values}")).unwrap();
        let rules: Vec<Rule> = config.rules.into();
        assert_eq!(rules, [toml::from_str(values).unwrap()]);
        assert_eq!(config.rule_interval.get(), crate::rules::runner::INTERVAL_DEFAULT);
        assert_eq!(config.rule_stale_after.get(), crate::rules::runner::STALE_AFTER_DEFAULT);
    }

    #[test]
    fn documented_defaults_are_those_of_rules() {
        let short = "name = 'a'\nmetric = 'm'\nop = '>'\nthreshold = 1\n";
        let rules: Vec<Rule> = load(&format!("[[rules]]\n{short}")).unwrap().rules.into();
        assert_eq!(rules, [toml::from_str(short).unwrap()]);
        assert!(load("").unwrap().rules.is_empty());
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        let check = |keys: &str, expected: &str| {
            let text =
                format!("[[rules]]\nname = 'a'\nmetric = 'm'\nop = '>'\nthreshold = 1\n{keys}\n");
            let error = load(&text).err().unwrap();
            assert!(error.contains(expected), "{error}");
        };
        check("treshold = 2", "hub.toml:6:1: unknown key \"rules.#1.treshold\"");
        check("agg = 'mean'", "hub.toml:6:7: rules.#1.agg: found \"mean\"");
        check("summary = '{hots}'", "unknown place {hots}");
        check(
            "[[rules]]\nname = 'a'\nmetric = 'm'\nop = '>'\nthreshold = 1",
            "rule \"a\" is there twice",
        );
    }
}

//! The keys of notifiers in the hub's configuration, as its table of keys wants them.

use settings::{Key, Kind, UserTable};

/// One webhook: `[notify.webhooks.<name>]`.
pub const TABLE: UserTable = UserTable {
    path: "notify.webhooks.*",
    doc: "A webhook that is told when an alert fires and when it is resolved. What it is told waits on disk until it has it.",
    examples: &[("", "ops")],
};

/// The keys of [`super::NotifyConfig`], below `notify`.
#[must_use]
pub fn keys() -> Vec<Key> {
    let key = |name: &str, kind, doc: &'static str| {
        Key::new(format!("notify.webhooks.*.{name}"), kind, doc).restart()
    };
    vec![
        Key::new("notify.log.enabled", Kind::Bool, "Whether alerts are written to the hub's own log.")
            .default("true").restart(),
        key("url", Kind::Url, "Where notifications are posted to. Redirects aren't followed.")
            .required().secret().example("https://example.org/hook"),
        key("format", Kind::Choice(&["json", "slack"]), "What the body looks like: Holdfast's own JSON, or as Slack's incoming webhooks want it.")
            .default("json"),
        key("token", Kind::Secret, "Sent as `Authorization: Bearer …`."),
        key("headers", Kind::Table, "Headers sent with each request.").secret(),
        key("timeout", Kind::Duration, "How long one try may take.").default("10s").min("100ms").max("1m"),
        key("give_up_after", Kind::Duration, "How long one notification is tried before it is given up, kept and counted.")
            .default("1d").min("1m"),
    ]
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use settings::{Keys, Layers, Source};

    use super::*;
    use crate::notify::NotifyConfig;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        notify: NotifyConfig,
    }

    fn load(text: &str) -> NotifyConfig {
        let keys = Keys { keys: keys(), tables: vec![TABLE] };
        let layers = Layers {
            file: Some(Source { name: "hub.toml".to_owned(), text: text.to_owned() }),
            ..Layers::default()
        };
        let loaded = settings::load::<Config>(&keys, &layers).unwrap();
        let shown = loaded.effective.to_toml();
        assert!(!shown.contains("hidden"), "{shown}");
        loaded.config.notify
    }

    #[test]
    fn every_key_reaches_its_webhook_and_no_secret_is_shown() {
        let values = "url = 'https://example.org/hidden'\nformat = 'slack'\ntoken = 'hidden'\n\
                      headers = { X-Key = 'hidden' }\ntimeout = '2s'\ngive_up_after = '1h'\n";
        let documented = keys().iter().filter(|key| key.path.contains('*')).count();
        assert_eq!(values.lines().count(), documented);
        let plain = format!("[log]\nenabled = false\n[webhooks.ops]\n{values}");
        let keyed = plain.replace("[log]", "[notify.log]").replace("[webhooks", "[notify.webhooks");
        assert_eq!(load(&keyed), toml::from_str(&plain).unwrap());
    }

    #[test]
    fn documented_defaults_are_those_of_notifiers() {
        assert_eq!(load(""), NotifyConfig::default());
        let plain = "[webhooks.ops]\nurl = 'https://example.org'\n";
        assert_eq!(load(&format!("[notify.{}", &plain[1..])), toml::from_str(plain).unwrap());
    }
}

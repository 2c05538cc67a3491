use super::*;

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let file = Some(Source { name: "hub.toml".to_owned(), text: text.to_owned() });
    let variables = variables.iter().map(|(name, word)| ((*name).to_owned(), (*word).to_owned()));
    Config::load_text(file, Inputs { variables: variables.collect(), ..Inputs::default() })
        .map(|loaded| loaded.config)
        .map_err(|problems| problems.to_string())
}

#[test]
fn everything_has_a_default() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.retention.raw, Duration::from_secs(30 * 86_400));
    assert_eq!(config.limits.ingest_memory, Size::from_mib(64));
    assert!(config.rules.is_empty());
    assert_eq!(load(&sample(), &[]).unwrap(), config, "the sample shows the defaults");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let check = |text: &str, expected: &str| {
        let error = load(text, &[]).unwrap_err();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    };
    check("lisen = 'x'", "hub.toml:1:1: unknown key \"lisen\", did you mean \"listen\"?");
    check("listen = 'somewhere'", "hub.toml:1:10: listen: ");
    check(
        "listen = '0.0.0.0:8080'",
        "hub.toml:1:10: listen: found \"0.0.0.0:8080\", and no secret",
    );
    check("listen = '[::]:8080'", "listen on loopback");
    check("[retention]\nraw = '1m'", "hub.toml:2:7: retention.raw");
    check("[limits]\nqueries = 0", "limits.queries");
    check(
        "[retention]\nrollup_1h = '60d'",
        "hub.toml:2:13: retention.rollup_1h: found \"60d\", shorter than retention.rollup_10m (\"90d\")",
    );
}

#[test]
fn the_environment_sets_what_the_file_could() {
    let variables = [
        ("AGENT_TOKEN", "secret"),
        ("HOLDFAST_HUB_LISTEN", "0.0.0.0:0"),
        ("HOLDFAST_HUB_DATA_DIR", "/x"),
        ("HOLDFAST_WAL_MAX_BYTES", "16MiB"),
        ("RUST_LOG", "debug"),
    ];
    let config = load("listen = '127.0.0.1:1'", &variables).unwrap();
    assert_eq!(config.listen, "0.0.0.0:0".parse().unwrap());
    assert_eq!(config.auth.token.unwrap().expose(), "secret");
    assert_eq!((config.data_dir, config.log.level), ("/x".into(), "debug".to_owned()));
    let error = load("", &[("HOLDFAST_HUB_LISEN", "x")]).unwrap_err();
    assert!(error.contains("HOLDFAST_HUB_LISTEN"), "{error}");
}

//! The sample file and the reference page are made from the table of keys, the page of collectors from
//! the registry, and committed. When this test fails they are stale:
//! `UPDATE_GOLDEN=1 cargo test --test configuration_pages` writes them.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

use std::{env, fs, path::Path};

use agent_core::config;
use collectors::REGISTRY;

fn check(file: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{file} is stale: run this test with UPDATE_GOLDEN=1");
}

#[test]
fn the_sample_file_is_what_the_keys_say() {
    check("packaging/agent.toml", &config::sample(REGISTRY));
}

#[test]
fn the_reference_page_is_what_the_keys_say() {
    check("docs/configuration-agent.md", &config::reference(REGISTRY));
}

#[test]
fn the_page_of_collectors_is_what_the_registry_says() {
    check("docs/collectors.md", &collectors::page());
}

//! The sample file and the reference page are made from the table of keys, and committed. When this
//! test fails they are stale: `UPDATE_GOLDEN=1 cargo test -p server-lite --test configuration_pages`
//! writes them.

use std::{env, fs, path::Path};

use server_lite::config;

fn check(file: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        assert!(fs::write(&path, expected).is_ok(), "{} can't be written", path.display());
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{file} is stale: run this test with UPDATE_GOLDEN=1");
}

#[test]
fn the_sample_file_is_what_the_keys_say() {
    check("packaging/hub.toml", &config::sample());
}

#[test]
fn the_reference_page_is_what_the_keys_say() {
    check("docs/configuration-hub.md", &config::reference());
}

mod faults;
mod rotating;
mod torn;

use std::{fs, path::Path};

use super::{
    FileConfig,
    disk::{Disk, RealDisk},
    lines::Lines,
    rotation::Names,
};
use crate::fixture;

fn lines_on(disk: Box<dyn Disk>, config: FileConfig) -> Lines {
    let names = Names::of(&config.path).unwrap();
    Lines::new(config, names, disk)
}

fn lines(config: FileConfig) -> Lines {
    lines_on(Box::new(RealDisk), config)
}

/// The numbers of all records in the files, oldest file first.
fn seqs(path: &Path) -> Vec<u64> {
    let names = Names::of(path).unwrap();
    let rotated = names.rotated().unwrap().into_iter().filter(|file| !file.damaged);
    let paths = rotated.map(|file| file.path).chain([path.to_owned()]);
    let texts = paths.map(|path| fs::read_to_string(path).unwrap_or_default());
    let text: String = texts.collect();
    assert!(text.is_empty() || text.ends_with('\n'), "a torn line: {text:?}");
    text.lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(value["stream_id"], fixture::STREAM.to_string());
            value["seq"].as_u64().unwrap()
        })
        .collect()
}

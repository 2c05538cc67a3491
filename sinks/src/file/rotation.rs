//! Names of rotated files, which there are, and which are too many.
//!
//! `metrics.jsonl` becomes `metrics-20260102T030405.678Z.jsonl`, after the time of its last record;
//! of two with one time the second is `…Z-2.jsonl`. A part that was damaged is kept as
//! `metrics-….jsonl.damaged`, and counts like the others.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::utc::Utc;

/// Length of [`Utc::compact`].
const STAMP_BYTES: usize = "20260102T030405.678Z".len();
const DAMAGED: &str = ".damaged";

/// Where files lie and how they are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// The file that is written.
    pub(crate) current: PathBuf,
    /// Its directory.
    pub(crate) directory: PathBuf,
    /// `metrics-`
    prefix: String,
    /// `.jsonl`, or nothing
    suffix: String,
}

/// A file that is no longer written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rotated {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) damaged: bool,
    /// Time and number, for sorting.
    order: (String, u64),
}

impl Names {
    /// Names around a path; `None` if it doesn't end in a file name of UTF-8.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let stem = path.file_stem()?.to_str()?;
        let suffix = match path.extension() {
            Some(extension) => format!(".{}", extension.to_str()?),
            None => String::new(),
        };
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        Some(Self { current: path.to_owned(), directory, prefix: format!("{stem}-"), suffix })
    }

    /// A name that is free, for a file whose last record is of that time.
    pub(crate) fn free(&self, last_ms: i64, damaged: bool) -> io::Result<PathBuf> {
        let stamp = Utc::from_unix_ms(last_ms).compact();
        for number in 1..=u64::MAX {
            let path = self.directory.join(self.name(&stamp, number, damaged));
            match fs::symlink_metadata(&path) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path),
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn name(&self, stamp: &str, number: u64, damaged: bool) -> String {
        let Self { prefix, suffix, .. } = self;
        let number = if number > 1 { format!("-{number}") } else { String::new() };
        format!("{prefix}{stamp}{number}{suffix}{}", if damaged { DAMAGED } else { "" })
    }

    /// The files that are no longer written, oldest first.
    pub(crate) fn rotated(&self) -> io::Result<Vec<Rotated>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some((order, damaged)) = name.to_str().and_then(|name| self.parse(name)) else {
                continue;
            };
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                let (path, bytes) = (entry.path(), metadata.len());
                found.push(Rotated { path, bytes, damaged, order });
            }
        }
        found.sort_by(|a, b| a.order.cmp(&b.order));
        Ok(found)
    }

    /// Time and number of a rotated file's name, and whether it is a damaged part.
    fn parse(&self, name: &str) -> Option<((String, u64), bool)> {
        let rest = name.strip_prefix(&self.prefix)?;
        let (rest, damaged) = rest.strip_suffix(DAMAGED).map_or((rest, false), |rest| (rest, true));
        let rest = rest.strip_suffix(&self.suffix)?;
        let (stamp, number) = rest.split_at_checked(STAMP_BYTES)?;
        let number = match number.strip_prefix('-') {
            Some(number) => number.parse().ok()?,
            None if number.is_empty() => 1,
            None => return None,
        };
        is_stamp(stamp).then(|| ((stamp.to_owned(), number), damaged))
    }
}

fn is_stamp(text: &str) -> bool {
    let fits = |(found, shape): (u8, u8)| match shape {
        b'0' => found.is_ascii_digit(),
        other => found == other,
    };
    text.len() == STAMP_BYTES && text.bytes().zip(*b"00000000T000000.000Z").all(fits)
}

/// Which files are too many: the oldest beyond `keep`, and beyond `most_bytes` together.
pub(crate) fn too_many(rotated: &[Rotated], keep: usize, most_bytes: Option<u64>) -> &[Rotated] {
    let mut kept = 0;
    let mut bytes = 0_u64;
    for file in rotated.iter().rev() {
        bytes = bytes.saturating_add(file.bytes);
        if kept == keep || most_bytes.is_some_and(|most| bytes > most) {
            break;
        }
        kept += 1;
    }
    &rotated[..rotated.len() - kept]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_and_read() {
        let check = |path: &str, number, damaged, expected: &str| {
            let names = Names::of(Path::new(path)).unwrap();
            let name = names.name(&Utc::from_unix_ms(1_000).compact(), number, damaged);
            assert_eq!(names.directory.join(&name).to_str(), Some(expected));
            let order = ("19700101T000001.000Z".to_owned(), number);
            assert_eq!(names.parse(&name), Some((order, damaged)));
        };
        check("/a/m.jsonl", 1, false, "/a/m-19700101T000001.000Z.jsonl");
        check("/a/m.jsonl", 2, false, "/a/m-19700101T000001.000Z-2.jsonl");
        check("/a/m.jsonl", 1, true, "/a/m-19700101T000001.000Z.jsonl.damaged");
        check("m", 12, false, "./m-19700101T000001.000Z-12");
        check("/a/m.x.jsonl", 1, false, "/a/m.x-19700101T000001.000Z.jsonl");
        assert_eq!(Names::of(Path::new("/")), None);
        assert_eq!(Names::of(Path::new("/a/..")), None);
    }

    #[test]
    fn other_files_are_left_alone() {
        let names = Names::of(Path::new("/a/m.jsonl")).unwrap();
        for other in [
            "m.jsonl",
            "m-.jsonl",
            "m-19700101T000001.000Z.json",
            "n-19700101T000001.000Z.jsonl",
            "m-19700101T000001.000Zx.jsonl",
            "m-19700101T000001.000Z-x.jsonl",
            "m-19700101 000001.000Z.jsonl",
            "m-yesterday-and-before.jsonl",
        ] {
            assert_eq!(names.parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_oldest_are_too_many() {
        let files: Vec<Rotated> = (1..=5)
            .map(|number| {
                let order = (String::new(), number);
                Rotated { path: PathBuf::new(), bytes: 10, damaged: false, order }
            })
            .collect();
        let check = |keep, most_bytes, expected: usize| {
            assert_eq!(too_many(&files, keep, most_bytes), &files[..expected]);
        };
        check(5, None, 0);
        check(9, None, 0);
        check(2, None, 3);
        check(0, None, 5);
        check(9, Some(50), 0);
        check(9, Some(49), 1);
        check(9, Some(9), 5);
        check(1, Some(49), 4);
        assert_eq!(too_many(&[], 0, Some(0)), &[]);
    }

    #[test]
    fn a_free_name_is_found_and_files_are_listed_oldest_first() {
        let directory = tempfile::tempdir().unwrap();
        let names = Names::of(&directory.path().join("m.jsonl")).unwrap();
        for time_ms in [2_000, 1_000, 1_000] {
            fs::write(names.free(time_ms, false).unwrap(), "12345").unwrap();
        }
        fs::write(directory.path().join("other.jsonl"), "").unwrap();
        fs::create_dir(names.free(3_000, false).unwrap()).unwrap();
        let rotated = names.rotated().unwrap();
        let listed: Vec<_> = rotated.iter().map(|f| f.path.file_name().unwrap()).collect();
        assert_eq!(
            listed,
            [
                "m-19700101T000001.000Z.jsonl",
                "m-19700101T000001.000Z-2.jsonl",
                "m-19700101T000002.000Z.jsonl"
            ]
        );
        assert!(rotated.iter().all(|file| file.bytes == 5));
    }
}

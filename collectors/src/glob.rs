//! Paths with `*`, `?` and `[a-z]` in them, as Go's `filepath.Glob` takes them: a star stands for any
//! part of one name, not for a slash. A name that begins with a dot is as good as another.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use regex_lite::Regex;

/// Directories looked at for one pattern; a pattern such as `/*/*/*` finds no end on some machines.
const DIRECTORIES_MAX: usize = 1_000;

/// A path, each component either a name or a pattern.
#[derive(Debug)]
pub(crate) struct Glob {
    start: PathBuf,
    components: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Name(PathBuf),
    Pattern(Regex),
}

impl Glob {
    /// From a path; the error says what is wrong with a pattern.
    pub(crate) fn new(path: &str) -> Result<Self, regex_lite::Error> {
        let mut glob = Self { start: PathBuf::new(), components: Vec::new() };
        for component in Path::new(path).components() {
            match component {
                Component::Normal(name) => {
                    let name = name.to_string_lossy();
                    if name.contains(['*', '?', '[', '\\']) {
                        glob.components.push(Part::Pattern(Regex::new(&expression(&name))?));
                    } else {
                        glob.push(name.as_ref().into());
                    }
                }
                Component::CurDir => {}
                other => glob.push(PathBuf::from(other.as_os_str())),
            }
        }
        Ok(glob)
    }

    fn push(&mut self, name: PathBuf) {
        match self.components.last_mut() {
            None => self.start.push(name),
            Some(Part::Name(last)) => last.push(name),
            Some(Part::Pattern(_)) => self.components.push(Part::Name(name)),
        }
    }

    /// What there is now, in order. A path without patterns is itself, whether it is there or not.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.start.clone()];
        for component in &self.components {
            paths = match component {
                Part::Name(name) => paths.iter().map(|path| path.join(name)).collect(),
                Part::Pattern(pattern) => paths.iter().flat_map(|p| matching(p, pattern)).collect(),
            };
            paths.truncate(DIRECTORIES_MAX);
        }
        if !self.components.is_empty() {
            paths.retain(|path| path.exists());
            paths.sort_unstable();
        }
        paths
    }
}

fn matching(directory: &Path, pattern: &Regex) -> Vec<PathBuf> {
    let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let Ok(entries) = fs::read_dir(here) else {
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    let matching = names.filter(|name| name.to_str().is_some_and(|name| pattern.is_match(name)));
    matching.map(|name| directory.join(name)).collect()
}

/// The regular expression of one component.
fn expression(component: &str) -> String {
    let mut expression = "^".to_owned();
    let mut in_class = false;
    let mut chars = component.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' if !in_class => expression.push_str(".*"),
            '?' if !in_class => expression.push('.'),
            '[' if !in_class => {
                in_class = true;
                expression.push('[');
            }
            ']' | '^' | '-' if in_class => {
                in_class = c != ']';
                expression.push(c);
            }
            '\\' => literal(&mut expression, chars.next().unwrap_or('\\')),
            c => literal(&mut expression, c),
        }
    }
    expression.push('$');
    expression
}

fn literal(expression: &mut String, c: char) {
    if c.is_ascii_punctuation() {
        expression.push('\\');
    }
    expression.push(c);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_find_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a1/text", "a2/text", "b1/text", "a3", "x [y]/text"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let check = |pattern: &str, expected: &[&str]| {
            let pattern = format!("{}/{pattern}", directory.path().display());
            let glob = Glob::new(&pattern).unwrap();
            let expected: Vec<_> =
                expected.iter().map(|name| directory.path().join(name)).collect();
            assert_eq!(glob.paths(), expected, "{pattern}");
        };
        check("a1/text", &["a1/text"]);
        check("none//x/", &["none/x"]);
        check("a*/text", &["a1/text", "a2/text"]);
        check("?1", &["a1", "b1"]);
        check("[ab][1-2]/t*t", &["a1/text", "a2/text", "b1/text"]);
        check("[^a]*/text", &["b1/text", "x [y]/text"]);
        check("x \\[y*/t\\ext", &["x [y]/text"]);
        check("c*", &[]);
    }

    #[test]
    fn what_is_no_pattern_is_an_error() {
        assert!(Glob::new("/a/[b").is_err());
    }

    #[test]
    fn paths_are_tidied() {
        for (path, expected) in [("./a//b/", "a/b"), ("/a/./b", "/a/b"), ("../a", "../a")] {
            assert_eq!(Glob::new(path).unwrap().paths(), [PathBuf::from(expected)]);
        }
    }
}

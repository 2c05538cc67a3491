//! Host patterns: a name in which `*` stands for any run of characters and `?` for one.

use serde::{Deserialize, Serialize};

/// A pattern of host names. Compared without regard to ASCII case, as DNS does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern(String);

impl HostPattern {
    /// Whether the whole of `host` fits the pattern. Time is linear but for one retry a character.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let (pattern, host) = (self.0.as_bytes(), host.as_bytes());
        let (mut at, mut seen) = (0, 0);
        // Where to go on when what follows the last `*` doesn't fit: let the star take one more.
        let mut retry: Option<(usize, usize)> = None;
        while seen < host.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    retry = Some((at, seen));
                    at += 1;
                }
                Some(one) if *one == b'?' || one.eq_ignore_ascii_case(&host[seen]) => {
                    at += 1;
                    seen += 1;
                }
                _ => {
                    let Some((star, taken)) = retry else { return false };
                    retry = Some((star, taken + 1));
                    at = star + 1;
                    seen = taken + 1;
                }
            }
        }
        pattern[at..].iter().all(|rest| *rest == b'*')
    }
}

/// A pattern that can match no host.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("host pattern {0:?} can match no host: expected a name such as \"web-*\" or \"db-0?\"")]
pub struct BadPattern(String);

impl TryFrom<String> for HostPattern {
    type Error = BadPattern;

    fn try_from(text: String) -> Result<Self, BadPattern> {
        let fits = !text.is_empty() && !text.contains(char::is_whitespace);
        if fits { Ok(Self(text)) } else { Err(BadPattern(text)) }
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let check = |pattern: &str, host: &str, expected: bool| {
            let parsed = HostPattern::try_from(pattern.to_owned()).unwrap();
            assert_eq!(parsed.matches(host), expected, "{pattern:?} on {host:?}");
        };
        check("web-1", "web-1", true);
        check("web-1", "web-12", false);
        check("web-1", "web-", false);
        check("WEB-*", "web-1", true);
        check("web-*", "web-", true);
        check("web-*", "db-1", false);
        check("*", "", true);
        check("*", "anything", true);
        check("**", "anything", true);
        check("*.example.org", "a.b.example.org", true);
        check("*.example.org", "example.org", false);
        check("a*b*c", "aXbXbXc", true);
        check("a*b*c", "aXbXbX", false);
        check("db-0?", "db-01", true);
        check("db-0?", "db-0", false);
        check("?", "", false);
        check("*?", "x", true);
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_refused() {
        for text in ["", "web 1", " "] {
            assert_eq!(HostPattern::try_from(text.to_owned()), Err(BadPattern(text.to_owned())));
        }
    }
}

//! A script as blocks: a command, and the lines that belong to it.

/// One command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    /// The command's line, from 1.
    pub(super) line: usize,
    pub(super) command: &'a str,
    /// What follows it up to an empty line or the next command, without comments.
    pub(super) body: Vec<&'a str>,
}

/// Takes a script apart.
pub(super) fn blocks(script: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut open = false;
    for (at, raw) in script.lines().enumerate() {
        let text = raw.trim();
        if text.is_empty() {
            open = false;
        }
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let indented = raw.starts_with(char::is_whitespace);
        let begins = !open || (!indented && is_command(text));
        match blocks.last_mut() {
            Some(block) if !begins => block.body.push(text),
            _ => blocks.push(Block { line: at + 1, command: text, body: Vec::new() }),
        }
        open = true;
    }
    blocks
}

fn is_command(text: &str) -> bool {
    let word = text.split_whitespace().next().unwrap_or_default();
    let known = ["clear", "load", "load_with_nhcb", "eval"];
    known.contains(&word) || word.starts_with("eval_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_where_they_should() {
        let script =
            "# c\nload 5m\n  a 1\n  # c\n  b 2\neval instant at 0 a\n  a 1\n\n  clear\nclear\n";
        let found: Vec<_> =
            blocks(script).into_iter().map(|b| (b.line, b.command, b.body)).collect();
        assert_eq!(
            found,
            [
                (2, "load 5m", vec!["a 1", "b 2"]),
                (6, "eval instant at 0 a", vec!["a 1"]),
                (9, "clear", vec![]),
                (10, "clear", vec![]),
            ]
        );
    }
}

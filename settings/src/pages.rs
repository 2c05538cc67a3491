//! Pages for people, made from the table of keys: a sample file and a reference.

use std::fmt::Write;

use serde::Deserialize;
use toml::{Spanned, Value, de::ValueDeserializer};

use crate::{Key, Keys, Kind, Reload, value, variables};

/// Where lines of the sample file break.
const WIDTH: usize = 98;

/// A sample file: every key with its documentation, commented out and set to its default, so that the
/// file as it is means the defaults. What can be used as it stands begins with `#`, words about it
/// with `# `.
#[must_use]
pub fn sample(keys: &Keys, introduction: &str) -> String {
    let mut text = comment(introduction);
    for section in sections(keys) {
        text.push('\n');
        section.write_sample(&mut text);
    }
    text
}

/// A page of Markdown: every table and key with kind, bounds, default and variable. `introduction`
/// stands first, with the title.
#[must_use]
pub fn reference(keys: &Keys, introduction: &str, prefix: &str) -> String {
    let mut text = format!("{}\n", introduction.trim());
    for section in sections(keys) {
        section.write_reference(&mut text, prefix);
    }
    text
}

/// One table: its keys, and which of its forms it is where [`Key::when`] makes several.
struct Section<'k> {
    /// Path with `*`.
    table: &'k str,
    /// Path with a name of the examples.
    shown: String,
    /// What it is, on its first form.
    doc: Option<&'k str>,
    /// The key that [`Key::when`] looks at, and its value here.
    form: Option<(&'static str, &'static str)>,
    keys: Vec<&'k Key>,
}

fn sections(keys: &Keys) -> Vec<Section<'_>> {
    let mut tables: Vec<&str> = Vec::new();
    for key in &keys.keys {
        let (table, _) = key.split();
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    // Keys without a table can only stand at the beginning of a file.
    tables.sort_by_key(|table| !table.is_empty());
    tables.into_iter().flat_map(|table| forms(keys, table)).collect()
}

/// The table once for each of its forms; once if it has none.
fn forms<'k>(keys: &'k Keys, table: &'k str) -> Vec<Section<'k>> {
    let inside = || keys.keys.iter().filter(move |key| key.split().0 == table);
    let mut forms: Vec<Option<(&str, &str)>> = Vec::new();
    for form in inside().map(|key| key.when).filter(Option::is_some) {
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    if forms.is_empty() {
        forms.push(None);
    }
    let user_table = keys.tables.iter().find(|user| user.path == table);
    let section = |(index, form)| Section {
        table,
        shown: example_path(keys, table, form),
        doc: user_table.filter(|_| index == 0).map(|user| user.doc),
        form,
        keys: inside().filter(|key| key.when.is_none() || key.when == form).collect(),
    };
    forms.into_iter().enumerate().map(section).collect()
}

/// The path with names from the examples instead of `*`.
fn example_path(keys: &Keys, table: &str, form: Option<(&str, &str)>) -> String {
    let mut path: Vec<&str> = Vec::new();
    let mut pattern: Vec<&str> = Vec::new();
    for segment in table.split('.') {
        pattern.push(segment);
        let whole = pattern.join(".");
        let examples = keys.tables.iter().find(|user| user.path == whole).map(|user| user.examples);
        let wanted = form.map_or("", |(_, value)| value);
        let example = examples.and_then(|examples| {
            let fits = examples.iter().find(|(form, _)| *form == wanted);
            fits.or(examples.first()).map(|(_, name)| *name)
        });
        path.push(if segment == "*" { example.unwrap_or("name") } else { segment });
    }
    path.join(".")
}

impl Section<'_> {
    fn write_sample(&self, text: &mut String) {
        text.push_str(&self.doc.map(comment).unwrap_or_default());
        match self.table.strip_suffix(".#") {
            Some(list) => _ = writeln!(text, "#[[{list}]]"),
            None if self.table.is_empty() => {}
            None if self.table.contains('*') => _ = writeln!(text, "#[{}]", self.shown),
            None => _ = writeln!(text, "[{}]", self.shown),
        }
        for (index, key) in self.keys.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            text.push_str(&comment(&self.meaning(key)));
            let _ = writeln!(text, "#{} = {}", key.split().1, self.literal(key));
        }
    }

    fn write_reference(&self, text: &mut String, prefix: &str) {
        let of_form = |(key, value): (&str, &str)| format!(" with `{key} = \"{value}\"`");
        let form = self.form.map(of_form).unwrap_or_default();
        let table = self.table.replace('*', "<name>");
        match table.strip_suffix(".#") {
            Some(list) => _ = write!(text, "\n## `[[{list}]]`\n\n"),
            None if table.is_empty() => text.push_str("\n## Without a table\n\n"),
            None => _ = write!(text, "\n## `[{table}]`{form}\n\n"),
        }
        if let Some(doc) = self.doc {
            let _ = write!(text, "{doc}\n\n");
        }
        text.push_str("| key | value | default | meaning | variable |\n|---|---|---|---|---|\n");
        for key in &self.keys {
            self.write_row(text, key, prefix);
        }
    }

    fn write_row(&self, text: &mut String, key: &Key, prefix: &str) {
        let default = match (&key.default, key.required) {
            (Some(_), _) => format!("`{}`", self.literal(key)),
            (None, true) => "required".to_owned(),
            (None, false) => "none".to_owned(),
        };
        let restart = if key.reload == Reload::Restart { " A change needs a restart." } else { "" };
        let cells = [
            format!("`{}`", key.split().1),
            kind_in_words(key),
            default,
            format!("{}{restart}", key.doc),
            if key.is_in_list() {
                "none".to_owned()
            } else {
                format!("`{}`", variables::name(prefix, &key.path))
            },
        ];
        let cells = cells.map(|cell| cell.replace('|', "\\|").replace('\n', " "));
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }

    /// The documentation of a key, for the sample file.
    fn meaning(&self, key: &Key) -> String {
        let bounds = match value::bounds(key) {
            bounds if bounds.is_empty() => bounds,
            bounds => format!(" {}.", capitalised(&bounds)),
        };
        let choices = match key.kind {
            Kind::Choice(choices) => format!(" One of: {}.", choices.join(", ")),
            _ => String::new(),
        };
        let required = if key.required { " Required." } else { "" };
        let restart = if key.reload == Reload::Restart { " A change needs a restart." } else { "" };
        format!("{}{choices}{bounds}{required}{restart}", key.doc)
    }

    /// The key's default as TOML; where there is none, its example.
    fn literal(&self, key: &Key) -> String {
        let of_form = self.form.filter(|(name, _)| *name == key.split().1).map(|(_, value)| value);
        let word = of_form.or(key.default.as_deref()).or(key.example.as_deref());
        let value = value::from_word(key.kind, word.unwrap_or_default());
        let value = Value::deserialize(ValueDeserializer::from(Spanned::new(0..0, value)));
        value.map_or_else(|error| error.message().to_owned(), |value| value.to_string())
    }
}

fn kind_in_words(key: &Key) -> String {
    let kind = match key.kind {
        Kind::String => "string",
        Kind::Secret => "secret",
        Kind::Duration => "duration",
        Kind::Size => "size",
        Kind::Bool => "true or false",
        Kind::Integer => "whole number",
        Kind::Float => "number",
        Kind::Url => "URL",
        Kind::Path => "path",
        Kind::Strings => "list of strings",
        Kind::Table => "table of strings",
        Kind::Choice(choices) => return format!("`{}`", choices.join("`, `")),
    };
    match value::bounds(key) {
        bounds if bounds.is_empty() => kind.to_owned(),
        bounds => format!("{kind}, {bounds}"),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// Lines beginning with `# `, broken between words.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    for paragraph in text.trim().lines() {
        let mut line = String::from("#");
        for word in paragraph.split_whitespace() {
            if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > WIDTH {
                lines.push_str(&line);
                lines.push('\n');
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        lines.push_str(&line);
        lines.push('\n');
    }
    lines
}

//! The values of all layers under their paths, each with its place, and what is wrong with the paths.

use std::collections::BTreeMap;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    Key, Keys, Kind, Layers, Place, Problem, Source, nearest,
    variables::{self, Variable},
};

/// Longest name of a table that a user names.
const NAME_CHARS_MAX: usize = 64;

/// A path, segment by segment.
pub(crate) type Path = Vec<String>;

/// A value as it was given.
#[derive(Clone, Debug)]
pub(crate) enum Given<'a> {
    /// In a file.
    Toml(DeValue<'a>),
    /// As a word, to be read by the kind of its key.
    Word(&'a str),
}

/// The values of all layers.
pub(crate) struct Tree<'a> {
    pub(crate) keys: &'a Keys,
    /// Values, of the last layer that has them, each with its place.
    pub(crate) leaves: BTreeMap<Path, (Given<'a>, Place)>,
    /// Tables that were named or have values, each with its first place.
    pub(crate) tables: BTreeMap<Path, Place>,
    /// What is wrong with the paths.
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Tree<'a> {
    /// Reads all layers.
    pub(crate) fn new(keys: &'a Keys, layers: &'a Layers<'_>) -> Self {
        let mut tree =
            Self { keys, leaves: BTreeMap::new(), tables: BTreeMap::new(), problems: Vec::new() };
        if let Some(source) = &layers.file {
            tree.add_file(source);
        }
        tree.add_variables(layers);
        for flag in &layers.flags {
            let path = flag.path.split('.').map(str::to_owned).collect();
            tree.add_word(path, &flag.word, Place::Named(flag.name.clone()));
        }
        tree
    }

    fn add_file(&mut self, source: &'a Source) {
        let (table, errors) = DeTable::parse_recoverable(&source.text);
        for error in &errors {
            let place = source.place(error.span().map_or(0, |span| span.start));
            self.problems.push(Problem { place, text: error.message().to_owned() });
        }
        // What could be read of a broken file says little about the rest of it.
        if errors.is_empty() {
            self.add_table(source, table.into_inner(), &mut Vec::new());
        }
    }

    fn add_table(&mut self, source: &'a Source, table: DeTable<'a>, path: &mut Path) {
        for (name, value) in table {
            path.push(name.get_ref().to_string());
            self.add_item(source, path, name.span().start, value);
            path.pop();
        }
    }

    fn add_item(
        &mut self,
        source: &'a Source,
        path: &mut Path,
        offset: usize,
        value: Spanned<DeValue<'a>>,
    ) {
        let place = source.place(offset);
        if let Err(text) = self.check_path(path) {
            self.problems.push(Problem { place, text });
        } else if self.keys.keys.iter().any(|key| key.matches(path)) {
            let place = source.place(value.span().start);
            self.leaves.insert(path.clone(), (Given::Toml(value.into_inner()), place));
        } else if let Err(text) = self.add_tables(source, path, &place, value.into_inner()) {
            self.problems.push(Problem { place, text });
        }
    }

    /// A table, or a list of tables, whichever the keys want.
    fn add_tables(
        &mut self,
        source: &'a Source,
        path: &mut Path,
        place: &Place,
        value: DeValue<'a>,
    ) -> Result<(), String> {
        let dotted = path.join(".");
        let is_list = |key: &Key| key.begins(path) && key.segments().nth(path.len()) == Some("#");
        match (self.keys.keys.iter().any(is_list), value) {
            (false, DeValue::Table(table)) => {
                self.tables.insert(path.clone(), place.clone());
                self.add_table(source, table, path);
            }
            (true, DeValue::Array(list)) if list.iter().all(|item| item.get_ref().is_table()) => {
                if !list.is_empty() {
                    self.tables.insert(path.clone(), place.clone());
                }
                for (number, item) in (1..).zip(list) {
                    path.push(format!("#{number}"));
                    self.tables.insert(path.clone(), source.place(item.span().start));
                    if let DeValue::Table(table) = item.into_inner() {
                        self.add_table(source, table, path);
                    }
                    path.pop();
                }
            }
            (false, _) => {
                return Err(format!("{dotted} is a table: write [{dotted}], and its keys below"));
            }
            (true, _) => {
                return Err(format!(
                    "{dotted} is a list of tables: write [[{dotted}]] for each, and its keys below"
                ));
            }
        }
        Ok(())
    }

    /// Whether a path leads to a key or a table of keys.
    fn check_path(&self, path: &[String]) -> Result<(), String> {
        let mut keys = self.keys.keys.iter().filter(|key| key.begins(path)).peekable();
        if keys.peek().is_none() {
            return Err(nearest::unknown(self.keys, path));
        }
        let Some(name) = path.last() else {
            return Ok(());
        };
        let fixed = |key: &Key| key.segments().nth(path.len() - 1) == Some(name);
        if is_name(name) || keys.any(fixed) {
            return Ok(());
        }
        Err(format!(
            "{name:?} can't be a name: letters, digits, _ and - can, at most {NAME_CHARS_MAX} of them"
        ))
    }

    fn add_variables(&mut self, layers: &'a Layers<'_>) {
        for (variable, path) in layers.shorts {
            let path = path.split('.').map(str::to_owned).collect();
            let found = layers.variables.iter().find(|(name, _)| name == variable);
            if let Some((_, word)) = found.filter(|(_, word)| !word.is_empty()) {
                self.add_word(path, word, Place::Named((*variable).to_owned()));
            }
        }
        for (name, word) in &layers.variables {
            let place = || Place::Named(name.clone());
            match variables::resolve(name, layers, self.keys, &self.tables) {
                Variable::NotOurs => {}
                Variable::Unknown(text) => self.problems.push(Problem { place: place(), text }),
                // An empty variable is how scripts and unit files say "not set".
                Variable::Key(_, kind) if word.is_empty() && kind != Kind::String => {}
                Variable::Key(path, _) => self.add_word(path, word, place()),
            }
        }
    }

    fn add_word(&mut self, path: Path, word: &'a str, place: Place) {
        for end in 1..path.len() {
            self.tables.entry(path[..end].to_vec()).or_insert_with(|| place.clone());
        }
        self.leaves.insert(path, (Given::Word(word), place));
    }
}

/// What can name a table without quotes, and be part of a variable's name and of a label.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.chars().all(fits)
}

//! Which file and line each value of a configuration comes from.
//!
//! The parser keeps no positions in resolved values. Its tokens have lines, so each file of the include chain is read once more, and the
//! assignments are followed in order: a later one replaces an earlier one, and a value that is no object also replaces what was below.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Component, Path, PathBuf},
};

use hocon::{Token, TokenKind};

use super::includes::{MAX_INCLUDES, included, path_of};
use crate::{
    error::{Error, Result},
    text::words::without_mark,
};

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Line { file: PathBuf, line: usize },
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// A key: its segments.
pub(super) type Key = Vec<String>;

/// The origins of all keys that the files of a configuration set.
pub(crate) struct Origins {
    set: BTreeMap<Key, Origin>,
    /// Keys whose value has substitutions that are not optional, and the paths of these.
    pub(super) substituted: BTreeMap<Key, Vec<Key>>,
}

impl Origins {
    /// Reads a file and its includes. A file that is no HOCON has no origins: the parser reports it. `environment`: names of the
    /// variables; `is_set`: has the configuration a value at this path?
    ///
    /// # Errors
    /// An include that names no file, or too many includes.
    pub(crate) fn read(file: &Path, environment: &BTreeSet<String>, is_set: &dyn Fn(&str) -> bool) -> Result<Self> {
        let mut reader = Reader { set: BTreeMap::new(), substituted: BTreeMap::new(), environment, is_set, open: Vec::new(), includes: 0 };
        reader.file(file, &Key::new())?;
        Ok(Self { set: reader.set, substituted: reader.substituted })
    }

    /// The origin of exactly this key.
    pub(crate) fn of(&self, key: &[String]) -> Option<&Origin> {
        self.set.get(key)
    }

    /// The origin of this key, or of the nearest key above it (a substitution that brings an object); with the length of that key.
    pub(crate) fn nearest(&self, key: &[String]) -> Option<(usize, &Origin)> {
        (1..=key.len()).rev().find_map(|length| Some((length, self.set.get(&key[..length])?)))
    }
}

struct Reader<'a> {
    set: BTreeMap<Key, Origin>,
    substituted: BTreeMap<Key, Vec<Key>>,
    environment: &'a BTreeSet<String>,
    is_set: &'a dyn Fn(&str) -> bool,
    /// Files that are being read, each included by the one before.
    open: Vec<PathBuf>,
    /// Number of includes so far.
    includes: usize,
}

/// The tokens of one file, and where it is read.
struct Tokens<'t> {
    file: &'t Path,
    tokens: &'t [Token],
    next: usize,
}

impl Tokens<'_> {
    fn peek(&self) -> TokenKind {
        self.tokens.get(self.next).map_or(TokenKind::Eof, |token| token.kind.clone())
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next).cloned();
        self.next += 1;
        token
    }
}

/// What a value consists of.
#[derive(Default)]
struct Parts {
    objects: usize,
    scalars: usize,
    /// Paths of substitutions, and whether each is optional.
    substitutions: Vec<(Key, bool)>,
}

impl Reader<'_> {
    fn file(&mut self, file: &Path, prefix: &Key) -> Result<()> {
        let file = plain(file);
        if self.open.contains(&file) {
            return Ok(());
        }
        // The parser says what is wrong with a file that is no text or no HOCON.
        let Ok(text) = fs::read_to_string(&file) else { return Ok(()) };
        let Ok(tokens) = hocon::tokenize(without_mark(&text)) else { return Ok(()) };
        self.open.push(file.clone());
        let mut tokens = Tokens { file: &file, tokens: &tokens, next: 0 };
        while tokens.peek() != TokenKind::Eof {
            match tokens.peek() {
                TokenKind::LBrace | TokenKind::RBrace => drop(tokens.take()),
                _ => self.object(&mut tokens, prefix)?,
            }
        }
        self.open.pop();
        Ok(())
    }

    /// The members of an object, to its closing brace or the end of the file.
    fn object(&mut self, tokens: &mut Tokens<'_>, prefix: &Key) -> Result<()> {
        loop {
            match tokens.peek() {
                TokenKind::Eof => return Ok(()),
                TokenKind::RBrace => {
                    tokens.take();
                    return Ok(());
                }
                TokenKind::Newline | TokenKind::Comma => drop(tokens.take()),
                _ => self.member(tokens, prefix)?,
            }
        }
    }

    fn member(&mut self, tokens: &mut Tokens<'_>, prefix: &Key) -> Result<()> {
        let Some(first) = tokens.tokens.get(tokens.next).cloned() else { return Ok(()) };
        let mut names = Vec::new();
        while matches!(tokens.peek(), TokenKind::Unquoted | TokenKind::QuotedString | TokenKind::TripleQuotedString) {
            names.extend(tokens.take());
        }
        let is_include = first.kind == TokenKind::Unquoted && first.value == "include";
        if is_include && names.len() > 1 {
            return path_of(&names).map_or(Ok(()), |path| self.include(tokens.file, first.line, path, prefix));
        }
        let key: Key = prefix.iter().cloned().chain(segments(&names)).collect();
        let appends = match tokens.peek() {
            TokenKind::LBrace => false,
            TokenKind::Equals | TokenKind::Colon => {
                tokens.take();
                false
            }
            TokenKind::PlusEquals => {
                tokens.take();
                true
            }
            // The file was parsed before: this is not reached with a file that reads.
            _ => {
                tokens.take();
                return Ok(());
            }
        };
        let parts = self.value(tokens, &key)?;
        self.assign(key, Origin::Line { file: tokens.file.to_owned(), line: first.line }, &parts, appends);
        Ok(())
    }

    /// Reads a value to its end; members of its objects are assigned.
    fn value(&mut self, tokens: &mut Tokens<'_>, key: &Key) -> Result<Parts> {
        let mut parts = Parts::default();
        // A value may begin on the line after `=`.
        while tokens.peek() == TokenKind::Newline {
            tokens.take();
        }
        loop {
            match tokens.peek() {
                TokenKind::Newline | TokenKind::Comma | TokenKind::RBrace | TokenKind::RBracket | TokenKind::Eof => return Ok(parts),
                TokenKind::LBrace => {
                    tokens.take();
                    self.object(tokens, key)?;
                    parts.objects += 1;
                }
                TokenKind::LBracket => {
                    parts.substitutions.extend(skip_array(tokens));
                    parts.scalars += 1;
                }
                TokenKind::Substitution => {
                    parts.substitutions.extend(tokens.take().as_ref().and_then(substitution));
                }
                _ => {
                    tokens.take();
                    parts.scalars += 1;
                }
            }
        }
    }

    fn assign(&mut self, key: Key, line: Origin, parts: &Parts, appends: bool) {
        let is_alone = parts.objects + parts.scalars == 0 && parts.substitutions.len() == 1;
        let mut origin = line;
        if let (true, [(path, is_optional)]) = (is_alone, parts.substitutions.as_slice()) {
            let path = path.join(".");
            if !(self.is_set)(&path) && self.environment.contains(&path) {
                origin = Origin::Environment(path);
            } else if !(self.is_set)(&path) && *is_optional {
                // A variable that is not set changes nothing.
                return;
            }
        }
        let replaces = !appends && parts.objects == 0;
        if replaces {
            self.set.retain(|other, _| !(other.len() > key.len() && other.starts_with(&key)));
            self.substituted.retain(|other, _| !other.starts_with(&key));
        }
        // A substitution of the own key, or of an object around it, is the value that it had before.
        let is_required = |(path, is_optional): &&(Key, bool)| !is_optional && !key.starts_with(path);
        let required = parts.substitutions.iter().filter(is_required).map(|(path, _)| path.clone());
        self.substituted.entry(key.clone()).or_default().extend(required);
        if replaces || appends || !parts.substitutions.is_empty() || !self.set.contains_key(&key) {
            self.set.insert(key, origin);
        }
    }

    fn include(&mut self, from: &Path, line: usize, path: &str, prefix: &Key) -> Result<()> {
        let failed = |why: String| Error::Config { file: from.to_owned(), why };
        self.includes += 1;
        if self.includes > MAX_INCLUDES {
            return Err(failed(format!("more than {MAX_INCLUDES} includes: include each file once")));
        }
        let file = included(from, path).ok_or_else(|| {
            failed(format!("line {line}: include \"{path}\": there is no such file: correct its name, or remove the line"))
        })?;
        self.file(&file, prefix)
    }
}

/// The segments of a key: dots separate, except in quotes.
fn segments(names: &[Token]) -> Vec<String> {
    let mut segments = Vec::new();
    let mut current = String::new();
    for token in names {
        if token.kind == TokenKind::Unquoted {
            let mut pieces = token.value.split('.');
            current += pieces.next().unwrap_or_default();
            for piece in pieces {
                segments.push(std::mem::replace(&mut current, piece.to_owned()));
            }
        } else {
            current += &token.value;
        }
    }
    segments.push(current);
    segments
}

/// Path of a substitution, and whether it is optional.
fn substitution(token: &Token) -> Option<(Key, bool)> {
    let substitution = token.subst.as_ref()?;
    Some((substitution.segments.iter().map(|segment| segment.text.clone()).collect(), substitution.optional))
}

/// Skips an array, and returns its substitutions.
fn skip_array(tokens: &mut Tokens<'_>) -> Vec<(Key, bool)> {
    let (mut depth, mut substitutions) = (0usize, Vec::new());
    while let Some(token) = tokens.take() {
        match token.kind {
            TokenKind::LBracket => depth += 1,
            TokenKind::RBracket => depth = depth.saturating_sub(1),
            _ => {}
        }
        substitutions.extend(substitution(&token));
        if depth == 0 || token.kind == TokenKind::Eof {
            break;
        }
    }
    substitutions
}

/// `conf/predecessor/../base.conf` is `conf/base.conf`.
fn plain(path: &Path) -> PathBuf {
    let mut parts: Vec<Component<'_>> = Vec::new();
    for part in path.components() {
        match (part, parts.last()) {
            (Component::CurDir, Some(_)) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_around_a_file_change_no_origin() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.conf");
        fs::write(&file, "{\n  a { b = 1 }\n  c = 2\n}\n").unwrap();
        let origins = Origins::read(&file, &BTreeSet::new(), &|_| true).unwrap();
        let line = |key: &[&str]| match origins.of(&key.iter().map(|part| (*part).to_owned()).collect::<Key>()) {
            Some(Origin::Line { line, .. }) => *line,
            other => panic!("{key:?}: {other:?}"),
        };
        assert_eq!((line(&["a", "b"]), line(&["c"])), (2, 3));
    }
}

//! Includes of a configuration. HOCON ignores one that names no file, so that a mistyped name would leave out a whole file of settings.

use std::path::{Path, PathBuf};

use hocon::{Token, TokenKind};

/// Most includes of a configuration: files that include each other twice double their number with each file.
pub const MAX_INCLUDES: usize = 1000;

/// The file that an include of `from` names: exactly, or without its extension `.conf` or `.json`.
pub fn included(from: &Path, path: &str) -> Option<PathBuf> {
    let named = from.parent().unwrap_or(Path::new("")).join(path);
    let extended = |extension: &str| PathBuf::from(format!("{}.{extension}", named.display()));
    // `file(…)` may also be relative to the working folder.
    [named.clone(), extended("conf"), extended("json"), PathBuf::from(path)].into_iter().find(|file| file.is_file())
}

/// The path in the tokens of an include; none for a URL or a package.
pub fn path_of(tokens: &[Token]) -> Option<&str> {
    let is_remote = |token: &Token| {
        token.kind == TokenKind::Unquoted && ["url(", "classpath(", "package("].iter().any(|kind| token.value.contains(kind))
    };
    let path = tokens.iter().find(|token| token.kind == TokenKind::QuotedString)?;
    (!tokens.iter().any(is_remote)).then_some(path.value.as_str())
}

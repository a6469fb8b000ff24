//! Includes that name no file. HOCON ignores them, so that a mistyped name would leave out a whole file of settings.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hocon::{Token, TokenKind};

use crate::text::words::without_mark;

/// The file that an include of `from` names: exactly, or without its extension `.conf` or `.json`.
pub fn included(from: &Path, path: &str) -> Option<PathBuf> {
    let named = from.parent().unwrap_or(Path::new("")).join(path);
    let extended = |extension: &str| PathBuf::from(format!("{}.{extension}", named.display()));
    // `file(…)` may also be relative to the working folder.
    [named.clone(), extended("conf"), extended("json"), PathBuf::from(path)].into_iter().find(|file| file.is_file())
}

/// Checks that every include of a file, and of the files that it includes, names a file.
///
/// # Errors
/// The line of the first one that does not.
pub fn check(file: &Path) -> Result<(), String> {
    check_from(file, &mut Vec::new(), &mut 0)
}

/// Most includes of a configuration: files that include each other twice double their number with each file.
const MAX_INCLUDES: usize = 1000;

fn check_from(file: &Path, open: &mut Vec<PathBuf>, count: &mut usize) -> Result<(), String> {
    // What else is wrong with a file, its parser says.
    let Ok(full) = file.canonicalize() else { return Ok(()) };
    let Ok(tokens) = fs::read_to_string(file).map_err(drop).and_then(|text| hocon::tokenize(without_mark(&text)).map_err(drop)) else {
        return Ok(());
    };
    if open.contains(&full) {
        return Ok(());
    }
    open.push(full);
    for (line, path) in includes(&tokens) {
        let found = included(file, path).ok_or_else(|| {
            format!("{}:{line}: include \"{path}\": there is no such file: correct its name, or remove the line", file.display())
        })?;
        *count += 1;
        if *count > MAX_INCLUDES {
            return Err(format!("more than {MAX_INCLUDES} includes: include each file once"));
        }
        check_from(&found, open, count)?;
    }
    open.pop();
    Ok(())
}

/// Line and path of each include; those of URLs and packages are left out.
fn includes(tokens: &[Token]) -> impl Iterator<Item = (usize, &str)> {
    let starts = |index: usize| {
        index == 0 || matches!(tokens[index - 1].kind, TokenKind::Newline | TokenKind::Comma | TokenKind::LBrace | TokenKind::RBrace)
    };
    let is_include =
        move |index: &usize| tokens[*index].kind == TokenKind::Unquoted && tokens[*index].value.trim() == "include" && starts(*index);
    (0..tokens.len()).filter(is_include).filter_map(|index| {
        let mut names = tokens[index + 1..].iter().take_while(|token| matches!(token.kind, TokenKind::Unquoted | TokenKind::QuotedString));
        let path = names.by_ref().find(|token| token.kind == TokenKind::QuotedString || is_remote(token))?;
        (!is_remote(path)).then_some((tokens[index].line, path.value.as_str()))
    })
}

fn is_remote(token: &Token) -> bool {
    token.kind == TokenKind::Unquoted && ["url(", "classpath(", "package("].iter().any(|kind| token.value.contains(kind))
}

//! Retractions by id of earlier versions, carried to the functions that have the code today.
//!
//! Version 0.2.0 listed ids only, and an id is a digest of the code: another rule of harvest or parse gives a function another id. A bundle
//! that has the id tells what the function was.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bundle::{
    guard::guarded,
    manifest::{CONTENT, DOCS},
};
use ledger::{Retracted, table};

use crate::Result;

/// Shortest code, without white space, that is looked for inside other code.
const MIN_CODE: usize = 24;

/// The code of a function without white space, and where it is.
struct Code {
    language: String,
    repo: String,
    func_name: String,
    code: String,
}

impl Code {
    /// Is `self` the function `new` with other documentation, comments or decorators?
    fn is(&self, new: &Code) -> bool {
        let is_one_name = self.repo == new.repo && self.func_name == new.func_name;
        let holds = |long: &str, short: &str| short.len() >= MIN_CODE && long.contains(short);
        self.language == new.language
            && (self.code == new.code || is_one_name && (holds(&new.code, &self.code) || holds(&self.code, &new.code)))
    }
}

/// The contents of the functions that a list deletes by ids without content, as the bundle `new` has them. `old`: bundles that may have the
/// ids.
pub fn contents(list: &Retracted, old: &[impl AsRef<Path>], new: &Path) -> Result<BTreeSet<String>> {
    let ids = list.functions();
    let mut found = BTreeSet::new();
    if ids.is_empty() || !table::column_names(&new.join(DOCS))?.iter().any(|name| name == CONTENT) {
        return Ok(found);
    }
    let mut codes = BTreeMap::new();
    for folder in old.iter().map(AsRef::as_ref).chain([new]) {
        // A damaged bundle was reported when its tombstones were updated; it stops no publication.
        let _ = guarded(folder, || {
            each_code(folder, false, |id, code, _| {
                if ids.contains(id) {
                    codes.insert(id.to_owned(), code());
                }
            })
        });
    }
    each_code(new, true, |_, code, content| {
        let code = code();
        if codes.values().any(|retracted| retracted.is(&code)) {
            found.insert(content.to_owned());
        }
    })?;
    Ok(found)
}

/// Calls `take` with the id, the code and the content of each function of a bundle.
fn each_code(folder: &Path, has_content: bool, mut take: impl FnMut(&str, &dyn Fn() -> Code, &str)) -> Result<()> {
    let mut columns = vec!["id", "language", "repo", "func_name", "code"];
    columns.extend(has_content.then_some(CONTENT));
    for batch in table::read(&folder.join(DOCS), &columns)? {
        let batch = batch?;
        let texts = columns.iter().map(|name| Ok(table::texts(&batch, name)?)).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            let text = |column: usize| texts[column].value(row);
            let code = || Code {
                language: text(1).to_owned(),
                repo: text(2).to_owned(),
                func_name: text(3).to_owned(),
                code: text(4).split_whitespace().collect(),
            };
            take(text(0), &code, if has_content { text(5) } else { "" });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(repo: &str, func_name: &str, code: &str) -> Code {
        Code {
            language: "python".to_owned(),
            repo: repo.to_owned(),
            func_name: func_name.to_owned(),
            code: code.split_whitespace().collect(),
        }
    }

    #[test]
    fn a_function_with_another_layout_or_with_its_decorator_is_the_same_one() {
        let old = code("o/r", "f", "def f(order):\n    return send(order, key)\n");
        assert!(old.is(&code("o/other", "g", "def f(order): return  send(order, key)")));
        assert!(old.is(&code("o/r", "f", "@cached\ndef f(order):\n    return send(order, key)\n")));
        assert!(!old.is(&code("o/other", "f", "@cached\ndef f(order):\n    return send(order, key)\n")));
        assert!(!old.is(&code("o/r", "f", "def f(order):\n    return send(order, KEY)\n")));
        assert!(!code("o/r", "f", "def f(): pass").is(&code("o/r", "f", "@a\ndef f(): pass")), "too short to look for");
    }
}

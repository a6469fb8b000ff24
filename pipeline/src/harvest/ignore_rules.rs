//! Files that git ignores, by the `.gitignore` files of a checkout.

use std::path::Path;

use gix::{
    bstr::BStr,
    glob::pattern::Case,
    ignore::{Search, search::Ignore},
};

/// The rules that apply in a folder of a checkout: those of the repository, then those of each folder down to this one.
#[derive(Debug)]
pub struct IgnoreRules {
    search: Search,
    /// Depth of the folder of each list in `search`; the rules of the repository have none.
    depths: Vec<usize>,
}

const PARSER: Ignore = Ignore { support_precious: false };

impl IgnoreRules {
    /// Rules of the whole repository (`.git/info/exclude`).
    pub fn new(excluded: &[u8]) -> Self {
        let mut search = Search::default();
        // Without a root there is no base that could be invalid.
        let _ = search.add_patterns_buffer(excluded, "exclude", None, PARSER);
        Self { search, depths: Vec::new() }
    }

    /// Adds the `.gitignore` of a folder. `folder`: path below the root, empty for the root itself, which has depth 0.
    pub fn enter(&mut self, folder: &str, depth: usize, gitignore: &[u8]) {
        let source = Path::new(folder).join(".gitignore");
        if self.search.add_patterns_buffer(gitignore, source, Some(Path::new("")), PARSER).is_ok() {
            self.depths.push(depth);
        }
    }

    /// Removes the rules of folders at this depth and below it.
    pub fn leave(&mut self, depth: usize) {
        while self.depths.pop_if(|added| *added >= depth).is_some() {
            self.search.patterns.pop();
        }
    }

    /// Do the rules ignore this path? A file in an ignored folder is ignored: ask for the folder first.
    pub fn ignores(&self, path: &str, is_folder: bool) -> bool {
        let found = self.search.pattern_matching_relative_path(BStr::new(path), Some(is_folder), Case::Sensitive);
        found.is_some_and(|found| !found.pattern.is_negative())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deeper_rules_and_later_lines_win() {
        let mut rules = IgnoreRules::new(b"*.log\n");
        rules.enter("", 0, b"/out/\n*.tmp\n");
        rules.enter("a", 1, b"!keep.log\nb/*.py\n");
        assert!(rules.ignores("x.log", false) && rules.ignores("out", true) && rules.ignores("a/x.tmp", false));
        assert!(!rules.ignores("out", false), "the rule is for folders");
        assert!(!rules.ignores("a/out", true), "the rule is for the root");
        assert!(!rules.ignores("a/keep.log", false) && rules.ignores("a/b/x.py", false));
        rules.leave(1);
        assert!(rules.ignores("a/keep.log", false) && !rules.ignores("a/b/x.py", false));
    }
}

//! Compares the commit, the tool and the machine that made a snapshot with those of this process.
//! [`Registry::rerun`](ledger::Registry::rerun) then runs the stages again.

use std::fmt::Write;

use ledger::{Commit, Host, Manifest, Store};

use crate::error::Result;

/// A difference between the run that made an artifact and this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `<stage> commit`, `<stage> tool` or `<stage> system`.
    pub what: String,
    pub there: String,
    pub here: String,
}

/// Commit, tool and system of every current artifact of a store, where they differ from those of this process.
pub fn differences(store: &Store) -> Result<Vec<Difference>> {
    let manifests = store.kinds().iter().filter_map(|kind| store.current_manifest(kind));
    Ok(manifests.flat_map(|(_, manifest)| of(&manifest)).collect())
}

fn of(manifest: &Manifest) -> Vec<Difference> {
    let here = Host::here(0);
    let host = &manifest.host;
    let mut found = Vec::new();
    let mut compare = |what: &str, there: String, here: String| {
        if there != here {
            found.push(Difference { what: format!("{} {what}", manifest.stage), there, here });
        }
    };
    compare("commit", commit(&host.commit), commit(&here.commit));
    compare("tool", host.tool.clone(), here.tool);
    compare("system", format!("{} {}", host.os, host.arch), format!("{} {}", here.os, here.arch));
    found
}

fn commit(commit: &Commit) -> String {
    let id = commit.id.as_deref().unwrap_or("unknown");
    commit.diff.map_or_else(
        || if commit.dirty { format!("{id} with changes") } else { id.to_owned() },
        |diff| format!("{id} with changes {}", diff.short()),
    )
}

/// Lines for people. Stages that differ in the same way share a line.
pub fn text(differences: &[Difference]) -> String {
    let mut text = String::new();
    let mut rest: Vec<&Difference> = differences.iter().collect();
    while let Some(&first) = rest.first() {
        let kind = |one: &Difference| one.what.split_once(' ').map(|(_, what)| what.to_owned()).unwrap_or_default();
        let is_same = |one: &&Difference| kind(one) == kind(first) && one.there == first.there && one.here == first.here;
        let stages: Vec<_> = rest.iter().filter(|one| is_same(one)).map(|one| one.what.split(' ').next().unwrap_or_default()).collect();
        let _ = writeln!(text, "differs: {} of {}: {} there, {} here", kind(first), stages.join(", "), first.there, first.here);
        rest.retain(|one| !is_same(one));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_that_differ_in_the_same_way_share_a_line() {
        let one = |what: &str, there: &str| Difference { what: what.to_owned(), there: there.to_owned(), here: "2.0".to_owned() };
        let differences = [one("parse tool", "1.0"), one("train tool", "1.1"), one("parse system", "1.0"), one("vocab tool", "1.0")];
        let expected = "differs: tool of parse, vocab: 1.0 there, 2.0 here\n\
                        differs: tool of train: 1.1 there, 2.0 here\n\
                        differs: system of parse: 1.0 there, 2.0 here\n";
        assert_eq!(text(&differences), expected);
    }

    #[test]
    fn a_commit_is_named_with_its_changes() {
        let commit_of = |id: Option<&str>, dirty: bool| commit(&Commit { id: id.map(str::to_owned), dirty, diff: None });
        assert_eq!(commit_of(Some("abc"), false), "abc");
        assert_eq!(commit_of(Some("abc"), true), "abc with changes");
        assert_eq!(commit_of(None, false), "unknown");
        let diff = ledger::Digest::of_bytes(b"changes");
        let changed = Commit { id: Some("abc".to_owned()), dirty: true, diff: Some(diff) };
        assert_eq!(commit(&changed), format!("abc with changes {}", diff.short()));
    }
}

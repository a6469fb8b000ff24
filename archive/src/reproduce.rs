//! `reproduce`, first half: what was saved beside what is here. The second half, running stages once more, is each tool's own
//! `reproduce`.

use std::fmt::Write;

use anyhow::Result;
use ledger::{ARTIFACT_KINDS, Commit, Host, Manifest, Store};

/// A difference between where something was made and here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub what: String,
    pub there: String,
    pub here: String,
}

/// Commit, tool and machine of every artifact in a restored store, beside those of this process.
pub fn differences(store: &Store) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    for kind in ARTIFACT_KINDS {
        let Some((_, manifest)) = store.current_manifest(kind) else { continue };
        found.extend(of(&manifest));
    }
    Ok(found)
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

/// Lines for people; stages that differ in the same way share one.
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

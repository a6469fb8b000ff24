//! Which artifact kinds of a snapshot are saved or restored with their files.

use std::{collections::BTreeSet, path::Path};

use ledger::{Bundle, Checkpoint, Embeddings, Encoder, Functions, Raw, Recordable, Scores, Syntax, Tokens, Vocabulary, bail};

use super::{RUNS, artifact_path};
use crate::error::Result;

/// Names for several built-in kinds. A kind in no group is selected by its own name.
const GROUPS: [(&str, &[&str]); 5] = [
    ("dataset", &[Raw::KIND, Functions::KIND, Syntax::KIND, Tokens::KIND]),
    ("model", &[Vocabulary::KIND, Checkpoint::KIND, Encoder::KIND]),
    ("index", &[Embeddings::KIND]),
    ("bundle", &[Bundle::KIND]),
    ("scores", &[Scores::KIND]),
];
/// Groups whose files are always selected.
const ALWAYS: [&str; 2] = ["model", "scores"];
/// Name for every kind and the work directories.
const ALL: &str = "all";

/// Artifact kinds whose files are saved or restored. Manifests are always saved and restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    kinds: BTreeSet<String>,
    runs: bool,
}

impl Selection {
    /// The model, the scores, and what `names` adds: groups, artifact kinds out of `kinds`, `runs` (work directories), or `all`.
    ///
    /// # Errors
    /// A name is none of these.
    pub fn of(names: &[String], kinds: &[&'static str]) -> Result<Self> {
        let mut selection = Self { kinds: BTreeSet::new(), runs: false };
        for name in ALWAYS.into_iter().chain(names.iter().map(String::as_str)) {
            let group = GROUPS.iter().find(|(group, _)| *group == name).map(|(_, kinds)| *kinds);
            match (name, group) {
                (ALL, _) => selection = Self::all(kinds),
                (RUNS, _) => selection.runs = true,
                (_, Some(group)) => selection.kinds.extend(group.iter().map(|&kind| kind.to_owned())),
                (kind, None) if kinds.contains(&kind) => selection.kinds.extend([kind.to_owned()]),
                (other, None) => {
                    let groups = GROUPS.map(|(group, _)| group).join(", ");
                    bail!("{other:?} cannot be saved or restored: use {groups}, {RUNS}, {ALL}, or an artifact kind ({})", kinds.join(", "))
                }
            }
        }
        Ok(selection)
    }

    /// Every one of these kinds, and the work directories.
    pub fn all(kinds: &[&'static str]) -> Self {
        Self { kinds: kinds.iter().map(|&kind| kind.to_owned()).collect(), runs: true }
    }

    /// Are the files of this kind selected?
    pub fn has(&self, kind: &str) -> bool {
        self.kinds.contains(kind)
    }

    /// Are the work directories selected?
    pub fn has_runs(&self) -> bool {
        self.runs
    }

    /// Is this file of a saved snapshot selected? Manifests and the small files that describe the snapshot always are.
    ///
    /// * `path`: relative to the snapshot.
    pub fn takes(&self, path: &Path) -> bool {
        if let Some((id, file)) = artifact_path(path) {
            return file == Path::new(super::MANIFEST) || self.has(&id.kind);
        }
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        match parts.as_slice() {
            [runs, _, _, ..] if runs == RUNS => self.runs,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [&str; 4] = ["raw", "syntax", "encoder", "notes"];

    fn of(names: &[&str]) -> Selection {
        Selection::of(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(), &KINDS).unwrap()
    }

    fn takes(selection: &Selection, path: &str) -> bool {
        selection.takes(Path::new(path))
    }

    #[test]
    fn manifests_are_always_taken() {
        let model = of(&[]);
        assert!(takes(&model, "syntax/ab/sealed/manifest.json"));
        assert!(!takes(&model, "syntax/ab/sealed/deep/manifest.json"));
    }

    #[test]
    fn files_are_taken_where_their_group_is_selected() {
        let (model, dataset) = (of(&[]), of(&["dataset", "runs"]));
        assert!(takes(&model, "encoder/ab/sealed/encoder.onnx"));
        assert!(!takes(&model, "syntax/ab/sealed/train/0000.parquet"));
        assert!(takes(&dataset, "syntax/ab/sealed/train/0000.parquet"));
        assert!(!takes(&dataset, "bundle/ab/sealed/bundle/docs.parquet"));
    }

    #[test]
    fn work_directories_are_taken_where_runs_are_selected() {
        let path = "runs/train-ab/files/checkpoints/x";
        assert!(!takes(&of(&[]), path) && takes(&of(&["runs"]), path) && takes(&of(&["all"]), path));
        assert!(takes(&of(&[]), "commits/train-ab/changes.diff"));
    }

    #[test]
    fn a_kind_in_no_group_is_selected_by_its_name_and_by_all() {
        let path = "notes/ab/sealed/notes.txt";
        assert!(!takes(&of(&["dataset"]), path) && takes(&of(&["notes"]), path) && takes(&of(&["all"]), path));
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_names_that_exist() {
        let error = Selection::of(&["bundel".to_owned()], &KINDS).unwrap_err().to_string();
        assert!(error.contains("bundle") && error.contains("notes"), "{error}");
    }
}

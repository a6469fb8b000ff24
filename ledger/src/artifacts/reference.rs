//! An artifact as a part of a record.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{
    artifact::Artifact,
    manifest::MANIFEST,
    recordable::{Content, Files, Recordable, json_files, open_json},
};
use crate::{ensure, error::Result};

/// An artifact in a record, with its files or as its manifest only.
#[derive(Debug)]
pub struct ArtifactRef<A> {
    pub artifact: Artifact<A>,
    pub has_files: bool,
}

/// Kind and key of the artifact.
#[derive(Debug, Serialize, Deserialize)]
struct Reference {
    kind: String,
    key: String,
}

impl<A: Recordable> Recordable for ArtifactRef<A> {
    const KIND: &'static str = "artifact";
    fn open(dir: &Path) -> Result<Self> {
        let value: Reference = open_json(dir)?;
        ensure!(value.kind == A::KIND, "{} holds an artifact of kind {}, not {}", dir.display(), value.kind, A::KIND);
        let artifact = Artifact::at(dir.join("sealed"))?;
        ensure!(artifact.manifest().key == value.key, "{} holds another artifact than {}", dir.display(), value.key);
        let has_files = artifact.manifest().outputs.keys().all(|path| artifact.dir().join(path).is_file());
        if has_files {
            artifact.open()?;
        }
        Ok(Self { artifact, has_files })
    }
    fn files(&self) -> Result<Files> {
        let manifest = self.artifact.manifest();
        let value = Reference { kind: A::KIND.to_owned(), key: manifest.key.clone() };
        let mut files = json_files(&value)?;
        let sealed = Path::new("sealed");
        files.insert(sealed.join(MANIFEST), Content::File(self.artifact.dir().join(MANIFEST), None));
        if self.has_files {
            for (path, record) in &manifest.outputs {
                files.insert(sealed.join(path), Content::File(self.artifact.dir().join(path), Some(record.clone())));
            }
        }
        Ok(files)
    }
}

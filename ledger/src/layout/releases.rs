//! The releases of the encoder in a data folder. No other module knows the layout of `models/`.
//!
//! ```text
//! models/<id>/encoder/         encoder.json, the graphs that it names, tokenizer.json
//! models/<id>/reranker.json    the reranking model, where one was learned
//! models/<id>/fusion.json      the fusion, where one was learned
//! models/<id>/release.json     what the release was made from
//! models/<id>/tokens.json      tokens of the functions of the first night with the release, for measuring drift
//! models/current -> <id>       the release that nightly builds use; replaced atomically by rename(2)
//! models/pinned                id of the release that is kept whatever the policy says
//! models/trained               second in which a training for a release began last
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::serve::BundleId;
use crate::{
    durable::{fsync_dir, fsync_tree, publish_link, scratch_folder, write_atomically},
    ensure,
    error::{Context, Error, Result},
    fault,
};

/// Id of a release: it has the form of a [`BundleId`], with the key of the trained encoder.
pub type ReleaseId = BundleId;

/// What a release was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Release {
    pub created_unix_s: u64,
    /// Key of the artifact that the encoder was copied from.
    pub encoder: String,
    /// Key of the bundle whose fusion and reranking model it has.
    pub bundle: String,
    /// Scores of that bundle, by the names of `scores.json`.
    pub scores: BTreeMap<String, f64>,
}

/// The releases of one data folder.
#[derive(Debug, Clone)]
pub struct Releases {
    root: PathBuf,
}

const RECORD: &str = "release.json";
const ENCODER: &str = "encoder";
/// Prefix of a folder that is no release yet.
const UNFINISHED: &str = ".unfinished-";

impl Releases {
    /// The releases of a data folder. It need not exist.
    pub fn of(data: &Path) -> Self {
        Self { root: data.join("models") }
    }

    /// Folder of a release.
    pub fn dir(&self, id: &ReleaseId) -> PathBuf {
        self.root.join(id.as_str())
    }

    /// Folder with the encoder of a release.
    pub fn encoder(&self, id: &ReleaseId) -> PathBuf {
        self.dir(id).join(ENCODER)
    }

    /// File with the tokens of the functions of the first night with a release.
    pub fn tokens(&self, id: &ReleaseId) -> PathBuf {
        self.dir(id).join("tokens.json")
    }

    /// Ids of the releases, oldest first.
    ///
    /// # Errors
    /// The folder exists and cannot be listed.
    pub fn ids(&self) -> Result<Vec<ReleaseId>> {
        let mut ids = Vec::new();
        if self.root.exists() {
            for entry in fs::read_dir(&self.root).map_err(Error::io("listing", &self.root))? {
                let entry = entry.map_err(Error::io("listing", &self.root))?;
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    ids.extend(ReleaseId::parse(&entry.file_name().to_string_lossy()));
                }
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// The release that nightly builds use, if there is one.
    pub fn current_id(&self) -> Option<ReleaseId> {
        ReleaseId::parse(&fs::read_link(self.root.join("current")).ok()?.file_name()?.to_string_lossy())
    }

    /// Makes a release the one that nightly builds use.
    ///
    /// # Errors
    /// There is no such release.
    pub fn set_current(&self, id: &ReleaseId) -> Result<()> {
        self.read(id)?;
        publish_link(&self.root.join("current"), Path::new(id.as_str()))
    }

    /// The release that is kept whatever the policy says, if there is one.
    pub fn pinned(&self) -> Option<ReleaseId> {
        ReleaseId::parse(fs::read_to_string(self.root.join("pinned")).ok()?.trim())
    }

    /// Keeps a release whatever the policy says; none: follows the policy again.
    pub fn pin(&self, id: Option<&ReleaseId>) -> Result<()> {
        let path = self.root.join("pinned");
        match id {
            Some(id) => {
                self.set_current(id)?;
                write_atomically(&path, id.as_str().as_bytes())
            }
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("deleting", &path)(error)),
                _ => Ok(()),
            },
        }
    }

    /// The record of a release.
    ///
    /// # Errors
    /// There is no such release, or its record is damaged.
    pub fn read(&self, id: &ReleaseId) -> Result<Release> {
        let path = self.dir(id).join(RECORD);
        let bytes =
            fs::read(&path).with_context(|| format!("there is no release {id}: `codenets model list` shows them ({})", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged: delete the release {id}", path.display()))
    }

    /// Writes a release and makes it the current one. `files`: the files of the encoder; `models`: `fusion.json` and `reranker.json`, where
    /// they exist. The caller has the lock of runs.
    pub fn create(&self, release: &Release, files: &[PathBuf], models: &[PathBuf]) -> Result<ReleaseId> {
        fs::create_dir_all(&self.root).map_err(Error::io("creating", &self.root))?;
        self.recover()?;
        let id = ReleaseId::next(&self.ids()?, &release.encoder, release.created_unix_s);
        let scratch = scratch_folder(UNFINISHED, &self.root)?;
        let encoder = scratch.path().join(ENCODER);
        fs::create_dir(&encoder).map_err(Error::io("creating", &encoder))?;
        let models = models.iter().filter(|file| file.is_file()).map(|file| (file, scratch.path()));
        for (file, folder) in files.iter().map(|file| (file, encoder.as_path())).chain(models) {
            let name = file.file_name().with_context(|| format!("{} is no file", file.display()))?;
            fs::copy(file, folder.join(name)).with_context(|| format!("copying {}", file.display()))?;
        }
        write_atomically(&scratch.path().join(RECORD), &serde_json::to_vec_pretty(release)?)?;
        fsync_tree(scratch.path())?;
        let target = self.dir(&id);
        ensure!(!target.exists(), "{} exists already: delete it", target.display());
        fault::point("rename of a release");
        fs::rename(scratch.keep(), &target).map_err(Error::io("writing", &target))?;
        fsync_dir(&self.root)?;
        self.set_current(&id)?;
        Ok(id)
    }

    /// When a training for a release began last, whether it was promoted or not; none: never.
    pub fn last_training_unix_s(&self) -> Option<u64> {
        fs::read_to_string(self.root.join("trained")).ok()?.trim().parse().ok()
    }

    /// Records when a training for a release begins.
    pub fn set_last_training(&self, unix_s: u64) -> Result<()> {
        fs::create_dir_all(&self.root).map_err(Error::io("creating", &self.root))?;
        write_atomically(&self.root.join("trained"), unix_s.to_string().as_bytes())
    }

    /// Deletes what a killed [`Releases::create`] left.
    fn recover(&self) -> Result<()> {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_dir_all(entry.path()).map_err(Error::io("deleting", &entry.path()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(created_unix_s: u64) -> Release {
        Release { created_unix_s, encoder: "0123456789ab".to_owned(), bundle: "ba9876543210".to_owned(), scores: BTreeMap::new() }
    }

    #[test]
    fn a_release_has_the_encoder_and_the_models_that_exist() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            fs::write(dir.path().join(name), name).unwrap();
            dir.path().join(name)
        };
        let releases = Releases::of(&dir.path().join("data"));
        assert_eq!((releases.ids().unwrap(), releases.current_id(), releases.pinned()), (Vec::new(), None, None));
        let files = [file("encoder.json"), file("encoder.onnx"), file("tokenizer.json")];
        let models = [file("reranker.json"), dir.path().join("fusion.json")];
        let first = releases.create(&release(1_795_372_800), &files, &models).unwrap();
        fs::create_dir(dir.path().join("data/models/.unfinished-x")).unwrap();
        let second = releases.create(&release(1_795_372_800), &files, &models).unwrap();
        assert!(first < second && !dir.path().join("data/models/.unfinished-x").exists());
        assert_eq!((releases.ids().unwrap(), releases.current_id()), (vec![first.clone(), second.clone()], Some(second)));
        assert_eq!(crate::durable::files_below(&releases.dir(&first)).unwrap().len(), 5);
        assert_eq!(fs::read_to_string(releases.encoder(&first).join("encoder.onnx")).unwrap(), "encoder.onnx");
        assert_eq!(releases.read(&first).unwrap(), release(1_795_372_800));
    }

    #[test]
    fn a_pinned_release_is_the_current_one_until_it_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let releases = Releases::of(dir.path());
        let ids = [1_795_372_800, 1_795_372_801].map(|second| releases.create(&release(second), &[], &[]).unwrap());
        releases.pin(Some(&ids[0])).unwrap();
        assert_eq!((releases.pinned(), releases.current_id()), (Some(ids[0].clone()), Some(ids[0].clone())));
        releases.pin(None).unwrap();
        releases.pin(None).unwrap();
        assert_eq!((releases.pinned(), releases.current_id()), (None, Some(ids[0].clone())));
        let other = ReleaseId::parse("20261122T184000Z-ffffffffffff").unwrap();
        assert!(releases.pin(Some(&other)).unwrap_err().to_string().contains("there is no release 20261122T184000Z-ffffffffffff"));
        assert_eq!(releases.pinned(), None);
    }
}

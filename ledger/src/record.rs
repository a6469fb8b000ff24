//! Records compose: a folder says what it is, and opens as nothing else.
//!
//! Every [`Recordable`] has a kind and a version. [`save`] writes its files and, last, `record.json`, which names both; [`load`]
//! refuses a folder of another kind or of a version it does not know. A struct of recordables is one
//! ([`recordable!`](crate::recordable)), its fields in folders of their names; so are a map and an option of them, a value that is
//! JSON ([`recordable_json!`](crate::recordable_json)), a sealed artifact, and an artifact without its files ([`ArtifactRef`]).

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Artifact, Invalid, Recordable, bail, ensure,
    error::{Context, Result},
    fsync_tree,
    manifest::{FileRecord, MANIFEST},
    seal,
};

/// Names the kind and the version of a folder.
pub const RECORD: &str = "record.json";
/// The file of a value that is JSON.
pub const VALUE: &str = "value.json";

/// What a record consists of: its files by relative path, wherever their bytes are now.
#[derive(Debug, Default)]
pub struct Files(BTreeMap<PathBuf, Content>);

/// The bytes of one file.
#[derive(Debug, Clone)]
pub enum Content {
    Bytes(Vec<u8>),
    /// A file on this machine, and what its record says of it, where there is one.
    File(PathBuf, Option<FileRecord>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Label {
    kind: String,
    version: u32,
}

impl Files {
    /// A single file.
    pub fn one(path: impl Into<PathBuf>, content: Content) -> Self {
        Self(BTreeMap::from([(path.into(), content)]))
    }

    pub fn insert(&mut self, path: impl Into<PathBuf>, content: Content) {
        self.0.insert(path.into(), content);
    }

    /// Another record below a folder, with its label.
    pub fn insert_record<R: Recordable>(&mut self, folder: &str, record: &R) -> Result<()> {
        ensure!(is_plain(Path::new(folder)), "{folder:?} cannot be the name of a folder in a record");
        let labelled = Self::of(record).with_context(|| format!("{} `{folder}`", R::KIND))?;
        self.0.extend(labelled.0.into_iter().map(|(path, content)| (Path::new(folder).join(path), content)));
        Ok(())
    }

    /// All files of a record with its label.
    pub fn of<R: Recordable>(record: &R) -> Result<Self> {
        let mut files = record.files()?;
        files.insert(RECORD, Content::Bytes(serde_json::to_vec(&Label { kind: R::KIND.to_owned(), version: R::VERSION })?));
        Ok(files)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&PathBuf, &Content)> {
        self.0.iter()
    }
}

/// Relative, without `..`: stays in the folder that it is joined to.
pub fn is_plain(path: &Path) -> bool {
    path.components().next().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// Writes a record as a folder that does not exist yet; there is all of it or none.
pub fn save<R: Recordable>(record: &R, dir: &Path) -> Result<()> {
    ensure!(!dir.exists(), "{} exists: a record is not written over another", dir.display());
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let scratch = tempfile::Builder::new().prefix(".record-").tempdir_in(parent)?;
    for (path, content) in Files::of(record)?.0 {
        let target = scratch.path().join(&path);
        fs::create_dir_all(target.parent().context("a file lies in a folder")?)?;
        match content {
            Content::Bytes(bytes) => fs::write(&target, bytes),
            Content::File(source, _) => fs::hard_link(&source, &target).or_else(|_| fs::copy(&source, &target).map(drop)),
        }
        .with_context(|| format!("writing {}", target.display()))?;
    }
    fsync_tree(scratch.path())?;
    let kept = scratch.keep();
    seal::open_to_all(&kept)?;
    fs::rename(kept, dir).with_context(|| format!("writing {}", dir.display()))?;
    seal::fsync_dir(parent)
}

/// Opens a folder as a record of this type.
///
/// # Errors
/// The folder holds another kind, or a version that this type does not read, or nothing that says what it is.
pub fn load<R: Recordable>(dir: &Path) -> Result<R> {
    AnyRecord::at(dir)?.typed()
}

/// A record whose type is only known at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnyRecord {
    pub kind: String,
    pub version: u32,
    dir: PathBuf,
}

impl AnyRecord {
    pub fn at(dir: &Path) -> Result<Self> {
        let path = dir.join(RECORD);
        let bytes = fs::read(&path).with_context(|| format!("{} is not a record: {RECORD} is missing", dir.display()))?;
        let label: Label = serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Self { kind: label.kind, version: label.version, dir: dir.to_owned() })
    }

    /// The record as `R`, if that is what it is.
    pub fn typed<R: Recordable>(&self) -> Result<R> {
        ensure!(self.kind == R::KIND, "{} holds a record of kind {}, not {}", self.dir.display(), self.kind, R::KIND);
        ensure!(
            self.version == R::VERSION,
            "{} is {} of version {}, this tool reads version {}: use the tool that wrote it",
            self.dir.display(),
            self.kind,
            self.version,
            R::VERSION
        );
        R::open(&self.dir).with_context(|| format!("opening {} in {}", R::KIND, self.dir.display()))
    }
}

/// Reads the one file of a value that is JSON.
pub fn open_json<T: DeserializeOwned>(dir: &Path) -> Result<T> {
    let path = dir.join(VALUE);
    let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} does not have the form that is asked for", path.display()))
}

/// The one file of a value that is JSON.
pub fn json_files<T: Serialize>(value: &T) -> Result<Files> {
    Ok(Files::one(VALUE, Content::Bytes(serde_json::to_vec_pretty(value)?)))
}

/// Makes a type that serde knows a [`Recordable`]: `recordable_json!(Metrics, "metrics", 1);`
#[macro_export]
macro_rules! recordable_json {
    ($type:ty, $kind:literal, $version:literal) => {
        impl $crate::Recordable for $type {
            const KIND: &'static str = $kind;
            const VERSION: u32 = $version;
            fn open(dir: &::std::path::Path) -> $crate::Result<Self> {
                $crate::open_json(dir)
            }
            fn files(&self) -> $crate::Result<$crate::Files> {
                $crate::json_files(self)
            }
        }
    };
}

/// Makes a struct of recordables a [`Recordable`]: each field is a record in a folder of its name.
#[macro_export]
macro_rules! recordable {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident: $kind:literal, $version:literal {
        $($(#[$field_meta:meta])* $field_visibility:vis $field:ident: $type:ty,)+
    }) => {
        $(#[$meta])*
        $visibility struct $name {
            $($(#[$field_meta])* $field_visibility $field: $type,)+
        }
        impl $crate::Recordable for $name {
            const KIND: &'static str = $kind;
            const VERSION: u32 = $version;
            fn open(dir: &::std::path::Path) -> $crate::Result<Self> {
                Ok(Self { $($field: $crate::load(&dir.join(stringify!($field)))?,)+ })
            }
            fn files(&self) -> $crate::Result<$crate::Files> {
                let mut files = $crate::Files::default();
                $(files.insert_record(stringify!($field), &self.$field)?;)+
                Ok(files)
            }
        }
    };
}

impl<R: Recordable> Recordable for BTreeMap<String, R> {
    const KIND: &'static str = "map";
    fn open(dir: &Path) -> Result<Self> {
        let mut map = Self::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                let name = entry.file_name().into_string().map_err(|name| Invalid(format!("{} is not text", name.display())))?;
                map.insert(name, load(&entry.path())?);
            }
        }
        Ok(map)
    }
    fn files(&self) -> Result<Files> {
        let mut files = Files::default();
        for (name, record) in self {
            files.insert_record(name, record)?;
        }
        Ok(files)
    }
}

impl<R: Recordable> Recordable for Option<R> {
    const KIND: &'static str = "optional";
    fn open(dir: &Path) -> Result<Self> {
        let dir = dir.join("some");
        if dir.is_dir() { load(&dir).map(Some) } else { Ok(None) }
    }
    fn files(&self) -> Result<Files> {
        let mut files = Files::default();
        if let Some(record) = self {
            files.insert_record("some", record)?;
        }
        Ok(files)
    }
}

/// A sealed artifact with its files or by its manifest alone: the thing itself, or a reference to it by its digests.
#[derive(Debug)]
pub struct ArtifactRef<A> {
    pub artifact: Artifact<A>,
    pub has_files: bool,
}

/// Any artifact in a record, whatever its payload.
#[derive(Debug, Serialize, Deserialize)]
struct HeldValue {
    kind: String,
    key: String,
}

impl<A: Recordable> Recordable for ArtifactRef<A> {
    const KIND: &'static str = "artifact";
    fn open(dir: &Path) -> Result<Self> {
        let value: HeldValue = open_json(dir)?;
        ensure!(value.kind == A::KIND, "{} holds an artifact of kind {}, not {}", dir.display(), value.kind, A::KIND);
        let artifact = Artifact::at(dir.join("sealed"))?;
        ensure!(artifact.manifest().key == value.key, "{} holds another artifact than it says", dir.display());
        let has_files = artifact.manifest().outputs.keys().all(|path| artifact.dir().join(path).is_file());
        if has_files {
            artifact.open()?;
        }
        Ok(Self { artifact, has_files })
    }
    fn files(&self) -> Result<Files> {
        let manifest = self.artifact.manifest();
        let value = HeldValue { kind: A::KIND.to_owned(), key: manifest.key.clone() };
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

/// A folder as it is: what a run keeps for itself, a configuration with its includes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    pub dir: PathBuf,
}

impl Folder {
    /// What lies below it, but for what somebody is writing: `part` and names that begin with a dot.
    pub fn files_of(dir: &Path) -> Result<Vec<PathBuf>> {
        let is_written = |path: &PathBuf| path.iter().any(|part| part == "part" || part.to_string_lossy().starts_with('.'));
        Ok(seal::files_below(dir)?.into_iter().filter(|path| !is_written(path)).collect())
    }
}

impl Recordable for Folder {
    const KIND: &'static str = "folder";
    fn open(dir: &Path) -> Result<Self> {
        let dir = dir.join("files");
        if !dir.is_dir() {
            bail!("{} is missing", dir.display());
        }
        Ok(Self { dir })
    }
    fn files(&self) -> Result<Files> {
        let mut files = Files::default();
        for path in Self::files_of(&self.dir)? {
            files.insert(Path::new("files").join(&path), Content::File(self.dir.join(path), None));
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, Metrics, Settings, chain};

    recordable! {
        #[derive(Debug, PartialEq)]
        struct Experiment: "experiment", 2 {
            config: Settings,
            best: Option<Metrics>,
            by_language: BTreeMap<String, Metrics>,
        }
    }

    recordable! {
        /// The same folder names, another version.
        #[derive(Debug)]
        struct Older: "experiment", 1 {
            config: Settings,
        }
    }

    fn metrics(mrr: f64) -> Metrics {
        Metrics(BTreeMap::from([("mrr".to_owned(), mrr)]))
    }

    fn experiment() -> Experiment {
        Experiment {
            config: Settings(BTreeMap::from([("train".to_owned(), serde_json::json!({"epochs": 3}))])),
            best: Some(metrics(0.5)),
            by_language: ["go", "ruby"].map(|name| (name.to_owned(), metrics(0.25))).into(),
        }
    }

    #[test]
    fn a_struct_of_records_comes_back_and_says_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one");
        save(&experiment(), &path).unwrap();
        assert_eq!(load::<Experiment>(&path).unwrap(), experiment());
        // Every part is a record of its own.
        assert_eq!(load::<Metrics>(&path.join("by_language/ruby")).unwrap(), metrics(0.25));
        let any = AnyRecord::at(&path).unwrap();
        assert_eq!((any.kind.as_str(), any.version), ("experiment", 2));
        let message = |error: Error| chain(&error).replace(&dir.path().display().to_string(), "DIR");
        insta::assert_snapshot!(message(any.typed::<Metrics>().unwrap_err()));
        insta::assert_snapshot!(message(load::<Older>(&path).unwrap_err()));
        insta::assert_snapshot!(message(load::<Settings>(dir.path()).unwrap_err()));
        insta::assert_snapshot!(message(save(&experiment(), &path).unwrap_err()));
        // A part in another's place is found when the whole is opened.
        fs::remove_dir_all(path.join("config")).unwrap();
        save(&metrics(0.1), &path.join("config")).unwrap();
        insta::assert_snapshot!(message(load::<Experiment>(&path).unwrap_err()));
    }

    #[test]
    fn a_dirty_checkout_is_recorded_with_its_changes() {
        use crate::{Checkout, Commit, Digest};
        let dir = tempfile::tempdir().unwrap();
        let text = b"diff --git a/x b/x\n";
        let digest = Digest::of_bytes(text);
        let commit = Commit { id: Some("0123".to_owned()), dirty: true, diff: Some(digest) };
        write_diff(dir.path(), digest, text);
        save(&Checkout::recorded(dir.path(), &commit), &dir.path().join("record")).unwrap();
        let back: Checkout = load(&dir.path().join("record")).unwrap();
        assert_eq!((back.commit, fs::read(back.diff.unwrap()).unwrap()), (commit, text.to_vec()));
        fs::write(dir.path().join("record/changes.diff"), "something else").unwrap();
        assert!(chain(&load::<Checkout>(&dir.path().join("record")).unwrap_err()).contains("is damaged"));
    }

    #[test]
    fn plain_paths_stay_in_their_folder() {
        assert!(is_plain(Path::new("checkpoint/a/context.json")));
        assert!(["", "..", "../a", "a/../b", "/a"].iter().all(|path| !is_plain(Path::new(path))));
    }

    fn write_diff(data: &Path, digest: crate::Digest, text: &[u8]) {
        crate::write_atomically(&crate::Commit::diff_file(data, digest), text).unwrap();
    }

    proptest::proptest! {
        /// Whatever a label says, it is read or refused, never a panic.
        #[test]
        fn any_label_is_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(RECORD), &bytes).unwrap();
            proptest::prop_assert!(load::<Metrics>(dir.path()).is_err());
        }

        #[test]
        fn a_path_that_leaves_its_folder_is_not_plain(parts in proptest::collection::vec("[a-z.]{1,3}|\\.\\.", 1..5), absolute: bool) {
            let path = PathBuf::from(format!("{}{}", if absolute { "/" } else { "" }, parts.join("/")));
            let leaves = absolute || parts.iter().any(|part| part == "..");
            proptest::prop_assert!(!(leaves && is_plain(&path)), "{}", path.display());
        }
    }
}

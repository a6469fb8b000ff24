//! Records: folders that open as one type only.
//!
//! A type whose values are files in a folder implements [`Recordable`]. It has a kind and a version. [`save`] writes its files and, last,
//! `record.json` with kind and version; [`load`] refuses a folder of another kind or version. Records compose: a struct of recordables is
//! a recordable ([`recordable!`](crate::recordable)) with one folder for each field, and so are a map and an option of recordables, a
//! JSON value ([`recordable_json!`](crate::recordable_json)) and an artifact.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::manifest::FileRecord;
use crate::{
    durable::{fsync_dir, fsync_tree, is_plain, scratch_folder},
    ensure,
    error::{Context, Error, Invalid, Result},
};

/// File with the kind and the version of a record.
pub const RECORD: &str = "record.json";
/// File of a JSON value.
pub const VALUE: &str = "value.json";

/// Files in one folder that open as this type: the output of a stage, and any other part of a record.
pub trait Recordable: Sized {
    /// Name of the kind, in `record.json`. For the output of a stage also the name of its folder in the data folder.
    const KIND: &'static str;
    /// Increase it when older code cannot read what is written now.
    const VERSION: u32 = 1;

    /// Checks the files of a folder and opens them.
    fn open(dir: &Path) -> Result<Self>;

    /// The files of the value. [`Recordable::open`] opens a folder with these files as an equal value.
    fn files(&self) -> Result<Files>;
}

/// The files of a record, by path relative to the record.
#[derive(Debug, Default)]
pub struct Files(BTreeMap<PathBuf, Content>);

/// The bytes of one file.
#[derive(Debug, Clone)]
pub enum Content {
    Bytes(Vec<u8>),
    /// A file on this machine, with its size and digest where they are recorded.
    File(PathBuf, Option<FileRecord>),
}

#[derive(Debug, Serialize, Deserialize)]
struct Label {
    kind: String,
    version: u32,
}

impl Files {
    /// One file.
    pub fn one(path: impl Into<PathBuf>, content: Content) -> Self {
        Self(BTreeMap::from([(path.into(), content)]))
    }

    /// Adds a file.
    pub fn insert(&mut self, path: impl Into<PathBuf>, content: Content) {
        self.0.insert(path.into(), content);
    }

    /// Adds a record as a folder, with its `record.json`.
    pub fn insert_record<R: Recordable>(&mut self, folder: &str, record: &R) -> Result<()> {
        ensure!(is_plain(Path::new(folder)), "{folder:?} cannot be the name of a folder in a record");
        let labelled = Self::of(record).with_context(|| format!("{} `{folder}`", R::KIND))?;
        self.0.extend(labelled.0.into_iter().map(|(path, content)| (Path::new(folder).join(path), content)));
        Ok(())
    }

    /// All files of a record, with its `record.json`.
    pub fn of<R: Recordable>(record: &R) -> Result<Self> {
        let mut files = record.files()?;
        files.insert(RECORD, Content::Bytes(serde_json::to_vec(&Label { kind: R::KIND.to_owned(), version: R::VERSION })?));
        Ok(files)
    }

    /// Paths and contents, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&PathBuf, &Content)> {
        self.0.iter()
    }
}

/// Writes a record as a new folder, atomically.
///
/// # Errors
/// The folder exists, or a file cannot be written.
pub fn save<R: Recordable>(record: &R, dir: &Path) -> Result<()> {
    ensure!(!dir.exists(), "{} exists: a record is not written over another", dir.display());
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(Error::io("creating", parent))?;
    let scratch = scratch_folder(".record-", parent)?;
    for (path, content) in Files::of(record)?.0 {
        let target = scratch.path().join(&path);
        fs::create_dir_all(target.parent().context("a file path needs a folder")?)?;
        match content {
            Content::Bytes(bytes) => fs::write(&target, bytes),
            Content::File(source, _) => fs::hard_link(&source, &target).or_else(|_| fs::copy(&source, &target).map(drop)),
        }
        .with_context(|| format!("writing {}", target.display()))?;
    }
    fsync_tree(scratch.path())?;
    fs::rename(scratch.keep(), dir).map_err(Error::io("writing", dir))?;
    fsync_dir(parent)
}

/// Opens a folder as a record of this type.
///
/// # Errors
/// The folder is no record, or a record of another kind or version.
pub fn load<R: Recordable>(dir: &Path) -> Result<R> {
    AnyRecord::at(dir)?.typed()
}

/// A record whose type is known at run time only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnyRecord {
    pub kind: String,
    pub version: u32,
    dir: PathBuf,
}

impl AnyRecord {
    /// Reads the kind and the version of a folder.
    pub fn at(dir: &Path) -> Result<Self> {
        let path = dir.join(RECORD);
        let bytes = fs::read(&path).with_context(|| format!("{} is not a record: {RECORD} is missing", dir.display()))?;
        let label: Label = serde_json::from_slice(&bytes).map_err(|error| Error::Damaged { path, why: error.to_string() })?;
        Ok(Self { kind: label.kind, version: label.version, dir: dir.to_owned() })
    }

    /// Opens the record as `R`.
    ///
    /// # Errors
    /// It has another kind or version than `R`.
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

/// Reads a value from `value.json` in a folder.
pub fn open_json<T: DeserializeOwned>(dir: &Path) -> Result<T> {
    let path = dir.join(VALUE);
    let bytes = fs::read(&path).map_err(Error::io("reading", &path))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not a value of the expected type", path.display()))
}

/// A value as `value.json`.
pub fn json_files<T: Serialize>(value: &T) -> Result<Files> {
    Ok(Files::one(VALUE, Content::Bytes(serde_json::to_vec_pretty(value)?)))
}

/// Implements [`Recordable`](crate::Recordable) for a type with serde, as JSON: `recordable_json!(Metrics, "metrics", 1);`
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

/// Defines a struct of recordables and implements [`Recordable`](crate::Recordable): each field is a record in a folder with its name.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        artifacts::values::{Metrics, Settings},
        error::chain,
    };

    recordable! {
        #[derive(Debug, PartialEq)]
        struct Experiment: "experiment", 2 {
            config: Settings,
            best: Option<Metrics>,
            by_language: BTreeMap<String, Metrics>,
        }
    }

    recordable! {
        /// Another version with the same folder names.
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
    fn a_struct_of_records_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one");
        save(&experiment(), &path).unwrap();
        assert_eq!(load::<Experiment>(&path).unwrap(), experiment());
        // Every part is a record.
        assert_eq!(load::<Metrics>(&path.join("by_language/ruby")).unwrap(), metrics(0.25));
        let any = AnyRecord::at(&path).unwrap();
        assert_eq!((any.kind.as_str(), any.version), ("experiment", 2));
    }

    #[test]
    fn a_folder_of_another_kind_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one");
        save(&experiment(), &path).unwrap();
        let message = |error: Error| chain(&error).replace(&dir.path().display().to_string(), "DIR");
        insta::assert_snapshot!(message(load::<Metrics>(&path).unwrap_err()));
        insta::assert_snapshot!(message(load::<Older>(&path).unwrap_err()));
        insta::assert_snapshot!(message(load::<Settings>(dir.path()).unwrap_err()));
        insta::assert_snapshot!(message(save(&experiment(), &path).unwrap_err()));
        // A part of another kind is detected when the whole is opened.
        fs::remove_dir_all(path.join("config")).unwrap();
        save(&metrics(0.1), &path.join("config")).unwrap();
        insta::assert_snapshot!(message(load::<Experiment>(&path).unwrap_err()));
    }

    proptest::proptest! {
        /// No bytes of `record.json` cause a panic.
        #[test]
        fn any_bytes_of_a_record_file_are_refused_without_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(RECORD), &bytes).unwrap();
            proptest::prop_assert!(load::<Metrics>(dir.path()).is_err());
        }
    }
}

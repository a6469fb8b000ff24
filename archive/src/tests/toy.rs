//! Two stages whose artifact kinds this crate does not know: `note` writes `notes`, `count` reads them and writes `counts`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ledger::{Artifact, BoxError, Content, Digest, Files, Progress, Recordable, Recorded, Registry, Report, Rows, Run, Stage, Store};
use serde::{Deserialize, Serialize};

/// `notes`: one text file.
pub struct Notes(PathBuf);
/// `counts`: the number of characters of the notes.
pub struct Counts(PathBuf);

fn open(dir: &Path, name: &str) -> PathBuf {
    dir.join(name)
}

impl Recordable for Notes {
    const KIND: &'static str = "notes";
    fn open(dir: &Path) -> ledger::Result<Self> {
        Ok(Self(open(dir, "notes.txt")))
    }
    fn files(&self) -> ledger::Result<Files> {
        Ok(Files::one("notes.txt", Content::File(self.0.clone(), None)))
    }
}

impl Recordable for Counts {
    const KIND: &'static str = "counts";
    fn open(dir: &Path) -> ledger::Result<Self> {
        Ok(Self(open(dir, "count.txt")))
    }
    fn files(&self) -> ledger::Result<Files> {
        Ok(Files::one("count.txt", Content::File(self.0.clone(), None)))
    }
}

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
pub struct NoteConfig {
    /// The note; `copy FILE`: its text is that of a file; `length of FILE`: its text is the length of a file.
    pub text: String,
}

impl NoteConfig {
    fn file(&self) -> Option<&str> {
        ["copy ", "length of "].iter().find_map(|form| self.text.strip_prefix(form))
    }
}

#[derive(Serialize, Deserialize)]
pub struct NoReport;

impl Report for NoReport {
    fn rows(&self) -> Rows {
        Rows { read: 0, written: 1, rejected: 0 }
    }
}

pub struct Note;
pub struct Count;

impl Stage for Note {
    const NAME: &'static str = "note";
    const ABOUT: &'static str = "Write a note";
    const REVISION: u32 = 1;
    type Config = NoteConfig;
    type Inputs = ();
    type Output = Notes;
    type Report = NoReport;
    type Error = BoxError;

    fn external_inputs(config: &NoteConfig) -> Result<Vec<(String, Digest)>, BoxError> {
        config.file().map(|file| Ok(("file".to_owned(), Digest::of_file(Path::new(file))?))).into_iter().collect()
    }

    fn run(config: &NoteConfig, (): &(), run: &Run<'_>) -> Result<NoReport, BoxError> {
        let read = config.file().map_or_else(|| Ok(config.text.clone()), fs::read_to_string)?;
        let text = if config.text.starts_with("length of ") { read.len().to_string() } else { read };
        fs::write(run.out.join("notes.txt"), text)?;
        Ok(NoReport)
    }
}

impl Stage for Count {
    const NAME: &'static str = "count";
    const ABOUT: &'static str = "Count the characters of the notes";
    const REVISION: u32 = 1;
    type Config = ();
    type Inputs = Artifact<Notes>;
    type Output = Counts;
    type Report = NoReport;
    type Error = BoxError;

    fn run((): &(), notes: &Artifact<Notes>, run: &Run<'_>) -> Result<NoReport, BoxError> {
        fs::write(run.out.join("count.txt"), fs::read_to_string(&notes.open()?.0)?.len().to_string())?;
        Ok(NoReport)
    }
}

/// A store with the artifact kinds of the two stages.
pub fn store(root: &Path) -> Store {
    let registry = Registry::new(vec![Recorded::<Note>::boxed(), Recorded::<Count>::boxed()]);
    Store::at(root, Progress::new(true), 1).with_kinds(registry.kinds())
}

/// Runs both stages.
pub fn run(store: &Store, text: &str) {
    store.make::<Note>(&NoteConfig { text: text.to_owned() }).unwrap();
    store.make::<Count>(&()).unwrap();
}

/// `count.txt` of the current counts.
pub fn count(store: &Store) -> String {
    fs::read_to_string(store.current::<Counts>().unwrap().open().unwrap().0).unwrap()
}

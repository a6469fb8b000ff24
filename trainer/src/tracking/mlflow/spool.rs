//! The spool of a training: the only owner of the layout of `mlflow/` in a work directory.
//!
//! ```text
//! mlflow/spool.jsonl          one entry a line, append-only; written with or without a server
//! mlflow/<server>.json        position: how many bytes of the spool a server has
//! mlflow.<number>/            the spool of an earlier training with the same key
//! ```
//! A line is written with one call. If the process was killed while it wrote a line, the rest of the line is cut off when the spool is
//! opened again; a line that cannot be read is skipped. A step that is repeated after a kill gives the same numbers: of each metric, only
//! steps after the last spooled one are added.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, TryLockError},
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ledger::{WorkDir, bail};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Context, Result};

/// Folder of the spool in a work directory.
pub const FOLDER: &str = "mlflow";
const FILE: &str = "spool.jsonl";

/// One line of a spool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Entry {
    /// The first entry.
    Begin(Begin),
    /// A stopped training is resumed.
    Resume {
        time: u64,
    },
    Metrics {
        step: u64,
        time: u64,
        values: Vec<(String, MetricValue)>,
    },
    End {
        status: Status,
        time: u64,
    },
    /// A file of the checkpoint: its name in the artifacts of the run, and the file relative to the data folder.
    Artifact {
        name: String,
        file: PathBuf,
    },
    /// An exported encoder.
    Model(ExportedModel),
}

/// Name, parameters and tags of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// Id of the spool, by which a server finds its run.
    pub id: String,
    pub name: String,
    /// Milliseconds since 1970, as all times in a spool.
    pub time: u64,
    pub params: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
}

/// An exported encoder, which becomes a version of the registered model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportedModel {
    pub encoder: String,
    pub files: BTreeMap<String, Content>,
    pub tags: BTreeMap<String, String>,
}

/// Contents of a file of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Relative to the data folder.
    File(PathBuf),
    Text(String),
}

/// How a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    Finished,
    Failed,
    Killed,
}

/// Value of a metric. It is stored as text, because JSON has no NaN, and serde_json reads a number with an error of one bit.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MetricValue(pub f64);

impl PartialEq for MetricValue {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl From<MetricValue> for String {
    fn from(number: MetricValue) -> Self {
        format!("{:?}", number.0)
    }
}

impl TryFrom<String> for MetricValue {
    type Error = std::num::ParseFloatError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

/// The current time in milliseconds since 1970.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The file of the spool in a folder `mlflow`.
pub fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Reads complete lines from an offset on.
#[derive(Debug)]
pub struct Reader {
    file: BufReader<File>,
    /// Offset after the last complete line that was read.
    pub offset: u64,
    /// Number of lines that cannot be read.
    pub damaged: u64,
}

impl Reader {
    /// Opens the spool of a folder at an offset.
    pub fn open(folder: &Path, offset: u64) -> Result<Self> {
        let path = path(folder);
        let open = || -> std::io::Result<Self> {
            let mut file = File::open(&path)?;
            // After a power failure the spool may be shorter than the position of a server.
            let offset = offset.min(file.metadata()?.len());
            file.seek(SeekFrom::Start(offset))?;
            Ok(Self { file: BufReader::new(file), offset, damaged: 0 })
        };
        open().with_context(|| format!("reading {}", path.display()))
    }

    /// The next entry; none after the last complete line.
    pub fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            let mut line = Vec::new();
            self.file.read_until(b'\n', &mut line).context("reading a spool")?;
            if line.last() != Some(&b'\n') {
                return Ok(None);
            }
            self.offset += line.len() as u64;
            match serde_json::from_slice(&line) {
                Ok(entry) => return Ok(Some(entry)),
                Err(_) => self.damaged += 1,
            }
        }
    }

    /// Does a complete line follow?
    pub fn has_more(mut self) -> Result<bool> {
        let mut line = Vec::new();
        self.file.read_until(b'\n', &mut line).context("reading a spool")?;
        Ok(line.last() == Some(&b'\n'))
    }
}

/// State of a training, from the entries of its spool.
#[derive(Debug, Default)]
pub struct SpoolState {
    pub begin: Option<Begin>,
    /// How the training ended; none while it runs.
    pub ended: Option<Status>,
    /// Names of the spooled artifacts.
    pub artifacts: BTreeSet<String>,
    /// Keys of the spooled encoders.
    pub encoders: BTreeSet<String>,
    last_time: u64,
    steps: BTreeMap<String, u64>,
    bytes: u64,
}

impl SpoolState {
    /// Reads the spool of a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut reader = Reader::open(folder, 0)?;
        let mut state = Self::default();
        while let Some(entry) = reader.next()? {
            state.add(entry);
        }
        state.bytes = reader.offset;
        Ok(state)
    }

    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Begin(begin) => {
                self.last_time = begin.time;
                self.begin.get_or_insert(begin);
            }
            Entry::Resume { time } => (self.ended, self.last_time) = (None, time),
            Entry::Metrics { step, time, values } => {
                self.last_time = time;
                for (name, _) in values {
                    let last = self.steps.entry(name).or_insert(step);
                    *last = step.max(*last);
                }
            }
            Entry::End { status, time } => (self.ended, self.last_time) = (Some(status), time),
            Entry::Artifact { name, .. } => drop(self.artifacts.insert(name)),
            Entry::Model(model) => drop(self.encoders.insert(model.encoder)),
        }
    }
}

/// A spool that is open for writing; only one process can open it.
#[derive(Debug)]
pub struct Spool {
    file: File,
    path: PathBuf,
    pub state: SpoolState,
}

impl Spool {
    /// Starts a spool, or continues the existing one. If a new training (`is_new`) follows a finished one in the same work directory, the
    /// old spool is renamed.
    ///
    /// # Errors
    /// Another process writes the spool, or a file cannot be read or written.
    pub fn start(run: &Path, begin: Begin, is_new: bool) -> Result<Self> {
        let folder = run.join(FOLDER);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        if let Some(mut spool) = Self::open(&folder)? {
            let is_over = is_new && spool.state.ended == Some(Status::Finished);
            if spool.state.begin.is_some() && !is_over {
                spool.write(Entry::Resume { time: begin.time })?;
                return Ok(spool);
            }
            drop(spool);
            let old = (1..).map(|number: u64| run.join(format!("{FOLDER}.{number}"))).find(|old| !old.exists());
            let old = old.with_context(|| format!("{} has too many spools", run.display()))?;
            fs::rename(&folder, &old).with_context(|| format!("renaming {} to {}", folder.display(), old.display()))?;
            fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let path = path(&folder);
        File::create_new(&path).with_context(|| format!("creating {}", path.display()))?;
        let mut spool = Self::open(&folder)?.with_context(|| format!("{} does not exist any more", path.display()))?;
        spool.write(Entry::Begin(begin))?;
        Ok(spool)
    }

    /// Opens the spool of a folder; none where there is no spool.
    ///
    /// # Errors
    /// Another process writes the spool, or a file cannot be read or written.
    pub fn open(folder: &Path) -> Result<Option<Self>> {
        let path = path(folder);
        if !path.is_file() {
            return Ok(None);
        }
        let context = || format!("opening {}", path.display());
        let file = OpenOptions::new().append(true).open(&path).with_context(context)?;
        // A process that only adds a few entries has the lock for a short time.
        let mut attempts = 100;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempts > 0 => {
                    attempts -= 1;
                    thread::sleep(Duration::from_millis(50));
                }
                Err(TryLockError::WouldBlock) => bail!("another training writes {}: wait until it ends", path.display()),
                Err(TryLockError::Error(error)) => return Err(error).with_context(context),
            }
        }
        let state = SpoolState::read(folder)?;
        file.set_len(state.bytes).with_context(context)?;
        Ok(Some(Self { file, path, state }))
    }

    /// Appends an entry.
    pub fn write(&mut self, entry: Entry) -> Result<()> {
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        self.file.write_all(&line).with_context(|| format!("writing {}", self.path.display()))?;
        self.state.bytes += line.len() as u64;
        self.state.add(entry);
        Ok(())
    }

    /// Appends the metrics whose step is new.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let is_new = |name: &str| self.state.steps.get(name).is_none_or(|&last| step > last);
        let values: Vec<_> =
            values.iter().filter(|(name, _)| is_new(name)).map(|&(name, value)| (name.to_owned(), MetricValue(value))).collect();
        if values.is_empty() {
            return Ok(());
        }
        self.write(Entry::Metrics { step, time: now_ms(), values })
    }

    /// Ends a training that was killed, at the time of its last entry.
    pub fn end_killed(&mut self) -> Result<()> {
        self.write(Entry::End { status: Status::Killed, time: self.state.last_time })
    }
}

/// A new id of a spool.
pub fn new_id() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Every folder with a spool in the work directories of a data folder, in the order of the starts of their trainings.
pub fn folders(data: &Path) -> Result<Vec<(PathBuf, SpoolState)>> {
    let mut found = Vec::new();
    for work_dir in WorkDir::all(data) {
        for folder in spools_in(&work_dir.path) {
            let state = SpoolState::read(&folder)?;
            found.push((folder, state));
        }
    }
    found.sort_by_cached_key(|(folder, state)| (state.begin.as_ref().map(|begin| begin.time), folder.clone()));
    Ok(found)
}

/// Folders with a spool in a work directory: `mlflow`, `mlflow.1` and so on.
fn spools_in(work_dir: &Path) -> Vec<PathBuf> {
    let is_spool = |folder: &PathBuf| {
        folder.file_name().is_some_and(|name| name.to_string_lossy().split('.').next() == Some(FOLDER)) && path(folder).is_file()
    };
    entries_of(work_dir).into_iter().filter(is_spool).collect()
}

fn entries_of(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// How much of a spool a server has: `<digest of the address>.json` next to the spool.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// Address of the server, for people.
    pub server: String,
    /// Id of the spool.
    pub spool: String,
    /// Id of the run on the server.
    pub run_id: String,
    /// Address of the artifacts of the run.
    pub artifact_uri: String,
    /// Number of bytes of the spool that the server has, a number of complete lines.
    pub bytes: u64,
}

impl Position {
    /// Reads the file; none where it does not exist or is damaged.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }
}

/// Does a work directory have spooled entries that no MLflow server has received?
pub fn is_unsent(work_dir: &Path) -> bool {
    spools_in(work_dir).iter().any(|folder| {
        let Ok(spool) = fs::metadata(path(folder)) else { return false };
        let positions = entries_of(folder).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let sent = positions.filter_map(|path| Some(Position::read(&path)?.bytes)).max();
        sent.unwrap_or_default() < spool.len()
    })
}

/// Number of complete lines from an offset on.
pub fn count(folder: &Path, offset: u64) -> Result<u64> {
    let mut reader = Reader::open(folder, offset)?;
    let (mut lines, mut piece) = (0, [0; 1 << 16]);
    loop {
        match reader.file.read(&mut piece).context("reading a spool")? {
            0 => return Ok(lines),
            read => lines += piece[..read].iter().filter(|&&byte| byte == b'\n').count() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn begin() -> Begin {
        let of = |texts: &[(&str, &str)]| texts.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        Begin { id: "a".into(), name: "train-a".into(), time: 5, params: of(&[("epochs", "2")]), tags: of(&[("stage", "train")]) }
    }

    fn entries(run: &Path) -> Vec<Entry> {
        let mut reader = Reader::open(&run.join(FOLDER), 0).unwrap();
        std::iter::from_fn(|| reader.next().unwrap()).collect()
    }

    #[test]
    fn an_incomplete_line_is_cut_off_and_steps_are_spooled_once() {
        let run = tempfile::tempdir().unwrap();
        let mut spool = Spool::start(run.path(), begin(), true).unwrap();
        spool.scalars(1, &[("loss", 0.1 + 0.2), ("mrr", f64::NAN)]).unwrap();
        spool.scalars(2, &[("loss", f64::NEG_INFINITY)]).unwrap();
        drop(spool);
        let path = path(&run.path().join(FOLDER));
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], b"{\"op\":\"metrics\",\"st"].concat()).unwrap();
        assert_eq!(entries(run.path()).len(), 3);
        assert_eq!(count(&run.path().join(FOLDER), 0).unwrap(), 3);
        let mut spool = Spool::start(run.path(), begin(), true).unwrap();
        assert!(Spool::open(&run.path().join(FOLDER)).is_err(), "only one process can write it");
        spool.scalars(2, &[("loss", 7.0), ("mrr", 0.5)]).unwrap();
        spool.scalars(1, &[("loss", 7.0)]).unwrap();
        drop(spool);
        let values = |values: &[(&str, f64)]| values.iter().map(|&(name, value)| (name.to_owned(), MetricValue(value))).collect::<Vec<_>>();
        let seen: Vec<_> = entries(run.path())
            .into_iter()
            .filter_map(|entry| if let Entry::Metrics { step, values, .. } = entry { Some((step, values)) } else { None })
            .collect();
        assert_eq!(
            seen,
            [
                (1, values(&[("loss", 0.1 + 0.2), ("mrr", f64::NAN)])),
                (2, values(&[("loss", f64::NEG_INFINITY)])),
                (2, values(&[("mrr", 0.5)]))
            ]
        );
    }

    #[test]
    fn a_training_after_a_finished_one_has_a_spool_of_its_own() {
        let run = tempfile::tempdir().unwrap();
        let mut spool = Spool::start(run.path(), begin(), true).unwrap();
        spool.write(Entry::End { status: Status::Finished, time: 9 }).unwrap();
        drop(spool);
        // The training was killed after its end, and is resumed: it continues the same spool.
        drop(Spool::start(run.path(), begin(), false).unwrap());
        let mut spool = Spool::open(&run.path().join(FOLDER)).unwrap().unwrap();
        assert_eq!(spool.state.ended, None);
        spool.write(Entry::End { status: Status::Finished, time: 9 }).unwrap();
        drop(spool);
        drop(Spool::start(run.path(), begin(), true).unwrap());
        assert!(path(&run.path().join("mlflow.1")).is_file());
        assert_eq!(entries(run.path()), [Entry::Begin(begin())]);
    }

    #[test]
    fn a_spool_is_unsent_until_one_server_has_all_of_it() {
        let run = tempfile::tempdir().unwrap();
        assert!(!is_unsent(run.path()), "there is no spool");
        drop(Spool::start(run.path(), begin(), true).unwrap());
        let folder = run.path().join(FOLDER);
        let bytes = fs::metadata(path(&folder)).unwrap().len();
        let send = |bytes| {
            let position = Position { bytes, ..Position::default() };
            fs::write(folder.join("server.json"), serde_json::to_vec(&position).unwrap()).unwrap();
        };
        assert!(is_unsent(run.path()), "no server has it");
        send(bytes - 1);
        assert!(is_unsent(run.path()), "a server has a part");
        send(bytes);
        assert!(!is_unsent(run.path()));
    }

    proptest! {
        /// Lines that can be read are read, whatever else is in the file.
        #[test]
        fn unreadable_lines_are_skipped(garbage in proptest::collection::vec(any::<u8>(), 0..200), op in "[a-z]{0,7}") {
            let run = tempfile::tempdir().unwrap();
            drop(Spool::start(run.path(), begin(), true).unwrap());
            let path = path(&run.path().join(FOLDER));
            let mut bytes = fs::read(&path).unwrap();
            bytes.extend(garbage);
            bytes.extend(format!("\n{{\"op\":\"{op}\",\"step\":-1}}\n").into_bytes());
            fs::write(&path, bytes).unwrap();
            let mut spool = Spool::start(run.path(), begin(), true).unwrap();
            spool.scalars(3, &[("loss", 1.0)]).unwrap();
            let entries = entries(run.path());
            prop_assert_eq!(&entries[0], &Entry::Begin(begin()));
            let is_last = matches!(entries.last(), Some(Entry::Metrics { step: 3, .. }));
            prop_assert!(is_last);
        }
    }
}

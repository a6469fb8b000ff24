//! What a training did, in our own terms: `mlflow/spool.jsonl` below its run folder, one entry a line, only ever appended
//! to. It is written whether or not a server is named, and knows nothing of servers.
//!
//! A line is written in one piece. What a kill leaves of the last one is cut off when the spool is opened again; a line
//! that cannot be read is passed over. A step that is trained again after a kill gives the same numbers, so of a metric
//! only steps beyond the last one spooled are added.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, TryLockError},
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use ledger::Digest;
use serde::{Deserialize, Serialize};

/// The spool's folder below a run's.
pub const FOLDER: &str = "mlflow";
const FILE: &str = "spool.jsonl";

/// One operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Entry {
    Begin(Begin),
    /// A stopped training goes on.
    Resume {
        time: u64,
    },
    Metrics {
        step: u64,
        time: u64,
        values: Vec<(String, Number)>,
    },
    End {
        status: Status,
        time: u64,
    },
    /// A file of the checkpoint, by its name below the run's artifacts.
    Artifact {
        name: String,
        file: PathBuf,
    },
    Model(Exported),
}

/// The first entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// Of this spool, so that no server makes two runs of it.
    pub id: String,
    pub name: String,
    /// Milliseconds since 1970, as all times here.
    pub time: u64,
    pub params: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
}

/// An exported encoder, to be registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exported {
    pub encoder: String,
    pub files: BTreeMap<String, Content>,
    pub tags: BTreeMap<String, String>,
}

/// What a file of a model holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Relative to the data folder.
    File(PathBuf),
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    Finished,
    Failed,
    Killed,
}

/// A value of a metric; as text, because JSON has no NaN and reads numbers back to the nearest but one.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Number(pub f64);

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl From<Number> for String {
    fn from(number: Number) -> Self {
        format!("{:?}", number.0)
    }
}

impl TryFrom<String> for Number {
    type Error = std::num::ParseFloatError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The spool of a folder `mlflow`.
pub fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// Reads whole lines from an offset on.
#[derive(Debug)]
pub struct Reader {
    file: BufReader<File>,
    /// Behind the last whole line that was read.
    pub offset: u64,
    /// Lines that were passed over.
    pub damaged: u64,
}

impl Reader {
    pub fn open(folder: &Path, offset: u64) -> Result<Self> {
        let path = path(folder);
        let open = || -> std::io::Result<Self> {
            let mut file = File::open(&path)?;
            // After a power cut the spool may be shorter than what was sent of it.
            let offset = offset.min(file.metadata()?.len());
            file.seek(SeekFrom::Start(offset))?;
            Ok(Self { file: BufReader::new(file), offset, damaged: 0 })
        };
        open().with_context(|| format!("reading {}", path.display()))
    }

    /// The next entry; none where the last whole line ends.
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

    /// Whether a whole line follows.
    pub fn has_more(mut self) -> Result<bool> {
        let mut line = Vec::new();
        self.file.read_until(b'\n', &mut line).context("reading a spool")?;
        Ok(line.last() == Some(&b'\n'))
    }
}

/// What a spool says so far.
#[derive(Debug, Default)]
pub struct Said {
    pub begin: Option<Begin>,
    /// How training ended, unless it goes on.
    pub ended: Option<Status>,
    pub artifacts: BTreeSet<String>,
    pub encoders: BTreeSet<String>,
    last_time: u64,
    steps: BTreeMap<String, u64>,
    bytes: u64,
}

impl Said {
    pub fn read(folder: &Path) -> Result<Self> {
        let mut reader = Reader::open(folder, 0)?;
        let mut said = Self::default();
        while let Some(entry) = reader.next()? {
            said.add(entry);
        }
        said.bytes = reader.offset;
        Ok(said)
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

/// A spool open for writing, by this process alone.
#[derive(Debug)]
pub struct Spool {
    file: File,
    path: PathBuf,
    pub said: Said,
}

impl Spool {
    /// Begins a spool, or goes on with the one that is there: a training that begins (`anew`) after another one was
    /// finished in this folder sets that one's aside.
    pub fn start(run: &Path, begin: Begin, anew: bool) -> Result<Self> {
        let folder = run.join(FOLDER);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        if let Some(mut spool) = Self::open(&folder)? {
            let is_over = anew && spool.said.ended == Some(Status::Finished);
            if spool.said.begin.is_some() && !is_over {
                spool.write(Entry::Resume { time: begin.time })?;
                return Ok(spool);
            }
            drop(spool);
            let aside = (1..).map(|number: u64| run.join(format!("{FOLDER}.{number}"))).find(|aside| !aside.exists());
            let aside = aside.context("a number is free")?;
            fs::rename(&folder, &aside).with_context(|| format!("setting {} aside", folder.display()))?;
            fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let path = path(&folder);
        File::create_new(&path).with_context(|| format!("creating {}", path.display()))?;
        let mut spool = Self::open(&folder)?.context("the spool is there")?;
        spool.write(Entry::Begin(begin))?;
        Ok(spool)
    }

    /// The spool of a folder, if there is one; an error where another process writes to it.
    pub fn open(folder: &Path) -> Result<Option<Self>> {
        let path = path(folder);
        if !path.is_file() {
            return Ok(None);
        }
        let context = || format!("opening {}", path.display());
        let file = OpenOptions::new().append(true).open(&path).with_context(context)?;
        // Those who only add an entry or two hold it for a moment.
        let mut attempts = 100;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempts > 0 => {
                    attempts -= 1;
                    thread::sleep(Duration::from_millis(50));
                }
                Err(TryLockError::WouldBlock) => bail!("{} is written to by another training: wait for its end", path.display()),
                Err(TryLockError::Error(error)) => return Err(error).with_context(context),
            }
        }
        let said = Said::read(folder)?;
        file.set_len(said.bytes).with_context(context)?;
        Ok(Some(Self { file, path, said }))
    }

    pub fn write(&mut self, entry: Entry) -> Result<()> {
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        self.file.write_all(&line).with_context(|| format!("writing {}", self.path.display()))?;
        self.said.bytes += line.len() as u64;
        self.said.add(entry);
        Ok(())
    }

    /// Adds the metrics whose step is new.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let is_new = |name: &str| self.said.steps.get(name).is_none_or(|&last| step > last);
        let values: Vec<_> =
            values.iter().filter(|(name, _)| is_new(name)).map(|&(name, value)| (name.to_owned(), Number(value))).collect();
        if values.is_empty() {
            return Ok(());
        }
        self.write(Entry::Metrics { step, time: now_ms(), values })
    }

    /// Ends a training that was killed, at the time of its last sign of life.
    pub fn end_killed(&mut self) -> Result<()> {
        self.write(Entry::End { status: Status::Killed, time: self.said.last_time })
    }
}

/// An id that no other spool has.
pub fn new_id(name: &str) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    Ok(Digest::of(&(name, now.to_string(), std::process::id()))?.short())
}

/// Every folder with a spool below `data/runs`, in the order in which they began.
pub fn folders(data: &Path) -> Result<Vec<(PathBuf, Said)>> {
    let list = |folder: &Path| -> Vec<PathBuf> { fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect() };
    let mut found = Vec::new();
    for run in list(&data.join("runs")) {
        for folder in list(&run) {
            let is_ours = folder.file_name().is_some_and(|name| name.to_string_lossy().split('.').next() == Some(FOLDER));
            if is_ours && path(&folder).is_file() {
                let said = Said::read(&folder)?;
                found.push((folder, said));
            }
        }
    }
    found.sort_by_cached_key(|(folder, said)| (said.begin.as_ref().map(|begin| begin.time), folder.clone()));
    Ok(found)
}

/// Does a work directory hold entries that no tracking server has received? (`mlflow*/spool.jsonl`; each `*.json` next to it says how
/// many bytes one server has.)
pub fn is_unsent(work_dir: &Path) -> bool {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    entries(work_dir).iter().any(|folder| {
        let Ok(spool) = fs::metadata(path(folder)) else { return false };
        let sent = entries(folder).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "json"));
        let most = sent.filter_map(|path| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok()?["bytes"].as_u64()).max();
        most.unwrap_or_default() < spool.len()
    })
}

/// Entries in whole lines from an offset on, for a bar.
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
    fn a_torn_line_is_cut_off_and_steps_are_spooled_once() {
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
        assert!(Spool::open(&run.path().join(FOLDER)).is_err(), "it has one writer");
        spool.scalars(2, &[("loss", 7.0), ("mrr", 0.5)]).unwrap();
        spool.scalars(1, &[("loss", 7.0)]).unwrap();
        drop(spool);
        let values = |values: &[(&str, f64)]| values.iter().map(|&(name, value)| (name.to_owned(), Number(value))).collect::<Vec<_>>();
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
        // It was killed between its end and its seal, and has a checkpoint: it is the same one.
        drop(Spool::start(run.path(), begin(), false).unwrap());
        let mut spool = Spool::open(&run.path().join(FOLDER)).unwrap().unwrap();
        assert_eq!(spool.said.ended, None);
        spool.write(Entry::End { status: Status::Finished, time: 9 }).unwrap();
        drop(spool);
        drop(Spool::start(run.path(), begin(), true).unwrap());
        assert!(path(&run.path().join("mlflow.1")).is_file());
        assert_eq!(entries(run.path()), [Entry::Begin(begin())]);
    }

    proptest! {
        /// Whatever stands in the file, what can be read is read.
        #[test]
        fn garbage_is_passed_over(garbage in proptest::collection::vec(any::<u8>(), 0..200), op in "[a-z]{0,7}") {
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

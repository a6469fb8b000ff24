//! Shards whose source files did not change since the previous artifact: their rows are not read again. They are compared by their stored
//! sketches, because a row that is new elsewhere may be the first of its duplicates or aliases now.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, StringArray},
    compute::concat_batches,
};
use ledger::{
    EarlierShards, Shards, ensure,
    table::{self, RowDigest, TableWriter},
};

use super::{
    buckets::ShardKey,
    members::{Member, Members},
    row_id::RowId,
    sketches::{RowSketch, SketchReader, members_of, table_name},
    tables::Chunk,
};
use crate::error::{Context, Result};

/// Rows of a batch: many shards are open at a time.
const BATCH_ROWS: usize = 128;
/// The columns that changes elsewhere can change, and those that identify a row and its licence.
const COLUMNS: [&str; 5] = ["id", "repo", "licence", "duplicate_of", "alias_of"];

/// The earlier row that a row duplicates, and the row that it is an alias of.
pub type Outcome = (Option<RowId>, Option<RowId>);

/// What the previous artifact has of the source files of this run.
pub struct EarlierRows<'a> {
    kept: BTreeMap<ShardKey, KeptShard>,
    /// Tables of the other shards.
    sketches: HashMap<ShardKey, SketchReader>,
    /// Licence by name of the repository.
    licences: &'a BTreeMap<String, String>,
}

/// A row of a kept shard.
pub struct KeptRow {
    pub id: RowId,
    pub sketch: RowSketch,
}

impl<'a> EarlierRows<'a> {
    /// `licences`: licence by name of the repository.
    pub fn new(earlier: &EarlierShards<'_>, members: &Members, licences: &'a BTreeMap<String, String>) -> Result<Self> {
        let mut digests: BTreeMap<ShardKey, Vec<RowDigest>> = BTreeMap::new();
        members.iter().for_each(|member| digests.entry(member.shard).or_default().push(member.digest));
        let (mut kept, mut sketches) = (BTreeMap::new(), HashMap::new());
        for (shard, digests) in digests {
            let (rows, table) = (earlier.get(&Shards::name(shard.0, shard.1)), earlier.get(&table_name(shard)));
            let (Some(rows), Some(table)) = (rows, table) else { continue };
            let members = members_of(table)?;
            if members.iter().map(|(member, _)| member).eq(&digests) {
                let paths = [rows, table].map(Path::to_owned);
                kept.insert(shard, KeptShard { paths, members, open: None, outcomes: Vec::new(), is_changed: false });
            } else {
                sketches.insert(shard, SketchReader::open(table, &members)?);
            }
        }
        Ok(Self { kept, sketches, licences })
    }

    /// Does the shard of a member stay as it is?
    pub fn is_kept(&self, member: &Member) -> bool {
        self.kept.contains_key(&member.shard)
    }

    /// The rows of a member of a kept shard. The members are read in their order, and [`Self::record`] follows for each row.
    pub fn kept_rows(&mut self, member: &Member) -> Result<Vec<KeptRow>> {
        self.kept.get_mut(&member.shard).context("the shard of the member is not kept")?.rows_of(member, self.licences)
    }

    /// Compares what a row of a kept shard duplicates with what it duplicated before.
    pub fn record(&mut self, shard: ShardKey, outcome: Outcome) {
        if let Some(kept) = self.kept.get_mut(&shard) {
            kept.record(outcome);
        }
    }

    /// Sketches of the rows of a member of another shard, where the previous artifact has them.
    pub fn sketches(&mut self, member: &Member) -> Result<Option<Vec<RowSketch>>> {
        self.sketches.get_mut(&member.shard).map_or(Ok(None), |reader| reader.member(&member.digest))
    }

    /// Links the kept shards and their sketches into `out`; a shard whose rows have other duplicates, aliases or licences is written anew.
    /// Returns the number of linked shards.
    pub fn finish(self, out: &Path, row_group_bytes: usize) -> Result<u64> {
        let mut linked = 0;
        for (shard, kept) in self.kept {
            let [rows, sketches] = &kept.paths;
            link(sketches, &out.join(table_name(shard)))?;
            let target = out.join(Shards::name(shard.0, shard.1));
            if kept.is_changed {
                kept.rewrite(&target, row_group_bytes, self.licences)?;
            } else {
                link(rows, &target)?;
                linked += 1;
            }
        }
        Ok(linked)
    }
}

fn link(file: &Path, target: &Path) -> Result<()> {
    if fs::hard_link(file, target).is_err() {
        fs::copy(file, target).with_context(|| format!("copying {}", file.display()))?;
    }
    Ok(())
}

/// A shard whose source files did not change.
struct KeptShard {
    /// Of the table of the rows, and of their sketches.
    paths: [PathBuf; 2],
    members: Vec<(RowDigest, u32)>,
    open: Option<OpenShard>,
    /// Of all rows so far.
    outcomes: Vec<Outcome>,
    /// Has a row another outcome or licence than before?
    is_changed: bool,
}

/// The readers of a kept shard.
struct OpenShard {
    members: std::vec::IntoIter<(RowDigest, u32)>,
    sketches: SketchReader,
    batches: Box<dyn Iterator<Item = ledger::Result<RecordBatch>>>,
    rows: VecDeque<(RowId, Outcome)>,
    /// Outcomes before of the rows that were read and have no new outcome yet.
    expected: VecDeque<Outcome>,
}

impl KeptShard {
    fn rows_of(&mut self, member: &Member, licences: &BTreeMap<String, String>) -> Result<Vec<KeptRow>> {
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(OpenShard {
                members: self.members.clone().into_iter(),
                sketches: SketchReader::open(&self.paths[1], &[])?,
                batches: Box::new(table::read_batches(&self.paths[0], &COLUMNS, BATCH_ROWS)?),
                rows: VecDeque::new(),
                expected: VecDeque::new(),
            }),
        };
        let damaged = || format!("{} has other rows than its sketches: run `codenets verify`", self.paths[0].display());
        let (digest, count) = open.members.next().with_context(damaged)?;
        ensure!(digest == member.digest, "{}", damaged());
        let mut rows = Vec::with_capacity(count as usize);
        for _ in 0..count {
            while open.rows.is_empty() {
                let batch = open.batches.next().with_context(damaged)??;
                self.is_changed |= open.read(&batch, licences)?;
            }
            let (id, outcome) = open.rows.pop_front().with_context(damaged)?;
            open.expected.push_back(outcome);
            rows.push(KeptRow { id, sketch: open.sketches.row()? });
        }
        Ok(rows)
    }

    fn record(&mut self, outcome: Outcome) {
        self.is_changed |= self.open.as_mut().and_then(|open| open.expected.pop_front()).as_ref() != Some(&outcome);
        self.outcomes.push(outcome);
    }

    /// Writes the rows with their new outcomes and licences, as a run without a previous artifact writes them.
    fn rewrite(&self, target: &Path, row_group_bytes: usize, licences: &BTreeMap<String, String>) -> Result<()> {
        let mut outcomes = self.outcomes.iter();
        let (mut writer, mut chunk, mut parts) = (None::<TableWriter>, Chunk::default(), Vec::new());
        for batch in table::read(&self.paths[0], &[])? {
            let batch = with_outcomes(&batch?, outcomes.by_ref(), licences)?;
            let writer = match &mut writer {
                Some(writer) => writer,
                None => writer.insert(TableWriter::create(target, batch.schema())?.with_row_group_bytes(row_group_bytes)),
            };
            let (codes, docstrings) = (table::texts(&batch, "code")?, table::texts(&batch, "docstring")?);
            let mut start = 0;
            for row in 0..batch.num_rows() {
                if chunk.add(codes.value(row).len() + docstrings.value(row).len()) {
                    parts.push(batch.slice(start, row + 1 - start));
                    writer.write(&concat_batches(&batch.schema(), &std::mem::take(&mut parts))?)?;
                    start = row + 1;
                }
            }
            parts.push(batch.slice(start, batch.num_rows() - start));
        }
        let mut writer = writer.context("a shard without rows: run `codenets verify`")?;
        if let Some(first) = parts.first() {
            writer.write(&concat_batches(&first.schema(), &parts)?)?;
        }
        Ok(writer.finish()?)
    }
}

impl OpenShard {
    /// Takes the rows of a batch. Returns true where one of them has another licence now.
    fn read(&mut self, batch: &RecordBatch, licences: &BTreeMap<String, String>) -> Result<bool> {
        let text = |name: &str| table::texts(batch, name);
        let (ids, repos, known) = (text("id")?, text("repo")?, text("licence")?);
        let (duplicates, aliases) = (text("duplicate_of")?, text("alias_of")?);
        let mut is_changed = false;
        for row in 0..batch.num_rows() {
            let of = |column: &StringArray| column.is_valid(row).then(|| RowId::of_hex(column.value(row))).transpose();
            let id = RowId::of_hex(ids.value(row))?;
            is_changed |= licences.get(repos.value(row)).map(String::as_str) != known.is_valid(row).then(|| known.value(row));
            self.rows.push_back((id, (of(&duplicates)?, of(&aliases)?)));
        }
        Ok(is_changed)
    }
}

/// A batch of `functions` with the next outcomes and the licences of now.
fn with_outcomes<'o>(
    batch: &RecordBatch,
    outcomes: impl Iterator<Item = &'o Outcome>,
    licences: &BTreeMap<String, String>,
) -> Result<RecordBatch> {
    let (duplicates, aliases): (Vec<_>, Vec<_>) = outcomes.take(batch.num_rows()).copied().unzip();
    ensure!(duplicates.len() == batch.num_rows(), "a shard has more rows than its sketches: run `codenets verify`");
    let repos = table::texts(batch, "repo")?;
    let ids = |ids: &[Option<RowId>]| Arc::new(ids.iter().map(|id| id.map(RowId::hex)).collect::<StringArray>()) as ArrayRef;
    let column = |(field, column): (&Arc<arrow::datatypes::Field>, &ArrayRef)| match field.name().as_str() {
        "duplicate_of" => ids(&duplicates),
        "alias_of" => ids(&aliases),
        "licence" => Arc::new(repos.iter().map(|repo| licences.get(repo.unwrap_or_default())).collect::<StringArray>()),
        _ => column.clone(),
    };
    let columns = batch.schema_ref().fields().iter().zip(batch.columns()).map(column).collect();
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

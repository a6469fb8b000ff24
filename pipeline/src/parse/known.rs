//! Parsed columns of rows that the previous artifact has: they are copied instead of computed.
//!
//! A row is known by the digest of all that its parsed columns are computed from. Rows of a shard are in the order of their source files, so
//! that the previous shard is read once, forward, with a few batches in memory. A row that is not in them is parsed again: the result is the
//! same.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    path::Path,
    sync::LazyLock,
};

use arrow::{
    array::{RecordBatch, UInt32Array},
    compute::interleave_record_batch,
};
use ledger::{
    EarlierShards, Language,
    table::{self, BATCH_ROWS, RowDigest},
};

use super::{
    columns::{ADDED, source_of},
    config::Config,
    linearise::MARKS,
    tree::{Kinds, kinds},
};
use crate::{error::Result, grammar::Scope};

/// Batches of a previous shard in memory, and their bytes. At least one batch is in memory.
const WINDOW: usize = 8;
const WINDOW_BYTES: usize = 32 << 20;
/// Rows of a batch that another shard than the previous one must have to be read: fewer rows are parsed sooner than found.
const MIN_ROWS_ELSEWHERE: usize = 64;
/// Longest special token.
const MAX_SPECIAL_BYTES: usize = 100;
/// Other shards that are open at a time.
const MAX_ELSEWHERE: usize = 4;

/// Parsed columns of the previous artifact, for one shard.
pub struct KnownRows<'a> {
    earlier: &'a EarlierShards<'a>,
    /// Numbers of the rows of the previous version of the shard.
    own: HashMap<RowDigest, u32>,
    name: &'a str,
    windows: HashMap<&'a str, Window>,
}

/// Where the parsed columns of a row of a batch come from: a row of [`Sources::batches`].
pub struct Sources {
    pub batches: Vec<RecordBatch>,
    /// Batch and row, for each row of the batch; none: the row has to be parsed.
    pub rows: Vec<Option<(usize, usize)>>,
}

impl<'a> KnownRows<'a> {
    /// `shard`: name of the shard that is written.
    pub fn of(earlier: &'a EarlierShards<'a>, shard: &'a str) -> Result<Self> {
        Ok(Self { earlier, own: earlier.rows_of(shard)?, name: shard, windows: HashMap::new() })
    }

    /// The known rows among those with these digests.
    pub fn find(&mut self, digests: &[RowDigest]) -> Result<Sources> {
        let places: Vec<Option<(&'a str, u32)>> = digests.iter().map(|digest| self.place_of(digest)).collect();
        let mut by_shard: HashMap<&'a str, Vec<u32>> = HashMap::new();
        places.iter().flatten().for_each(|(shard, row)| by_shard.entry(shard).or_default().push(*row));
        by_shard.retain(|shard, rows| *shard == self.name || rows.len() >= MIN_ROWS_ELSEWHERE);
        let mut shards: Vec<_> = by_shard.into_iter().collect();
        shards.sort_unstable();
        self.windows.retain(|name, _| *name == self.name || shards.iter().any(|(shard, _)| shard == name));
        let mut sources = Sources { batches: Vec::new(), rows: vec![None; digests.len()] };
        for (shard, rows) in shards {
            let Some(window) = self.window(shard)? else { continue };
            window.advance(rows)?;
            let first = sources.batches.len();
            sources.batches.extend(window.batches.iter().cloned());
            for (place, source) in places.iter().zip(&mut sources.rows) {
                if let Some((_, row)) = place.filter(|(name, _)| *name == shard) {
                    *source = window.find(row).map(|(batch, row)| (first + batch, row));
                }
            }
        }
        Ok(sources)
    }

    fn place_of(&self, digest: &RowDigest) -> Option<(&'a str, u32)> {
        self.own.get(digest).map(|row| (self.name, *row)).or_else(|| self.earlier.place_of(digest))
    }

    /// The open window of a shard; none where the shard is damaged, or too many others are open.
    fn window(&mut self, shard: &'a str) -> Result<Option<&mut Window>> {
        if !self.windows.contains_key(shard) && (shard == self.name || self.windows.len() < MAX_ELSEWHERE) {
            let Some(path) = self.earlier.get(shard) else { return Ok(None) };
            self.windows.insert(shard, Window::open(path)?);
        }
        Ok(self.windows.get_mut(shard))
    }
}

/// Some batches of a shard, one after the other.
struct Window {
    rest: Box<dyn Iterator<Item = ledger::Result<RecordBatch>> + Send>,
    batches: VecDeque<RecordBatch>,
    bytes: usize,
    /// Number of the first row in memory, and of the row after the last one.
    rows: std::ops::Range<u32>,
}

impl Window {
    fn open(path: &Path) -> Result<Self> {
        Ok(Self { rest: Box::new(table::read(path, &ADDED)?), batches: VecDeque::new(), bytes: 0, rows: 0..0 })
    }

    /// Reads on to where most of these rows are. Rows in front of the window stay unknown.
    fn advance(&mut self, mut wanted: Vec<u32>) -> Result<()> {
        wanted.sort_unstable();
        let at = |share: usize| wanted.get(wanted.len() * share / 10).copied().unwrap_or_default();
        let last = at(9).min(at(5).saturating_add((WINDOW / 2 * BATCH_ROWS) as u32));
        while self.rows.end <= last {
            let Some(batch) = self.rest.next().transpose()? else { break };
            self.rows.end += u32::try_from(batch.num_rows())?;
            self.bytes += batch.get_array_memory_size();
            self.batches.push_back(batch);
            while self.batches.len() > WINDOW || (self.bytes > WINDOW_BYTES && self.batches.len() > 1) {
                let Some(oldest) = self.batches.pop_front() else { break };
                self.bytes -= oldest.get_array_memory_size();
                self.rows.start += u32::try_from(oldest.num_rows())?;
            }
        }
        Ok(())
    }

    /// Batch and row of a row of the shard.
    fn find(&self, row: u32) -> Option<(usize, usize)> {
        let mut left = row.checked_sub(self.rows.start)? as usize;
        for (number, batch) in self.batches.iter().enumerate() {
            if left < batch.num_rows() {
                return Some((number, left));
            }
            left -= batch.num_rows();
        }
        None
    }
}

impl Sources {
    /// Forgets the rows whose special tokens and errors cannot be told from their columns.
    ///
    /// A special token is recognised by its text, which is no proof where the code has this text too. A row with an error and the tree of
    /// an empty text may have been given up.
    pub fn retain_certain(&mut self, batch: &RecordBatch, config: &Config) -> Result<()> {
        let (languages, codes) = (table::texts(batch, "language")?, table::texts(batch, "code")?);
        let mut errors = Vec::new();
        for batch in &self.batches {
            errors.push((table::u32s(batch, "nodes")?, table::booleans(batch, "parse_error")?));
        }
        for (row, source) in self.rows.iter_mut().enumerate() {
            let Some((number, at)) = *source else { continue };
            let (nodes, errors) = &errors[number];
            let language: Language = languages.value(row).parse()?;
            if (errors.value(at) && nodes.value(at) <= 1)
                || has_special(&source_of(language, codes.value(row), config).0, specials_of(language))
            {
                *source = None;
            }
        }
        Ok(())
    }

    /// Numbers of the rows that have to be parsed.
    pub fn missing(&self) -> UInt32Array {
        (0..).zip(&self.rows).filter(|(_, source)| source.is_none()).map(|(row, _)| row).collect()
    }

    /// Adds the special tokens of the known rows.
    pub fn collect_specials(&self, batch: &RecordBatch, specials: &mut BTreeSet<String>) -> Result<()> {
        let languages = table::texts(batch, "language")?;
        let tokens = self.batches.iter().map(|batch| table::text_lists(batch, "ast_tokens")).collect::<ledger::Result<Vec<_>>>()?;
        for (row, source) in self.rows.iter().enumerate() {
            let Some((number, at)) = *source else { continue };
            let of_language = specials_of(languages.value(row).parse()?);
            let is_new = |token: &&str| token.starts_with('<') && !specials.contains(*token) && of_language.contains(*token);
            let new: Vec<String> = tokens[number].row(at).filter(is_new).map(str::to_owned).collect();
            specials.extend(new);
        }
        Ok(())
    }

    /// The added columns of all rows. `parsed`: those of the missing rows.
    pub fn merge(&self, parsed: &RecordBatch) -> Result<RecordBatch> {
        let batches: Vec<&RecordBatch> = self.batches.iter().chain([parsed]).collect();
        let mut next = 0..;
        let place = |source: &Option<(usize, usize)>| source.unwrap_or_else(|| (self.batches.len(), next.next().unwrap_or_default()));
        let rows: Vec<(usize, usize)> = self.rows.iter().map(place).collect();
        Ok(interleave_record_batch(&batches, &rows)?)
    }
}

/// All special tokens of a language.
fn specials_of(language: Language) -> &'static HashSet<String> {
    static SPECIALS: LazyLock<HashMap<Language, HashSet<String>>> = LazyLock::new(|| {
        let of = |language: Language| {
            let kinds = [Scope::File, Scope::Function].map(|scope| kinds(language, scope));
            // The number after the last node type is that of `ERROR`. Types that are not named (operators) have no special token.
            let numbers = |kinds: &Kinds| 0..=u16::try_from(kinds.count()).unwrap_or(u16::MAX);
            let types = kinds.iter().flat_map(|kinds| numbers(kinds).filter(|kind| kinds.is_named(*kind)).map(|kind| kinds.special(kind)));
            types.chain(MARKS).map(str::to_owned).chain([language.tag()]).collect()
        };
        Language::ALL.into_iter().map(|language| (language, of(language))).collect()
    });
    &SPECIALS[&language]
}

/// Does the text contain a special token?
fn has_special(text: &str, specials: &HashSet<String>) -> bool {
    let starts = text.match_indices('<').map(|(start, _)| &text[start..]);
    let token = |rest: &'_ str| rest.bytes().take(MAX_SPECIAL_BYTES).position(|byte| matches!(byte, b'>' | b' ' | b'\n'));
    starts.filter_map(|rest| token(rest).map(|end| &rest[..=end])).any(|token| specials.contains(token))
}

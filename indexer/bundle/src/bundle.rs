//! An open bundle, and a search in it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use inference::{BATCH_TOKENS, Provider, TextEncoder};
use ledger::{EncoderSpec, Language};

use crate::{
    BundleManifest, Error, Explanation, Hit, ListEntry, Mode, ParsedQuery, Query, Result,
    diversity::FileNumbers,
    fusion::Candidates,
    lexical::{Filter, LEXICAL, Lexical, Part, QueryStats, TermScores},
    manifest::MANIFEST,
    ranking::Scored,
    snippet::{Line, snippet},
    tombstones,
    vectors::{VECTORS, Vectors},
};

/// Name of the encoder's folder in a bundle.
const ENCODER: &str = "encoder";

/// The lexical and the vector list of a query, best first.
#[derive(Debug, Clone, Default)]
pub struct CandidateLists {
    pub lexical: Vec<Scored>,
    pub vector: Vec<Scored>,
    pub stats: QueryStats,
    /// Of every row of either list; a row without any term of the query is missing.
    pub term_scores: HashMap<u32, TermScores>,
}

impl CandidateLists {
    /// The lists without the rows that `keep` refuses.
    pub fn filtered(&self, keep: impl Fn(u32) -> bool) -> Self {
        let filter = |list: &[Scored]| list.iter().filter(|(row, _)| keep(*row)).copied().collect();
        Self {
            lexical: filter(&self.lexical),
            vector: filter(&self.vector),
            stats: self.stats,
            term_scores: self.term_scores.iter().filter(|(row, _)| keep(**row)).map(|(row, scores)| (*row, *scores)).collect(),
        }
    }
}

/// Largest number of rows with the name that a query is.
const MAX_NAMED: usize = 1000;

/// A bundle that is ready to search. It can be shared between threads.
#[derive(Debug)]
pub struct Bundle {
    dir: PathBuf,
    manifest: BundleManifest,
    lexical: Lexical,
    vectors: Vectors,
    encoder: LazyEncoder,
    languages: Vec<String>,
    /// Where results are diversified.
    files: Option<FileNumbers>,
    /// By row: is it not deleted? None where no row is deleted.
    live: Option<Vec<bool>>,
}

/// The encoder of a bundle, opened by the first query that needs a vector.
#[derive(Debug)]
struct LazyEncoder {
    dir: PathBuf,
    provider: Provider,
    workers: usize,
    encoder: OnceLock<TextEncoder>,
    /// Held while the encoder is being opened.
    opening: Mutex<()>,
}

impl LazyEncoder {
    fn get(&self) -> Result<&TextEncoder> {
        if let Some(encoder) = self.encoder.get() {
            return Ok(encoder);
        }
        let _guard = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(encoder) = self.encoder.get() {
            return Ok(encoder);
        }
        inference::load_default()?;
        let encoder = TextEncoder::open(&self.dir, self.provider, self.workers)?;
        Ok(self.encoder.get_or_init(|| encoder))
    }
}

impl Bundle {
    pub(crate) fn open(dir: &Path, provider: Provider, workers: usize) -> Result<Self> {
        let manifest = BundleManifest::read(dir)?;
        let rows = usize::try_from(manifest.rows)?;
        let lexical = Lexical::open(&dir.join(LEXICAL), manifest.lexical.settings())?;
        if lexical.rows() != manifest.rows {
            return Err(Error::damaged(dir.join(LEXICAL), format!("it holds {} rows of {rows}", lexical.rows())));
        }
        let vectors_dir = dir.join(VECTORS);
        let mut vectors = Vectors::open(&vectors_dir, rows, manifest.vectors.dimension)?;
        if let Some(hnsw) = &manifest.vectors.hnsw {
            vectors = vectors.with_hnsw(&vectors_dir, hnsw, workers)?;
        }
        let encoder_dir = dir.join(ENCODER);
        let spec = EncoderSpec::read(&encoder_dir.join(EncoderSpec::FILE))?;
        if spec.dimension != manifest.vectors.dimension {
            let why = format!("its encoder gives {} numbers, its vectors have {}", spec.dimension, manifest.vectors.dimension);
            return Err(Error::damaged(dir.join(MANIFEST), why));
        }
        let encoder = LazyEncoder { dir: encoder_dir, provider, workers, encoder: OnceLock::new(), opening: Mutex::new(()) };
        let languages: Vec<String> = manifest.languages.keys().cloned().collect();
        let files = manifest.diversity.map(|_| FileNumbers::open(dir, rows)).transpose()?;
        let live = tombstones::live_rows(dir, &lexical)?;
        Ok(Self { dir: dir.to_owned(), manifest, lexical, vectors, encoder, languages, files, live })
    }

    /// The manifest.
    pub fn manifest(&self) -> &BundleManifest {
        &self.manifest
    }

    /// The folder of the bundle.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The vectors, row by row.
    pub fn vectors(&self) -> &Vectors {
        &self.vectors
    }

    /// The lexical index.
    pub fn lexical(&self) -> &Lexical {
        &self.lexical
    }

    /// The encoder; the first call opens it, and loads ONNX Runtime where no library is loaded yet.
    pub fn encoder(&self) -> Result<&TextEncoder> {
        self.encoder.get()
    }

    /// By row: is it not deleted? None where no row is deleted.
    pub fn live_rows(&self) -> Option<&[bool]> {
        self.live.as_deref()
    }

    /// The best functions for a query, best first.
    ///
    /// # Errors
    /// [`Error::Glob`] for an invalid path filter, [`Error::Runtime`] where the encoder cannot be opened (not with [`Mode::Bm25`]).
    pub fn search(&self, query: &Query) -> Result<Vec<Hit>> {
        let parsed = ParsedQuery::parse(&query.text).without(self.only_language(query.language));
        let rows = usize::try_from(self.manifest.rows)?;
        let count = self.manifest.candidates.max(query.limit).clamp(1, rows.max(1));
        let matching = self.matching(&parsed, query)?;
        let allowed = matching.as_deref().or(self.live_rows());
        let vector = if query.mode == Mode::Bm25 || parsed.is_empty() { Vec::new() } else { self.encode_queries([&parsed])? };
        let nearest = if vector.is_empty() { Vec::new() } else { self.vectors.search(&vector, count, allowed)? };
        let named = if query.mode == Mode::Vector { Vec::new() } else { self.rows_of_name(&query.text, allowed)? };
        let lists = self.candidate_lists(&parsed, query.mode, count, allowed, None, nearest)?;
        let cosine = |row: u32| if vector.is_empty() { 0.0 } else { self.vectors.score(row, &vector) };
        let mut ranked: Vec<(u32, f64)> = match query.mode {
            Mode::Bm25 => widened(&lists.lexical),
            Mode::Vector => widened(&lists.vector),
            Mode::Hybrid => self.with_candidates(&lists, &cosine, |candidates| self.manifest.fusion.fuse(candidates)),
        };
        if let (Mode::Hybrid, Some(diversity), Some(files)) = (query.mode, &self.manifest.diversity, &self.files) {
            diversity.apply(&mut ranked, |row| files.of(row));
        }
        put_first(&mut ranked, &named);
        ranked.truncate(query.limit);
        let mut explanations =
            if query.explain { self.explanations(&parsed, query.mode, &ranked, &lists, &cosine)? } else { HashMap::new() };
        let terms: BTreeSet<String> = self.lexical.distinct_terms(&parsed.words).into_iter().collect();
        let stem = self.lexical.stemmer();
        let snippet = |code: &str| snippet(code, query.snippet_lines, &terms, &stem);
        ranked.into_iter().map(|(row, score)| self.hit(row, score, &snippet, explanations.remove(&row))).collect()
    }

    /// Allowed rows whose name, qualified name or end of the path is the whole query, which is one word; sorted.
    fn rows_of_name(&self, text: &str, allowed: Option<&[bool]>) -> Result<Vec<u32>> {
        let text = text.trim();
        if text.contains(char::is_whitespace) {
            return Ok(Vec::new());
        }
        let mut rows = self.lexical.rows_of_names(text)?;
        rows.retain(|&row| allowed.is_none_or(|allowed| allowed.get(row as usize) == Some(&true)));
        rows.truncate(MAX_NAMED);
        Ok(rows)
    }

    /// By row: does it meet the query's conditions, and is it not deleted? None where the query has no conditions.
    fn matching(&self, parsed: &ParsedQuery, query: &Query) -> Result<Option<Vec<bool>>> {
        let filter =
            Filter { language: query.language.map(|language| language.to_string()), repo: query.repo.clone(), path: query.path.clone() };
        let mut matching = self.lexical.matching(parsed, &filter)?;
        if let (Some(matching), Some(live)) = (&mut matching, &self.live) {
            matching.iter_mut().zip(live).for_each(|(matches, is_live)| *matches &= is_live);
        }
        Ok(matching)
    }

    fn hit(&self, row: u32, score: f64, snippet: &dyn Fn(&str) -> Vec<Line>, explanation: Option<Explanation>) -> Result<Hit> {
        let document = self.lexical.document(row)?;
        let language = document.language;
        let [id, repo, path, func_name, url, lines, summary, code] = document.stored;
        let snippet = snippet(&code);
        Ok(Hit { row, score, id, language, repo, path, func_name, url, lines, summary, code, snippet, explanation })
    }

    /// Explanations of the ranked rows.
    fn explanations(
        &self,
        parsed: &ParsedQuery,
        mode: Mode,
        ranked: &[(u32, f64)],
        lists: &CandidateLists,
        cosine: &dyn Fn(u32) -> f32,
    ) -> Result<HashMap<u32, Explanation>> {
        let entry = |list: &[Scored], row: u32| {
            list.iter().position(|(other, _)| *other == row).map(|index| ListEntry { rank: index + 1, score: list[index].1 })
        };
        let (fusion, mut features) = match mode {
            Mode::Hybrid => {
                let features = self.with_candidates(lists, cosine, |candidates| self.manifest.fusion.parts(candidates));
                (self.manifest.fusion.to_string(), features)
            }
            Mode::Bm25 | Mode::Vector => ("none".to_owned(), HashMap::new()),
        };
        let mut explain = |row: u32| -> Result<Explanation> {
            Ok(Explanation {
                bm25: entry(&lists.lexical, row),
                fields: if mode == Mode::Vector { BTreeMap::new() } else { self.lexical.field_scores(parsed, row)? },
                vector: entry(&lists.vector, row),
                fusion: fusion.clone(),
                features: features.remove(&row).unwrap_or_default(),
            })
        };
        ranked.iter().map(|&(row, _)| Ok((row, explain(row)?))).collect()
    }

    /// Both lists of a query: the given vector list, and the best `limit` of the rows that `allowed` has (none: all) by lexical search,
    /// which does not search the `hidden` group of fields.
    pub fn candidate_lists(
        &self,
        query: &ParsedQuery,
        mode: Mode,
        limit: usize,
        allowed: Option<&[bool]>,
        hidden: Option<Part>,
        vector: Vec<Scored>,
    ) -> Result<CandidateLists> {
        if mode == Mode::Vector {
            return Ok(CandidateLists { vector, ..CandidateLists::default() });
        }
        let mut others: Vec<u32> = vector.iter().map(|(row, _)| *row).collect();
        others.sort_unstable();
        let (found, stats) = self.lexical.search(query, allowed, hidden, limit, &others)?;
        Ok(CandidateLists { lexical: found.ranked, vector, stats, term_scores: found.term_scores.into_iter().collect() })
    }

    /// Calls a function with the best candidates of both lists, as a fusion reads them. `cosine` gives the cosine of a row.
    pub fn with_candidates<T>(&self, lists: &CandidateLists, cosine: &dyn Fn(u32) -> f32, with: impl FnOnce(&Candidates<'_>) -> T) -> T {
        let count = |list: &[Scored]| list.len().min(self.manifest.candidates);
        let term_scores = |row: u32| lists.term_scores.get(&row).copied().unwrap_or_default();
        with(&Candidates {
            lexical: &lists.lexical[..count(&lists.lexical)],
            vector: &lists.vector[..count(&lists.vector)],
            stats: lists.stats,
            term_scores: &term_scores,
            cosine,
        })
    }

    /// The rankings of all [`Mode::ALL`] from both lists, best first.
    pub fn rankings(&self, lists: &CandidateLists, cosine: &dyn Fn(u32) -> f32) -> [Vec<(u32, f64)>; 3] {
        let fused = self.with_candidates(lists, cosine, |candidates| self.manifest.fusion.fuse(candidates));
        [widened(&lists.lexical), widened(&lists.vector), fused]
    }

    /// A text as words only, as evaluation searches the whole bundle.
    pub fn parse_words(&self, text: &str) -> ParsedQuery {
        ParsedQuery::words_of(text).without(self.only_language(None))
    }

    /// The language of every function that a search can find, if there is only one: its name in a query does not tell rows apart.
    fn only_language(&self, filter: Option<Language>) -> Option<&str> {
        match (filter, &self.languages[..]) {
            (Some(language), _) => Some(language.name()),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// Unit vectors of queries, `[queries, dimension]` flat.
    pub fn encode_queries<'q>(&self, queries: impl IntoIterator<Item = &'q ParsedQuery>) -> Result<Vec<f32>> {
        let encoder = self.encoder()?;
        let ids = queries.into_iter().map(|query| encoder.query_ids(&query.text())).collect::<Result<Vec<_>, _>>()?;
        Ok(encoder.encode_queries(&ids, BATCH_TOKENS)?)
    }
}

/// Puts the rows `first` (sorted) before all others. A row that is not ranked follows those of `first` that are, with score 0.
fn put_first(ranked: &mut Vec<(u32, f64)>, first: &[u32]) {
    let known: BTreeSet<u32> = ranked.iter().map(|(row, _)| *row).collect();
    ranked.extend(first.iter().filter(|row| !known.contains(row)).map(|&row| (row, 0.0)));
    ranked.sort_by_key(|(row, _)| first.binary_search(row).is_err());
}

fn widened(list: &[Scored]) -> Vec<(u32, f64)> {
    list.iter().map(|&(row, score)| (row, f64::from(score))).collect()
}

//! An open bundle, and a search in it.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, Result, bail, ensure};
use ledger::Language;
use serde::Serialize;

use crate::{
    asked::Asked,
    encoder::{BATCH_TOKENS, Provider, TextEncoder},
    fusion::Sides,
    index::format::BundleManifest,
    lexical::{Boosts, Evidence, Filter, Lexical, Weights},
    ranking::Scored,
    retract::tombstones,
    snippet::{Line, snippet},
    vectors::Vectors,
};

/// Which side of the index answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Bm25,
    Vector,
    #[default]
    Hybrid,
}

impl Mode {
    pub const ALL: [Mode; 3] = [Self::Bm25, Self::Vector, Self::Hybrid];

    pub fn name(self) -> &'static str {
        match self {
            Self::Bm25 => "bm25",
            Self::Vector => "vector",
            Self::Hybrid => "hybrid",
        }
    }
}

impl FromStr for Mode {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|mode| mode.name() == text) {
            Some(mode) => Ok(mode),
            None => bail!("unknown mode {text:?}, expected bm25, vector or hybrid"),
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Words; `"an exact phrase"`; `pars*`.
    pub text: String,
    pub language: Option<Language>,
    /// The repository's name.
    pub repo: Option<String>,
    /// A glob over the whole path: `*` and `?` stop at `/`, `**` does not.
    pub path: Option<String>,
    pub mode: Mode,
    pub limit: usize,
    /// Lines of a result's code to show, those that hold most of the query's words; 0: none.
    pub snippet_lines: usize,
    /// Also say what each result's score is made of.
    pub explain: bool,
}

/// One result.
#[derive(Debug, Clone, Serialize)]
pub struct Hit {
    pub row: u32,
    pub score: f64,
    pub id: String,
    pub language: String,
    pub repo: String,
    pub path: String,
    pub func_name: String,
    pub url: String,
    /// `10-20`, empty where the source does not say.
    pub lines: String,
    pub summary: String,
    pub code: String,
    /// The lines of the code that the query is about.
    pub snippet: Vec<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// What a score is made of; a side that did not find the row is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    pub bm25: Option<Part>,
    /// What each text field added to BM25, its boost included.
    pub fields: BTreeMap<&'static str, f32>,
    /// Inner product with the query's vector.
    pub vector: Option<Part>,
    /// How the sides were made one.
    pub fusion: String,
    /// What each feature added, where the fusion was learnt.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<&'static str, f64>,
}

/// Score and rank on one side.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Part {
    pub rank: usize,
    pub score: f32,
}

/// What both sides say of a query, best first.
pub(crate) struct Answers {
    pub lexical: Vec<Scored>,
    pub vector: Vec<Scored>,
    pub weights: Weights,
    /// Of every row that has a term of the query, if it is in either list; what is missing has none.
    pub evidence: HashMap<u32, Evidence>,
}

impl Answers {
    /// The same, of these rows alone.
    pub fn only(&self, keep: impl Fn(u32) -> bool) -> Self {
        let of = |list: &[Scored]| list.iter().filter(|(row, _)| keep(*row)).copied().collect();
        let evidence = self.evidence.iter().filter(|(row, _)| keep(**row)).map(|(row, evidence)| (*row, *evidence)).collect();
        Self { lexical: of(&self.lexical), vector: of(&self.vector), weights: self.weights, evidence }
    }
}

/// A bundle that is ready to search: everything large is mapped, not read.
pub struct OpenBundle {
    dir: PathBuf,
    manifest: BundleManifest,
    lexical: Lexical,
    vectors: Vectors,
    encoder: TextEncoder,
    languages: Vec<String>,
    /// Rows that were not taken out of it; none where all are there.
    alive: Option<Vec<bool>>,
}

impl OpenBundle {
    /// Opens a bundle folder for `workers` searches at a time.
    pub fn open(dir: &Path, provider: Provider, workers: usize) -> Result<Self> {
        let manifest = BundleManifest::read(dir)?;
        let rows = usize::try_from(manifest.rows)?;
        let lexical = Lexical::open(&dir.join("tantivy"), manifest.lexical.settings())?;
        ensure!(lexical.rows() == manifest.rows, "{}: the lexical index holds {} rows of {rows}", dir.display(), lexical.rows());
        let mut vectors = Vectors::open(&dir.join("vectors"), rows, manifest.vectors.dimension)?;
        if let Some(graphs) = &manifest.vectors.graphs {
            vectors = vectors.with_graphs(&dir.join("vectors"), graphs, workers)?;
        }
        let encoder = TextEncoder::open(&dir.join("encoder"), provider, workers)?;
        ensure!(
            encoder.spec().dimension == manifest.vectors.dimension,
            "{}: the encoder gives {} numbers, the vectors have {}",
            dir.display(),
            encoder.spec().dimension,
            manifest.vectors.dimension
        );
        let languages: Vec<String> = manifest.languages.keys().cloned().collect();
        let alive = alive(dir, &lexical)?;
        Ok(Self { dir: dir.to_owned(), manifest, lexical, vectors, encoder, languages, alive })
    }

    pub fn manifest(&self) -> &BundleManifest {
        &self.manifest
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn vectors(&self) -> &Vectors {
        &self.vectors
    }

    pub(crate) fn encoder(&self) -> &TextEncoder {
        &self.encoder
    }

    /// Rows that were not taken out; none where all are there.
    pub(crate) fn alive(&self) -> Option<&[bool]> {
        self.alive.as_deref()
    }

    /// What both sides say: the vector side's list as it is given, and of the lexical side the best `limit` of the rows that `allowed` has.
    pub(crate) fn answers(
        &self,
        asked: &Asked,
        mode: Mode,
        limit: usize,
        allowed: Option<&[bool]>,
        boosts: Boosts,
        vector: Vec<Scored>,
    ) -> Result<Answers> {
        if mode == Mode::Vector {
            return Ok(Answers { lexical: Vec::new(), vector, weights: Weights::default(), evidence: HashMap::new() });
        }
        let mut besides: Vec<u32> = vector.iter().map(|(row, _)| *row).collect();
        besides.sort_unstable();
        let (found, weights) = self.lexical.search(asked, allowed, boosts, limit, &besides)?;
        Ok(Answers { lexical: found.ranked, vector, weights, evidence: found.evidence.into_iter().collect() })
    }

    /// Hands both sides' best candidates to `with`, as a fusion sees them.
    pub(crate) fn sides<T>(&self, answers: &Answers, cosine: &dyn Fn(u32) -> f32, with: impl FnOnce(&Sides<'_>) -> T) -> T {
        let best = |list: &[Scored]| list.len().min(self.manifest.candidates);
        let evidence = |row: u32| answers.evidence.get(&row).copied().unwrap_or_default();
        with(&Sides {
            lexical: &answers.lexical[..best(&answers.lexical)],
            vector: &answers.vector[..best(&answers.vector)],
            weights: answers.weights,
            evidence: &evidence,
            cosine,
        })
    }

    /// The rankings of [`Mode::ALL`] out of those of both sides, best first.
    pub(crate) fn systems(&self, answers: &Answers, cosine: &dyn Fn(u32) -> f32) -> [Vec<(u32, f64)>; 3] {
        let plain = |list: &[Scored]| list.iter().map(|&(row, score)| (row, f64::from(score))).collect();
        let fused = self.sides(answers, cosine, |sides| self.manifest.fusion.fuse(sides));
        [plain(&answers.lexical), plain(&answers.vector), fused]
    }

    /// A query's words alone, as evaluation asks them of the whole bundle.
    pub(crate) fn words_of(&self, text: &str) -> Asked {
        Asked::words(text).without(self.only_language(None))
    }

    /// The language that a search can only find: its name in a query says nothing.
    fn only_language(&self, asked: Option<Language>) -> Option<&str> {
        match (asked, &self.languages[..]) {
            (Some(language), _) => Some(language.name()),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// Unit vectors of queries, `[queries, dimension]` flat.
    pub(crate) fn encode_queries<'q>(&self, queries: impl IntoIterator<Item = &'q Asked>) -> Result<Vec<f32>> {
        let ids = queries.into_iter().map(|asked| self.encoder.query_ids(&asked.text())).collect::<Result<Vec<_>>>()?;
        self.encoder.encode_queries(&ids, BATCH_TOKENS)
    }

    /// The best functions for a query.
    pub fn search(&self, query: &Query) -> Result<Vec<Hit>> {
        let asked = Asked::parse(&query.text).without(self.only_language(query.language));
        let language = query.language.map(|language| language.to_string());
        let filter = Filter { language, split: None, repo: query.repo.clone(), path: query.path.clone() };
        let rows = usize::try_from(self.manifest.rows)?;
        let candidates = self.manifest.candidates.max(query.limit).clamp(1, rows.max(1));
        let matching = self.lexical.matching(&asked, &filter)?;
        let allowed = match (&matching, &self.alive) {
            (Some(matching), Some(alive)) => Some(matching.iter().zip(alive).map(|(a, b)| *a && *b).collect::<Vec<bool>>()),
            _ => None,
        };
        let allowed = allowed.as_deref().or(matching.as_deref()).or(self.alive());
        let vector = if query.mode == Mode::Bm25 || asked.is_empty() { Vec::new() } else { self.encode_queries([&asked])? };
        let nearest = if vector.is_empty() { Vec::new() } else { self.vectors.search(&vector, candidates, allowed)? };
        let answers = self.answers(&asked, query.mode, candidates, allowed, self.manifest.lexical.boosts, nearest)?;
        let cosine = |row: u32| if vector.is_empty() { 0.0 } else { self.vectors.score(row, &vector) };
        let plain = |list: &[Scored]| list.iter().map(|&(row, score)| (row, f64::from(score))).collect();
        let mut ranked: Vec<(u32, f64)> = match query.mode {
            Mode::Bm25 => plain(&answers.lexical),
            Mode::Vector => plain(&answers.vector),
            Mode::Hybrid => self.sides(&answers, &cosine, |sides| self.manifest.fusion.fuse(sides)),
        };
        ranked.truncate(query.limit);
        let terms = self.lexical.distinct_terms(&asked.words).into_iter().collect();
        let stem = self.lexical.stemmer();
        let part = |list: &[Scored], row: u32| {
            list.iter().position(|(other, _)| *other == row).map(|place| Part { rank: place + 1, score: list[place].1 })
        };
        let mut parts = match query.mode {
            Mode::Hybrid if query.explain => self.sides(&answers, &cosine, |sides| self.manifest.fusion.parts(sides)),
            _ => HashMap::new(),
        };
        let mut explain = |row: u32| Explanation {
            bm25: part(&answers.lexical, row),
            fields: answers.evidence.get(&row).map(|evidence| self.lexical.field_scores(evidence)).unwrap_or_default(),
            vector: part(&answers.vector, row),
            fusion: if query.mode == Mode::Hybrid { self.manifest.fusion.to_string() } else { "none".to_owned() },
            features: parts.remove(&row).unwrap_or_default(),
        };
        let mut hit = |(row, score): (u32, f64)| {
            let document = self.lexical.document(row)?;
            let [id, repo, path, func_name, url, lines, summary, code] = document.stored;
            let (snippet, explanation) = (snippet(&code, query.snippet_lines, &terms, &stem), query.explain.then(|| explain(row)));
            Ok(Hit { row, score, id, language: document.language, repo, path, func_name, url, lines, summary, code, snippet, explanation })
        };
        ranked.into_iter().map(&mut hit).collect()
    }
}

/// Rows whose ids `tombstones.parquet` does not name; none where it names no row.
fn alive(dir: &Path, lexical: &Lexical) -> Result<Option<Vec<bool>>> {
    let removed = tombstones(dir)?;
    if removed.is_empty() {
        return Ok(None);
    }
    let mut alive = vec![true; usize::try_from(lexical.rows())?];
    for row in lexical.rows_of_ids(&removed)?.into_iter().flatten() {
        *alive.get_mut(row as usize).context("a row beyond the index")? = false;
    }
    Ok(Some(alive))
}

impl Hit {
    /// For people, without control characters that would move a terminal's cursor: place, name, the documentation's first
    /// words and the lines that the query is about, its words in bold where `bold`.
    pub fn render(&self, number: usize, bold: bool) -> String {
        let line = self.lines.split('-').next().unwrap_or_default();
        let mut text = format!("{number:>2}. {} {}:{line}  {}  ({:.3})\n", self.repo, self.path, self.func_name, self.score);
        if let Some(explanation) = &self.explanation {
            text += &format!("    {explanation}\n");
        }
        if !self.summary.is_empty() {
            let summary: String = self.summary.chars().take(100).collect();
            text += &format!("    {summary}\n");
        }
        let mut text: String = text.chars().filter(|&c| c == '\n' || !c.is_control()).collect();
        let (before, after) = if bold { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        for line in &self.snippet {
            text += &format!("    | {}\n", line.marked(before, after));
        }
        text
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |part: Option<Part>| part.map_or("not found".to_owned(), |part| format!("{:.3} (rank {})", part.score, part.rank));
        let fields: Vec<String> = self.fields.iter().map(|(name, score)| format!("{name} {score:.3}")).collect();
        write!(f, "bm25 {} = {}; vector {}; fusion {}", part(self.bm25), fields.join(" + "), part(self.vector), self.fusion)?;
        let features: Vec<String> = self.features.iter().map(|(name, part)| format!("{name} {part:.2}")).collect();
        if features.is_empty() { Ok(()) } else { write!(f, ": {}", features.join(" + ")) }
    }
}

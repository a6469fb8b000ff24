//! An open bundle, and a search in it.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, Result, bail, ensure};
use ledger::{Language, table, words};
use serde::Serialize;

use crate::{
    encoder::{Provider, TextEncoder},
    fusion::Scored,
    index::format::BundleManifest,
    lexical::{Filter, Lexical},
    vectors::Vectors,
};

/// Which side of the index answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Bm25,
    Vector,
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
#[derive(Debug, Clone)]
pub struct Query {
    pub text: String,
    pub language: Option<Language>,
    pub mode: Mode,
    pub limit: usize,
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
}

/// A bundle that is ready to search: everything large is mapped, not read.
pub struct OpenBundle {
    dir: PathBuf,
    manifest: BundleManifest,
    lexical: Lexical,
    vectors: Vectors,
    encoder: TextEncoder,
    /// Language of each row, as an index into `languages`.
    row_languages: Vec<u8>,
    languages: Vec<String>,
}

impl OpenBundle {
    /// Opens a bundle folder with `workers` encoder sessions.
    pub fn open(dir: &Path, provider: Provider, workers: usize) -> Result<Self> {
        let manifest = BundleManifest::read(dir)?;
        let rows = usize::try_from(manifest.rows)?;
        let lexical = Lexical::open(&dir.join("tantivy"), manifest.lexical.boosts)?;
        ensure!(lexical.rows() == manifest.rows, "{}: the lexical index holds {} rows of {rows}", dir.display(), lexical.rows());
        let vectors = Vectors::open(&dir.join("vectors"), rows, manifest.vectors.dimension)?;
        let encoder = TextEncoder::open(&dir.join("encoder"), provider, workers)?;
        ensure!(
            encoder.spec().dimension == manifest.vectors.dimension,
            "{}: the encoder gives {} numbers, the vectors have {}",
            dir.display(),
            encoder.spec().dimension,
            manifest.vectors.dimension
        );
        let languages: Vec<String> = manifest.languages.keys().cloned().collect();
        let mut row_languages = Vec::with_capacity(rows);
        for batch in table::read(&dir.join("docs.parquet"), &["language"])? {
            for language in table::texts(&batch?, "language")?.iter() {
                let place = languages.iter().position(|known| Some(known.as_str()) == language);
                row_languages.push(u8::try_from(place.context("docs.parquet names a language that the manifest does not")?)?);
            }
        }
        ensure!(row_languages.len() == rows, "{}: docs.parquet holds {} rows of {rows}", dir.display(), row_languages.len());
        Ok(Self { dir: dir.to_owned(), manifest, lexical, vectors, encoder, row_languages, languages })
    }

    pub fn manifest(&self) -> &BundleManifest {
        &self.manifest
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn lexical(&self) -> &Lexical {
        &self.lexical
    }

    pub(crate) fn vectors(&self) -> &Vectors {
        &self.vectors
    }

    pub(crate) fn encoder(&self) -> &TextEncoder {
        &self.encoder
    }

    /// The rankings of [`Mode::ALL`] out of those of both sides, best first.
    pub(crate) fn systems(&self, lexical: &[Scored], vectors: &[Scored]) -> [Vec<(u32, f64)>; 3] {
        let plain = |list: &[Scored]| list.iter().map(|&(row, score)| (row, f64::from(score))).collect();
        let best = |list: &[Scored]| list[..list.len().min(self.manifest.candidates)].to_vec();
        [plain(lexical), plain(vectors), self.manifest.fusion.fuse(&best(lexical), &best(vectors))]
    }

    /// The words of a query. Where one language is searched, its name says nothing: it is left out, unless it is all there is.
    pub(crate) fn asked(&self, text: &str, language: Option<Language>) -> String {
        let only = match (language, &self.languages[..]) {
            (Some(language), _) => Some(language.name()),
            (None, [only]) => Some(only.as_str()),
            (None, _) => None,
        };
        let mut words = Vec::new();
        words::subtokens(text, &mut words);
        let telling: Vec<&str> = words.iter().map(String::as_str).filter(|word| Some(*word) != only).collect();
        if telling.is_empty() { words.join(" ") } else { telling.join(" ") }
    }

    /// Unit vectors of queries, `[queries, dimension]` flat.
    pub fn encode_queries(&self, texts: &[&str]) -> Result<Vec<f32>> {
        let ids = texts.iter().map(|text| self.encoder.query_ids(text)).collect::<Result<Vec<_>>>()?;
        self.encoder.encode_queries(&ids, 8192)
    }

    /// Rows and scores, best first.
    pub fn rank(&self, query: &Query) -> Result<Vec<(u32, f64)>> {
        let candidates = self.manifest.candidates.max(query.limit);
        let text = self.asked(&query.text, query.language);
        let lexical = || -> Result<Vec<Scored>> {
            let filter = Filter { language: query.language.map(|language| language.to_string()), split: None };
            Ok(self.lexical.search(&text, &filter, None, candidates)?.into_iter().map(|(scored, _)| scored).collect())
        };
        let vector = || -> Result<Vec<Scored>> {
            let encoded = self.encode_queries(&[&text])?;
            let wanted = query.language.map(|language| self.languages.iter().position(|known| known == language.name()));
            let keep = |row: u32| match wanted {
                None => true,
                Some(place) => place == Some(usize::from(self.row_languages[row as usize])),
            };
            Ok(self.vectors.search(&encoded, candidates, keep))
        };
        let plain = |list: Vec<Scored>| list.into_iter().map(|(row, score)| (row, f64::from(score))).collect();
        let mut ranked: Vec<(u32, f64)> = match query.mode {
            Mode::Bm25 => plain(lexical()?),
            Mode::Vector => plain(vector()?),
            Mode::Hybrid => self.manifest.fusion.fuse(&lexical()?, &vector()?),
        };
        ranked.truncate(query.limit);
        Ok(ranked)
    }

    /// The best functions for a query.
    pub fn search(&self, query: &Query) -> Result<Vec<Hit>> {
        self.rank(query)?
            .into_iter()
            .map(|(row, score)| {
                let document = self.lexical.document(row)?;
                let [id, repo, path, func_name, url, lines, summary, code] = document.stored;
                Ok(Hit { row, score, id, language: document.language, repo, path, func_name, url, lines, summary, code })
            })
            .collect()
    }
}

impl Hit {
    /// For people, without control characters that would move a terminal's cursor: place, name, the documentation's first words and the first lines of the code.
    pub fn render(&self, number: usize) -> String {
        let line = self.lines.split('-').next().unwrap_or_default();
        let mut text = format!("{number:>2}. {} {}:{line}  {}  ({:.3})\n", self.repo, self.path, self.func_name, self.score);
        if !self.summary.is_empty() {
            let summary: String = self.summary.chars().take(100).collect();
            text += &format!("    {summary}\n");
        }
        for line in self.code.lines().filter(|line| !line.trim().is_empty()).take(3) {
            let line: String = line.chars().take(100).collect();
            text += &format!("    | {line}\n");
        }
        text.chars().filter(|&c| c == '\n' || !c.is_control()).collect()
    }
}

//! An open bundle.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

use inference::{BATCH_TOKENS, Provider, TextEncoder};
use ledger::{EncoderSpec, Language};

use crate::{
    BundleManifest, Error, ParsedQuery, Result, checksums,
    groups::Groups,
    guard::guarded,
    lexical::{LEXICAL, Lexical},
    manifest::MANIFEST,
    repositories::Repositories,
    reranking::names::Names,
    tombstones,
    vectors::{VECTORS, Vectors},
};

/// Files for other readers: a bundle without them is not complete.
const REQUIRED: [&str; 1] = ["docs.parquet"];
/// Name of the encoder's folder in a bundle.
const ENCODER: &str = "encoder";

/// A bundle that is ready to search. It can be shared between threads.
#[derive(Debug)]
pub struct Bundle {
    dir: PathBuf,
    manifest: BundleManifest,
    lexical: Lexical,
    vectors: Vectors,
    encoder: LazyEncoder,
    languages: Vec<String>,
    /// None in formats 3 and 4.
    groups: Option<Groups>,
    /// None in formats 3 and 4.
    names: Option<Names>,
    repositories: Repositories,
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
        inference::load_installed()?;
        let encoder = TextEncoder::open(&self.dir, self.provider, self.workers)?;
        Ok(self.encoder.get_or_init(|| encoder))
    }
}

impl Bundle {
    pub(crate) fn open(dir: &Path, provider: Provider, workers: usize) -> Result<Self> {
        let manifest = BundleManifest::read(dir)?;
        let rows = usize::try_from(manifest.rows)?;
        let lexical_dir = dir.join(LEXICAL);
        let lexical = guarded(&lexical_dir, || {
            let lexical = Lexical::open(dir, manifest.lexical.settings())?;
            match manifest.lexical.counts {
                Some(counts) => lexical.with_counts(dir, counts),
                None => Ok(lexical),
            }
        })?;
        for file in REQUIRED {
            if !dir.join(file).is_file() {
                return Err(Error::damaged(dir.join(file), "it does not exist"));
            }
        }
        if lexical.rows() != manifest.rows {
            return Err(Error::damaged(dir.join(LEXICAL), format!("it holds {} rows of {rows}", lexical.rows())));
        }
        let vectors_dir = dir.join(VECTORS);
        let mut vectors = Vectors::open(&vectors_dir, rows, manifest.vectors.dimension)?;
        if let Some(hnsw) = &manifest.vectors.hnsw {
            // usearch maps its files without checks.
            let graphs: Vec<PathBuf> = hnsw.files.iter().map(|file| Path::new(VECTORS).join(&file.name)).collect();
            checksums::verify_once(dir, &graphs)?;
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
        let groups = manifest.aliases.map(|with_aliases| Groups::open(dir, rows, usize::try_from(with_aliases)?)).transpose()?;
        let names = manifest.names.map(|checksums| {
            let fields: Vec<&str> = manifest.lexical.scoring.fields().into_iter().map(|(name, _)| name).collect();
            Names::open(dir, rows, usize::try_from(checksums)?, &fields)
        });
        let names = names.transpose()?;
        let live = tombstones::live_rows(dir, &lexical)?;
        let repositories = Repositories::open(dir)?;
        Ok(Self { dir: dir.to_owned(), manifest, lexical, vectors, encoder, languages, groups, names, repositories, live })
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

    /// Files, repositories, near-duplicates and aliases of the rows; none in formats 3 and 4.
    pub fn groups(&self) -> Option<&Groups> {
        self.groups.as_ref()
    }

    /// Names of the rows; none in formats 3 and 4.
    pub fn names(&self) -> Option<&Names> {
        self.names.as_ref()
    }

    /// Commits, licences and links of the repositories; empty where the bundle is not published.
    pub fn repositories(&self) -> &Repositories {
        &self.repositories
    }

    /// By row: is it not deleted? None where no row is deleted.
    pub fn live_rows(&self) -> Option<&[bool]> {
        self.live.as_deref()
    }

    /// A text as words only, as evaluation searches the whole bundle.
    pub fn parse_words(&self, text: &str) -> ParsedQuery {
        ParsedQuery::words_of(text).without(self.only_language(None))
    }

    /// The language of every function that a search can find, if there is only one: its name in a query does not tell rows apart.
    pub(crate) fn only_language(&self, filter: Option<Language>) -> Option<&str> {
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

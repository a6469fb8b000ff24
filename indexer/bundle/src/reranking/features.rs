//! Features of a candidate: numbers from 0 to about 1 that compare its names, its file and its scores with the query.

use std::collections::HashMap;

use super::{
    names::{NamePart, Names, kind},
    query::QueryNames,
};
use crate::{
    groups::{Group, Groups},
    lexical::{Part, QueryStats, TermScores},
    ranking::Scored,
};

/// Names, in the order of the numbers.
pub const FEATURES: [&str; BASE + PRODUCTS.len()] = [
    // fused score, scaled to 0..1 over the candidates
    "score",
    // BM25 / largest of the list; cosine, scaled to 0..1 over the list; product of both, for a row that both lists have
    "bm25",
    "cosine",
    "agreement",
    // share of the query's idf that the row has in any field, in its path, in its code
    "covered",
    "path-covered",
    "code-covered",
    // of name, class and file name: share of its words that the query has; share of the query's idf that it has; 1 if it is an identifier
    // of the query or two or three neighbouring words
    "name-words",
    "name-query",
    "name-joined",
    "class-words",
    "class-query",
    "class-joined",
    "file-words",
    "file-query",
    "file-joined",
    // share of the query's idf that the folders have
    "folders-query",
    // sum of the scores of all candidates of the file (of the class), the i-th best times 0.8^i; by the largest sum
    "file-sum",
    "class-sum",
    // 1 for the best candidate of the file
    "file-best",
    // share of the query's idf that the candidates of the file have together
    "file-covered",
    // 1 for a function of this kind, unless the query has a word for the kind
    "test",
    "example",
    "generated",
    "vendored",
    "private",
    // ln(1 + words of the code) / 8
    "length",
    // times the concentration of the candidates: the sum over repositories of (share of the candidates)^2, 1 for one repository
    "bm25-concentrated",
    "cosine-concentrated",
    "covered-concentrated",
    "path-covered-concentrated",
    "code-covered-concentrated",
    "name-words-concentrated",
    "class-words-concentrated",
    "file-words-concentrated",
    "file-sum-concentrated",
    "class-sum-concentrated",
    "file-best-concentrated",
    "file-covered-concentrated",
    "length-concentrated",
];

/// Number of features that are no products.
const BASE: usize = 27;
/// Features whose products with the concentration are features too, in their order.
const PRODUCTS: [&str; 13] = [
    "bm25",
    "cosine",
    "covered",
    "path-covered",
    "code-covered",
    "name-words",
    "class-words",
    "file-words",
    "file-sum",
    "class-sum",
    "file-best",
    "file-covered",
    "length",
];

/// The features in words, for `schema.md` of a bundle.
pub const FEATURES_EXPLAINED: &str = "\
- `score`: the fused score, scaled to 0..1 over the candidates. `bm25`: by the largest of the list. `cosine`: scaled to 0..1 over the list, 0
  outside of it. `agreement`: `bm25 * cosine`.
- `covered`, `path-covered`, `code-covered`: sum of idf of the terms it has in any field searched; in `file`; in `signature`, `code`,
  `comments` or `strings`; by the sum of idf of the words, and at most 1.
- `name-...`, `class-...`, `file-...`: `words` is the share of its terms that the query has, `query` the share of the query's idf that it has,
  `joined` is 1 if all its words joined are a token of the query, or two or three neighbouring words of it, joined; `words` is then 1, and
  `query` at least the share of these words. `folders-query`: the same for the folders.
- `file-sum`, `class-sum`: the sum of `score` over the candidates of the file (of the class in the file), the i-th best times 0.8^i, from 0;
  by the largest sum. `file-best`: 1 for the first candidate of its file. `file-covered`: the sum of idf of the words that any candidate of
  the file has, by the sum of idf of the words (of the first 64).
- `test`, `example`, `generated`, `vendored`, `private`: 1 if `kinds.npy` has bit 1, 2, 4, 8, 16, unless the query has a word for it.
- `length`: `ln(1 + words of the code) / 8`.
- `...-concentrated`: times the sum over repositories of the square of the share of the candidates that they have.
";

/// What the next best candidate of a group adds to its sum, relative to the one before.
const DECAY: f64 = 0.8;

/// The candidates of a query and what is known about them.
pub struct Candidates<'a> {
    /// Rows with their fused score, best first.
    pub fused: &'a [(u32, f64)],
    pub lexical: &'a [Scored],
    pub vector: &'a [Scored],
    pub stats: QueryStats,
    /// The scored words and their idf.
    pub words: &'a [(String, f32)],
    /// Scores of a row by the words of the query.
    pub term_scores: &'a dyn Fn(u32) -> TermScores,
    pub names: &'a Names,
    pub groups: &'a Groups,
    pub query: &'a QueryNames,
}

/// The features of the fused candidates, in their order.
pub fn features(candidates: &Candidates<'_>) -> Vec<[f64; FEATURES.len()]> {
    let scores = scaled(candidates.fused);
    let best_bm25 = candidates.lexical.first().map_or(0.0, |(_, score)| f64::from(*score));
    let vector: Vec<(u32, f64)> = candidates.vector.iter().map(|&(row, score)| (row, f64::from(score))).collect();
    let cosines: HashMap<u32, f64> = vector.iter().map(|(row, _)| *row).zip(scaled(&vector)).collect();
    let idf = f64::from(candidates.stats.idf);
    let files = Sums::of(candidates, &scores, |row| u64::from(candidates.groups.of(row, Group::File)));
    let classes = Sums::of(candidates, &scores, |row| class_of(candidates, row));
    let of_files = OfFiles::of(candidates);
    let concentration = candidates.groups.concentration(candidates.fused);
    let products: Vec<usize> = PRODUCTS.iter().filter_map(|name| FEATURES.iter().position(|feature| feature == name)).collect();
    candidates
        .fused
        .iter()
        .zip(&scores)
        .enumerate()
        .map(|(index, (&(row, _), &score))| {
            let terms = (candidates.term_scores)(row);
            let bm25 = ratio(f64::from(terms.score), best_bm25);
            let cosine = cosines.get(&row).copied().unwrap_or_default();
            let covered = |idf_of_row: f32| ratio(f64::from(idf_of_row), idf).min(1.0);
            let [name, class] = [NamePart::Name, NamePart::Class].map(|part| name_features(candidates, row, part));
            let OfFile { file, folders, words } = of_files.of_row(candidates, row);
            let kinds = candidates.names.kind(row);
            let is = |bit: u8| f64::from(u8::from(kinds & bit != 0 && !candidates.query.has_word_for(bit)));
            let length = f64::from(candidates.names.code_length(row)).ln_1p() / 8.0;
            let base: [f64; BASE] = [
                score,
                bm25,
                cosine,
                bm25 * cosine,
                covered(terms.covered),
                covered(terms.parts[Part::Path as usize]),
                covered(terms.parts[Part::Code as usize]),
                name[0],
                name[1],
                name[2],
                class[0],
                class[1],
                class[2],
                file[0],
                file[1],
                file[2],
                folders[1],
                files.share[index],
                classes.share[index],
                f64::from(u8::from(files.is_first[index])),
                covered(words),
                is(kind::TEST),
                is(kind::EXAMPLE),
                is(kind::GENERATED),
                is(kind::VENDORED),
                is(kind::PRIVATE),
                length,
            ];
            std::array::from_fn(|feature| base.get(feature).copied().unwrap_or_else(|| base[products[feature - BASE]] * concentration))
        })
        .collect()
}

/// What the candidates of a file share.
#[derive(Clone, Copy, Default)]
struct OfFile {
    /// [`name_features`] of file name and folders.
    file: [f64; 3],
    folders: [f64; 3],
    /// Sum of the idf of the words that any of them has.
    words: f32,
}

/// Numbers by file: a few files have most of the candidates.
struct OfFiles(HashMap<u32, OfFile>);

impl OfFiles {
    fn of(candidates: &Candidates<'_>) -> Self {
        let mut words: HashMap<u32, u64> = HashMap::new();
        for (row, _) in candidates.fused {
            *words.entry(candidates.groups.of(*row, Group::File)).or_default() |= (candidates.term_scores)(*row).words;
        }
        let idf = |bits: u64| {
            let words = candidates.words.iter().take(64).enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
            words.map(|(_, (_, idf))| idf).sum()
        };
        // The number of a file is its first row, which has the same path.
        let part = |file, part| name_features(candidates, file, part);
        let of_file =
            |(file, bits)| (file, OfFile { file: part(file, NamePart::File), folders: part(file, NamePart::Folders), words: idf(bits) });
        Self(words.into_iter().map(of_file).collect())
    }

    fn of_row(&self, candidates: &Candidates<'_>, row: u32) -> OfFile {
        self.0.get(&candidates.groups.of(row, Group::File)).copied().unwrap_or_default()
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Scores scaled to 0..1; 1 where all are equal.
fn scaled(ranked: &[(u32, f64)]) -> Vec<f64> {
    let (low, high) = ranked.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, score)| (low.min(*score), high.max(*score)));
    ranked.iter().map(|(_, score)| if high > low { (score - low) / (high - low) } else { 1.0 }).collect()
}

/// The file of a row, and its class in the file.
fn class_of(candidates: &Candidates<'_>, row: u32) -> u64 {
    let class = candidates.names.part(row, NamePart::Class).joined();
    u64::from(candidates.groups.of(row, Group::File)) << 32 | u64::from(class)
}

/// Sums of scores by group.
struct Sums {
    /// Of each candidate's group, by the largest sum.
    share: Vec<f64>,
    /// Is the candidate the first one of its group?
    is_first: Vec<bool>,
}

impl Sums {
    fn of(candidates: &Candidates<'_>, scores: &[f64], group_of: impl Fn(u32) -> u64) -> Self {
        let groups: Vec<u64> = candidates.fused.iter().map(|(row, _)| group_of(*row)).collect();
        let mut sums: HashMap<u64, (f64, f64)> = HashMap::new();
        let mut is_first = Vec::with_capacity(groups.len());
        for (group, score) in groups.iter().zip(scores) {
            let (sum, factor) = sums.entry(*group).or_insert((0.0, 1.0));
            is_first.push(*factor == 1.0);
            *sum += score * *factor;
            *factor *= DECAY;
        }
        let largest = sums.values().fold(0.0, |largest: f64, (sum, _)| largest.max(*sum));
        Self { share: groups.iter().map(|group| ratio(sums[group].0, largest)).collect(), is_first }
    }
}

/// Of a part of a row's name: the share of its terms that the query has, the share of the query's idf that it has, and 1 if the query has it
/// as a whole.
fn name_features(candidates: &Candidates<'_>, row: u32, part: NamePart) -> [f64; 3] {
    let (query, name) = (candidates.query, candidates.names.part(row, part));
    if name.is_empty() {
        return [0.0; 3];
    }
    let joined = query.joined(name.joined());
    let (mut found, mut idf) = (0, 0.0);
    let count = name.terms().len();
    let mut seen = Vec::new();
    for term in name.terms() {
        let own = query.idf(term);
        if own > 0.0 {
            found += 1;
            if !seen.contains(&term) {
                seen.push(term);
                idf += own;
            }
        }
    }
    let words = if joined.is_some() { 1.0 } else { f64::from(found) / count.max(1) as f64 };
    [words, ratio(joined.unwrap_or_default().max(idf), query.total()).min(1.0), f64::from(u8::from(joined.is_some()))]
}

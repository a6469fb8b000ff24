//! The lexical side: a tantivy index whose text fields hold words joined by spaces; `write` makes it.
//!
//! Words are cut at build time (`ledger::words`), so the fields use a built-in tokenizer of tantivy's (`whitespace`, or
//! `en_stem`, which makes `parsing` and `parsed` one word) and `tantivy-py` queries them without any of our code.
//!
//! Bytes: tantivy names segments at random and orders documents by thread. Here every segment is
//! written by its own single-threaded writer over a fixed range of rows, then renamed after its
//! content and listed in `meta.json` in row order: equal inputs give equal bytes on any thread count.

mod write;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tantivy::{
    Index, IndexReader, ReloadPolicy, Searcher, TantivyDocument, Term,
    collector::{DocSetCollector, TopDocs},
    query::{BooleanQuery, BoostQuery, ConstScoreQuery, Occur, PhraseQuery, Query, RegexQuery, TermQuery},
    schema::{FAST, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions, Value},
    tokenizer::TextAnalyzer,
};

use crate::{asked::Asked, fusion::Scored};
pub use write::{SegmentWriter, assemble, check};

/// Text fields, in the order of [`Boosts::list`].
pub const TEXT_FIELDS: [&str; 5] = ["name", "signature", "file", "code", "documentation"];
/// Kept in the document store, for showing a hit; those of [`EXACT_FIELDS`] can also be asked for as they are.
const STORED_FIELDS: [&str; 8] = ["id", "repo", "path", "func_name", "url", "lines", "summary", "source"];
const EXACT_FIELDS: [&str; 3] = ["id", "repo", "path"];

/// Weight of each text field's BM25 score; 0 leaves a field out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Boosts {
    pub name: f64,
    #[serde(default)]
    pub signature: f64,
    /// Folders and file of the path.
    #[serde(default)]
    pub file: f64,
    pub code: f64,
    pub documentation: f64,
}

impl Boosts {
    pub fn list(self) -> [f64; TEXT_FIELDS.len()] {
        [self.name, self.signature, self.file, self.code, self.documentation]
    }
}

/// A function as the lexical index knows it.
#[derive(Debug, Default, Clone)]
pub struct Document {
    pub row: u64,
    pub language: String,
    pub split: String,
    /// In the order of `STORED_FIELDS`.
    pub stored: [String; 8],
    /// Words of [`TEXT_FIELDS`].
    pub words: [String; TEXT_FIELDS.len()],
}

/// Narrows a search; an empty filter is none.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Filter {
    pub language: Option<String>,
    pub split: Option<String>,
    /// The repository's name.
    pub repo: Option<String>,
    /// A glob over the whole path: `*` and `?` stop at `/`, `**` does not.
    pub path: Option<String>,
}

/// The built-in tokenizer of the text fields.
pub fn tokenizer(stemming: bool) -> &'static str {
    if stemming { "en_stem" } else { "whitespace" }
}

fn schema(tokenizer: &str) -> Schema {
    let mut builder = Schema::builder();
    builder.add_u64_field("row", FAST | INDEXED | STORED);
    builder.add_text_field("language", STRING | STORED);
    builder.add_text_field("split", STRING);
    for name in STORED_FIELDS {
        if EXACT_FIELDS.contains(&name) {
            builder.add_text_field(name, STRING | STORED);
        } else {
            builder.add_text_field(name, STORED);
        }
    }
    let indexing = TextFieldIndexing::default().set_tokenizer(tokenizer).set_index_option(IndexRecordOption::WithFreqsAndPositions);
    for name in TEXT_FIELDS {
        builder.add_text_field(name, TextOptions::default().set_indexing_options(indexing.clone()));
    }
    builder.build()
}

/// What most likely fails.
const OLD: &str = "searching (phrases, repositories and paths need a bundle of format 3: build it again)";

/// An open lexical index.
pub struct Lexical {
    searcher: Searcher,
    schema: Schema,
    /// Those of [`TEXT_FIELDS`] that it has: one of format 2 has fewer.
    text_fields: Vec<(usize, Field)>,
    boosts: Boosts,
    analyzer: TextAnalyzer,
}

impl Lexical {
    pub fn open(dir: &Path, boosts: Boosts) -> Result<Self> {
        let index = Index::open_in_dir(dir).with_context(|| format!("opening {}", dir.display()))?;
        let schema = index.schema();
        let text_fields: Vec<(usize, Field)> =
            TEXT_FIELDS.iter().enumerate().filter_map(|(place, name)| Some((place, schema.get_field(name).ok()?))).collect();
        let (_, first) = text_fields.first().with_context(|| format!("{} has no text fields", dir.display()))?;
        let analyzer = index.tokenizer_for_field(*first)?;
        let reader: IndexReader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok(Self { searcher: reader.searcher(), schema, text_fields, boosts, analyzer })
    }

    pub fn rows(&self) -> u64 {
        self.searcher.num_docs()
    }

    /// The terms of words, as the fields hold them.
    fn terms(&self, words: &[String]) -> Vec<String> {
        let mut analyzer = self.analyzer.clone();
        let mut terms = Vec::with_capacity(words.len());
        analyzer.token_stream(&words.join(" ")).process(&mut |token| terms.push(token.text.clone()));
        terms
    }

    /// The distinct terms of words.
    pub fn distinct_terms(&self, words: &[String]) -> Vec<String> {
        let mut terms = self.terms(words);
        terms.sort();
        terms.dedup();
        terms
    }

    /// What turns a word into its term; none for a word that the index leaves out.
    pub fn stemmer(&self) -> impl Fn(&str) -> Option<String> + '_ {
        let analyzer = std::cell::RefCell::new(self.analyzer.clone());
        move |word| {
            let mut term = None;
            analyzer.borrow_mut().token_stream(word).process(&mut |token| term = Some(token.text.clone()));
            term
        }
    }

    /// BM25 of terms summed over the text fields, each by its boost.
    fn scoring(&self, terms: &[String], boosts: Boosts) -> BooleanQuery {
        let mut should: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        for &(place, field) in &self.text_fields {
            let boost = boosts.list()[place];
            if boost > 0.0 {
                for term in terms {
                    let term = TermQuery::new(Term::from_field_text(field, term), IndexRecordOption::WithFreqs);
                    should.push((Occur::Should, Box::new(BoostQuery::new(Box::new(term), boost as f32))));
                }
            }
        }
        BooleanQuery::new(should)
    }

    /// What a result must be or hold, whatever it scores.
    fn requirements(&self, asked: &Asked, filter: &Filter) -> Result<Vec<Box<dyn Query>>> {
        let mut must: Vec<Box<dyn Query>> = Vec::new();
        for (name, value) in [("language", &filter.language), ("split", &filter.split), ("repo", &filter.repo)] {
            if let Some(value) = value {
                must.push(Box::new(TermQuery::new(Term::from_field_text(self.schema.get_field(name)?, value), IndexRecordOption::Basic)));
            }
        }
        if let Some(glob) = &filter.path {
            let pattern = RegexQuery::from_pattern(&glob_pattern(glob), self.schema.get_field("path")?);
            must.push(Box::new(pattern.with_context(|| format!("the path {glob:?} is no glob"))?));
        }
        let any = |of: &dyn Fn(Field) -> Result<Box<dyn Query>>| -> Result<Box<dyn Query>> {
            let should = self.text_fields.iter().map(|&(_, field)| Ok((Occur::Should, of(field)?))).collect::<Result<_>>()?;
            Ok(Box::new(BooleanQuery::new(should)))
        };
        for phrase in &asked.phrases {
            let terms = self.terms(phrase);
            must.push(any(&|field| {
                let terms: Vec<Term> = terms.iter().map(|term| Term::from_field_text(field, term)).collect();
                Ok(match &terms[..] {
                    [one] => Box::new(TermQuery::new(one.clone(), IndexRecordOption::Basic)),
                    _ => Box::new(PhraseQuery::new(terms)),
                })
            })?);
        }
        for prefix in &asked.prefixes {
            // `parse` is `pars` in the index.
            let stem = self.terms(std::slice::from_ref(prefix)).pop().unwrap_or_else(|| prefix.clone());
            let pattern = format!("{prefix}.*|{stem}");
            must.push(any(&|field| Ok(Box::new(RegexQuery::from_pattern(&pattern, field)?)))?);
        }
        Ok(must)
    }

    /// BM25 (k1 1.2, b 0.75) summed over the distinct terms of the query and the fields, each field by its boost; where
    /// no word of the query scores, all that is required with a score of 0. Best first, equal scores by row.
    pub fn search(&self, asked: &Asked, filter: &Filter, boosts: Option<Boosts>, limit: usize) -> Result<Vec<Scored>> {
        let terms = self.distinct_terms(&asked.words);
        let required = self.requirements(asked, filter)?;
        if limit == 0 || terms.is_empty() && required.is_empty() {
            return Ok(Vec::new());
        }
        let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        clauses.push((
            if asked.requires() { Occur::Should } else { Occur::Must },
            Box::new(self.scoring(&terms, boosts.unwrap_or(self.boosts))),
        ));
        clauses.extend(required.into_iter().map(|query| (Occur::Must, Box::new(ConstScoreQuery::new(query, 0.0)) as Box<dyn Query>)));
        let found = self.searcher.search(&BooleanQuery::new(clauses), &TopDocs::with_limit(limit).order_by_score()).context(OLD)?;
        let columns = self.row_columns()?;
        let mut rows = Vec::with_capacity(found.len());
        for (score, address) in found {
            let row = columns[address.segment_ord as usize].first(address.doc_id).context("a document without row")?;
            rows.push((u32::try_from(row)?, score));
        }
        rows.sort_by(crate::vectors::best_first);
        Ok(rows)
    }

    fn row_columns(&self) -> Result<Vec<tantivy::columnar::Column<u64>>> {
        Ok(self.searcher.segment_readers().iter().map(|segment| segment.fast_fields().u64("row")).collect::<tantivy::Result<_>>()?)
    }

    /// Which rows have what is required; none where nothing is.
    pub fn matching(&self, asked: &Asked, filter: &Filter) -> Result<Option<Vec<bool>>> {
        let required = self.requirements(asked, filter)?;
        if required.is_empty() {
            return Ok(None);
        }
        let query = BooleanQuery::new(required.into_iter().map(|query| (Occur::Must, query)).collect());
        let columns = self.row_columns()?;
        let mut rows = vec![false; usize::try_from(self.rows())?];
        for address in self.searcher.search(&query, &DocSetCollector).context(OLD)? {
            let row = columns[address.segment_ord as usize].first(address.doc_id).context("a document without row")?;
            *rows.get_mut(usize::try_from(row)?).context("a row beyond the index")? = true;
        }
        Ok(Some(rows))
    }

    /// What each text field adds to the score of a row.
    pub fn field_scores(&self, asked: &Asked, row: u32) -> Result<BTreeMap<&'static str, f32>> {
        let terms = self.distinct_terms(&asked.words);
        let mut scores = BTreeMap::new();
        let boosts = self.boosts.list();
        for &(place, _) in self.text_fields.iter().filter(|(place, _)| boosts[*place] > 0.0) {
            let mut own = [0.0; TEXT_FIELDS.len()];
            own[place] = boosts[place];
            let [name, signature, file, code, documentation] = own;
            let scoring = self.scoring(&terms, Boosts { name, signature, file, code, documentation });
            let clauses: Vec<(Occur, Box<dyn Query>)> =
                vec![(Occur::Must, Box::new(scoring)), (Occur::Must, Box::new(ConstScoreQuery::new(Box::new(self.row_term(row)?), 0.0)))];
            if let Some((score, _)) = self.searcher.search(&BooleanQuery::new(clauses), &TopDocs::with_limit(1).order_by_score())?.first() {
                scores.insert(TEXT_FIELDS[place], *score);
            }
        }
        Ok(scores)
    }

    fn row_term(&self, row: u32) -> Result<TermQuery> {
        Ok(TermQuery::new(Term::from_field_u64(self.schema.get_field("row")?, u64::from(row)), IndexRecordOption::Basic))
    }

    /// The stored document of a row.
    pub fn document(&self, row: u32) -> Result<Document> {
        let found = self.searcher.search(&self.row_term(row)?, &TopDocs::with_limit(1).order_by_score())?;
        let (_, address) = found.first().with_context(|| format!("row {row} is not in the index"))?;
        let stored: TantivyDocument = self.searcher.doc(*address)?;
        let text = |name: &str| -> Result<String> {
            Ok(stored.get_first(self.schema.get_field(name)?).and_then(|value| value.as_str()).unwrap_or_default().to_owned())
        };
        let mut document = Document { row: u64::from(row), language: text("language")?, ..Document::default() };
        for (slot, name) in document.stored.iter_mut().zip(STORED_FIELDS) {
            *slot = text(name)?;
        }
        Ok(document)
    }
}

/// A glob as the pattern of a regular expression over the whole text.
fn glob_pattern(glob: &str) -> String {
    let mut pattern = String::new();
    let mut rest = glob.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.peek() == Some(&'*') => {
                rest.next();
                pattern += ".*";
            }
            '*' => pattern += "[^/]*",
            '?' => pattern += "[^/]",
            c if c.is_alphanumeric() || c == '/' || c == '_' => pattern.push(c),
            c => {
                pattern.push('\\');
                pattern.push(c);
            }
        }
    }
    pattern
}

#[cfg(test)]
mod tests;

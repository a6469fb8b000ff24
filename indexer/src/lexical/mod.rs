//! The lexical side: a tantivy index whose text fields hold words joined by spaces; `write` makes it.
//!
//! Words are cut at build time (`ledger::words`), so the fields use a built-in tokenizer of tantivy's (`whitespace`, or
//! `en_stem`, which makes `parsing` and `parsed` one word) and `tantivy-py` queries them without any of our code.
//!
//! Bytes: tantivy names segments at random and orders documents by thread. Here every segment is
//! written by its own single-threaded writer over a fixed range of rows, then renamed after its
//! content and listed in `meta.json` in row order: equal inputs give equal bytes on any thread count.

mod bm25;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tantivy::{
    DocAddress, Index, IndexReader, ReloadPolicy, Searcher, TantivyDocument, Term,
    collector::DocSetCollector,
    query::{BooleanQuery, Occur, PhraseQuery, Query, RegexQuery, TermQuery},
    schema::{FAST, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions, Value},
    tokenizer::TextAnalyzer,
};

use crate::asked::Asked;
pub use bm25::{Bm25, Evidence, Found, Weights};
use bm25::{Scorer, TextField, row_of};
pub use write::{SegmentWriter, assemble, check, tantivy_document};

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

pub fn schema(tokenizer: &str) -> Schema {
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

/// How an index is searched.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub bm25: Bm25,
    pub boosts: Boosts,
    /// Words that are left out of a query, unless it has no others.
    pub stop_words: BTreeSet<String>,
}

/// An open lexical index.
pub struct Lexical {
    searcher: Searcher,
    schema: Schema,
    text_fields: Vec<TextField>,
    settings: Settings,
    analyzer: TextAnalyzer,
    /// First row of each segment.
    starts: Vec<u32>,
}

impl Lexical {
    pub fn open(dir: &Path, settings: Settings) -> Result<Self> {
        let index = Index::open_in_dir(dir).with_context(|| format!("opening {}", dir.display()))?;
        let schema = index.schema();
        let reader: IndexReader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let searcher = reader.searcher();
        let mut text_fields = Vec::new();
        for (place, name) in TEXT_FIELDS.iter().enumerate() {
            let field = schema.get_field(name).with_context(|| format!("{} has no field `{name}`", dir.display()))?;
            text_fields.push(TextField::open(&searcher, place, field, settings.bm25)?);
        }
        let analyzer = index.tokenizer_for_field(text_fields[0].field)?;
        let (mut starts, mut next) = (Vec::new(), 0);
        for segment in searcher.segment_readers() {
            let rows = segment.fast_fields().u64("row")?;
            let last = segment.max_doc().checked_sub(1).with_context(|| format!("{}: a segment is empty", dir.display()))?;
            let (start, end) = (row_of(&rows, 0)?, row_of(&rows, last)?);
            ensure!(start == next && end.checked_sub(start) == Some(last), "{}: the rows of a segment are not consecutive", dir.display());
            next = end + 1;
            starts.push(start);
        }
        Ok(Self { searcher, schema, text_fields, settings, analyzer, starts })
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

    /// The terms that a query is scored by.
    fn scored_terms(&self, asked: &Asked) -> Vec<String> {
        let telling: Vec<String> = asked.words.iter().filter(|word| !self.settings.stop_words.contains(*word)).cloned().collect();
        self.distinct_terms(if telling.is_empty() { &asked.words } else { &telling })
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
            let should = self.text_fields.iter().map(|field| Ok((Occur::Should, of(field.field)?))).collect::<Result<_>>()?;
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

    /// BM25 summed over the distinct terms of the query and the fields, each field by its boost, of the rows that `allowed` has
    /// (none: all); where something is required of a result, those that have no word of the query too, with a score of 0. Best
    /// first, equal scores by row; with evidence of these rows and of `besides`, which are sorted.
    pub fn search(
        &self,
        asked: &Asked,
        allowed: Option<&[bool]>,
        boosts: Boosts,
        limit: usize,
        besides: &[u32],
    ) -> Result<(Found, Weights)> {
        let scorer = Scorer::new(&self.searcher, &self.text_fields, &self.scored_terms(asked), boosts, self.settings.bm25)?;
        let limit = limit.min(usize::try_from(self.rows())?);
        let found = scorer.search(
            limit,
            |row| allowed.is_none_or(|rows| rows.get(row as usize).is_some_and(|kept| *kept)),
            asked.requires(),
            besides,
        )?;
        Ok((found, scorer.weights))
    }

    /// Which rows have what is required; none where nothing is.
    pub fn matching(&self, asked: &Asked, filter: &Filter) -> Result<Option<Vec<bool>>> {
        let required = self.requirements(asked, filter)?;
        if required.is_empty() {
            return Ok(None);
        }
        let query = BooleanQuery::new(required.into_iter().map(|query| (Occur::Must, query)).collect());
        let mut rows = vec![false; usize::try_from(self.rows())?];
        for address in self.searcher.search(&query, &DocSetCollector)? {
            let row = self.starts[address.segment_ord as usize] + address.doc_id;
            *rows.get_mut(row as usize).context("a row beyond the index")? = true;
        }
        Ok(Some(rows))
    }

    /// The row of each id; none for one that is not in the index.
    pub fn rows_of_ids(&self, ids: &[String]) -> Result<Vec<Option<u32>>> {
        let field = self.schema.get_field("id")?;
        ids.iter()
            .map(|id| {
                let query = TermQuery::new(Term::from_field_text(field, id), IndexRecordOption::Basic);
                let found = self.searcher.search(&query, &DocSetCollector)?.into_iter().next();
                Ok(found.map(|address| self.starts[address.segment_ord as usize] + address.doc_id))
            })
            .collect()
    }

    /// What each text field that is searched adds to the score of a row.
    pub fn field_scores(&self, evidence: &Evidence) -> BTreeMap<&'static str, f32> {
        let boosts = self.settings.boosts.list();
        let fields = self.text_fields.iter().map(|field| field.place).filter(|&place| boosts[place] > 0.0 && evidence.fields[place] > 0.0);
        fields.map(|place| (TEXT_FIELDS[place], evidence.fields[place])).collect()
    }

    /// The stored document of a row.
    pub fn document(&self, row: u32) -> Result<Document> {
        let segment = self.starts.partition_point(|&start| start <= row).checked_sub(1).filter(|_| u64::from(row) < self.rows());
        let segment = segment.with_context(|| format!("row {row} is not in the index"))?;
        let address = DocAddress::new(u32::try_from(segment)?, row - self.starts[segment]);
        let stored: TantivyDocument = self.searcher.doc(address)?;
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

//! Lexical search: a tantivy index whose text fields hold words joined by spaces.
//!
//! Words are split when a bundle is built (`ledger::words`), so the fields use one of tantivy's built-in tokenizers (`whitespace`, or
//! `en_stem`, which reduces `parsing` and `parsed` to one term), and `tantivy-py` can query them without this crate.

mod bm25;
mod fields;

use std::{collections::BTreeMap, path::Path};

use tantivy::{
    DocAddress, DocSet, Index, IndexReader, ReloadPolicy, Searcher, TERMINATED, TantivyDocument, Term,
    collector::DocSetCollector,
    query::{BooleanQuery, Occur, PhraseQuery, Query, RegexQuery, TermQuery},
    schema::{Field, IndexRecordOption, Schema, Value},
    tokenizer::TextAnalyzer,
};

use self::bm25::{Scorer, TextField, row_of};
pub use self::{
    bm25::{LexicalList, QueryStats, TermScores},
    fields::{Bm25, Boosts, Document, Filter, LexicalSettings, STORED_FIELDS, TEXT_FIELDS, schema, tokenizer},
};
use crate::{Error, ParsedQuery, Result, error::Context, paths::PathGlob};

/// Name of the folder in a bundle.
pub const LEXICAL: &str = "tantivy";

/// An open lexical index.
pub struct Lexical {
    searcher: Searcher,
    schema: Schema,
    text_fields: Vec<TextField>,
    settings: LexicalSettings,
    analyzer: TextAnalyzer,
    /// First row of each segment.
    starts: Vec<u32>,
}

impl std::fmt::Debug for Lexical {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lexical").field("rows", &self.rows()).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Lexical {
    /// Opens the index in a folder.
    ///
    /// # Errors
    /// [`Error::Damaged`] where a field is missing or the rows of the segments are not consecutive.
    pub fn open(dir: &Path, settings: LexicalSettings) -> Result<Self> {
        let index = Index::open_in_dir(dir).with_context(|| format!("opening {}", dir.display()))?;
        let schema = index.schema();
        let reader: IndexReader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let searcher = reader.searcher();
        let mut text_fields = Vec::new();
        for (position, name) in TEXT_FIELDS.iter().enumerate() {
            let field = schema.get_field(name).map_err(|error| Error::damaged(dir, error))?;
            text_fields.push(TextField::open(&searcher, position, field, settings.bm25)?);
        }
        let analyzer = index.tokenizer_for_field(text_fields[0].field)?;
        let (mut starts, mut next) = (Vec::new(), 0);
        for segment in searcher.segment_readers() {
            let rows = segment.fast_fields().u64("row")?;
            let last = segment.max_doc().checked_sub(1).ok_or_else(|| Error::damaged(dir, "a segment is empty"))?;
            let (start, end) = (row_of(&rows, 0)?, row_of(&rows, last)?);
            if start != next || end.checked_sub(start) != Some(last) {
                return Err(Error::damaged(dir, "the rows of a segment are not consecutive"));
            }
            next = end.checked_add(1).ok_or_else(|| Error::damaged(dir, "it holds too many rows"))?;
            starts.push(start);
        }
        Ok(Self { searcher, schema, text_fields, settings, analyzer, starts })
    }

    /// Number of functions.
    pub fn rows(&self) -> u64 {
        self.searcher.num_docs()
    }

    /// How the index is searched.
    pub fn settings(&self) -> &LexicalSettings {
        &self.settings
    }

    /// The terms of words, as the fields hold them.
    fn terms(&self, words: &[String]) -> Vec<String> {
        let mut analyzer = self.analyzer.clone();
        let mut terms = Vec::with_capacity(words.len());
        analyzer.token_stream(&words.join(" ")).process(&mut |token| terms.push(token.text.clone()));
        terms
    }

    /// The distinct terms of words, sorted.
    pub fn distinct_terms(&self, words: &[String]) -> Vec<String> {
        let mut terms = self.terms(words);
        terms.sort();
        terms.dedup();
        terms
    }

    /// A function from a word to its term; none for a word that the index leaves out.
    pub fn stemmer(&self) -> impl Fn(&str) -> Option<String> + '_ {
        let analyzer = std::cell::RefCell::new(self.analyzer.clone());
        move |word| {
            let mut term = None;
            analyzer.borrow_mut().token_stream(word).process(&mut |token| term = Some(token.text.clone()));
            term
        }
    }

    /// The distinct terms of a query that are scored: without stop words, unless the query has only stop words.
    fn scored_terms(&self, query: &ParsedQuery) -> Vec<String> {
        let words: Vec<String> = query.words.iter().filter(|word| !self.settings.stop_words.contains(*word)).cloned().collect();
        self.distinct_terms(if words.is_empty() { &query.words } else { &words })
    }

    /// Searches with BM25: the sum over the distinct terms of the query and the text fields, each field times its boost.
    ///
    /// `allowed` has one flag a row (none: all rows); a query with phrases or prefixes also finds allowed rows that score 0. Returns
    /// the best `limit` rows, and the scores by term of these rows and of `others` (sorted row numbers).
    pub fn search(
        &self,
        query: &ParsedQuery,
        allowed: Option<&[bool]>,
        boosts: Boosts,
        limit: usize,
        others: &[u32],
    ) -> Result<(LexicalList, QueryStats)> {
        let scorer = Scorer::new(&self.searcher, &self.text_fields, &self.scored_terms(query), boosts, self.settings.bm25)?;
        let limit = limit.min(usize::try_from(self.rows())?);
        let found = scorer.search(
            limit,
            |row| allowed.is_none_or(|rows| rows.get(row as usize).is_some_and(|is_allowed| *is_allowed)),
            query.has_conditions(),
            others,
        )?;
        Ok((found, scorer.stats))
    }

    /// By row: does the row meet the filter and the query's phrases and prefixes? None where there are no conditions.
    ///
    /// # Errors
    /// [`Error::Glob`] where the path filter is not a glob.
    pub fn matching(&self, query: &ParsedQuery, filter: &Filter) -> Result<Option<Vec<bool>>> {
        let conditions = self.conditions(query, filter)?;
        let paths = filter.path.as_deref().map(|glob| self.rows_of_paths(&PathGlob::new(glob)?)).transpose()?;
        if conditions.is_empty() {
            return Ok(paths);
        }
        let condition = BooleanQuery::new(conditions.into_iter().map(|query| (Occur::Must, query)).collect());
        let mut rows = vec![false; usize::try_from(self.rows())?];
        for address in self.searcher.search(&condition, &DocSetCollector)? {
            self.set(&mut rows, address.segment_ord as usize, address.doc_id)?;
        }
        if let Some(paths) = paths {
            rows.iter_mut().zip(paths).for_each(|(row, is_match)| *row &= is_match);
        }
        Ok(Some(rows))
    }

    fn set(&self, rows: &mut [bool], segment: usize, document: u32) -> Result<()> {
        let row = self.starts[segment] as usize + document as usize;
        *rows.get_mut(row).with_context(|| format!("the lexical index is damaged: row {row} of {}", self.rows()))? = true;
        Ok(())
    }

    /// Conditions of the filter's exact fields and of the query's phrases and prefixes.
    fn conditions(&self, query: &ParsedQuery, filter: &Filter) -> Result<Vec<Box<dyn Query>>> {
        let mut conditions: Vec<Box<dyn Query>> = Vec::new();
        for (name, value) in [("language", &filter.language), ("repo", &filter.repo)] {
            if let Some(value) = value {
                let term = Term::from_field_text(self.schema.get_field(name)?, value);
                conditions.push(Box::new(TermQuery::new(term, IndexRecordOption::Basic)));
            }
        }
        let in_any_field = |of: &dyn Fn(Field) -> Result<Box<dyn Query>>| -> Result<Box<dyn Query>> {
            let should = self.text_fields.iter().map(|field| Ok((Occur::Should, of(field.field)?))).collect::<Result<_>>()?;
            Ok(Box::new(BooleanQuery::new(should)))
        };
        for phrase in &query.phrases {
            let terms = self.terms(phrase);
            conditions.push(in_any_field(&|field| {
                let terms: Vec<Term> = terms.iter().map(|term| Term::from_field_text(field, term)).collect();
                Ok(match &terms[..] {
                    [one] => Box::new(TermQuery::new(one.clone(), IndexRecordOption::Basic)),
                    _ => Box::new(PhraseQuery::new(terms)),
                })
            })?);
        }
        for prefix in &query.prefixes {
            // `parse` is the term `pars` in the index.
            let stem = self.terms(std::slice::from_ref(prefix)).pop().unwrap_or_else(|| prefix.clone());
            let pattern = format!("{prefix}.*|{stem}");
            conditions.push(in_any_field(&|field| Ok(Box::new(RegexQuery::from_pattern(&pattern, field)?)))?);
        }
        Ok(conditions)
    }

    /// By row: does the path match? The glob is compared once with each distinct path of a segment.
    fn rows_of_paths(&self, glob: &PathGlob) -> Result<Vec<bool>> {
        let field = self.schema.get_field("path")?;
        let mut rows = vec![false; usize::try_from(self.rows())?];
        for (number, segment) in self.searcher.segment_readers().iter().enumerate() {
            let inverted = segment.inverted_index(field)?;
            let mut paths = inverted.terms().range().ge(glob.prefix().as_bytes()).into_stream()?;
            while paths.advance() {
                if !paths.key().starts_with(glob.prefix().as_bytes()) {
                    break;
                }
                if std::str::from_utf8(paths.key()).is_ok_and(|path| glob.is_match(path)) {
                    let mut postings = inverted.read_postings_from_terminfo(paths.value(), IndexRecordOption::Basic)?;
                    let mut document = postings.doc();
                    while document != TERMINATED {
                        self.set(&mut rows, number, document)?;
                        document = postings.advance();
                    }
                }
            }
        }
        Ok(rows)
    }

    /// The row of each id; none for an id that is not in the index.
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

    /// The part of a row's score that each text field adds, boosts included; fields that add nothing are left out.
    pub fn field_scores(&self, scores: &TermScores) -> BTreeMap<&'static str, f32> {
        let boosts = self.settings.boosts.list();
        let is_scored = |position: &usize| boosts[*position] > 0.0 && scores.fields[*position] > 0.0;
        let positions = self.text_fields.iter().map(|field| field.position).filter(is_scored);
        positions.map(|position| (TEXT_FIELDS[position], scores.fields[position])).collect()
    }

    /// The stored document of a row.
    pub fn document(&self, row: u32) -> Result<Document> {
        let segment = self.starts.partition_point(|&start| start <= row).checked_sub(1).filter(|_| u64::from(row) < self.rows());
        let segment = segment.with_context(|| format!("row {row} is not in the lexical index"))?;
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

//! Lexical search: a tantivy index whose text fields hold words joined by spaces.
//!
//! Words are split when a bundle is built (`ledger::words`), so the fields use one of tantivy's built-in tokenizers (`whitespace`, or
//! `en_stem`, which reduces `parsing` and `parsed` to one term), and `tantivy-py` can query them without this crate.

mod counts;
mod directory;
mod fields;
mod prefix;
mod rows;
mod scorer;
mod selection;
mod settings;
mod stored;
mod symbols;

use std::{collections::BTreeMap, path::Path};

use tantivy::{
    DocSet, Index, IndexReader, ReloadPolicy, Searcher, TERMINATED, Term,
    collector::DocSetCollector,
    query::{BooleanQuery, Occur, PhraseQuery, Query, TermQuery},
    schema::{Field, IndexRecordOption, Schema},
    store::StoreReader,
    tokenizer::TextAnalyzer,
};

use self::{
    counts::Counts,
    rows::DocumentRows,
    scorer::{Scorer, TermIndex},
};
pub use self::{
    counts::{COUNT_STARTS, COUNTS, Count},
    directory::ReadOnlyDirectory,
    fields::{ANY_FIELD, Document, Filter, LENGTHS, Part, STORED_FIELDS, SYMBOL_FIELD, TEXT_FIELDS, schema, tokenizer},
    rows::{DOCUMENT_ROWS, GONE},
    scorer::{LexicalList, QueryStats, TermScores, TextField},
    selection::Selection,
    settings::{Bm25f, Boosts, FieldSettings, LexicalSettings, Scoring, SumOfFields},
    symbols::{name_parts, symbol_keys},
};
use crate::{Error, ParsedQuery, Result, deadline::Deadline, error::Context, paths::PathGlob};

/// Name of the folder in a bundle.
pub const LEXICAL: &str = "tantivy";

/// The field that numbers the documents in formats 3 to 5.
const ROW_FIELD: &str = "row";

/// Decompressed blocks of stored documents that an open index keeps for each segment.
const STORE_BLOCKS: usize = 100;

/// An open lexical index.
pub struct Lexical {
    searcher: Searcher,
    schema: Schema,
    text_fields: Vec<TextField>,
    /// The field with the words of all text fields; none in formats 3 and 4.
    any: Option<Field>,
    /// Counts of the words of `any`; none in formats 3 and 4, and before they are computed.
    counts: Option<Counts>,
    /// The field of exact names; none in formats 3 and 4.
    symbol: Option<Field>,
    settings: LexicalSettings,
    analyzer: TextAnalyzer,
    rows: DocumentRows,
    /// Stored documents of each segment.
    stores: Vec<StoreReader>,
}

impl std::fmt::Debug for Lexical {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lexical").field("rows", &self.rows()).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Lexical {
    /// Opens the index of the bundle in a folder.
    ///
    /// # Errors
    /// [`Error::Damaged`] where a field is missing, or the rows of the documents are not those of a bundle.
    pub fn open(bundle: &Path, settings: LexicalSettings) -> Result<Self> {
        let dir = &bundle.join(LEXICAL);
        let directory = ReadOnlyDirectory::open(dir).with_context(|| format!("opening {}", dir.display()))?;
        let index = Index::open(directory).with_context(|| format!("opening {}", dir.display()))?;
        let schema = index.schema();
        let reader: IndexReader = index.reader_builder().reload_policy(ReloadPolicy::Manual).doc_store_cache_num_blocks(0).try_into()?;
        let searcher = reader.searcher();
        settings.scoring.check()?;
        let text_fields = TextField::open_all(&searcher, &settings.scoring).map_err(|error| Error::damaged(dir, error))?;
        let field_of_format_5 = |name: &str| match settings.scoring {
            Scoring::Bm25f(_) => schema.get_field(name).map(Some).map_err(|error| Error::damaged(dir, error)),
            Scoring::Sum(_) => Ok(None),
        };
        let (any, symbol) = (field_of_format_5(ANY_FIELD)?, field_of_format_5(SYMBOL_FIELD)?);
        let analyzer = index.tokenizer_for_field(text_fields[0].field)?;
        let segments = searcher.segment_readers();
        let rows = match schema.get_field(ROW_FIELD) {
            Ok(_) => DocumentRows::consecutive(dir, segments)?,
            Err(_) => DocumentRows::open(bundle, segments)?,
        };
        let stores = segments.iter().map(|segment| segment.get_store_reader(STORE_BLOCKS)).collect::<std::io::Result<_>>()?;
        Ok(Self { searcher, schema, stores, text_fields, any, counts: None, symbol, settings, analyzer, rows })
    }

    /// Also opens the counts of words in the folder of a bundle, whose manifest has their number: searches are faster.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the files have other lengths.
    pub fn with_counts(mut self, dir: &Path, counts: u64) -> Result<Self> {
        let any = self.any.with_context(|| format!("the lexical index of {} has no field {ANY_FIELD}", dir.display()))?;
        let terms = self.searcher.segment_readers().iter().map(|segment| Ok(segment.inverted_index(any)?.terms().num_terms()));
        self.counts = Some(Counts::open(dir, usize::try_from(counts)?, &terms.collect::<Result<Vec<_>>>()?)?);
        Ok(self)
    }

    /// Number of functions.
    pub fn rows(&self) -> u64 {
        self.rows.count() as u64
    }

    /// Number of documents: more than functions where segments of earlier builds hold documents of changed and deleted functions.
    pub fn documents(&self) -> u64 {
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

    /// The distinct terms of a query that are scored: without stop words, unless the query has only stop words; then, in format 5, the
    /// terms of its compounds. Returns the number of terms before the compounds too.
    fn scored_terms(&self, query: &ParsedQuery) -> (Vec<String>, usize) {
        let words: Vec<String> = query.words.iter().filter(|word| !self.settings.stop_words.contains(*word)).cloned().collect();
        let mut terms = self.distinct_terms(if words.is_empty() { &query.words } else { &words });
        let count = terms.len();
        if self.any.is_some() {
            let compounds = self.distinct_terms(&query.compounds);
            terms.extend(compounds.into_iter().filter(|term| !terms[..count].contains(term)).collect::<Vec<_>>());
        }
        (terms, count)
    }

    /// Searches by the distinct terms of the query: [`Scoring`] has the formulas. A query with phrases or prefixes also finds accepted rows
    /// that score 0. Returns the best rows, and the scores by term of these rows and of `others` (sorted row numbers).
    pub fn search(&self, query: &ParsedQuery, selection: &Selection<'_>, others: &[u32]) -> Result<(LexicalList, QueryStats)> {
        let scorer = self.scorer(query, selection.hidden)?;
        let limit = selection.limit.min(usize::try_from(self.rows())?);
        let found = scorer.search(&Selection { limit, ..*selection }, query.has_conditions(), others)?;
        Ok((found, scorer.stats))
    }

    fn scorer(&self, query: &ParsedQuery, hidden: Option<Part>) -> Result<Scorer<'_>> {
        let (terms, words) = self.scored_terms(query);
        let (searcher, fields, rows) = (&self.searcher, &self.text_fields, &self.rows);
        let index = TermIndex { searcher, fields, rows, any: self.any, counts: self.counts.as_ref() };
        Scorer::new(index, &self.settings.scoring, &terms, words, hidden)
    }

    /// The part of a row's score that each text field adds; fields that add nothing are left out.
    pub fn field_scores(&self, query: &ParsedQuery, row: u32) -> Result<BTreeMap<String, f32>> {
        let address = self.rows.address(row)?;
        self.scorer(query, None)?.field_scores(self.searcher.segment_reader(address.segment_ord), address.doc_id)
    }

    /// Rows whose name, qualified name or end of the path is the text, in snake, camel or dotted form; sorted. None in formats 3 and 4.
    pub fn rows_of_names(&self, text: &str) -> Result<Vec<u32>> {
        let Some(field) = self.symbol else { return Ok(Vec::new()) };
        let mut rows = Vec::new();
        for key in symbols::query_keys(text) {
            let query = TermQuery::new(Term::from_field_text(field, &key), IndexRecordOption::Basic);
            let found = self.searcher.search(&query, &DocSetCollector)?;
            rows.extend(found.into_iter().filter_map(|address| self.rows.row(address)));
        }
        rows.sort_unstable();
        rows.dedup();
        Ok(rows)
    }

    /// By row: does the row meet the filter and the query's phrases and prefixes? None where there are no conditions. A prefix stands for
    /// at most 1,000 words of each field.
    ///
    /// # Errors
    /// [`Error::Glob`] where the path filter is not a glob, [`Error::TimeLimit`].
    pub fn matching(&self, query: &ParsedQuery, filter: &Filter, deadline: Deadline) -> Result<Option<Vec<bool>>> {
        let mut rows = filter.path.as_deref().map(|glob| self.rows_of_paths(&PathGlob::new(glob)?, deadline)).transpose()?;
        let mut narrow = |matching: Vec<bool>| match &mut rows {
            Some(rows) => rows.iter_mut().zip(matching).for_each(|(row, is_match)| *row &= is_match),
            None => rows = Some(matching),
        };
        for prefix in &query.prefixes {
            narrow(self.rows_of_prefix(prefix, deadline)?);
        }
        for condition in self.conditions(query, filter)? {
            deadline.check()?;
            let mut matching = vec![false; usize::try_from(self.rows())?];
            for address in self.searcher.search(&condition, &DocSetCollector)? {
                self.set(&mut matching, address.segment_ord as usize, address.doc_id)?;
            }
            narrow(matching);
        }
        Ok(rows)
    }

    fn set(&self, rows: &mut [bool], segment: usize, document: u32) -> Result<()> {
        if let Some(row) = self.rows.of_segment(segment).row(document) {
            *rows.get_mut(row as usize).with_context(|| format!("the lexical index is damaged: row {row} of {}", self.rows()))? = true;
        }
        Ok(())
    }

    /// Conditions of the filter's exact fields and of the query's phrases.
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
        Ok(conditions)
    }

    /// By row: does the path match? The glob is compared once with each distinct path of a segment.
    fn rows_of_paths(&self, glob: &PathGlob, deadline: Deadline) -> Result<Vec<bool>> {
        let field = self.schema.get_field("path")?;
        let mut rows = vec![false; usize::try_from(self.rows())?];
        for (number, segment) in self.searcher.segment_readers().iter().enumerate() {
            let inverted = segment.inverted_index(field)?;
            let mut paths = inverted.terms().range().ge(glob.prefix().as_bytes()).into_stream()?;
            while paths.advance() {
                if !paths.key().starts_with(glob.prefix().as_bytes()) {
                    break;
                }
                deadline.check()?;
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
                let found = self.searcher.search(&query, &DocSetCollector)?;
                Ok(found.into_iter().find_map(|address| self.rows.row(address)))
            })
            .collect()
    }

    /// The stored document of a row.
    pub fn document(&self, row: u32) -> Result<Document> {
        let address = self.rows.address(row)?;
        let bytes = self.stores[address.segment_ord as usize].get_document_bytes(address.doc_id)?;
        let texts = stored::texts(&bytes).with_context(|| format!("the lexical index is damaged: the document of row {row} ends early"))?;
        let text = |name: &str| -> Result<String> {
            let field = self.schema.get_field(name)?.field_id();
            Ok(texts.iter().find(|(other, _)| *other == field).map_or(String::new(), |(_, text)| (*text).to_owned()))
        };
        let mut document = Document { language: text("language")?, ..Document::default() };
        for (slot, name) in document.stored.iter_mut().zip(STORED_FIELDS) {
            *slot = text(name)?;
        }
        Ok(document)
    }
}

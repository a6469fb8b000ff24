use std::collections::BTreeMap;

use bundle::{
    ParsedQuery,
    deadline::Deadline,
    lexical::{
        Bm25f, Boosts, Document, FieldSettings, Filter, Lexical, LexicalSettings, Part, Scoring, Selection, SumOfFields, TEXT_FIELDS,
        TermScores, symbol_keys, tokenizer,
    },
    ranking::{Scored, best_first},
};
use tantivy::{
    Index, Term,
    collector::TopDocs,
    query::{BooleanQuery, BoostQuery, Occur, Query, TermQuery},
    schema::IndexRecordOption,
};

use super::*;

/// Name, path, code and documentation of four functions, in one segment.
const FUNCTIONS: [[&str; 4]; 4] = [
    ["read_rows", "src/csv/reader.py", "def read_rows(path): return list(csv.reader(open(path)))", "Reads the rows of a csv file."],
    ["parse_date", "src/dates.py", "def parse_date(text): return datetime.fromisoformat(text)", "Parses an ISO date."],
    ["parser_for", "src/csv/deep/parsers.py", "def parser_for(kind): return PARSERS[kind]", "The parser of a kind of file."],
    ["write_rows", "tools/csv.py", "def write_rows(rows, path): writer(path).writerows(rows)", "Writes rows, date by date."],
];

fn index(stemming: bool) -> (tempfile::TempDir, Lexical) {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SegmentWriter::create(&dir.path().join("part"), tokenizer(stemming), 20_000_000).unwrap();
    let joined = ledger::words::joined;
    for (row, [name, path, code, documentation]) in FUNCTIONS.into_iter().enumerate() {
        let repo = if row < 3 { "owner/one" } else { "owner/two" };
        writer
            .write(&Document {
                language: "python".to_owned(),
                split: "test".to_owned(),
                stored: [&format!("{row:032x}"), repo, path, name, "", "", documentation, code].map(str::to_owned),
                words: [
                    joined(name),
                    String::new(),
                    ledger::words::compounds(name).join(" "),
                    joined(name),
                    String::new(),
                    joined(documentation),
                    joined(code),
                    String::new(),
                    String::new(),
                    joined(path),
                ],
                symbols: symbol_keys(name, path),
            })
            .unwrap();
    }
    assemble(&[writer.finish().unwrap()], &dir.path().join("tantivy")).unwrap();
    write_document_rows(&[0, 1, 2, 3], dir.path()).unwrap();
    let lexical = open(&dir, settings(&dir, 1.2, 0.75, &[]));
    (dir, lexical)
}

fn open(dir: &tempfile::TempDir, settings: LexicalSettings) -> Lexical {
    Lexical::open(dir.path(), settings).unwrap()
}

/// BM25F with these weights, and 0 for all other fields.
const WEIGHTS: [(&str, f64); 4] = [("name", 2.0), ("code", 1.0), ("documentation", 1.0), ("file", 0.5)];

fn settings(dir: &tempfile::TempDir, k1: f64, b: f64, stop_words: &[&str]) -> LexicalSettings {
    let statistics = write_lengths(dir.path(), &[0, 1, 2, 3]).unwrap();
    let fields = TEXT_FIELDS.iter().zip(statistics).map(|(name, statistics)| FieldSettings {
        name: (*name).to_owned(),
        weight: WEIGHTS.iter().find(|(weighted, _)| weighted == name).map_or(0.0, |(_, weight)| *weight),
        b,
        words: statistics.words,
        rows: statistics.rows,
    });
    let scoring = Scoring::Bm25f(Bm25f { k1, fields: fields.collect() });
    LexicalSettings { scoring, stop_words: stop_words.iter().map(|word| (*word).to_owned()).collect() }
}

fn ranked(lexical: &Lexical, text: &str, filter: &Filter) -> Vec<Scored> {
    let query = ParsedQuery::parse(text);
    let allowed = lexical.matching(&query, filter, Deadline::default()).unwrap();
    lexical.search(&query, &Selection { limit: 10, allowed: allowed.as_deref(), ..Selection::default() }, &[]).unwrap().0.ranked
}

/// Rows that a search finds, sorted.
fn rows_with(lexical: &Lexical, text: &str, filter: &Filter) -> Vec<u32> {
    let mut rows: Vec<u32> = ranked(lexical, text, filter).into_iter().map(|(row, _)| row).collect();
    rows.sort_unstable();
    rows
}

fn rows(lexical: &Lexical, text: &str) -> Vec<u32> {
    rows_with(lexical, text, &Filter::default())
}

fn rows_below(lexical: &Lexical, text: &str, path: &str) -> Vec<u32> {
    rows_with(lexical, text, &Filter { path: Some(path.to_owned()), ..Filter::default() })
}

#[test]
fn words_of_one_stem_match_with_stemming_only() {
    let (_dir, stems) = index(true);
    assert_eq!(rows(&stems, "parsing dates"), [1, 3]);
    let (_dir, plain) = index(false);
    assert_eq!(rows(&plain, "parsing dates"), [1], "dates.py alone");
}

#[test]
fn a_query_without_words_finds_nothing() {
    let (_dir, lexical) = index(true);
    assert!(rows(&lexical, "").is_empty() && rows(&lexical, "\u{1f600} !?").is_empty());
}

#[test]
fn a_phrase_requires_its_words_in_order() {
    let (_dir, lexical) = index(true);
    assert_eq!(rows(&lexical, "date"), [1, 3]);
    assert_eq!(rows(&lexical, "\"iso date\""), [1]);
    assert_eq!(rows(&lexical, "\"date iso\""), [0; 0]);
}

#[test]
fn a_prefix_requires_a_word_that_begins_with_it() {
    let (_dir, lexical) = index(true);
    assert_eq!(rows(&lexical, "parse*"), [1, 2], "parse and parser");
    assert_eq!(rows(&lexical, "rows wri*"), [3]);
}

#[test]
fn a_repository_is_compared_with_its_full_name() {
    let (_dir, lexical) = index(true);
    let repo = |name: &str| Filter { repo: Some(name.to_owned()), ..Filter::default() };
    assert_eq!(rows_with(&lexical, "rows", &repo("owner/two")), [3]);
    assert_eq!(rows_with(&lexical, "rows", &repo("owner")), [0; 0]);
}

#[test]
fn a_path_glob_selects_rows() {
    let (_dir, lexical) = index(true);
    for (glob, expected) in [
        ("src/csv/*.py", &[0][..]),
        ("src/csv/**.py", &[0]),
        ("src/csv/**/*.py", &[0, 2]),
        ("src/csv/reader?py", &[0]),
        ("{src,tools}/**/*csv*", &[3]),
        ("src", &[]),
        ("tools/csv.p(y|x)", &[]),
    ] {
        assert_eq!(rows_below(&lexical, "rows csv file", glob), expected, "{glob}");
    }
}

#[test]
fn a_path_and_another_condition_must_both_hold() {
    let (_dir, lexical) = index(true);
    let filter = Filter { repo: Some("owner/one".to_owned()), path: Some("**/*csv*".to_owned()), ..Filter::default() };
    assert_eq!(rows_with(&lexical, "rows csv file", &filter), [0; 0]);
    assert_eq!(rows_below(&lexical, "\"iso date\"", "src/*"), [1]);
}

#[test]
fn an_invalid_path_glob_is_an_error_that_names_it() {
    let (_dir, lexical) = index(true);
    let error = lexical.matching(
        &ParsedQuery::parse("rows"),
        &Filter { path: Some("src/{a".to_owned()), ..Filter::default() },
        Deadline::default(),
    );
    assert!(matches!(error, Err(bundle::Error::Glob { glob, .. }) if glob == "src/{a"));
}

#[test]
fn conditions_are_flags_by_row_and_none_without_conditions() {
    let (_dir, lexical) = index(true);
    let matching = |text: &str| lexical.matching(&ParsedQuery::parse(text), &Filter::default(), Deadline::default()).unwrap();
    assert_eq!(matching("\"iso date\""), Some(vec![false, true, false, false]));
    assert_eq!(matching("iso date"), None);
}

#[test]
fn the_fields_of_a_score_add_up_to_it() {
    let (_dir, lexical) = index(true);
    let query = ParsedQuery::parse("read the rows of a csv file");
    let (found, stats) = lexical.search(&query, &Selection { limit: 2, ..Selection::default() }, &[1]).unwrap();
    let scores: BTreeMap<u32, TermScores> = found.term_scores.iter().copied().collect();
    assert_eq!((found.ranked.len(), scores.len(), stats.terms), (2, 3, 7), "the best two rows, and the other row that was named");
    for (row, score) in found.ranked {
        let fields = lexical.field_scores(&query, row).unwrap();
        assert!((fields.values().sum::<f32>() - score).abs() < 1e-4, "{row}: {fields:?} {score}");
        assert!(!fields.contains_key("signature"), "its weight is 0");
    }
    // read_rows has every term in some field.
    let first = scores[&0];
    assert!((first.covered - stats.idf).abs() < 1e-5, "{first:?} {stats:?}");
    assert!(stats.max_score > first.score, "{first:?} {stats:?}");
    assert!(first.parts[Part::Name as usize] < first.covered && first.parts[Part::Code as usize] > 0.0, "{first:?}");
}

#[test]
fn a_hidden_group_of_fields_adds_nothing() {
    let (_dir, lexical) = index(true);
    assert_eq!(rows(&lexical, "iso"), [1], "the documentation has it");
    let undocumented = Selection { limit: 10, hidden: Some(Part::Documentation), ..Selection::default() };
    let (found, _) = lexical.search(&ParsedQuery::parse("iso"), &undocumented, &[]).unwrap();
    assert!(found.ranked.is_empty(), "{found:?}");
    let (found, _) = lexical.search(&ParsedQuery::parse("kind of file"), &undocumented, &[]).unwrap();
    assert!(found.term_scores.iter().all(|(_, scores)| scores.parts[Part::Documentation as usize] == 0.0));
}

/// By hand, from the formula: `csv` is once in the code of row 0, once in its path and once in its documentation.
#[test]
fn counts_of_all_fields_are_added_before_they_saturate() {
    let (dir, _) = index(false);
    let lexical = open(&dir, settings(&dir, 1.2, 0.0, &[]));
    let found = ranked(&lexical, "csv", &Filter::default());
    let idf = (1.0 + (4.0 - 3.0 + 0.5) / 3.5f32).ln();
    let count = 1.0 + 1.0 + 0.5;
    let row = found.iter().find(|(row, _)| *row == 0).unwrap();
    assert!((row.1 - idf * 2.2 * count / (1.2 + count)).abs() < 1e-5, "{found:?}");
}

#[test]
fn the_mean_length_is_over_rows_whose_field_is_not_empty() {
    let (dir, lexical) = index(true);
    let Scoring::Bm25f(bm25f) = &lexical.settings().scoring else { panic!("{:?}", lexical.settings()) };
    let field = |name: &str| bm25f.fields.iter().find(|field| field.name == name).unwrap();
    assert_eq!((field("name").words, field("name").rows, field("name").mean_length()), (8, 4, 2.0));
    assert_eq!((field("class").words, field("class").rows), (0, 0));
    let header = bundle::vectors::npy_header("|u1", &[4, TEXT_FIELDS.len()]);
    let lengths = std::fs::read(dir.path().join("lengths.npy")).unwrap();
    assert_eq!((lengths.len() - header.len(), lengths[header.len()]), (4 * TEXT_FIELDS.len(), 2));
}

#[test]
fn a_name_or_the_end_of_a_path_is_found_in_any_form() {
    let (_dir, lexical) = index(true);
    let found = |text: &str| lexical.rows_of_names(text).unwrap();
    assert_eq!((found("parse_date"), found("parseDate"), found("parse date")), (vec![1], vec![1], vec![1]));
    assert_eq!((found("csv/reader.py"), found("tools/csv.py"), found("parsers.py")), (vec![0], vec![3], vec![2]));
    assert_eq!((found("parse"), found("")), (vec![], vec![]));
}

/// The score of formats 3 and 4. tantivy's own scorer, which has these two constants only, is the reference.
#[test]
fn sums_of_fields_equal_those_of_tantivy() {
    let (dir, _) = index(true);
    let boosts = Boosts { name: 2.0, signature: 0.0, file: 0.5, code: 1.0, documentation: 1.0 };
    let scoring = Scoring::Sum(SumOfFields { k1: 1.2, b: 0.75, boosts });
    let lexical = open(&dir, LexicalSettings { scoring, stop_words: Default::default() });
    let reference = Index::open_in_dir(dir.path().join("tantivy")).unwrap();
    let searcher = reference.reader().unwrap().searcher();
    for text in ["rows of a csv file", "parse a date", "date date DATE", "kind", "read write rows path parser file csv"] {
        let mut should: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        for (name, boost) in lexical.settings().scoring.fields().into_iter().filter(|(_, boost)| *boost > 0.0) {
            for term in lexical.distinct_terms(&ParsedQuery::parse(text).words) {
                let term = Term::from_field_text(reference.schema().get_field(name).unwrap(), &term);
                let query = TermQuery::new(term, IndexRecordOption::WithFreqs);
                should.push((Occur::Should, Box::new(BoostQuery::new(Box::new(query), boost as f32))));
            }
        }
        let theirs = searcher.search(&BooleanQuery::new(should), &TopDocs::with_limit(10).order_by_score()).unwrap();
        let mut theirs: Vec<Scored> = theirs.into_iter().map(|(score, address)| (address.doc_id, score)).collect();
        theirs.sort_by(best_first);
        let ours = ranked(&lexical, text, &Filter::default());
        assert_eq!(ours.iter().map(|(row, _)| row).collect::<Vec<_>>(), theirs.iter().map(|(row, _)| row).collect::<Vec<_>>(), "{text}");
        assert!(ours.iter().zip(&theirs).all(|(a, b)| (a.1 - b.1).abs() < 1e-5), "{text}: {ours:?} {theirs:?}");
    }
}

#[test]
fn with_k1_0_repetitions_do_not_count() {
    let (dir, _) = index(true);
    // By hand: a row scores the idf of a word that any field has. `kind` is in one row of four.
    let idf = (1.0 + 3.5 / 1.5f32).ln();
    let found = ranked(&open(&dir, settings(&dir, 0.0, 0.75, &[])), "kind", &Filter::default());
    assert_eq!(found.len(), 1);
    assert!((found[0].1 - idf).abs() < 1e-5, "{found:?}");
}

#[test]
fn with_b_0_lengths_do_not_count() {
    let (dir, _) = index(true);
    // By hand: `date by date` has the term twice, k1 is 1.2.
    let found = ranked(&open(&dir, settings(&dir, 1.2, 0.0, &[])), "date", &Filter::default());
    let idf = (1.0 + 2.5 / 2.5f32).ln();
    let row = found.iter().find(|(row, _)| *row == 3).unwrap();
    assert!((row.1 - idf * 2.2 * 2.0 / 3.2).abs() < 1e-5, "{found:?}");
}

#[test]
fn stop_words_are_ignored_unless_there_are_only_stop_words() {
    let (dir, lexical) = index(true);
    let stopped = open(&dir, settings(&dir, 1.2, 0.75, &["the", "of", "a", "rows"]));
    assert_eq!(rows(&stopped, "the rows of a csv"), rows(&lexical, "csv"));
    assert_eq!(rows(&stopped, "the rows"), rows(&lexical, "the rows"));
    assert_eq!(rows(&stopped, "\"rows of a csv\""), [0], "phrases still match them");
}

#[test]
fn rows_are_found_by_id() {
    let (_dir, lexical) = index(true);
    assert_eq!(lexical.rows_of_ids(&["00000000000000000000000000000002".to_owned(), "f".repeat(32)]).unwrap(), [Some(2), None]);
}

#[test]
fn an_index_without_rows_is_refused() {
    let (written, lexical) = index(true);
    let dir = tempfile::tempdir().unwrap();
    assert!(assemble(&[], dir.path()).unwrap_err().to_string().contains("no functions to index"));
    assert!(Lexical::open(dir.path(), lexical.settings().clone()).is_err());
    drop(written);
}

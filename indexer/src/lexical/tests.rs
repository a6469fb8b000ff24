use super::*;
use crate::ranking::{Scored, best_first};

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
                row: row as u64,
                language: "python".to_owned(),
                split: "test".to_owned(),
                stored: [&format!("{row:032x}"), repo, path, name, "", "", documentation, code].map(str::to_owned),
                words: [joined(name), joined(name), joined(path), joined(code), joined(documentation)],
            })
            .unwrap();
    }
    let segment = (dir.path().join("part"), writer.finish().unwrap());
    assemble(&[segment], &dir.path().join("tantivy")).unwrap();
    let lexical = Lexical::open(&dir.path().join("tantivy"), settings(1.2, 0.75, &[])).unwrap();
    (dir, lexical)
}

fn settings(k1: f64, b: f64, stop_words: &[&str]) -> Settings {
    let boosts = Boosts { name: 2.0, signature: 0.0, file: 0.5, code: 1.0, documentation: 1.0 };
    Settings { bm25: Bm25 { k1, b }, boosts, stop_words: stop_words.iter().map(|word| (*word).to_owned()).collect() }
}

fn ranked(lexical: &Lexical, text: &str, filter: &Filter) -> Vec<Scored> {
    let asked = Asked::parse(text);
    let allowed = lexical.matching(&asked, filter).unwrap();
    lexical.search(&asked, allowed.as_deref(), lexical.settings.boosts, 10, &[]).unwrap().0.ranked
}

fn rows(lexical: &Lexical, text: &str, filter: &Filter) -> Vec<u32> {
    let mut rows: Vec<u32> = ranked(lexical, text, filter).into_iter().map(|(row, _)| row).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn words_of_one_stem_match_where_stems_are_asked_for() {
    let none = Filter::default();
    let (_dir, stems) = index(true);
    assert_eq!(rows(&stems, "parsing dates", &none), [1, 3]);
    let (_dir, plain) = index(false);
    assert_eq!(rows(&plain, "parsing dates", &none), [1], "dates.py alone");
    assert!(rows(&stems, "", &none).is_empty() && rows(&stems, "\u{1f600} !?", &none).is_empty());
}

#[test]
fn phrases_prefixes_and_filters_narrow_both_sides() {
    let (_dir, lexical) = index(true);
    let none = Filter::default();
    assert_eq!(rows(&lexical, "date", &none), [1, 3]);
    assert_eq!(rows(&lexical, "\"iso date\"", &none), [1]);
    assert_eq!(rows(&lexical, "\"date iso\"", &none), [0; 0]);
    assert_eq!(rows(&lexical, "parse*", &none), [1, 2], "parse and parser");
    assert_eq!(rows(&lexical, "rows wri*", &none), [3]);
    let filter = |repo: Option<&str>, path: Option<&str>| Filter {
        repo: repo.map(str::to_owned),
        path: path.map(str::to_owned),
        ..Filter::default()
    };
    assert_eq!(rows(&lexical, "rows", &filter(Some("owner/two"), None)), [3]);
    assert_eq!(rows(&lexical, "rows csv file", &filter(None, Some("src/csv/*.py"))), [0]);
    assert_eq!(rows(&lexical, "rows csv file", &filter(None, Some("src/csv/**.py"))), [0, 2]);
    assert_eq!(rows(&lexical, "rows", &filter(None, Some("src/csv/reader?py"))), [0]);
    assert_eq!(rows(&lexical, "rows", &filter(None, Some("src"))), [0; 0], "a glob is of the whole path");
    // What is required stands alone too, and says the same to the vectors.
    let must = Asked::parse("\"iso date\"");
    assert_eq!(lexical.matching(&must, &none).unwrap(), Some(vec![false, true, false, false]));
    assert_eq!(lexical.matching(&Asked::parse("iso date"), &none).unwrap(), None);
    // Signs of regular expressions are signs.
    assert_eq!(rows(&lexical, "rows", &filter(None, Some("tools/csv.p(y|x)"))), [0; 0]);
}

#[test]
fn the_parts_of_a_score_are_its_sum() {
    let (_dir, lexical) = index(true);
    let asked = Asked::parse("read the rows of a csv file");
    let (found, weights) = lexical.search(&asked, None, lexical.settings.boosts, 2, &[1]).unwrap();
    let evidence: BTreeMap<u32, Evidence> = found.evidence.iter().copied().collect();
    assert_eq!((found.ranked.len(), evidence.len(), weights.terms), (2, 3, 7), "the best two, and the row that was asked for besides");
    for (row, score) in found.ranked {
        let fields = lexical.field_scores(&evidence[&row]);
        assert!((fields.values().sum::<f32>() - score).abs() < 1e-4, "{row}: {fields:?} {score}");
        assert!(!fields.contains_key("signature"), "its boost is 0");
    }
    // read_rows has every term somewhere.
    let first = evidence[&0];
    assert!((first.covered - weights.idf).abs() < 1e-5, "{first:?} {weights:?}");
    assert!(weights.most > first.fields[3]);
}

/// tantivy's own scorer, which knows these two constants only, is the reference.
#[test]
fn scores_are_those_of_tantivy() {
    use tantivy::{collector::TopDocs, query::BoostQuery};
    let (_dir, lexical) = index(true);
    for text in ["rows of a csv file", "parse a date", "date date DATE", "kind", "read write rows path parser file csv"] {
        let mut should: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        for (name, boost) in TEXT_FIELDS.iter().zip(lexical.settings.boosts.list()).filter(|(_, boost)| *boost > 0.0) {
            for term in lexical.distinct_terms(&Asked::parse(text).words) {
                let term = Term::from_field_text(lexical.schema.get_field(name).unwrap(), &term);
                let query = TermQuery::new(term, IndexRecordOption::WithFreqs);
                should.push((Occur::Should, Box::new(BoostQuery::new(Box::new(query), boost as f32))));
            }
        }
        let theirs = lexical.searcher.search(&BooleanQuery::new(should), &TopDocs::with_limit(10).order_by_score()).unwrap();
        let mut theirs: Vec<Scored> = theirs.into_iter().map(|(score, address)| (address.doc_id, score)).collect();
        theirs.sort_by(best_first);
        let ours = ranked(&lexical, text, &Filter::default());
        assert_eq!(ours.iter().map(|(row, _)| row).collect::<Vec<_>>(), theirs.iter().map(|(row, _)| row).collect::<Vec<_>>(), "{text}");
        assert!(ours.iter().zip(&theirs).all(|(a, b)| (a.1 - b.1).abs() < 1e-5), "{text}: {ours:?} {theirs:?}");
    }
}

#[test]
fn k1_b_and_stop_words_are_settings() {
    let (dir, lexical) = index(true);
    let open = |settings: Settings| Lexical::open(&dir.path().join("tantivy"), settings).unwrap();
    // By hand: with k1 0 a term is there or not, so a row scores the idf of `kind` in each of the fields it is in, times the boost.
    // `kind` is in the code and the documentation of one row of four.
    let idf = (1.0 + 3.5 / 1.5f32).ln();
    let flat = ranked(&open(settings(0.0, 0.75, &[])), "kind", &Filter::default());
    assert_eq!(flat.len(), 1);
    assert!((flat[0].1 - 2.0 * idf).abs() < 1e-5, "{flat:?}");
    // With b 0 lengths do not count: tf 2 in `date by date`, k1 1.2.
    let even = ranked(&open(settings(1.2, 0.0, &[])), "date", &Filter::default());
    let idf = (1.0 + 2.5 / 2.5f32).ln();
    let row = even.iter().find(|(row, _)| *row == 3).unwrap();
    assert!((row.1 - idf * 2.2 * 2.0 / 3.2).abs() < 1e-5, "{even:?}");
    let stopped = open(settings(1.2, 0.75, &["the", "of", "a", "rows"]));
    assert_eq!(rows(&stopped, "the rows of a csv", &Filter::default()), rows(&lexical, "csv", &Filter::default()));
    assert_eq!(rows(&stopped, "the rows", &Filter::default()), rows(&lexical, "the rows", &Filter::default()), "there are no others");
    assert_eq!(rows(&stopped, "\"rows of a csv\"", &Filter::default()), [0], "a phrase of them is asked for as it is");
    assert_eq!(stopped.rows_of_ids(&["00000000000000000000000000000002".to_owned(), "f".repeat(32)]).unwrap(), [Some(2), None]);
}

#[test]
fn an_index_of_nothing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(assemble(&[], dir.path()).unwrap_err().to_string().contains("no functions to index"));
    assert!(Lexical::open(dir.path(), settings(1.2, 0.75, &[])).is_err());
}

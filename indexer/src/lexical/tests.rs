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
            .write(Document {
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
    let boosts = Boosts { name: 2.0, signature: 0.0, file: 0.5, code: 1.0, documentation: 1.0 };
    let lexical = Lexical::open(&dir.path().join("tantivy"), boosts).unwrap();
    (dir, lexical)
}

fn rows(lexical: &Lexical, text: &str, filter: &Filter) -> Vec<u32> {
    let mut rows: Vec<u32> = lexical.search(&Asked::parse(text), filter, None, 10).unwrap().into_iter().map(|(row, _)| row).collect();
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
    for (row, score) in lexical.search(&asked, &Filter::default(), None, 10).unwrap() {
        let fields = lexical.field_scores(&asked, row).unwrap();
        assert!((fields.values().sum::<f32>() - score).abs() < 1e-4, "{row}: {fields:?} {score}");
        assert!(!fields.contains_key("signature"), "its boost is 0");
    }
}

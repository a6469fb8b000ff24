//! Counts of words, computed once so that a search reads one list of postings a word instead of one for each field.

use std::{io::Write, path::Path, sync::Arc};

use bundle::lexical::{ANY_FIELD, COUNT_STARTS, COUNTS, Count, LEXICAL, Part, ReadOnlyDirectory, Scoring, TextField};
use tantivy::{
    DocSet, Index, InvertedIndexReader, SegmentReader, TERMINATED,
    fieldnorm::FieldNormReader,
    postings::{Postings, SegmentPostings},
    schema::{Field, IndexRecordOption},
    termdict::TermStreamer,
};

use crate::{Result, error::Context, npy};

/// Reads the index of the bundle in `dir`, and writes [`COUNTS`] and [`COUNT_STARTS`]. Returns the number of counts.
pub fn write(dir: &Path, scoring: &Scoring) -> Result<u64> {
    let lexical = dir.join(LEXICAL);
    let index = Index::open(ReadOnlyDirectory::open(&lexical)?).with_context(|| format!("opening {}", lexical.display()))?;
    let searcher = index.reader()?.searcher();
    let fields: Vec<TextField> = TextField::open_all(&searcher, scoring)?.into_iter().filter(|field| field.weight > 0.0).collect();
    let any = searcher.schema().get_field(ANY_FIELD)?;
    let mut terms = 0;
    for segment in searcher.segment_readers() {
        terms += segment.inverted_index(any)?.terms().num_terms();
    }
    let mut file = npy::create(&dir.join(COUNTS), "<u4", &[0])?;
    let mut starts = npy::create(&dir.join(COUNT_STARTS), "<u8", &[terms + 1])?;
    let mut written = 0u64;
    starts.write_all(&written.to_le_bytes())?;
    for segment in searcher.segment_readers() {
        counts_of_segment(segment, &fields, any, |counts| {
            written += counts.len() as u64;
            starts.write_all(&written.to_le_bytes())?;
            Ok(counts.iter().try_for_each(|count| file.write_all(&count.to_bytes()))?)
        })?;
    }
    starts.flush()?;
    npy::finish_vector(file, "<u4", usize::try_from(written)?)?;
    Ok(written)
}

/// Calls `take` with the counts of each term of the field `any`, in the order of its dictionary.
fn counts_of_segment(
    segment: &SegmentReader,
    fields: &[TextField],
    any: Field,
    mut take: impl FnMut(&[Count]) -> Result<()>,
) -> Result<()> {
    let open = |field: &TextField| Ok(segment.inverted_index(field.field)?);
    let indexes = fields.iter().map(open).collect::<Result<Vec<Arc<InvertedIndexReader>>>>()?;
    let mut cursors =
        fields.iter().zip(&indexes).map(|(field, index)| FieldCursor::open(segment, field, index)).collect::<Result<Vec<_>>>()?;
    let inverted = segment.inverted_index(any)?;
    let (mut terms, mut counts) = (inverted.terms().stream()?, Vec::new());
    while terms.advance() {
        for cursor in &mut cursors {
            cursor.move_to(terms.key())?;
        }
        let mut rows = inverted.read_postings_from_terminfo(terms.value(), IndexRecordOption::Basic)?;
        counts.clear();
        let mut document = rows.doc();
        while document != TERMINATED {
            let (mut value, mut parts) = (0.0, [false; Part::ALL.len()]);
            for cursor in &mut cursors {
                if let Some(count) = cursor.count(document) {
                    value += count;
                    parts[cursor.field.part as usize] = true;
                }
            }
            counts.push(Count::new(value, parts));
            document = rows.advance();
        }
        take(&counts)?;
    }
    Ok(())
}

/// The terms of a field in order, and the postings of the current one.
struct FieldCursor<'a> {
    field: &'a TextField,
    index: &'a InvertedIndexReader,
    norms: FieldNormReader,
    terms: TermStreamer<'a>,
    /// Has the dictionary a term at or after the last one that was moved to?
    has_term: bool,
    /// Postings of the term that was moved to; none where the field does not have the term.
    postings: Option<SegmentPostings>,
}

impl<'a> FieldCursor<'a> {
    fn open(segment: &SegmentReader, field: &'a TextField, index: &'a InvertedIndexReader) -> Result<Self> {
        let mut terms = index.terms().stream()?;
        let has_term = terms.advance();
        Ok(Self { field, index, norms: segment.get_fieldnorms_reader(field.field)?, terms, has_term, postings: None })
    }

    /// Moves to a term, which is greater than every term before.
    fn move_to(&mut self, term: &[u8]) -> Result<()> {
        while self.has_term && self.terms.key() < term {
            self.has_term = self.terms.advance();
        }
        self.postings = if self.has_term && self.terms.key() == term {
            Some(self.index.read_postings_from_terminfo(self.terms.value(), IndexRecordOption::WithFreqs)?)
        } else {
            None
        };
        Ok(())
    }

    /// The part of the count that this field adds in a document, which is greater than every document before; none without the term.
    fn count(&mut self, document: u32) -> Option<f32> {
        let postings = self.postings.as_mut()?;
        while postings.doc() < document {
            postings.advance();
        }
        (postings.doc() == document).then(|| self.field.count(postings.term_freq(), self.norms.fieldnorm_id(document)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bundle::{
        ParsedQuery,
        lexical::{
            Bm25f, DOCUMENT_ROWS, Document, FieldSettings, GONE, Lexical, LexicalSettings, Selection, TEXT_FIELDS, TermScores, tokenizer,
        },
    };
    use proptest::prelude::*;

    use super::*;
    use crate::lexical::{SegmentWriter, assemble, write_document_rows, write_lengths};

    const WORDS: [&str; 6] = ["read", "row", "date", "file", "parse", "csv"];

    /// Words of each text field of one row.
    type Row = [Vec<&'static str>; TEXT_FIELDS.len()];

    /// Writes a bundle's lexical index with this number of documents in a segment, and the row of each document; the field `strings` has
    /// weight 0.
    fn written(dir: &Path, rows: &[Row], segment_rows: usize, document_rows: &[u32]) -> LexicalSettings {
        let segments = rows.chunks(segment_rows).enumerate().map(|(number, chunk)| {
            let part = dir.join(number.to_string());
            let mut writer = SegmentWriter::create(&part, tokenizer(false), 20_000_000).unwrap();
            for (index, row) in chunk.iter().enumerate() {
                let row_number = (number * segment_rows + index) as u64;
                let mut document = Document { words: row.each_ref().map(|words| words.join(" ")), ..Document::default() };
                document.stored[0] = format!("{row_number:032x}");
                writer.write(&document).unwrap();
            }
            writer.finish().unwrap()
        });
        assemble(&segments.collect::<Vec<_>>(), &dir.join(LEXICAL)).unwrap();
        write_document_rows(document_rows, dir).unwrap();
        let statistics = write_lengths(dir, document_rows).unwrap();
        let fields = TEXT_FIELDS.iter().zip(statistics).enumerate().map(|(index, (name, statistics))| FieldSettings {
            name: (*name).to_owned(),
            weight: if *name == "strings" { 0.0 } else { 1.0 + index as f64 / 3.0 },
            b: 0.1 * index as f64,
            words: statistics.words,
            rows: statistics.rows,
        });
        LexicalSettings { scoring: Scoring::Bm25f(Bm25f { k1: 1.5, fields: fields.collect() }), stop_words: Default::default() }
    }

    fn scores(lexical: &Lexical, query: &str, others: &[u32]) -> (BTreeMap<u32, f32>, BTreeMap<u32, TermScores>) {
        let selection = Selection { limit: 100, ..Selection::default() };
        let (found, _) = lexical.search(&ParsedQuery::words_of(query), &selection, others).unwrap();
        (found.ranked.into_iter().collect(), found.term_scores.into_iter().collect())
    }

    /// Every document is the row of its number.
    fn consecutive(rows: &[Row]) -> Vec<u32> {
        (0..).take(rows.len()).collect()
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let field = || prop::collection::vec(prop::sample::select(&WORDS[..]), 0..4);
        prop::collection::vec(prop::array::uniform10(field()), 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn scores_by_counts_equal_those_by_fields(
            rows in rows(),
            segment_rows in 1usize..12,
            query in prop::collection::vec(prop::sample::select(&WORDS[..]), 1..4),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let settings = written(dir.path(), &rows, segment_rows, &consecutive(&rows));
            let open = || Lexical::open(dir.path(), settings.clone()).unwrap();
            let counts = write(dir.path(), &settings.scoring).unwrap();
            let query = query.join(" ");
            let (by_field, terms_by_field) = scores(&open(), &query, &[0]);
            let (by_count, terms_by_count) = scores(&open().with_counts(dir.path(), counts).unwrap(), &query, &[0]);
            prop_assert_eq!(by_field.keys().collect::<Vec<_>>(), by_count.keys().collect::<Vec<_>>());
            prop_assert!(by_field.iter().all(|(row, score)| (score - by_count[row]).abs() < 1e-4), "{:?} {:?}", by_field, by_count);
            prop_assert_eq!(terms_by_field.keys().collect::<Vec<_>>(), terms_by_count.keys().collect::<Vec<_>>());
            for (row, ours) in terms_by_count {
                let theirs = terms_by_field[&row];
                prop_assert!((ours.score - theirs.score).abs() < 1e-4, "{:?} {:?}", ours, theirs);
                prop_assert_eq!((ours.words, ours.covered, ours.parts), (theirs.words, theirs.covered, theirs.parts));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// The stated effect of documents without a row: the other scores are those of an index in which they are rows.
        #[test]
        fn scores_are_those_of_all_documents_and_documents_without_a_row_are_not_found(
            rows in rows(),
            segment_rows in 1usize..12,
            query in prop::collection::vec(prop::sample::select(&WORDS[..]), 1..4),
            order in prop::collection::vec((any::<u32>(), any::<bool>()), 12),
        ) {
            let has_row = |document: usize| order[document].1;
            let mut with_row: Vec<usize> = (0..rows.len()).filter(|document| has_row(*document)).collect();
            with_row.sort_by_key(|document| order[*document].0);
            let mut document_rows = vec![GONE; rows.len()];
            with_row.iter().zip(0..).for_each(|(document, row)| document_rows[*document] = row);
            let (all, some) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let settings = written(all.path(), &rows, segment_rows, &consecutive(&rows));
            prop_assert_eq!(&settings.scoring, &written(some.path(), &rows, segment_rows, &document_rows).scoring);
            let counts = write(some.path(), &settings.scoring).unwrap();
            let query = query.join(" ");
            let expected: BTreeMap<u32, f32> = scores(&Lexical::open(all.path(), settings.clone()).unwrap(), &query, &[]).0
                .into_iter()
                .filter_map(|(document, score)| Some((document_rows[document as usize], score)).filter(|(row, _)| *row != GONE))
                .collect();
            let lexical = Lexical::open(some.path(), settings).unwrap();
            prop_assert_eq!((lexical.rows(), lexical.documents()), (with_row.len() as u64, rows.len() as u64));
            let others: Vec<u32> = (0..).take(with_row.len()).collect();
            let (by_field, terms_by_field) = scores(&lexical, &query, &others);
            prop_assert_eq!(&by_field, &expected);
            let lexical = lexical.with_counts(some.path(), counts).unwrap();
            let (by_count, terms_by_count) = scores(&lexical, &query, &others);
            prop_assert!(by_count.iter().all(|(row, score)| (score - expected[row]).abs() < 1e-4) && by_count.len() == expected.len());
            for row in &others {
                let id = format!("{:032x}", with_row[*row as usize]);
                prop_assert_eq!(&lexical.document(*row).unwrap().stored[0], &id);
                prop_assert_eq!(lexical.rows_of_ids(&[id]).unwrap(), [Some(*row)]);
                prop_assert!((terms_by_field[row].score - terms_by_count[row].score).abs() < 1e-4);
            }
            let gone: Vec<String> = (0..rows.len()).filter(|document| !has_row(*document)).map(|document| format!("{document:032x}")).collect();
            prop_assert!(lexical.rows_of_ids(&gone).unwrap().iter().all(Option::is_none));
        }
    }

    #[test]
    fn rows_of_documents_that_are_not_those_of_a_bundle_are_damage() {
        let dir = tempfile::tempdir().unwrap();
        let rows: Vec<Row> = (0..3).map(|_| std::array::from_fn(|_| vec!["read"])).collect();
        let settings = written(dir.path(), &rows, 2, &[1, GONE, 0]);
        assert_eq!(Lexical::open(dir.path(), settings.clone()).unwrap().rows(), 2);
        for damaged in [&[0, 0, 1][..], &[0, 1, 3], &[0, GONE, 2], &[0, 1], &[]] {
            write_document_rows(damaged, dir.path()).unwrap();
            let error = Lexical::open(dir.path(), settings.clone()).unwrap_err();
            assert!(matches!(&error, bundle::Error::Damaged { file, .. } if file.ends_with(DOCUMENT_ROWS)), "{damaged:?}: {error}");
        }
        std::fs::remove_file(dir.path().join(DOCUMENT_ROWS)).unwrap();
        assert!(Lexical::open(dir.path(), settings).unwrap_err().to_string().contains(DOCUMENT_ROWS));
    }

    #[test]
    fn counts_of_another_length_or_too_few_of_a_word_are_damage() {
        let dir = tempfile::tempdir().unwrap();
        let rows: Vec<Row> = (0..3).map(|_| std::array::from_fn(|_| vec!["read", "row"])).collect();
        let settings = written(dir.path(), &rows, 2, &consecutive(&rows));
        let counts = write(dir.path(), &settings.scoring).unwrap();
        let open = || Lexical::open(dir.path(), settings.clone()).unwrap();
        assert_eq!(counts, 6);
        assert!(matches!(open().with_counts(dir.path(), counts + 1), Err(bundle::Error::Damaged { file, .. }) if file.ends_with(COUNTS)));
        let path = dir.path().join(COUNT_STARTS);
        let mut bytes = std::fs::read(&path).unwrap();
        let last_term = bytes.len() - 16;
        bytes[last_term] = 6;
        std::fs::write(&path, bytes).unwrap();
        let opened = open().with_counts(dir.path(), counts).unwrap();
        let found = opened.search(&ParsedQuery::words_of("row"), &Selection { limit: 1, ..Selection::default() }, &[]);
        assert!(matches!(found, Err(bundle::Error::Damaged { file, .. }) if file.ends_with(COUNT_STARTS)));
    }
}

//! Scores from the counts of words in all fields: one list of postings for each word.

use tantivy::{
    DocAddress, SegmentReader, Term,
    postings::{BlockSegmentPostings, TermInfo},
    schema::{Field, IndexRecordOption},
};

use super::{Found, Scorer, TermScores, WeightedTerm, by_address};
use crate::{
    Result,
    error::Context,
    lexical::{
        counts::{Count, Counts},
        rows::SegmentRows,
        selection::Selection,
    },
    ranking::{Best, best_first},
};

/// The rows of a segment that have a word, and their counts.
struct WordPostings<'a> {
    term: &'a WeightedTerm,
    /// Bit of the word in [`TermScores::words`].
    bit: u64,
    info: TermInfo,
    counts: &'a [[u8; 4]],
}

/// A segment and the words of the query that it has.
struct Segment<'a> {
    reader: &'a SegmentReader,
    rows: SegmentRows<'a>,
    words: Vec<WordPostings<'a>>,
}

impl Segment<'_> {
    fn blocks(&self, any: Field, word: &WordPostings<'_>) -> Result<BlockSegmentPostings> {
        Ok(self.reader.inverted_index(any)?.read_block_postings_from_terminfo(&word.info, IndexRecordOption::Basic)?)
    }
}

impl<'a> Scorer<'a> {
    /// The best rows and the scores by word: see [`search`](Self::search). Reads the postings of the field `any` twice: for the scores of
    /// all rows, then for the scores by word of the few rows that need them.
    pub(super) fn search_by_count(
        &self,
        (counts, any): (&'a Counts, Field),
        selection: &Selection<'_>,
        unmatched: bool,
        others: &[u32],
    ) -> Result<Found> {
        let mut best = Best::new(selection.limit, selection.distinct);
        let (mut segments, mut scores) = (Vec::new(), Vec::new());
        for (number, reader) in self.index.searcher.segment_readers().iter().enumerate() {
            let segment = self.open_segment((counts, any), number, reader)?;
            self.score_all(&segment, any, selection, &mut scores)?;
            offer_all(&scores, segment.rows, selection, unmatched, &mut best);
            segments.push(segment);
        }
        let mut ranked: Vec<_> = best.into_rows().into_iter().map(|(scored, ())| scored).collect();
        ranked.sort_by(best_first);
        let mut rows: Vec<u32> = ranked.iter().map(|(row, _)| *row).chain(others.iter().copied()).collect();
        rows.sort_unstable();
        rows.dedup();
        let mut found: Vec<_> =
            by_address(self.index.rows, &rows)?.into_iter().map(|(address, row)| (address, row, TermScores::default())).collect();
        for of_segment in found.chunk_by_mut(|a, b| a.0.segment_ord == b.0.segment_ord) {
            self.score_by_word(&segments[of_segment[0].0.segment_ord as usize], any, of_segment)?;
        }
        Ok((ranked, found.into_iter().map(|(_, row, scores)| (row, scores)).collect()))
    }

    fn open_segment<'s>(&'s self, (counts, any): (&'s Counts, Field), number: usize, reader: &'s SegmentReader) -> Result<Segment<'s>> {
        let (inverted, mut words) = (reader.inverted_index(any)?, Vec::new());
        for (index, term) in self.terms.iter().enumerate() {
            let key = Term::from_field_text(any, &term.term);
            let Some(ordinal) = inverted.terms().term_ord(key.serialized_value_bytes())? else { continue };
            let info = inverted.get_term_info(&key)?.context("the lexical index is damaged: a word has no rows")?;
            let counts = counts.of_term(number, ordinal, info.doc_freq)?;
            let bit =
                if term.is_word { u32::try_from(index).ok().and_then(|index| 1u64.checked_shl(index)).unwrap_or_default() } else { 0 };
            words.push(WordPostings { term, bit, info, counts });
        }
        Ok(Segment { reader, rows: self.index.rows.of_segment(number), words })
    }

    /// Scores of all documents of a segment.
    fn score_all(&self, segment: &Segment<'_>, any: Field, selection: &Selection<'_>, scores: &mut Vec<f32>) -> Result<()> {
        scores.clear();
        scores.resize(segment.reader.max_doc() as usize, 0.0);
        for word in &segment.words {
            selection.deadline.check()?;
            let (mut blocks, mut counts) = (segment.blocks(any, word)?, word.counts);
            let (mut added, k1, factor) = (Vec::new(), self.k1, word.term.idf * (self.k1 + 1.0));
            while blocks.block_len() > 0 {
                let (of_block, rest) = counts.split_at_checked(blocks.block_len()).context(TOO_FEW_COUNTS)?;
                counts = rest;
                // First all numbers of a block, with vector instructions.
                added.clear();
                added.extend(of_block.iter().map(|count| match Count::from_bytes(*count).value() {
                    count if count > 0.0 => factor * count / (k1 + count),
                    _ => 0.0,
                }));
                for (&document, added) in blocks.docs().iter().zip(&added) {
                    *scores.get_mut(document as usize).context("the lexical index is damaged: a posting lies beyond its segment")? += added;
                }
                blocks.advance();
            }
        }
        Ok(())
    }

    /// Scores by word of some documents of a segment, in ascending order.
    fn score_by_word(&self, segment: &Segment<'_>, any: Field, found: &mut [(DocAddress, u32, TermScores)]) -> Result<()> {
        for word in &segment.words {
            let (mut blocks, mut counts, mut found) = (segment.blocks(any, word)?, word.counts, &mut *found);
            while blocks.block_len() > 0 && !found.is_empty() {
                let (of_block, rest) = counts.split_at_checked(blocks.block_len()).context(TOO_FEW_COUNTS)?;
                counts = rest;
                let documents = blocks.docs();
                let last = documents[documents.len() - 1];
                let (before, after) = found.split_at_mut(found.partition_point(|(address, ..)| address.doc_id <= last));
                for (address, _, scores) in before {
                    if let Ok(index) = documents.binary_search(&address.doc_id) {
                        self.add(scores, word, Count::from_bytes(of_block[index]));
                    }
                }
                found = after;
                blocks.advance();
            }
        }
        Ok(())
    }

    fn add(&self, scores: &mut TermScores, word: &WordPostings<'_>, count: Count) {
        if count.value() > 0.0 {
            scores.score += self.saturated(word.term, count.value());
            scores.covered += if word.term.is_word { word.term.idf } else { 0.0 };
            scores.words |= word.bit;
            for (part, score) in scores.parts.iter_mut().enumerate() {
                *score += if count.has(part) { word.term.idf } else { 0.0 };
            }
        }
    }
}

/// Offers the rows of a segment that the selection accepts.
fn offer_all(scores: &[f32], rows: SegmentRows<'_>, selection: &Selection<'_>, unmatched: bool, best: &mut Best<'_>) {
    for (first, chunk) in (0..).step_by(SCANNED).zip(scores.chunks(SCANNED)) {
        let least = best.threshold();
        // Scores are not negative, so their bits are in the same order; integers are compared with vector instructions.
        let most = f32::from_bits(chunk.iter().map(|score| score.to_bits()).max().unwrap_or_default());
        if most < least || (most == 0.0 && !unmatched) {
            continue;
        }
        for (document, &score) in (first..).zip(chunk) {
            if (score > 0.0 || unmatched)
                && score >= best.threshold()
                && let Some(row) = rows.row(document).filter(|row| selection.accepts(*row))
            {
                best.offer((row, score), ());
            }
        }
    }
}

/// Scores that are compared at the same time with the worst of the best rows.
const SCANNED: usize = 64;
const TOO_FEW_COUNTS: &str = "the lexical index is damaged: a word has more rows than counts";

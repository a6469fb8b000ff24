//! Scores from the postings of every field: formats 3 and 4, and searches without some fields.

use tantivy::{SegmentReader, Term, schema::IndexRecordOption};

use super::{Found, Part, Scorer, TermScores, by_address};
use crate::{
    Result,
    deadline::Deadline,
    error::Context,
    lexical::selection::Selection,
    ranking::{Best, best_first},
};

/// A row while it is scored.
#[derive(Clone, Copy, Default)]
struct Cell {
    scores: TermScores,
    /// Weighted count of the current word (BM25F).
    count: f32,
    /// Number (from 1) of the current word.
    term: u16,
    /// Bit by [`Part`]: does a field of the group contain the current word?
    seen: u8,
}

impl Cell {
    /// Adds a part of the count of the current word.
    fn add(&mut self, part: Part, count: f32, idf: f32) {
        self.count += count;
        if self.seen & (1 << part as u8) == 0 {
            self.seen |= 1 << part as u8;
            self.scores.parts[part as usize] += idf;
        }
    }
}

impl Scorer<'_> {
    /// The best rows and the scores by word: see [`search`](Self::search). Reads the postings of every field.
    pub(super) fn search_by_field(&self, selection: &Selection<'_>, unmatched: bool, others: &[u32]) -> Result<Found> {
        let mut best = Best::new(selection.limit, selection.distinct);
        let mut term_scores = Vec::with_capacity(others.len());
        let mut cells = Vec::new();
        let mut others = by_address(self.index.rows, others)?.into_iter().peekable();
        for (number, segment) in self.index.searcher.segment_readers().iter().enumerate() {
            self.accumulate(segment, &mut cells, selection.deadline)?;
            let rows = self.index.rows.of_segment(number);
            for (document, cell) in (0..).zip(&mut cells) {
                self.close(cell);
                let score = cell.scores.score;
                if (score > 0.0 || unmatched)
                    && score >= best.threshold()
                    && let Some(row) = rows.row(document).filter(|row| selection.accepts(*row))
                {
                    best.offer((row, score), cell.scores);
                }
            }
            while let Some((address, row)) = others.next_if(|(address, _)| address.segment_ord as usize == number) {
                term_scores.push((row, cells[address.doc_id as usize].scores));
            }
        }
        let mut found = best.into_rows();
        found.sort_by(|a, b| best_first(&a.0, &b.0));
        term_scores.extend(found.iter().map(|&((row, _), scores)| (row, scores)));
        Ok((found.into_iter().map(|(scored, _)| scored).collect(), term_scores))
    }

    /// Adds the current word of a cell to the score.
    fn close(&self, cell: &mut Cell) {
        if cell.count > 0.0 {
            let term = &self.terms[usize::from(cell.term) - 1];
            cell.scores.score += self.saturated(term, cell.count);
            cell.count = 0.0;
        }
    }

    /// Scores of every document of a segment, each to be [closed](Self::close).
    fn accumulate(&self, segment: &SegmentReader, cells: &mut Vec<Cell>, deadline: Deadline) -> Result<()> {
        cells.clear();
        cells.resize(segment.max_doc() as usize, Cell::default());
        let inverted = self.index.fields.iter().map(|field| segment.inverted_index(field.field)).collect::<tantivy::Result<Vec<_>>>()?;
        let lengths =
            self.index.fields.iter().map(|field| segment.get_fieldnorms_reader(field.field)).collect::<tantivy::Result<Vec<_>>>()?;
        for (number, term) in self.terms.iter().enumerate() {
            deadline.check()?;
            let number = u16::try_from(number + 1)?;
            for (index, field) in self.index.fields.iter().enumerate().filter(|(index, _)| term.by_field[*index] > 0.0) {
                let key = Term::from_field_text(field.field, &term.term);
                let Some(mut postings) = inverted[index].read_block_postings(&key, IndexRecordOption::WithFreqs)? else { continue };
                let (weight, lengths) = (term.by_field[index], &lengths[index]);
                while postings.block_len() > 0 {
                    for (&doc, &frequency) in postings.docs().iter().zip(postings.freqs()) {
                        let cell =
                            cells.get_mut(doc as usize).context("the lexical index is damaged: a posting lies beyond its segment")?;
                        if cell.term != number {
                            self.close(cell);
                            (cell.term, cell.seen) = (number, 0);
                            if term.is_word {
                                cell.scores.covered += term.idf;
                                cell.scores.words |= 1u64.checked_shl(u32::from(number - 1)).unwrap_or_default();
                            }
                        }
                        let norm_id = lengths.fieldnorm_id(doc);
                        if self.is_sum() {
                            let score = self.sum_score(weight, frequency, field.norm(norm_id));
                            cell.scores.score += score;
                            cell.scores.parts[field.part as usize] += score;
                        } else {
                            cell.add(field.part, field.count(frequency, norm_id), term.idf);
                        }
                    }
                    postings.advance();
                }
            }
        }
        Ok(())
    }
}

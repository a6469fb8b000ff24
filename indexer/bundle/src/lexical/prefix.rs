//! Rows with a word that begins with a prefix.

use tantivy::{DocSet, TERMINATED, postings::TermInfo, schema::IndexRecordOption};

use super::Lexical;
use crate::{Result, deadline::Deadline};

/// Words of a field that a prefix stands for; further words are ignored.
pub const MAX_EXPANSIONS: usize = 1000;

impl Lexical {
    /// By row: has a text field a word with the prefix, or the word that the prefix is stemmed to? Words are in the order of the index.
    pub(super) fn rows_of_prefix(&self, prefix: &str, deadline: Deadline) -> Result<Vec<bool>> {
        // `parse` is the term `pars` in the index.
        let stem = self.terms(&[prefix.to_owned()]).pop().unwrap_or_else(|| prefix.to_owned());
        let mut rows = vec![false; usize::try_from(self.rows())?];
        for (number, segment) in self.searcher.segment_readers().iter().enumerate() {
            for field in &self.text_fields {
                let inverted = segment.inverted_index(field.field)?;
                let mut mark = |info: &TermInfo| -> Result<()> {
                    let mut postings = inverted.read_postings_from_terminfo(info, IndexRecordOption::Basic)?;
                    while postings.doc() != TERMINATED {
                        self.set(&mut rows, number, postings.doc())?;
                        postings.advance();
                    }
                    Ok(())
                };
                if let Some(info) = inverted.terms().get(stem.as_bytes())? {
                    mark(&info)?;
                }
                let mut words = inverted.terms().range().ge(prefix.as_bytes()).into_stream()?;
                for _ in 0..MAX_EXPANSIONS {
                    if !words.advance() || !words.key().starts_with(prefix.as_bytes()) {
                        break;
                    }
                    deadline.check()?;
                    mark(words.value())?;
                }
            }
        }
        Ok(rows)
    }
}

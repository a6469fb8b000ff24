//! The scores of one query.

/// Scores of one query against every code of the batch.
#[derive(Debug)]
pub struct Row<'a> {
    /// `[B]`, s = scale · cosine.
    pub scores: &'a [f64],
    /// Index of the code that belongs to the query.
    pub own: usize,
    /// Graded relevance, `[B]`; none: only the own code is relevant.
    pub grades: Option<&'a [f64]>,
}

impl Row<'_> {
    /// Relevance of a code.
    pub fn grade(&self, code: usize) -> f64 {
        match self.grades {
            Some(grades) => grades[code],
            None => f64::from(u8::from(code == self.own)),
        }
    }
}

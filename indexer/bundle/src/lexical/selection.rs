//! Which rows a lexical search returns.

use super::Part;
use crate::{
    deadline::Deadline,
    ranking::{GroupOf, is_allowed},
};

/// Which rows a lexical search returns, and by which fields.
#[derive(Clone, Copy, Default)]
pub struct Selection<'a> {
    /// Largest number of rows.
    pub limit: usize,
    /// One flag a row; none: all rows.
    pub allowed: Option<&'a [bool]>,
    /// A group of fields that is not searched.
    pub hidden: Option<Part>,
    /// Only the best row of each group is returned; none: every row.
    pub distinct: Option<GroupOf<'a>>,
    /// When the search must end.
    pub deadline: Deadline,
}

impl Selection<'_> {
    /// Is the row allowed?
    pub fn accepts(&self, row: u32) -> bool {
        is_allowed(self.allowed, row)
    }
}

impl std::fmt::Debug for Selection<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Selection").field("limit", &self.limit).field("hidden", &self.hidden).finish_non_exhaustive()
    }
}

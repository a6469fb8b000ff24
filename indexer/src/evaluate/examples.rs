//! Queries that the page shows.

use super::ranks::Ranks;

/// Found functions that an example shows.
pub const SHOWN: usize = 5;

/// A query with the names of the functions that were found.
#[derive(Debug, Clone)]
pub struct Example {
    pub query: String,
    /// Name of the relevant function.
    pub relevant: String,
    pub ranks: Ranks,
    /// Names, by system.
    pub found: [Vec<String>; 3],
}

/// Queries that the page shows.
#[derive(Debug, Default)]
pub struct Examples {
    /// Where hybrid search ranks the relevant function worst.
    pub worst: Vec<Example>,
    /// Where hybrid search gains most against BM25.
    pub wins: Vec<Example>,
    /// Where hybrid search loses most against BM25.
    pub losses: Vec<Example>,
}

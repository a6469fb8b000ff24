//! Results of a search.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::snippet::Line;

/// One result: a function.
#[derive(Debug, Clone, Serialize)]
pub struct Hit {
    /// Row of the bundle.
    pub row: u32,
    /// Score in the query's mode; larger is better. Scores of different modes and bundles are not comparable.
    pub score: f64,
    /// Id of the function, which stays the same in other bundles.
    pub id: String,
    pub language: String,
    pub repo: String,
    /// Commit of the repository, or sha256 of the package, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    pub path: String,
    pub func_name: String,
    /// Link to the function, by the template of its repository where there is one.
    pub url: String,
    /// First and last line in the file, `10-20`; empty where the source has no lines.
    pub lines: String,
    /// First sentence of the documentation.
    pub summary: String,
    pub code: String,
    /// Number of other functions with the same code and documentation, which meet the query's conditions too.
    pub aliases: usize,
    /// Places of the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also_in: Vec<Place>,
    /// The lines of the code with most of the query's words, as many as [`Query::snippet_lines`](crate::Query::snippet_lines).
    pub snippet: Vec<Line>,
    /// Where the score comes from, if [`Query::explain`](crate::Query::explain) is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// Where a function is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Row of the bundle.
    pub row: u32,
    /// Id of the function.
    pub id: String,
    pub repo: String,
    pub path: String,
    pub func_name: String,
    pub url: String,
    /// First and last line in the file, `10-20`; empty where the source has no lines.
    pub lines: String,
}

/// Places of aliases that a terminal shows.
const SHOWN_PLACES: usize = 3;

/// Where a score comes from. A list that lacks the row has no entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Rank and score in the lexical list.
    pub bm25: Option<ListEntry>,
    /// The part of the lexical score that each text field adds.
    pub fields: BTreeMap<String, f32>,
    /// Rank and inner product in the vector list.
    pub vector: Option<ListEntry>,
    /// The fusion, in words.
    pub fusion: String,
    /// What each feature of a learned fusion adds to the score.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<&'static str, f64>,
    /// What each feature of the reranking model adds to the score.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reranking: BTreeMap<&'static str, f64>,
}

/// Rank (from 1) and score of a row in one list.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ListEntry {
    pub rank: usize,
    pub score: f32,
}

impl Hit {
    /// Text for a terminal: number, place, name and score, the summary, and the snippet with the query's words in bold where `bold`.
    /// Control characters of the function's own texts are left out, so that they cannot move the cursor.
    pub fn render(&self, number: usize, bold: bool) -> String {
        let line = first_line(&self.lines);
        let mut text = format!("{number:>2}. {} {}:{line}  {}  ({:.3})\n", self.repo, self.path, self.func_name, self.score);
        if let Some(explanation) = &self.explanation {
            text += &format!("    {explanation}\n");
        }
        if !self.summary.is_empty() {
            let summary: String = self.summary.chars().take(100).collect();
            text += &format!("    {summary}\n");
        }
        if self.aliases > 0 {
            let places = self.also_in.iter().take(SHOWN_PLACES);
            let places: Vec<String> = places.map(|place| format!("{} {}:{}", place.repo, place.path, first_line(&place.lines))).collect();
            let rest = self.aliases.saturating_sub(places.len());
            let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            text += &format!("    also in {}{rest}\n", places.join(", "));
        }
        let mut text: String = text.chars().filter(|&c| c == '\n' || !c.is_control()).collect();
        let (before, after) = if bold { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        for line in &self.snippet {
            text += &format!("    | {}\n", line.marked(before, after));
        }
        text
    }
}

fn first_line(lines: &str) -> &str {
    lines.split('-').next().unwrap_or_default()
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry =
            |entry: Option<ListEntry>| entry.map_or("not found".to_owned(), |entry| format!("{:.3} (rank {})", entry.score, entry.rank));
        let fields: Vec<String> = self.fields.iter().map(|(name, score)| format!("{name} {score:.3}")).collect();
        write!(f, "bm25 {} = {}; vector {}; fusion {}", entry(self.bm25), fields.join(" + "), entry(self.vector), self.fusion)?;
        let sum =
            |parts: &BTreeMap<&str, f64>| parts.iter().map(|(name, part)| format!("{name} {part:.2}")).collect::<Vec<_>>().join(" + ");
        if !self.features.is_empty() {
            write!(f, ": {}", sum(&self.features))?;
        }
        if self.reranking.is_empty() { Ok(()) } else { write!(f, "; reranking: {}", sum(&self.reranking)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_not_printed() {
        let hit = Hit {
            row: 0,
            score: 0.5,
            id: String::new(),
            language: "go".to_owned(),
            repo: "a\x1b[2J".to_owned(),
            commit: None,
            path: "p\n.go".to_owned(),
            func_name: "f".to_owned(),
            url: String::new(),
            lines: "3-9".to_owned(),
            summary: "s\u{7}".to_owned(),
            code: String::new(),
            aliases: 1,
            also_in: vec![Place {
                row: 1,
                id: String::new(),
                repo: "b\x1b[2J".to_owned(),
                path: "q.go".to_owned(),
                func_name: String::new(),
                url: String::new(),
                lines: "4-5".to_owned(),
            }],
            snippet: Vec::new(),
            explanation: None,
        };
        let text = hit.render(1, true);
        assert!(!text.contains(['\x1b', '\u{7}']) && text.contains("also in b[2J q.go:4\n"), "{text}");
    }
}

//! Snippets: the lines of a function with most of a query's words.

use std::collections::BTreeSet;

use ledger::words;
use serde::Serialize;

/// Characters of a line that are shown.
const WIDTH: usize = 120;

/// A line of a snippet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Line number within the function, from 1.
    pub number: usize,
    pub text: String,
    /// Byte ranges (from, to) of the text that match a word of the query.
    pub marks: Vec<(usize, usize)>,
}

impl Line {
    /// The text, with each match between `before` and `after`.
    pub fn marked(&self, before: &str, after: &str) -> String {
        let (mut text, mut at) = (String::new(), 0);
        for &(from, to) in &self.marks {
            text += &format!("{}{before}{}{after}", &self.text[at..from], &self.text[from..to]);
            at = to;
        }
        text + &self.text[at..]
    }
}

/// The `count` consecutive lines (without blank lines) that contain most of the terms; the first lines where none does. `stem` turns
/// a word into its term in the index.
pub(crate) fn snippet(code: &str, count: usize, terms: &BTreeSet<String>, stem: impl Fn(&str) -> Option<String>) -> Vec<Line> {
    let mut lines = Vec::new();
    if count == 0 {
        return lines;
    }
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (number, text) in code.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let text: String = text.chars().take(WIDTH).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let (mut marks, mut matched) = (Vec::new(), BTreeSet::new());
        for (from, run) in runs(&text) {
            let mut parts = Vec::new();
            words::subtokens(run, &mut parts);
            let matches: Vec<String> = parts.iter().filter_map(|part| stem(part)).filter(|term| terms.contains(term)).collect();
            if !matches.is_empty() {
                marks.push((from, from + run.len()));
                matched.extend(matches);
            }
        }
        lines.push(Line { number: number + 1, text, marks });
        found.push(matched);
    }
    let starts = 0..=lines.len().saturating_sub(count);
    let score = |start: usize| {
        let window = &found[start..found.len().min(start + count)];
        let distinct = window.iter().flatten().collect::<BTreeSet<_>>().len();
        (distinct, window.iter().map(BTreeSet::len).sum::<usize>())
    };
    // Of equal windows the first one: it is nearer to the signature.
    let best = starts.rev().max_by_key(|&start| score(start)).unwrap_or_default();
    lines.into_iter().skip(best).take(count).collect()
}

/// Runs of letters, digits and underscores, with their byte offsets.
fn runs(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.split(move |c: char| !is_word(c))
        .filter(|run| !run.is_empty())
        .map(move |run| (run.as_ptr() as usize - text.as_ptr() as usize, run))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str =
        "def load(path):\n    with open(path) as handle:\n\n        rows = parseCsvRows(handle)\n        return [row for row in rows]\n";

    fn snippet_for(terms: &[&str]) -> Vec<Line> {
        let terms = terms.iter().map(|term| (*term).to_owned()).collect();
        snippet(CODE, 3, &terms, |word| Some(word.trim_end_matches('s').to_owned()))
    }

    #[test]
    fn the_lines_with_most_words_are_shown_with_matches_marked() {
        let lines = snippet_for(&["csv", "handle", "row"]);
        assert_eq!(lines.iter().map(|line| line.number).collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!(lines[1].marked("[", "]"), "        [rows] = [parseCsvRows]([handle])");
        assert_eq!(snippet_for(&["nowhere"])[0].number, 1);
        assert!(snippet("", 3, &BTreeSet::new(), |_| None).is_empty() && snippet(CODE, 0, &BTreeSet::new(), |_| None).is_empty());
    }

    #[test]
    fn marks_lie_on_character_boundaries() {
        let code = "läse(größe) # ß\u{7}\u{1f600} größe";
        let line = &snippet(code, 3, &BTreeSet::from(["grosse".to_owned()]), |word| Some(word.to_owned()))[0];
        assert_eq!(line.marked("<", ">"), "läse(<größe>) # ß \u{1f600} <größe>");
    }
}

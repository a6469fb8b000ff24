//! Training queries by fixed rules, of the kinds that people type. Each is made of one function of a split:
//!
//! | kind | text | relevant |
//! |---|---|---|
//! | documentation | the summary | the function |
//! | phrase | the first words of the summary | the function |
//! | keywords | the rarest words of the summary | the function |
//! | name words | the words of the name | the function |
//! | partial name | the words of the name without the first or last one | the function |
//! | symbol | the qualified name | the function |
//! | class | the name of the class | the functions of the class in the file |
//! | file | the words of the file name | the functions of the file |
//! | topic | `how`, the words of the file name, and a rare word of a function's name | the functions of the file |
//!
//! Where the text is made of the documentation, the documentation is not searched.

use std::collections::HashMap;

use bundle::reranking::names::texts_of;
use ledger::words;

use crate::split_queries::{SplitFunction, SplitQuery};

/// What answers a training query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relevant {
    /// The function.
    Function,
    /// The functions of its class in its file.
    Class,
    /// The functions of its file.
    File,
}

/// A query and what answers it.
#[derive(Debug)]
pub struct TrainingQuery<'f> {
    pub query: SplitQuery<'f>,
    pub relevant: Relevant,
}

const KINDS: usize = 9;
/// Words of a phrase and of keywords.
const PHRASE_WORDS: usize = 5;
const KEYWORDS: usize = 3;

/// At most `limit` queries: each function gives one, of the kinds in turn; a kind that a function lacks is left out. Every second query of a
/// kind searches only the function's repository.
pub fn training_queries<'f>(functions: &[&'f SplitFunction], limit: usize) -> Vec<TrainingQuery<'f>> {
    let frequencies = Frequencies::of(functions);
    let rounds = (limit / functions.len().max(1) + 1).min(KINDS);
    let mut queries = Vec::new();
    for round in 0..rounds {
        for (index, function) in functions.iter().enumerate() {
            if queries.len() == limit {
                return queries;
            }
            if let Some((text, hides_documentation, relevant)) = query_of(function, (index + round) % KINDS, &frequencies) {
                let within_repository = (index / KINDS).is_multiple_of(2);
                queries.push(TrainingQuery { query: SplitQuery { text, function, hides_documentation, within_repository }, relevant });
            }
        }
    }
    queries
}

/// In how many functions each word of the summaries and names is.
struct Frequencies(HashMap<String, u32>);

impl Frequencies {
    fn of(functions: &[&SplitFunction]) -> Self {
        let mut counts = HashMap::new();
        for function in functions {
            let mut words = words_of(&function.summary);
            words.extend(words_of(&function.name));
            words.sort();
            words.dedup();
            words.into_iter().for_each(|word| *counts.entry(word).or_default() += 1);
        }
        Self(counts)
    }

    /// The rarest of the words, in their order.
    fn rarest(&self, words: &[String], count: usize) -> Vec<String> {
        let mut order: Vec<usize> = (0..words.len()).filter(|&index| !words[..index].contains(&words[index])).collect();
        order.sort_by_key(|&index| (self.0.get(&words[index]).copied().unwrap_or_default(), index));
        order.truncate(count);
        order.sort_unstable();
        order.into_iter().map(|index| words[index].clone()).collect()
    }
}

fn words_of(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    words::subtokens(text, &mut found);
    found
}

/// The text of a kind, whether it is made of the documentation, and what answers it.
fn query_of(function: &SplitFunction, kind: usize, frequencies: &Frequencies) -> Option<(String, bool, Relevant)> {
    let [name, class, file, folders] = texts_of(&function.name, &function.path);
    let summary = words_of(&function.summary);
    let name_words = words_of(&name);
    let text = |words: &[String], least: usize| (words.len() >= least).then(|| words.join(" "));
    match kind {
        0 => Some((function.summary.clone(), true, Relevant::Function)).filter(|_| !summary.is_empty()),
        1 => {
            let sentence = function.summary.split(['.', ',', ';', ':', '(']).next().unwrap_or_default();
            let words: Vec<&str> = sentence.split_whitespace().take(PHRASE_WORDS).collect();
            (words.len() >= 2).then(|| (words.join(" "), true, Relevant::Function))
        }
        2 => Some((text(&frequencies.rarest(&summary, KEYWORDS), 2)?, true, Relevant::Function)),
        3 => Some((text(&name_words, 2)?, false, Relevant::Function)),
        4 => {
            let part =
                if name_words.len().is_multiple_of(2) { name_words.get(1..) } else { name_words.split_last().map(|(_, first)| first) };
            Some((text(part?, 2)?, false, Relevant::Function))
        }
        5 => Some((if class.is_empty() { name } else { format!("{class}.{name}").replace(' ', ".") }, false, Relevant::Function)),
        6 => Some((class.split(' ').next_back()?.to_owned(), false, Relevant::Class)).filter(|(text, ..)| !text.is_empty()),
        7 => {
            let stem = words_of(&file);
            let folder = folders.rsplit('/').next().unwrap_or_default();
            let words = if stem.len() < 2 { [words_of(folder), stem].concat() } else { stem };
            Some((text(&words, 1)?, false, Relevant::File))
        }
        _ => {
            let stem = words_of(&file);
            let rare = frequencies.rarest(&name_words, 2);
            let words: Vec<String> = stem.into_iter().chain(rare).collect();
            Some((format!("how {}", text(&words, 2)?), false, Relevant::File))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_gives_queries_of_every_kind() {
        let function = SplitFunction {
            row: 0,
            id: String::new(),
            language: "python".to_owned(),
            repo: "web".to_owned(),
            path: "src/web/url_dispatcher.py".to_owned(),
            name: "UrlDispatcher.resolve_static_route".to_owned(),
            summary: "Find the resource that matches a request, or none.".to_owned(),
        };
        let frequencies = Frequencies::of(&[&function]);
        let texts: Vec<String> = (0..KINDS).map(|kind| query_of(&function, kind, &frequencies).unwrap().0).collect();
        assert_eq!(
            texts,
            [
                "Find the resource that matches a request, or none.",
                "Find the resource that matches",
                "find the resource",
                "resolve static route",
                "resolve static",
                "UrlDispatcher.resolve_static_route",
                "UrlDispatcher",
                "url dispatcher",
                "how url dispatcher resolve static",
            ]
        );
        let queries = training_queries(&[&function], 100);
        assert_eq!(queries.len(), KINDS);
        assert!(queries.iter().all(|query| query.query.hides_documentation == (0..3).any(|kind| texts[kind] == query.query.text)));
    }
}

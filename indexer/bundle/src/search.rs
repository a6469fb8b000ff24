//! A search in an open bundle.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    Bundle, Error, Explanation, Hit, ListEntry, Mode, ParsedQuery, Place, Query, Result,
    deadline::Deadline,
    fusion::Candidates,
    groups::{Group, Groups},
    guard::guarded,
    lexical::{Filter, QueryStats, Selection, TermScores},
    ranking::{GroupOf, Scored, is_allowed, keep_distinct},
    reranking::{self, QueryNames},
    snippet::{Line, snippet},
};

/// The lexical and the vector list of a query, best first.
#[derive(Debug, Clone, Default)]
pub struct CandidateLists {
    pub lexical: Vec<Scored>,
    pub vector: Vec<Scored>,
    pub stats: QueryStats,
    /// The scored words of the query and their idf.
    pub words: Vec<(String, f32)>,
    /// Of every row of either list; a row without any term of the query is missing.
    pub term_scores: HashMap<u32, TermScores>,
}

impl CandidateLists {
    /// The lists without the rows that `keep` refuses.
    pub fn filtered(&self, keep: impl Fn(u32) -> bool) -> Self {
        let filter = |list: &[Scored]| list.iter().filter(|(row, _)| keep(*row)).copied().collect();
        Self {
            lexical: filter(&self.lexical),
            vector: filter(&self.vector),
            stats: self.stats,
            words: self.words.clone(),
            term_scores: self.term_scores.iter().filter(|(row, _)| keep(**row)).map(|(row, scores)| (*row, *scores)).collect(),
        }
    }
}

/// Longest text of a query.
pub const MAX_QUERY_BYTES: usize = 1 << 20;
/// Largest number of rows with the name that a query is.
const MAX_NAMED: usize = 1000;
/// Places of aliases that a hit has.
const MAX_PLACES: usize = 10;

impl Bundle {
    /// The best functions for a query, best first.
    ///
    /// # Errors
    /// [`Error::Glob`](crate::Error::Glob) for an invalid path filter, [`Error::Runtime`](crate::Error::Runtime) where the encoder cannot be
    /// opened (not with [`Mode::Bm25`]), [`Error::QueryTooLong`] for a text of more than 1 MiB, [`Error::TimeLimit`],
    /// [`Error::Damaged`] for a damaged index.
    pub fn search(&self, query: &Query) -> Result<Vec<Hit>> {
        if query.text.len() > MAX_QUERY_BYTES {
            return Err(Error::QueryTooLong { bytes: query.text.len(), limit: MAX_QUERY_BYTES });
        }
        guarded(self.dir(), || self.search_checked(query, Deadline::after(query.time_limit)))
    }

    fn search_checked(&self, query: &Query, deadline: Deadline) -> Result<Vec<Hit>> {
        let parsed = ParsedQuery::parse(&query.text).without(self.only_language(query.language));
        let matching = self.matching(&parsed, query, deadline)?;
        let allowed = matching.as_deref().or(self.live_rows());
        let group_of = |row: u32| self.groups().map_or(row, |groups| groups.of(row, Group::Alias));
        let has_aliases = self.groups().is_some_and(Groups::has_aliases);
        let distinct: Option<GroupOf<'_>> = if has_aliases && query.group_aliases { Some(&group_of) } else { None };
        let (lists, vector) = self.retrieve(query, &parsed, allowed, distinct, deadline)?;
        let cosine = |row: u32| if vector.is_empty() { 0.0 } else { self.vectors().score(row, &vector) };
        let mut ranked: Vec<(u32, f64)> = match query.mode {
            Mode::Bm25 => widened(&lists.lexical),
            Mode::Vector => widened(&lists.vector),
            Mode::Hybrid => self.hybrid(&query.text, &lists, &cosine),
        };
        if let (Mode::Hybrid, Some(diversity), Some(groups)) = (query.mode, &self.manifest().diversity, self.groups()) {
            diversity.apply(&mut ranked, groups);
        }
        if query.mode != Mode::Vector {
            put_first(&mut ranked, &self.rows_of_name(&query.text, allowed)?);
        }
        if let Some(group_of) = distinct {
            keep_distinct(&mut ranked, group_of);
        }
        ranked.truncate(query.limit);
        let mut explanations = if query.explain { self.explanations(query, &parsed, &ranked, &lists, &cosine)? } else { HashMap::new() };
        let terms: BTreeSet<String> = self.lexical().distinct_terms(&parsed.words).into_iter().collect();
        let stem = self.lexical().stemmer();
        let snippet = |code: &str| snippet(code, query.snippet_lines, &terms, &stem);
        let aliases = |row: u32| if distinct.is_some() { self.aliases(row, allowed) } else { Vec::new() };
        ranked.into_iter().map(|(row, score)| self.hit(row, score, &aliases(row), &snippet, explanations.remove(&row))).collect()
    }

    /// Both lists of a query, and its vector.
    fn retrieve(
        &self,
        query: &Query,
        parsed: &ParsedQuery,
        allowed: Option<&[bool]>,
        distinct: Option<GroupOf<'_>>,
        deadline: Deadline,
    ) -> Result<(CandidateLists, Vec<f32>)> {
        let rows = usize::try_from(self.manifest().rows)?;
        let limit = self.manifest().candidates.max(query.limit).clamp(1, rows.max(1));
        let vector = if query.mode == Mode::Bm25 || parsed.is_empty() { Vec::new() } else { self.encode_queries([parsed])? };
        let nearest = if vector.is_empty() { Vec::new() } else { self.vectors().search_distinct(&vector, limit, allowed, distinct)? };
        let lists = self.candidate_lists(parsed, query.mode, &Selection { limit, allowed, hidden: None, distinct, deadline }, nearest)?;
        Ok((lists, vector))
    }

    /// The fused candidates of a query, best first, with the features by which a reranking model orders them; empty in formats 3 and 4.
    /// Aliases are not grouped.
    pub fn reranking_features(&self, query: &Query) -> Result<Vec<(u32, [f64; reranking::FEATURES.len()])>> {
        let parsed = ParsedQuery::parse(&query.text).without(self.only_language(query.language));
        let deadline = Deadline::after(query.time_limit);
        let matching = self.matching(&parsed, query, deadline)?;
        let (lists, vector) = self.retrieve(query, &parsed, matching.as_deref().or(self.live_rows()), None, deadline)?;
        let cosine = |row: u32| if vector.is_empty() { 0.0 } else { self.vectors().score(row, &vector) };
        let fused = self.fused(&lists, &cosine);
        let features = self.with_fused(&query.text, &lists, &fused, reranking::features).unwrap_or_default();
        Ok(fused.into_iter().map(|(row, _)| row).zip(features).collect())
    }

    /// The candidates of both lists, fused and then ranked again where the bundle has a model for it; best first.
    fn hybrid(&self, text: &str, lists: &CandidateLists, cosine: &dyn Fn(u32) -> f32) -> Vec<(u32, f64)> {
        let fused = self.fused(lists, cosine);
        let reranker = self.manifest().reranker.as_ref();
        let reranked = reranker.and_then(|reranker| self.with_fused(text, lists, &fused, |candidates| reranker.rerank(candidates)));
        reranked.unwrap_or(fused)
    }

    /// The candidates of both lists with their fused score, best first.
    pub fn fused(&self, lists: &CandidateLists, cosine: &dyn Fn(u32) -> f32) -> Vec<(u32, f64)> {
        self.with_candidates(lists, cosine, |candidates| self.manifest().fusion.fuse(candidates))
    }

    /// Calls a function with the fused candidates of a query, as a reranking model reads them; none in formats 3 and 4.
    pub fn with_fused<T>(
        &self,
        text: &str,
        lists: &CandidateLists,
        fused: &[(u32, f64)],
        with: impl FnOnce(&reranking::Candidates<'_>) -> T,
    ) -> Option<T> {
        let (names, groups) = (self.names()?, self.groups()?);
        let count = |list: &[Scored]| list.len().min(self.manifest().candidates);
        let query = QueryNames::new(text, &lists.words, self.lexical().stemmer());
        Some(with(&reranking::Candidates {
            fused,
            lexical: &lists.lexical[..count(&lists.lexical)],
            vector: &lists.vector[..count(&lists.vector)],
            stats: lists.stats,
            words: &lists.words,
            term_scores: &|row| lists.term_scores.get(&row).copied().unwrap_or_default(),
            names,
            groups,
            query: &query,
        }))
    }

    /// Allowed aliases of a row.
    fn aliases(&self, row: u32, allowed: Option<&[bool]>) -> Vec<u32> {
        self.groups().map(|groups| groups.aliases(row).filter(|&row| is_allowed(allowed, row)).collect()).unwrap_or_default()
    }

    /// Allowed rows whose name, qualified name or end of the path is the whole query, which is one word; sorted.
    fn rows_of_name(&self, text: &str, allowed: Option<&[bool]>) -> Result<Vec<u32>> {
        let text = text.trim();
        if text.contains(char::is_whitespace) {
            return Ok(Vec::new());
        }
        let mut rows = self.lexical().rows_of_names(text)?;
        rows.retain(|&row| is_allowed(allowed, row));
        rows.truncate(MAX_NAMED);
        Ok(rows)
    }

    /// By row: does it meet the query's conditions, and is it not deleted? None where the query has no conditions.
    fn matching(&self, parsed: &ParsedQuery, query: &Query, deadline: Deadline) -> Result<Option<Vec<bool>>> {
        let filter =
            Filter { language: query.language.map(|language| language.to_string()), repo: query.repo.clone(), path: query.path.clone() };
        let mut matching = self.lexical().matching(parsed, &filter, deadline)?;
        if let (Some(matching), Some(live)) = (&mut matching, self.live_rows()) {
            matching.iter_mut().zip(live).for_each(|(matches, is_live)| *matches &= is_live);
        }
        Ok(matching)
    }

    fn hit(
        &self,
        row: u32,
        score: f64,
        aliases: &[u32],
        snippet: &dyn Fn(&str) -> Vec<Line>,
        explanation: Option<Explanation>,
    ) -> Result<Hit> {
        let document = self.lexical().document(row)?;
        let language = document.language;
        let [id, repo, path, func_name, url, lines, summary, code] = document.stored;
        let link = |repo: &str, path: &str, lines: &str, url: String| self.repositories().url(repo, path, lines).unwrap_or(url);
        let url = link(&repo, &path, &lines, url);
        let place = |row: &u32| -> Result<Place> {
            let [id, repo, path, func_name, url, lines, ..] = self.lexical().document(*row)?.stored;
            let url = link(&repo, &path, &lines, url);
            Ok(Place { row: *row, id, repo, path, func_name, url, lines })
        };
        let also_in = aliases.iter().take(MAX_PLACES).map(place).collect::<Result<_>>()?;
        let snippet = snippet(&code);
        let aliases = aliases.len();
        let commit = self.repositories().get(&repo).map(|repository| repository.commit.clone()).filter(|commit| !commit.is_empty());
        Ok(Hit {
            row,
            score,
            id,
            language,
            repo,
            commit,
            path,
            func_name,
            url,
            lines,
            summary,
            code,
            aliases,
            also_in,
            snippet,
            explanation,
        })
    }

    /// Explanations of the ranked rows.
    fn explanations(
        &self,
        query: &Query,
        parsed: &ParsedQuery,
        ranked: &[(u32, f64)],
        lists: &CandidateLists,
        cosine: &dyn Fn(u32) -> f32,
    ) -> Result<HashMap<u32, Explanation>> {
        let entry = |list: &[Scored], row: u32| {
            list.iter().position(|(other, _)| *other == row).map(|index| ListEntry { rank: index + 1, score: list[index].1 })
        };
        let (mut fusion, mut features, mut reranking) = ("none".to_owned(), HashMap::new(), HashMap::new());
        if query.mode == Mode::Hybrid {
            fusion = self.manifest().fusion.to_string();
            features = self.with_candidates(lists, cosine, |candidates| self.manifest().fusion.parts(candidates));
            if let Some(reranker) = &self.manifest().reranker {
                let fused = self.fused(lists, cosine);
                reranking = self.with_fused(&query.text, lists, &fused, |candidates| reranker.parts(candidates)).unwrap_or_default();
            }
        }
        let mut explain = |row: u32| -> Result<Explanation> {
            Ok(Explanation {
                bm25: entry(&lists.lexical, row),
                fields: if query.mode == Mode::Vector { BTreeMap::new() } else { self.lexical().field_scores(parsed, row)? },
                vector: entry(&lists.vector, row),
                fusion: fusion.clone(),
                features: features.remove(&row).unwrap_or_default(),
                reranking: reranking.remove(&row).unwrap_or_default(),
            })
        };
        ranked.iter().map(|&(row, _)| Ok((row, explain(row)?))).collect()
    }

    /// Both lists of a query: the given vector list, and the rows of the selection by lexical search. Where only one row of a group is
    /// selected, the vector list has the same one.
    pub fn candidate_lists(
        &self,
        query: &ParsedQuery,
        mode: Mode,
        selection: &Selection<'_>,
        mut vector: Vec<Scored>,
    ) -> Result<CandidateLists> {
        if mode == Mode::Vector {
            return Ok(CandidateLists { vector, ..CandidateLists::default() });
        }
        let mut others: Vec<u32> = vector.iter().map(|(row, _)| *row).collect();
        others.sort_unstable();
        let (found, stats) = self.lexical().search(query, selection, &others)?;
        if let Some(group_of) = selection.distinct {
            let rows: HashMap<u32, u32> = found.ranked.iter().map(|(row, _)| (group_of(*row), *row)).collect();
            vector.iter_mut().for_each(|(row, _)| *row = rows.get(&group_of(*row)).copied().unwrap_or(*row));
        }
        let term_scores = found.term_scores.into_iter().collect();
        Ok(CandidateLists { lexical: found.ranked, vector, stats, words: found.words, term_scores })
    }

    /// Calls a function with the best candidates of both lists, as a fusion reads them. `cosine` gives the cosine of a row.
    pub fn with_candidates<T>(&self, lists: &CandidateLists, cosine: &dyn Fn(u32) -> f32, with: impl FnOnce(&Candidates<'_>) -> T) -> T {
        let count = |list: &[Scored]| list.len().min(self.manifest().candidates);
        let term_scores = |row: u32| lists.term_scores.get(&row).copied().unwrap_or_default();
        with(&Candidates {
            lexical: &lists.lexical[..count(&lists.lexical)],
            vector: &lists.vector[..count(&lists.vector)],
            stats: lists.stats,
            term_scores: &term_scores,
            cosine,
        })
    }

    /// The rankings of all [`Mode::ALL`] from both lists of a query's text, best first; the hybrid one is ranked again where the bundle has
    /// a model for it.
    pub fn rankings(&self, text: &str, lists: &CandidateLists, cosine: &dyn Fn(u32) -> f32) -> [Vec<(u32, f64)>; 3] {
        [widened(&lists.lexical), widened(&lists.vector), self.hybrid(text, lists, cosine)]
    }
}

/// Puts the rows `first` (sorted) before all others. A row that is not ranked follows those of `first` that are, with score 0.
fn put_first(ranked: &mut Vec<(u32, f64)>, first: &[u32]) {
    let known: BTreeSet<u32> = ranked.iter().map(|(row, _)| *row).collect();
    ranked.extend(first.iter().filter(|row| !known.contains(row)).map(|&row| (row, 0.0)));
    ranked.sort_by_key(|(row, _)| first.binary_search(row).is_err());
}

fn widened(list: &[Scored]) -> Vec<(u32, f64)> {
    list.iter().map(|&(row, score)| (row, f64::from(score))).collect()
}

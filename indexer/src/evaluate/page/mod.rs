//! `report.html`: the scores, how they were measured, and example queries, in one file that opens offline.
//!
//! The page is part of a recorded artifact. Its bytes only change together with the stage's revision.

mod curve;

use askama::Template;
use bundle::Bundle;
use ledger::MRR_AT_CORPUS;

use super::{
    config::Config,
    examples::{Example, Examples, SHOWN},
    report::EvaluateReport,
};
use crate::Result;
pub use curve::with_curve;

/// A figure that others published.
struct PublishedFigure {
    protocol: &'static str,
    corpus: &'static str,
    system: &'static str,
    score: f64,
    source: &'static str,
}

const fn figure(protocol: &'static str, corpus: &'static str, system: &'static str, score: f64, source: &'static str) -> PublishedFigure {
    PublishedFigure { protocol, corpus, system, score, source }
}

const PUBLISHED: [PublishedFigure; 10] = [
    figure("mrr@1000", "CodeSearchNet", "NBoW", 0.617, "Husain et al. 2019"),
    figure("mrr@1000", "CodeSearchNet", "SelfAtt", 0.701, "Husain et al. 2019"),
    figure(MRR_AT_CORPUS, "CodeSearchNet, GraphCodeBERT's sets", "NBoW", 0.189, "Guo et al. 2021"),
    figure(MRR_AT_CORPUS, "CodeSearchNet, GraphCodeBERT's sets", "CodeBERT", 0.693, "Guo et al. 2021"),
    figure(MRR_AT_CORPUS, "CodeSearchNet, GraphCodeBERT's sets", "UniXcoder", 0.744, "Guo et al. 2022"),
    figure(MRR_AT_CORPUS, "CodeSearchNet, GraphCodeBERT's sets", "CoCoSoDa", 0.788, "Shi et al. 2023"),
    figure(MRR_AT_CORPUS, "CoSQA test", "CodeBERT", 0.657, "Huang et al. 2021"),
    figure(MRR_AT_CORPUS, "CoSQA test", "UniXcoder", 0.701, "Guo et al. 2022"),
    figure("NDCG All", "CodeSearchNet challenge", "ElasticSearch", 0.205, "Husain et al. 2019"),
    figure("NDCG All", "CodeSearchNet challenge", "NBoW", 0.340, "Husain et al. 2019"),
];

#[derive(Template)]
#[template(path = "report.html")]
struct ReportPage<'a> {
    facts: &'a [(String, String)],
    report: &'a EvaluateReport,
    published: &'static [PublishedFigure],
    groups: [(&'static str, &'a [Example]); 3],
}

impl Example {
    /// Rank of the relevant function by a system, in words.
    fn rank_text(&self, system: usize) -> String {
        self.ranks[system].map_or("not found".to_owned(), |rank| rank.to_string())
    }

    /// The names that BM25 and hybrid search found, by rank; empty beyond the end of a list.
    fn found_pairs(&self) -> Vec<(&str, &str)> {
        let name = |list: usize, rank: usize| self.found[list].get(rank).map_or("", String::as_str);
        (0..SHOWN).map(|rank| (name(0, rank), name(2, rank))).collect()
    }

    /// Style of a name: is it the relevant function?
    fn class_of(&self, name: &str) -> &'static str {
        if name == self.relevant { "hit" } else { "" }
    }
}

/// The references that askama writes for escaped characters, and those that recorded pages have.
const REFERENCES: [(&str, &str); 5] = [("&#38;", "&amp;"), ("&#60;", "&lt;"), ("&#62;", "&gt;"), ("&#34;", "&quot;"), ("&#39;", "'")];

/// The page. `facts` are name and value of the lines above the tables.
pub fn render(facts: &[(String, String)], report: &EvaluateReport, examples: &Examples) -> Result<String> {
    let groups = [
        ("Queries whose function ranks worst", &examples.worst[..]),
        ("Where hybrid gains most against BM25", &examples.wins),
        ("Where hybrid loses most against BM25", &examples.losses),
    ];
    let page = ReportPage { facts, report, published: &PUBLISHED, groups }.render()?;
    // Each `&` of a value is a reference itself, so that no value can contain one of the references that are replaced.
    Ok(REFERENCES.iter().fold(page, |page, (from, to)| page.replace(from, to)) + "\n")
}

/// Name and value of the lines above the tables.
pub fn facts(config: &Config, bundle: &Bundle, report: &EvaluateReport) -> Vec<(String, String)> {
    let manifest = bundle.manifest();
    [
        ("split", config.split.to_string()),
        ("candidates", format!("{} functions of the split, of {} in the bundle", report.candidates, manifest.rows)),
        ("queries", report.queries.to_string()),
        (
            "encoder",
            format!(
                "{} dimensions, {} pooling, {}, documentation {}",
                manifest.vectors.dimension,
                manifest.encoder.pooling,
                manifest.vectors.execution_provider,
                if manifest.vectors.documentation { "read, but not that of the split" } else { "not read" }
            ),
        ),
        (
            "lexical",
            format!(
                "BM25F k1 {}, {}, documentation left out, {} stop words",
                manifest.lexical.scoring.k1(),
                manifest.lexical.scoring.fields().iter().map(|(name, weight)| format!("{name} {weight}")).collect::<Vec<_>>().join(" "),
                manifest.lexical.stop_words.len()
            ),
        ),
        ("fusion", format!("{} over the best {} of each side", manifest.fusion, manifest.candidates)),
        ("vector search", format!("{}, recall@10 against an exact one {:.4}", manifest.vectors.index, report.recall_at_10)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[cfg(test)]
mod tests {
    use super::{super::report::example_report as report, *};

    #[test]
    fn values_are_escaped() {
        let page = render(&[("split".to_owned(), "<script>alert(1)</script>".to_owned())], &report(), &Examples::default()).unwrap();
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"));
    }

    /// The file was written by version 0.1.0.
    #[test]
    fn the_page_has_the_bytes_of_earlier_versions() {
        let text = "a \"quoted\" <b> & 'c' &#34; &amp;";
        let example = |ranks| Example {
            query: text.to_owned(),
            relevant: "read".to_owned(),
            ranks,
            found: [vec!["read".to_owned(), text.to_owned()], vec![], vec!["other".to_owned()]],
        };
        let examples = Examples { worst: vec![example([Some(1), None, Some(3)])], wins: vec![], losses: vec![example([None; 3]); 2] };
        let facts = [("split".to_owned(), text.to_owned()), ("queries".to_owned(), "7".to_owned())];
        assert_eq!(render(&facts, &report(), &examples).unwrap(), include_str!("report_0_1_0.html"));
    }
}

//! Renders `report.html`: one file that opens offline, without scripts. The template escapes every value.

use askama::Template;
use ledger::{Language, Split};

use super::{
    corpus::{Corpus, VocabularySummary},
    statistics::{EDGES, Histogram, Sample},
};
use crate::error::Result;

/// Colours of the splits and of other bars.
const COLOURS: [&str; 3] = ["#2f6f4f", "#c08a2e", "#6a6fb0"];
/// Width of a bar in a table, in pixels.
const BAR_WIDTH: f64 = 280.0;
/// Width of the bar of a language, in pixels.
const LANGUAGE_WIDTH: f64 = 320.0;
/// Width of a column and height of a chart, in pixels.
const COLUMN_WIDTH: f64 = 19.0;
const CHART_HEIGHT: f64 = 90.0;

#[derive(Template)]
#[template(path = "corpus.html")]
struct Page<'a> {
    total: String,
    repos: String,
    lines: String,
    files: String,
    artifacts: Vec<(&'a str, &'a str)>,
    splits: Vec<(&'static str, &'static str)>,
    languages: Vec<LanguageRow>,
    largest_repos: Vec<BarRow>,
    rejected: String,
    duplicates: String,
    reasons: Vec<BarRow>,
    not_harvested: Vec<BarRow>,
    duplicates_by_language: Vec<BarRow>,
    cross_split: Vec<(String, String)>,
    quantities: Vec<(&'static str, Vec<Chart>)>,
    syntax: Option<SyntaxSection>,
    vocabulary: Option<VocabularySection<'a>>,
    samples: Vec<(&'static str, &'a [Sample])>,
}

/// A row of the table of languages.
struct LanguageRow {
    name: &'static str,
    counts: Vec<String>,
    documented: String,
    rows: u64,
    /// Start, width and colour of each split's part of the bar.
    bar: Vec<(String, String, &'static str)>,
}

/// A row of a table with a bar.
struct BarRow {
    name: String,
    count: String,
    width: String,
    colour: &'static str,
}

/// A histogram as a picture.
struct Chart {
    caption: &'static str,
    width: f64,
    height: f64,
    columns: Vec<ChartColumn>,
    mean: String,
    max: String,
}

struct ChartColumn {
    x: String,
    y: String,
    width: String,
    height: String,
    /// Values of the bin.
    range: String,
    rows: u64,
    /// Position of the range's text, for every second column.
    label_x: Option<String>,
}

struct SyntaxSection {
    nodes: String,
    truncated: String,
    rows: String,
    specials: usize,
    /// Language and share of the rows with errors.
    errors: Vec<(&'static str, String)>,
}

struct VocabularySection<'a> {
    size: String,
    summary: &'a VocabularySummary,
    /// Language, rows, fertility, share of unknown ids, share of truncated rows.
    coverage: Vec<[String; 5]>,
    lengths: Vec<BarRow>,
}

/// The page.
pub fn render(corpus: &Corpus) -> Result<String> {
    let statistics = &corpus.statistics;
    let bars = |rows: Vec<(String, u64)>, colour| bar_rows(rows, colour);
    let charts = |(quantity, languages): (&&'static str, &std::collections::BTreeMap<Language, Histogram>)| {
        (*quantity, languages.iter().map(|(language, histogram)| chart(language.name(), histogram)).collect())
    };
    let cross_split = &corpus.ingest.cross_split_duplicates;
    let page = Page {
        total: number(statistics.rows.values().sum()),
        repos: number(statistics.repos),
        lines: number(corpus.ingest.lines),
        files: number(corpus.ingest.files),
        artifacts: corpus.artifacts.iter().map(|(kind, key)| (kind.as_str(), key.as_str())).collect(),
        splits: Split::ALL.map(Split::name).into_iter().zip(COLOURS).collect(),
        languages: language_rows(corpus),
        largest_repos: bars(statistics.largest_repos.clone(), COLOURS[0]),
        rejected: number(corpus.ingest.rejected),
        duplicates: number(corpus.ingest.duplicates),
        reasons: bars(statistics.rejects.clone(), COLOURS[1]),
        not_harvested: bars(not_harvested(corpus), COLOURS[1]),
        duplicates_by_language: bars(
            statistics.duplicates.iter().map(|(language, count)| (language.to_string(), *count)).collect(),
            COLOURS[1],
        ),
        cross_split: cross_split.iter().map(|(pair, count)| (pair.replace('_', " "), number(*count))).collect(),
        quantities: statistics.histograms.iter().map(charts).collect(),
        syntax: syntax(corpus),
        vocabulary: corpus.vocabulary.as_ref().map(|summary| vocabulary(corpus, summary)),
        samples: statistics.samples.iter().map(|(language, samples)| (language.name(), samples.as_slice())).collect(),
    };
    Ok(page.render()?)
}

/// What `harvest` left out, the most frequent reasons first.
fn not_harvested(corpus: &Corpus) -> Vec<(String, u64)> {
    let mut reasons: Vec<(String, u64)> = corpus.harvest.iter().flat_map(|report| report.skipped.clone()).collect();
    reasons.sort_by(|(a, first), (b, second)| second.cmp(first).then(a.cmp(b)));
    reasons
}

/// A number with its digits in groups of three.
fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

fn percent(part: u64, all: u64) -> f64 {
    100.0 * part as f64 / all.max(1) as f64
}

fn bar_rows(rows: Vec<(String, u64)>, colour: &'static str) -> Vec<BarRow> {
    let max = rows.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
    let row = |(name, count): (String, u64)| BarRow {
        name,
        count: number(count),
        width: format!("{:.1}", count as f64 / max as f64 * BAR_WIDTH),
        colour,
    };
    rows.into_iter().map(row).collect()
}

fn language_rows(corpus: &Corpus) -> Vec<LanguageRow> {
    let rows = &corpus.statistics.rows;
    let counts = |language: Language| Split::ALL.map(|split| rows.get(&(language, split)).copied().unwrap_or_default());
    let max = Language::ALL.map(|language| counts(language).iter().sum::<u64>()).into_iter().max().unwrap_or(1).max(1);
    let languages = Language::ALL.into_iter().filter(|&language| counts(language).iter().sum::<u64>() > 0);
    let row = |language: Language| {
        let counts = counts(language);
        let all: u64 = counts.iter().sum();
        let documented: u64 = Split::ALL.iter().filter_map(|split| corpus.ingest.documented.get(&format!("{language}_{split}"))).sum();
        let mut left = 0.0;
        let bar = counts.iter().zip(COLOURS).map(|(count, colour)| {
            let width = *count as f64 / max as f64 * LANGUAGE_WIDTH;
            left += width;
            (format!("{:.1}", left - width), format!("{width:.1}"), colour)
        });
        let bar = bar.collect();
        let counts = counts.into_iter().map(number).collect();
        LanguageRow { name: language.name(), counts, documented: format!("{:.1}", percent(documented, all)), rows: all, bar }
    };
    languages.map(row).collect()
}

fn chart(caption: &'static str, histogram: &Histogram) -> Chart {
    let max = histogram.bins.iter().max().copied().unwrap_or(1).max(1);
    let column = |(index, &rows): (usize, &u64)| {
        let (x, height) = (index as f64 * COLUMN_WIDTH, rows as f64 / max as f64 * CHART_HEIGHT);
        let range = EDGES.get(index).map_or_else(|| format!(">{}", EDGES[EDGES.len() - 1]), |edge| format!("\u{2264}{edge}"));
        ChartColumn {
            x: format!("{:.1}", x + 1.0),
            y: format!("{:.1}", CHART_HEIGHT - height),
            width: format!("{:.1}", COLUMN_WIDTH - 2.0),
            height: format!("{height:.1}"),
            range,
            rows,
            label_x: index.is_multiple_of(2).then(|| format!("{:.1}", x + COLUMN_WIDTH / 2.0)),
        }
    };
    Chart {
        caption,
        width: COLUMN_WIDTH * histogram.bins.len() as f64 + 12.0,
        height: CHART_HEIGHT + 26.0,
        columns: histogram.bins.iter().enumerate().map(column).collect(),
        mean: format!("{:.1}", histogram.mean()),
        max: number(histogram.max),
    }
}

fn syntax(corpus: &Corpus) -> Option<SyntaxSection> {
    let report = corpus.parse.as_ref()?;
    let rows_of =
        |language: Language| -> u64 { Split::ALL.iter().filter_map(|split| corpus.statistics.rows.get(&(language, *split))).sum() };
    let errors = corpus.statistics.errors.iter();
    Some(SyntaxSection {
        nodes: number(report.nodes),
        truncated: number(report.truncated),
        rows: number(report.rows),
        specials: report.specials.len(),
        errors: errors.map(|(language, errors)| (language.name(), format!("{:.2}", percent(*errors, rows_of(*language))))).collect(),
    })
}

fn vocabulary<'a>(corpus: &Corpus, summary: &'a VocabularySummary) -> VocabularySection<'a> {
    let coverage = corpus.tokenize.iter().flat_map(|report| &report.languages).map(|(language, coverage)| {
        [
            language.to_string(),
            number(coverage.rows),
            format!("{:.3}", coverage.ids as f64 / coverage.words.max(1) as f64),
            format!("{:.3}", percent(coverage.unknown, coverage.ids)),
            format!("{:.2}", percent(coverage.truncated, coverage.rows)),
        ]
    });
    let lengths = summary.lengths.iter().map(|(length, count)| (length.to_string(), *count)).collect();
    VocabularySection { size: number(summary.size as u64), summary, coverage: coverage.collect(), lengths: bar_rows(lengths, COLOURS[2]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{explore::statistics::Statistics, harvest::HarvestReport, ingest::IngestReport};
    use std::collections::BTreeMap;

    /// A corpus in which every text of a user is markup.
    fn corpus() -> Corpus {
        let text = || "<script>\"&'</script>".to_owned();
        let sample = Sample {
            split: "train".to_owned(),
            func_name: text(),
            url: text(),
            code: text(),
            docstring: format!("first{}\nsecond", text()),
            signature: text(),
            structure: text(),
            ast: text(),
        };
        let statistics = Statistics {
            rows: BTreeMap::from([((Language::Go, Split::Train), 1)]),
            repos: 1,
            largest_repos: vec![(text(), 1)],
            histograms: BTreeMap::from([("code tokens", BTreeMap::from([(Language::Go, Histogram::default())]))]),
            samples: BTreeMap::from([(Language::Go, vec![sample])]),
            rejects: vec![(text(), 1)],
            ..Statistics::default()
        };
        let vocabulary = VocabularySummary { size: 1, specials: vec![text()], lengths: BTreeMap::from([(1, 1)]), longest: vec![text()] };
        let ingest = IngestReport { cross_split_duplicates: BTreeMap::from([(text(), 1)]), ..IngestReport::default() };
        let artifacts = BTreeMap::from([(text(), text())]);
        let harvest = Some(HarvestReport { skipped: BTreeMap::from([(text(), 1)]), ..HarvestReport::default() });
        Corpus { artifacts, harvest, ingest, parse: None, tokenize: None, statistics, vocabulary: Some(vocabulary) }
    }

    #[test]
    fn markup_in_a_value_is_escaped() {
        let page = render(&corpus()).unwrap();
        assert!(page.contains("<code>harvest</code> left out"));
        assert!(!page.contains("<script>") && page.contains("&#60;script&#62;"), "{page}");
    }

    #[test]
    fn lines_of_a_docstring_stay_apart() {
        assert!(render(&corpus()).unwrap().contains("<br>second"));
    }

    #[test]
    fn digits_are_in_groups_of_three() {
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(number(12), "12");
    }
}

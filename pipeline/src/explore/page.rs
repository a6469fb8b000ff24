//! `report.html` of the corpus: one file that opens offline, without scripts.

use std::fmt::Write;

use ledger::{Language, Split};

use super::{
    Corpus, Pieces,
    statistics::{EDGES, Histogram, Sample},
};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #ddd;vertical-align:top}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}h2{margin-top:2.4rem}figure{display:inline-block;margin:.4rem 1.2rem .8rem 0}\
figcaption{font-size:.85rem;color:#555}pre{background:#f4f2ec;padding:.6rem;overflow:auto;max-height:20rem;font-size:.82rem}\
code{background:#f4f2ec;padding:0 .2rem;overflow-wrap:anywhere}details{margin:.4rem 0}svg text{font:10px system-ui,sans-serif;fill:#555}";

const INK: [&str; 3] = ["#2f6f4f", "#c08a2e", "#6a6fb0"];

/// Text made safe for HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Digits in threes.
fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// The whole page.
pub fn render(corpus: &Corpus) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>codenets corpus</title><style>{STYLE}</style><h1>The corpus</h1>"
    );
    let total: u64 = corpus.statistics.rows.values().sum();
    let made_of: Vec<String> = corpus.artifacts.iter().map(|(kind, key)| format!("{kind} <code>{}</code>", escape(key))).collect();
    let _ = write!(
        page,
        "<p>{} functions of {} repositories, out of {} lines in {} files. Read off {}.",
        number(total),
        number(corpus.statistics.repos.len() as u64),
        number(corpus.ingest.lines),
        number(corpus.ingest.files),
        made_of.join(", ")
    );
    rows(&mut page, corpus);
    rejects(&mut page, corpus);
    lengths(&mut page, corpus);
    syntax(&mut page, corpus);
    if let Some(vocabulary) = &corpus.vocabulary {
        pieces(&mut page, corpus, vocabulary);
    }
    samples(&mut page, corpus);
    page + "</html>\n"
}

fn rows(page: &mut String, corpus: &Corpus) {
    let rows = &corpus.statistics.rows;
    let of = |language: Language, split: Split| rows.get(&(language, split)).copied().unwrap_or_default();
    let most =
        Language::ALL.map(|language| Split::ALL.map(|split| of(language, split)).iter().sum::<u64>()).into_iter().max().unwrap_or(1).max(1);
    *page += "<h2>Rows by language and split</h2><table><tr><th>language<th class=n>train<th class=n>valid<th class=n>test<th class=n>documented<th>";
    for language in Language::ALL {
        let splits = Split::ALL.map(|split| of(language, split));
        let all: u64 = splits.iter().sum();
        if all == 0 {
            continue;
        }
        let documented: u64 = Split::ALL.iter().filter_map(|split| corpus.ingest.documented.get(&format!("{language}_{split}"))).sum();
        let _ = write!(page, "<tr><td>{language}");
        splits.iter().for_each(|&count| {
            let _ = write!(page, "<td class=n>{}", number(count));
        });
        let _ = write!(
            page,
            "<td class=n>{:.1} %<td><svg width=\"320\" height=\"14\" role=\"img\" aria-label=\"{all} rows\">",
            100.0 * documented as f64 / all as f64
        );
        let mut left = 0.0;
        for (count, ink) in splits.iter().zip(INK) {
            let width = *count as f64 / most as f64 * 320.0;
            let _ = write!(page, "<rect x=\"{left:.1}\" width=\"{width:.1}\" height=\"14\" fill=\"{ink}\"/>");
            left += width;
        }
        *page += "</svg>";
    }
    *page += "</table><p>";
    for (split, ink) in Split::ALL.iter().zip(INK) {
        let _ = write!(page, "<svg width=\"12\" height=\"12\"><rect width=\"12\" height=\"12\" fill=\"{ink}\"/></svg> {split} ");
    }
    let mut repos: Vec<_> = corpus.statistics.repos.iter().collect();
    repos.sort_by_key(|(name, count)| (u64::MAX - **count, (*name).clone()));
    *page += "<h2>Largest repositories</h2><table>";
    let most = repos.first().map_or(1, |(_, count)| **count);
    for (name, count) in repos.into_iter().take(20) {
        bar(page, name, *count, most, INK[0]);
    }
    *page += "</table>";
}

/// A row of a table with a bar.
fn bar(page: &mut String, name: &str, count: u64, most: u64, ink: &str) {
    let width = count as f64 / most.max(1) as f64 * 280.0;
    let _ = write!(
        page,
        "<tr><td>{}<td class=n>{}<td><svg width=\"280\" height=\"12\"><rect width=\"{width:.1}\" height=\"12\" fill=\"{ink}\"/></svg>",
        escape(name),
        number(count)
    );
}

fn rejects(page: &mut String, corpus: &Corpus) {
    let report = &corpus.ingest;
    let _ = write!(
        page,
        "<h2>What was left out</h2><p>{} lines rejected, {} duplicates; each is a row of <code>rejects.parquet</code> with file, line and reason.<table>",
        number(report.rejected),
        number(report.duplicates)
    );
    let mut reasons: Vec<_> = report.reasons.0.iter().collect();
    reasons.sort_by_key(|(reason, count)| (u64::MAX - **count, (*reason).clone()));
    let most = reasons.first().map_or(1, |(_, count)| **count);
    reasons.into_iter().for_each(|(reason, count)| bar(page, reason, *count, most, INK[1]));
    *page += "</table>";
    if !report.cross_split_duplicates.is_empty() {
        *page += "<p>Duplicates across splits, which would have leaked into evaluation:<table>";
        for (pair, count) in &report.cross_split_duplicates {
            let _ = write!(page, "<tr><td>{}<td class=n>{}", escape(&pair.replace('_', " ")), number(*count));
        }
        *page += "</table>";
    }
}

fn lengths(page: &mut String, corpus: &Corpus) {
    *page += "<h2>Lengths</h2><p>Rows by bin, each language by itself; the edges are not evenly spaced.";
    for (what, languages) in &corpus.statistics.histograms {
        let _ = write!(page, "<h3>{what}</h3>");
        languages.iter().for_each(|(language, histogram)| chart(page, &language.to_string(), histogram));
    }
}

fn chart(page: &mut String, caption: &str, histogram: &Histogram) {
    const WIDTH: f64 = 19.0;
    const HEIGHT: f64 = 90.0;
    let most = histogram.bins.iter().max().copied().unwrap_or(1).max(1);
    let width = WIDTH * histogram.bins.len() as f64 + 12.0;
    let _ = write!(page, "<figure><svg width=\"{width}\" height=\"{}\" role=\"img\" aria-label=\"{caption}\">", HEIGHT + 26.0);
    for (place, &count) in histogram.bins.iter().enumerate() {
        let (x, height) = (place as f64 * WIDTH, count as f64 / most as f64 * HEIGHT);
        let edge = EDGES.get(place).map_or_else(|| format!("&gt;{}", EDGES[EDGES.len() - 1]), |edge| format!("\u{2264}{edge}"));
        let _ = write!(
            page,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{}\"><title>{edge}: {count} rows</title></rect>",
            x + 1.0,
            HEIGHT - height,
            WIDTH - 2.0,
            INK[0]
        );
        if place % 2 == 0 {
            let _ = write!(page, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{edge}</text>", x + WIDTH / 2.0, HEIGHT + 14.0);
        }
    }
    let _ = write!(page, "</svg><figcaption>{caption}: mean {:.1}, most {}</figcaption></figure>", histogram.mean(), number(histogram.max));
}

fn syntax(page: &mut String, corpus: &Corpus) {
    let Some(report) = &corpus.parse else { return };
    let _ = write!(
        page,
        "<h2>Syntax</h2><p>{} nodes; {} of {} linearised trees were cut; {} special tokens. A function cut out of its file may not parse by itself: such rows are kept and flagged.<table><tr><th>language<th class=n>rows with errors",
        number(report.nodes),
        number(report.truncated),
        number(report.rows),
        report.specials.len()
    );
    for (language, errors) in &corpus.statistics.errors {
        let rows: u64 = Split::ALL.iter().filter_map(|split| corpus.statistics.rows.get(&(*language, *split))).sum();
        let _ = write!(page, "<tr><td>{language}<td class=n>{:.2} %", 100.0 * *errors as f64 / rows.max(1) as f64);
    }
    *page += "</table>";
}

fn pieces(page: &mut String, corpus: &Corpus, vocabulary: &Pieces) {
    let _ = write!(
        page,
        "<h2>Vocabulary</h2><p>{} pieces, {} of them special. Fertility: pieces a word.<table><tr><th>language<th class=n>rows<th class=n>fertility<th class=n>unknown<th class=n>rows cut",
        number(vocabulary.size as u64),
        vocabulary.specials.len()
    );
    for (language, fit) in corpus.tokenize.iter().flat_map(|report| &report.languages) {
        let share = |part: u64, all: u64| 100.0 * part as f64 / all.max(1) as f64;
        let _ = write!(
            page,
            "<tr><td>{language}<td class=n>{}<td class=n>{:.3}<td class=n>{:.3} %<td class=n>{:.2} %",
            number(fit.rows),
            fit.ids as f64 / fit.words.max(1) as f64,
            share(fit.unknown, fit.ids),
            share(fit.truncated, fit.rows)
        );
    }
    *page += "</table><p>Pieces by length in characters<table>";
    let most = vocabulary.lengths.values().max().copied().unwrap_or(1);
    vocabulary.lengths.iter().for_each(|(length, count)| bar(page, &length.to_string(), *count, most, INK[2]));
    let list = |texts: &[String]| texts.iter().map(|text| format!("<code>{}</code>", escape(text))).collect::<Vec<_>>().join(" ");
    let _ = write!(page, "</table><p>Longest: {}", list(&vocabulary.longest));
    let _ = write!(page, "<details><summary>Special tokens</summary>{}</details>", list(&vocabulary.specials));
}

fn samples(page: &mut String, corpus: &Corpus) {
    *page += "<h2>Samples</h2><p>The rows of the smallest ids, which are hashes.";
    for (language, samples) in &corpus.statistics.samples {
        let _ = write!(page, "<h3>{language}</h3>");
        samples.iter().for_each(|sample| one(page, sample));
    }
}

fn one(page: &mut String, sample: &Sample) {
    let _ = write!(
        page,
        "<details open><summary><b>{}</b> ({}) <code>{}</code></summary>",
        escape(&sample.func_name),
        sample.split,
        escape(&sample.url)
    );
    let _ = write!(page, "<p>{}<pre>{}</pre>", escape(&sample.docstring).replace('\n', "<br>"), escape(&sample.code));
    for (name, text) in [("signature", &sample.signature), ("structure", &sample.structure), ("tree", &sample.ast)] {
        if !text.is_empty() {
            let _ = write!(page, "<p>{name}: <code>{}</code>", escape(text));
        }
    }
    *page += "</details>";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_corpus_says_cannot_become_markup() {
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
        let mut page = String::new();
        bar(&mut page, "<script>", 1, 2, INK[0]);
        assert!(!page.contains("<script>"));
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(number(12), "12");
    }
}

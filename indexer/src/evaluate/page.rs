//! `report.html`: the scores and what stands behind them, in one file that opens offline.

use std::fmt::Write;

use super::{Config, EvaluateReport, Example, Examples, SHOWN};
use crate::{bench::Point, bundle::OpenBundle};

/// Protocol, corpus, system, score, source.
const PUBLISHED: [(&str, &str, &str, f64, &str); 10] = [
    ("mrr@1000", "CodeSearchNet", "NBoW", 0.617, "Husain et al. 2019"),
    ("mrr@1000", "CodeSearchNet", "SelfAtt", 0.701, "Husain et al. 2019"),
    ("mrr@corpus", "CodeSearchNet, GraphCodeBERT's sets", "NBoW", 0.189, "Guo et al. 2021"),
    ("mrr@corpus", "CodeSearchNet, GraphCodeBERT's sets", "CodeBERT", 0.693, "Guo et al. 2021"),
    ("mrr@corpus", "CodeSearchNet, GraphCodeBERT's sets", "UniXcoder", 0.744, "Guo et al. 2022"),
    ("mrr@corpus", "CodeSearchNet, GraphCodeBERT's sets", "CoCoSoDa", 0.788, "Shi et al. 2023"),
    ("mrr@corpus", "CoSQA test", "CodeBERT", 0.657, "Huang et al. 2021"),
    ("mrr@corpus", "CoSQA test", "UniXcoder", 0.701, "Guo et al. 2022"),
    ("NDCG All", "CodeSearchNet challenge", "ElasticSearch", 0.205, "Husain et al. 2019"),
    ("NDCG All", "CodeSearchNet challenge", "NBoW", 0.340, "Husain et al. 2019"),
];

/// Text made safe for HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A bar of the width of a score.
fn bar(score: f64) -> String {
    format!(
        "<svg width=\"160\" height=\"12\" role=\"img\" aria-label=\"{score:.4}\"><rect width=\"160\" height=\"12\" fill=\"#e8e6df\"/><rect width=\"{:.1}\" height=\"12\" fill=\"#2f6f4f\"/></svg>",
        score * 160.0
    )
}

/// Facts are `(name, value)` lines above the tables.
pub fn render(facts: &[(String, String)], report: &EvaluateReport, examples: &Examples) -> String {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>codenets scores</title><style>\
         body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
         table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .8rem;text-align:left;border-bottom:1px solid #ddd}\
         td.n{text-align:right;font-variant-numeric:tabular-nums}code{background:#f4f2ec;padding:0 .2rem}\
         h2{margin-top:2.2rem}.miss{color:#a33}.hit{color:#2f6f4f;font-weight:600}</style><h1>Scores</h1><table>",
    );
    for (name, value) in facts {
        let _ = write!(page, "<tr><th>{}<td>{}", escape(name), escape(value));
    }
    page += "</table><h2>By protocol, language and system</h2><p>Documentation is the query and is not indexed for it; ties count against the system.</p>\
             <table><tr><th>protocol<th>language<th>system<th>queries<th>score<th>95 %<th>";
    for row in &report.rows {
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td class=n>{}<td class=n>{:.4}<td class=n>{:.4} – {:.4}<td>{}",
            escape(&row.protocol),
            escape(&row.language),
            row.system,
            row.queries,
            row.score,
            row.interval.low,
            row.interval.high,
            bar(row.score)
        );
    }
    page += "</table><h2>Hybrid against either side</h2><p>Means over the same queries; p by randomization of paired differences.</p>\
             <table><tr><th>protocol<th>language<th>against<th>difference<th>p<th>queries better<th>worse";
    for of in &report.comparisons {
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td class=n>{:+.4}<td class=n>{:.4}<td class=n>{}<td class=n>{}",
            escape(&of.protocol),
            escape(&of.language),
            of.second,
            of.difference.mean,
            of.difference.p,
            of.difference.wins,
            of.difference.losses
        );
    }
    page += "</table><h2>Published figures</h2><p>Of others, on their own corpora: not comparable with the numbers above beyond their size.</p>\
             <table><tr><th>protocol<th>corpus<th>system<th>published<th>source";
    for (protocol, corpus, system, score, source) in PUBLISHED {
        let _ = write!(page, "<tr><td>{protocol}<td>{corpus}<td>{system}<td class=n>{score:.3}<td>{source}");
    }
    page += "</table>";
    let groups = [
        ("Queries whose function ranks worst", &examples.worst),
        ("Where hybrid gains most against BM25", &examples.wins),
        ("Where hybrid loses most against BM25", &examples.losses),
    ];
    for (title, group) in groups {
        let _ = write!(page, "<h2>{title}</h2>");
        if group.is_empty() {
            page += "<p>None.</p>";
        }
        group.iter().for_each(|example| page += &of_example(example));
    }
    page + "</html>\n"
}

/// A query, the ranks of its function, and what BM25 and hybrid gave side by side.
fn of_example(example: &Example) -> String {
    let rank = |rank: Option<usize>| rank.map_or("not found".to_owned(), |rank| rank.to_string());
    let [bm25, vector, hybrid] = example.ranks.map(rank);
    let mut text = format!(
        "<p><b>{}</b><br>wanted <code>{}</code>: rank by BM25 {bm25}, by vectors {vector}, <span class=miss>hybrid {hybrid}</span>\
         <table><tr><th>BM25<th>hybrid",
        escape(&example.query),
        escape(&example.wanted)
    );
    for place in 0..SHOWN {
        text += "<tr>";
        for found in [&example.found[0], &example.found[2]] {
            let name = found.get(place).map_or("", String::as_str);
            let class = if name == example.wanted { "hit" } else { "" };
            let _ = write!(text, "<td class=\"{class}\"><code>{}</code>", escape(name));
        }
    }
    text + "</table>"
}

/// The page with what was measured on this machine: recall and latency of the vector search.
pub fn with_curve(page: &str, points: &[Point]) -> String {
    let mut text = String::from(
        "<h2>Vector search: recall and latency</h2><p>Measured on this machine, one thread, ten nearest: the scan, and graphs opened further and \
         further (expansion), behind filters that let a share of the functions pass.</p>",
    );
    let (left, top, width, height) = (60.0, 15.0, 560.0, 240.0);
    let times = |of: fn(f64, f64) -> f64| points.iter().map(|point| point.p50.max(1e-3)).reduce(of).unwrap_or(1.0);
    let (low, high) = (times(f64::min).log10().floor(), times(f64::max).log10().ceil().max(times(f64::min).log10().floor() + 1.0));
    let least = points.iter().map(|point| point.recall).fold(0.95, f64::min);
    let x = |ms: f64| left + width * (ms.max(1e-3).log10() - low) / (high - low);
    let y = |recall: f64| top + height * (1.0 - (recall - least) / (1.0 - least).max(1e-9));
    let _ = write!(text, "<svg viewBox=\"0 0 640 300\" width=\"640\" role=\"img\" aria-label=\"recall by latency\" font-size=\"11\">");
    for power in low as i32..=high as i32 {
        let (at, ms) = (x(10f64.powi(power)), 10f64.powi(power));
        let _ = write!(
            text,
            "<path d=\"M{at:.1} {top}V{}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"272\" text-anchor=\"middle\">{ms} ms</text>",
            top + height
        );
    }
    for step in 0..=4 {
        let recall = least + (1.0 - least) * f64::from(step) / 4.0;
        let at = y(recall);
        let _ = write!(
            text,
            "<path d=\"M{left} {at:.1}H{}\" stroke=\"#eee\"/><text x=\"54\" y=\"{:.1}\" text-anchor=\"end\">{recall:.3}</text>",
            left + width,
            at + 4.0
        );
    }
    const COLOURS: [&str; 4] = ["#2f6f4f", "#b5651d", "#4a5fa5", "#8a3b6a"];
    let mut shares: Vec<f64> = points.iter().map(|point| point.allowed).collect();
    shares.dedup();
    for (share, colour) in shares.iter().zip(COLOURS.iter().cycle()) {
        let own: Vec<&Point> = points.iter().filter(|point| point.allowed == *share).collect();
        let line: Vec<String> = own
            .iter()
            .filter(|point| point.expansion.is_some())
            .map(|point| format!("{:.1},{:.1}", x(point.p50), y(point.recall)))
            .collect();
        let _ = write!(text, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\"/>", line.join(" "));
        for point in own {
            let (at, up) = (x(point.p50), y(point.recall));
            let title = format!(
                "{} {}, {:.0} % allowed: {:.4}, {:.2} ms",
                point.search,
                point.expansion.unwrap_or_default(),
                share * 100.0,
                point.recall,
                point.p50
            );
            let _ = match point.expansion {
                Some(_) => write!(text, "<circle cx=\"{at:.1}\" cy=\"{up:.1}\" r=\"3\" fill=\"{colour}\"><title>{title}</title></circle>"),
                None => write!(
                    text,
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\" fill=\"{colour}\"><title>{title}</title></rect>",
                    at - 4.0,
                    up - 4.0
                ),
            };
        }
    }
    text += "<text x=\"340\" y=\"292\" text-anchor=\"middle\">median latency; squares: scan, circles: graphs</text></svg><p>";
    for (share, colour) in shares.iter().zip(COLOURS.iter().cycle()) {
        let _ = write!(text, "<span style=\"color:{colour}\">■</span> {:.0} % allowed &nbsp; ", share * 100.0);
    }
    text += "</p><table><tr><th>search<th>expansion<th>allowed<th>recall@10<th>p50 ms<th>p99 ms";
    for point in points {
        let expansion = point.expansion.map_or(String::new(), |expansion| expansion.to_string());
        let _ = write!(
            text,
            "<tr><td>{}<td class=n>{expansion}<td class=n>{:.0} %<td class=n>{:.4}<td class=n>{:.2}<td class=n>{:.2}",
            point.search,
            point.allowed * 100.0,
            point.recall,
            point.p50,
            point.p99
        );
    }
    text += "</table></html>\n";
    page.replacen("</html>\n", &text, 1)
}

/// What stands above the tables.
pub fn facts(config: &Config, bundle: &OpenBundle, report: &EvaluateReport) -> Vec<(String, String)> {
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
                "BM25 k1 {} b {}, boosts name {} code {}, documentation left out, {} stop words",
                manifest.lexical.k1,
                manifest.lexical.b,
                manifest.lexical.boosts.name,
                manifest.lexical.boosts.code,
                manifest.lexical.stop_words.len()
            ),
        ),
        ("fusion", format!("{} over the best {} of each side", manifest.fusion, manifest.candidates)),
        ("vector search", format!("{}, recall@10 against an exact one {:.4}", manifest.vectors.index, report.recall_at_10)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

//! `report.html`: the scores and what stands behind them, in one file that opens offline.

use std::fmt::Write;

use super::{Example, Row};

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
pub fn render(facts: &[(String, String)], rows: &[Row], examples: &[Example]) -> String {
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
             <table><tr><th>protocol<th>language<th>system<th>queries<th>score<th>";
    for row in rows {
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td class=n>{}<td class=n>{:.4}<td>{}",
            escape(&row.protocol),
            escape(&row.language),
            row.system,
            row.queries,
            row.score,
            bar(row.score)
        );
    }
    page += "</table><h2>Queries whose function ranks worst</h2>";
    for example in examples {
        let rank = example.rank.map_or("not found".to_owned(), |rank| format!("rank {rank}"));
        let _ = write!(
            page,
            "<p><b>{}</b><br>wanted <code>{}</code>, <span class=miss>{rank}</span>; hybrid gave:<ol>",
            escape(&example.query),
            escape(&example.wanted)
        );
        for found in &example.found {
            let class = if *found == example.wanted { "hit" } else { "" };
            let _ = write!(page, "<li class=\"{class}\"><code>{}</code>", escape(found));
        }
        page += "</ol>";
    }
    page + "</html>\n"
}

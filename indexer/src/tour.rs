//! `tour`: what a newcomer sees at the end of `make demo`: stages, scores, three searches.

use std::io::IsTerminal;

use anyhow::Result;
use ledger::{Recordable, Scores, Store, cli::write_report, journal};

use crate::{
    bundle::{OpenBundle, Query},
    evaluate::{self, EvaluateReport},
};

/// The three example searches.
pub const EXAMPLES: [&str; 3] =
    ["parse an iso date string", "retry a request with exponential backoff", "shortest path between two nodes of a graph"];

/// Prints the tables and the example searches.
pub fn print(store: &Store, bundle: &OpenBundle) -> Result<()> {
    let (stages, flat) = journal(store);
    write_report(store.root(), "journal", &flat)?;
    println!("\nWhat each stage did\n\n{stages}");
    if let Some((_, manifest)) = store.current_manifest(Scores::KIND) {
        let report: EvaluateReport = serde_json::from_value(manifest.report)?;
        println!("Scores on the held-out split (documentation is the query, and is not searched)\n\n{}", evaluate::render(&report));
        println!("Report: {}\n", store.root().join("reports").join("evaluate.html").display());
    }
    for text in EXAMPLES {
        println!("search: {text}");
        for (number, hit) in
            bundle.search(&Query { text: text.to_owned(), limit: 3, snippet_lines: 3, ..Query::default() })?.iter().enumerate()
        {
            print!("{}", hit.render(number + 1, std::io::stdout().is_terminal()));
        }
        println!();
    }
    Ok(())
}

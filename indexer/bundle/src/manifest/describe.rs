//! The manifest in words, for `codenets inspect`.

use std::fmt::Write;

use serde_json::Value;

use super::BundleManifest;
use crate::lexical::Scoring;

impl BundleManifest {
    /// Describes the bundle in lines of `name  value`: format, rows, languages, text fields, encoder, vector index, fusion, and for a
    /// published bundle its id, commit, scores and the times of the stages.
    pub fn describe(&self) -> String {
        let mut lines: Vec<(String, String)> = Vec::new();
        let mut line = |name: &str, value: String| lines.push((name.to_owned(), value));
        line("format", self.format.to_string());
        line("functions", self.rows.to_string());
        let languages: Vec<String> = self.languages.iter().map(|(name, rows)| format!("{name} {rows}")).collect();
        line("languages", languages.join(", "));
        line("lexical index", self.lexical_text());
        line("text fields", self.fields_text());
        line("encoder", self.encoder_text());
        line("vector index", self.vectors_text());
        line("fusion", format!("{} over the best {} of each list", self.fusion, self.candidates));
        if let Some(reranker) = &self.reranker {
            line("reranking", reranker.to_string());
        }
        if let Some(aliases) = self.aliases {
            line("aliases", format!("{aliases} functions have the code and documentation of another one"));
        }
        if let Some(diversity) = self.diversity {
            let penalties = diversity.penalties().map(|(name, _, penalty)| format!("{name} {penalty}"));
            line("diversity", format!("penalties {}", penalties.join(", ")));
        }
        for (kind, digest) in &self.inputs {
            line(&format!("input {kind}"), digest.to_string());
        }
        if let Some(parent) = &self.parent {
            line("parent", parent.clone());
        }
        self.published_lines(&mut lines);
        let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        lines.iter().fold(String::new(), |mut text, (name, value)| {
            let _ = writeln!(text, "{name:<width$}  {value}");
            text
        })
    }

    fn lexical_text(&self) -> String {
        let lexical = &self.lexical;
        format!(
            "{}, tokenizer {}, {} k1 {}, {} segments, {} stop words",
            lexical.engine,
            lexical.tokenizer,
            if matches!(lexical.scoring, Scoring::Bm25f(_)) { "BM25F" } else { "BM25 by field" },
            lexical.scoring.k1(),
            lexical.segments,
            lexical.stop_words.len()
        )
    }

    fn fields_text(&self) -> String {
        let fields = self.lexical.scoring.fields();
        let searched = fields.iter().filter(|(_, weight)| *weight > 0.0);
        searched.map(|(name, weight)| format!("{name} (weight {weight})")).collect::<Vec<_>>().join(", ")
    }

    fn encoder_text(&self) -> String {
        format!(
            "{} dimensions, {} pooling, queries of {} tokens, code of {} tokens, documentation {}",
            self.vectors.dimension,
            self.encoder.pooling,
            self.encoder.query_tokens,
            self.encoder.code_tokens,
            if self.vectors.documentation { "read" } else { "not read" }
        )
    }

    fn vectors_text(&self) -> String {
        let vectors = &self.vectors;
        let index = match &vectors.hnsw {
            None => "exact search".to_owned(),
            Some(hnsw) => format!(
                "HNSW by {}, {} graphs, M {}, ef {}, recall@10 {:.4}",
                hnsw.engine,
                hnsw.files.len(),
                hnsw.connectivity,
                hnsw.expansion_search,
                hnsw.recall_at_10
            ),
        };
        format!("{index}; {} {}, computed by {}", vectors.dtype, vectors.metric, vectors.execution_provider)
    }

    fn published_lines(&self, lines: &mut Vec<(String, String)>) {
        let Some(published) = &self.published else { return lines.push(("published".to_owned(), "no".to_owned())) };
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        for (name, label) in [("id", "published"), ("tool", "tool")] {
            if let Some(value) = published.get(name) {
                lines.push((label.to_owned(), text(value)));
            }
        }
        if let Some(commit) = published.pointer("/commit/id").or_else(|| published.get("commit")) {
            lines.push(("commit".to_owned(), text(commit)));
        }
        let entries = |name: &str| published.get(name).and_then(Value::as_object).into_iter().flatten();
        for (stage, value) in entries("stages") {
            let number = |name: &str| value.get(name).and_then(Value::as_f64).unwrap_or_default();
            lines.push((format!("stage {stage}"), format!("{:.1} s, {} rows", number("wall_s"), number("rows_out"))));
        }
        for (name, value) in entries("scores") {
            lines.push((format!("score {name}"), format!("{:.4}", value.as_f64().unwrap_or_default())));
        }
    }
}

//! Files of judged queries; a name that ends with `.gz` is read as gzip.

use std::{fs::File, io::Read, path::Path};

use ledger::{ensure, words};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{Result, error::Context};

/// Largest file in bytes, decompressed.
const MAX_BYTES: u64 = 1 << 30;

/// A line of a JSON-lines file.
#[derive(Debug, Deserialize)]
pub struct JsonlQuery {
    pub query: String,
    /// Ids or URLs of the relevant functions.
    pub relevant: Vec<String>,
}

/// A query of CoSQA's list.
#[derive(Debug, Deserialize)]
pub struct CosqaQuery {
    pub doc: String,
    pub retrieval_idx: u64,
}

fn text(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let is_gzip = path.extension().is_some_and(|end| end == "gz");
    let reader: Box<dyn Read> = if is_gzip { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut text = String::new();
    reader.take(MAX_BYTES + 1).read_to_string(&mut text).with_context(|| format!("reading {}", path.display()))?;
    ensure!(text.len() as u64 <= MAX_BYTES, "{} has more than {MAX_BYTES} bytes: split it into several files of judgments", path.display());
    Ok(words::without_mark(&text).to_owned())
}

/// Reads a JSON document. `form`: the form that is expected, for the error.
pub fn json<T: DeserializeOwned>(path: &Path, form: &str) -> Result<T> {
    serde_json::from_str(&text(path)?).with_context(|| format!("{} is not {form}", path.display()))
}

/// Reads CoSQA's list of queries.
pub fn cosqa(path: &Path) -> Result<Vec<CosqaQuery>> {
    json(path, "a list of {\"doc\", \"retrieval_idx\"}")
}

/// Reads one query a line; blank lines are skipped.
pub fn jsonl(path: &Path) -> Result<Vec<JsonlQuery>> {
    lines(path, "{\"query\", \"relevant\"}")
}

/// Reads one JSON value a line; blank lines are skipped. `form`: the form that is expected, for the error.
pub fn lines<T: DeserializeOwned>(path: &Path, form: &str) -> Result<Vec<T>> {
    let text = text(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let value = |(number, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("{}:{}: expected {form}", path.display(), number + 1))
    };
    lines.map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_file_is_read_as_its_text_and_a_wrong_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, packed) = (dir.path().join("a.jsonl"), dir.path().join("a.jsonl.gz"));
        let text = "{\"query\": \"a\", \"relevant\": []}\n{\"question\": \"b\"}\n";
        std::fs::write(&plain, text).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        encoder.finish().unwrap();
        for path in [plain, packed] {
            assert_eq!(super::text(&path).unwrap(), text);
            assert!(ledger::chain(&jsonl(&path).unwrap_err()).contains(&format!("{}:2: expected", path.display())));
        }
    }
}

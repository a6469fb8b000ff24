//! Files of TensorBoard's embedding projector: vectors, their labels, and the configuration that names both files.

use std::{fs, path::Path};

use crate::error::{Context, Result};

/// Writes `vectors`, `[rows, width]`, with side, language and text of each row.
pub fn write_projector(folder: &Path, vectors: &[f32], width: usize, lines: &[(String, String, String)]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let row = |row: &[f32]| row.iter().map(|value| format!("{value:.5}")).collect::<Vec<_>>().join("\t");
    let vectors: Vec<String> = vectors.chunks(width).map(row).collect();
    let clean = |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(120).collect::<String>();
    let mut metadata = String::from("side\tlanguage\ttext\n");
    for (side, language, text) in lines {
        metadata.push_str(&format!("{side}\t{language}\t{}\n", clean(text)));
    }
    let config =
        "embeddings {\n  tensor_name: \"validation pairs\"\n  tensor_path: \"vectors.tsv\"\n  metadata_path: \"metadata.tsv\"\n}\n";
    for (name, content) in
        [("vectors.tsv", vectors.join("\n") + "\n"), ("metadata.tsv", metadata), ("projector_config.pbtxt", config.to_owned())]
    {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

//! Why a stage would run.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde_json::Value;

use crate::artifacts::manifest::{InputRecord, Manifest};

/// Is the artifact of a stage up to date, and if not, why?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// The recorded artifact is the result of this configuration, these inputs and this revision of the stage.
    UpToDate,
    /// No artifact is recorded.
    Missing,
    /// No artifact of an input is recorded.
    Waiting { input: String },
    /// The revision of the stage differs.
    Revised { from: u32, to: u32 },
    /// Dotted keys whose values differ.
    ConfigChanged { keys: Vec<String> },
    /// The bytes of an input differ.
    InputsChanged { inputs: Vec<InputChange> },
    /// Recorded files that are missing or damaged.
    Damaged { files: Vec<PathBuf> },
}

/// An input that differs, with its files that differ (none where the old artifact was deleted).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputChange {
    pub kind: String,
    pub files: Option<Vec<String>>,
}

impl Freshness {
    /// Is nothing to be done?
    pub fn is_up_to_date(&self) -> bool {
        *self == Self::UpToDate
    }

    /// The state in tables and in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::UpToDate => "up to date",
            Self::Missing => "missing",
            Self::Waiting { .. } => "waiting",
            Self::Revised { .. } => "revised",
            Self::ConfigChanged { .. } => "config changed",
            Self::InputsChanged { .. } => "inputs changed",
            Self::Damaged { .. } => "damaged",
        }
    }

    /// Compares the manifest of an artifact with a request to run its stage. `files_of` returns the manifest of an input by kind and key.
    pub(crate) fn of(
        manifest: &Manifest,
        revision: u32,
        config: &Value,
        inputs: &BTreeMap<String, InputRecord>,
        files_of: impl Fn(&str, &str) -> Option<Manifest>,
    ) -> Self {
        if manifest.revision != revision {
            return Self::Revised { from: manifest.revision, to: revision };
        }
        let mut keys = Vec::new();
        differing_keys("", &manifest.config, config, &mut keys);
        if !keys.is_empty() {
            return Self::ConfigChanged { keys };
        }
        let digest = |inputs: &BTreeMap<String, InputRecord>, kind: &String| inputs.get(kind).map(|input| input.digest);
        let mut kinds: Vec<_> = manifest.inputs.keys().chain(inputs.keys()).collect();
        kinds.sort();
        kinds.dedup();
        let changed: Vec<_> = kinds
            .into_iter()
            .filter(|kind| digest(&manifest.inputs, kind) != digest(inputs, kind))
            .map(|kind| {
                let open = |inputs: &BTreeMap<String, InputRecord>| {
                    inputs.get(kind).and_then(|input| input.key.as_ref()).and_then(|key| files_of(kind, key))
                };
                let files = open(&manifest.inputs).zip(open(inputs)).map(|(old, new)| differing_files(&old, &new));
                InputChange { kind: kind.clone(), files }
            })
            .collect();
        if changed.is_empty() { Self::UpToDate } else { Self::InputsChanged { inputs: changed } }
    }
}

fn differing_files(old: &Manifest, new: &Manifest) -> Vec<String> {
    let mut paths: Vec<_> = old.outputs.keys().chain(new.outputs.keys()).collect();
    paths.sort();
    paths.dedup();
    let digest = |manifest: &Manifest, path| manifest.outputs.get(path).map(|file| file.blake3);
    paths.into_iter().filter(|path| digest(old, *path) != digest(new, *path)).map(|path| path.display().to_string()).collect()
}

/// Dotted keys below `prefix` whose values differ.
pub fn differing_keys(prefix: &str, old: &Value, new: &Value, keys: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut names: Vec<_> = old.keys().chain(new.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                let null = Value::Null;
                differing_keys(&path, old.get(name).unwrap_or(&null), new.get(name).unwrap_or(&null), keys);
            }
        }
        (old, new) if old != new => keys.push(prefix.to_owned()),
        _ => {}
    }
}

impl fmt::Display for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UpToDate => f.write_str("up to date"),
            Self::Missing => f.write_str("not recorded yet"),
            Self::Waiting { input } => write!(f, "waits for {input}"),
            Self::Revised { from, to } => write!(f, "stage revised from {from} to {to}"),
            Self::ConfigChanged { keys } => write!(f, "config changed: {}", keys.join(", ")),
            Self::InputsChanged { inputs } => {
                f.write_str("inputs changed: ")?;
                for (index, input) in inputs.iter().enumerate() {
                    if index > 0 {
                        f.write_str("; ")?;
                    }
                    f.write_str(&input.kind)?;
                    match &input.files {
                        Some(files) if files.len() > 3 => {
                            write!(f, " ({}, … {} files)", files[..2].join(", "), files.len())?;
                        }
                        Some(files) => write!(f, " ({})", files.join(", "))?,
                        None => {}
                    }
                }
                Ok(())
            }
            Self::Damaged { files } => {
                write!(f, "damaged: {} (missing, or with other bytes)", files[0].display())?;
                if files.len() > 1 { write!(f, " and {} more", files.len() - 1) } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reasons_name_inputs_and_files() {
        let input = |kind: &str, files: Option<u32>| InputChange {
            kind: kind.to_owned(),
            files: files.map(|count| (0..count).map(|number| format!("f{number}")).collect()),
        };
        let inputs = vec![input("raw", Some(3)), input("syntax", Some(4)), input("tokens", None)];
        assert_eq!(Freshness::InputsChanged { inputs }.to_string(), "inputs changed: raw (f0, f1, f2); syntax (f0, f1, … 4 files); tokens");
        let damaged = |count: usize| Freshness::Damaged { files: vec!["a".into(); count] }.to_string();
        assert_eq!(damaged(1), "damaged: a (missing, or with other bytes)");
        assert_eq!(damaged(3), "damaged: a (missing, or with other bytes) and 2 more");
    }

    #[test]
    fn differing_keys_are_named_by_their_path() {
        let mut keys = Vec::new();
        differing_keys("", &json!({"a": {"b": 1, "c": 2}, "d": [1]}), &json!({"a": {"b": 1, "c": 3}, "e": 0}), &mut keys);
        assert_eq!(keys, ["a.c", "d", "e"]);
    }
}

//! HOCON files to typed sections. Unknown keys are refused with the nearest known name.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Error, Invalid, Settings,
    error::{Context, Result},
};

/// Section `adopt`, which says to every tool whether an encoder is made here or comes from elsewhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Adopted {
    /// A folder with `encoder.json`, the graphs it names and `tokenizer.json`: then nothing is learnt here.
    pub from: Option<PathBuf>,
}

/// A loaded, resolved configuration.
#[derive(Debug)]
pub struct Conf {
    root: hocon::Config,
    path: PathBuf,
    sections: Vec<&'static str>,
    /// Sections that a command replaced.
    replaced: HashMap<String, Value>,
}

impl Conf {
    /// Loads a file, its includes and `${?VAR}` from the process environment. `sections`: names that the file may have at top level
    /// ([`Registry::sections`](crate::Registry::sections)).
    pub fn load(path: &Path, sections: &[&'static str]) -> Result<Self> {
        Self::load_with(path, sections, &std::env::vars().collect())
    }

    /// [`Conf::load`] with a stated environment.
    pub fn load_with(path: &Path, sections: &[&'static str], env: &HashMap<String, String>) -> Result<Self> {
        let root = hocon::parse_file_with_env(path, env).with_context(|| format!("loading config {}", path.display()))?;
        if let Some(unknown) = root.keys().into_iter().find(|key| !sections.contains(key)) {
            let nearest = nearest(unknown, sections);
            let why = format!("unknown section `{unknown}`, did you mean `{nearest}`? (your own variables go into `vars`)");
            return Err(Error::Config { file: path.to_owned(), why });
        }
        Ok(Self { root, path: path.to_owned(), sections: sections.to_vec(), replaced: HashMap::new() })
    }

    /// All sections, resolved. Written as JSON they are a configuration that the tools read.
    pub fn resolved(&self) -> Result<Settings> {
        let sections = self.sections.iter().filter(|name| self.root.get(name).is_some());
        Ok(Settings(sections.map(|name| Ok(((*name).to_owned(), self.section(name)?))).collect::<Result<_>>()?))
    }

    /// The configuration with another value for a section.
    #[must_use]
    pub fn with_section(mut self, name: &str, value: Value) -> Self {
        self.replaced.insert(name.to_owned(), value);
        self
    }

    /// Does the encoder come from elsewhere?
    pub fn adopts(&self) -> Result<bool> {
        Ok(self.section::<Adopted>("adopt")?.from.is_some())
    }

    /// The section of a stage.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        if let Some(value) = self.replaced.get(name) {
            return serde_path_to_error::deserialize(value).map_err(|error| Invalid(format!("section `{name}`: {error}")).into());
        }
        let value = self.root.get(name).ok_or_else(|| Error::Config {
            file: self.path.clone(),
            why: format!("section `{name}` is missing: start the file with `include \"base.conf\"`"),
        })?;
        serde_path_to_error::deserialize(hocon::serde::HoconDeserializer::new(value)).map_err(|error| {
            let path = error.path().to_string();
            let at = if path == "." { name.to_owned() } else { format!("{name}.{path}") };
            Error::Config { file: self.path.clone(), why: explain(&at, &error.into_inner().to_string()) }
        })
    }
}

/// Turns serde's "unknown field `x`, expected one of `a`, `b`" into advice.
fn explain(at: &str, message: &str) -> String {
    let message = match message.strip_prefix("HOCON deserialization error") {
        Some(rest) => rest.split_once(": ").map_or(rest, |(_, rest)| rest),
        None => message,
    };
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match (message.contains("unknown field") || message.contains("unknown variant"), names.split_first()) {
        (true, Some((unknown, known))) if !known.is_empty() => {
            let key = if at.ends_with(unknown) || message.contains("unknown variant") { at.to_owned() } else { format!("{at}.{unknown}") };
            let what = if message.contains("unknown variant") {
                format!("unknown value `{unknown}` at `{key}`")
            } else {
                format!("unknown key `{key}`")
            };
            format!("{what}, did you mean `{}`? (known: {})", nearest(unknown, known), known.join(", "))
        }
        _ => format!("`{at}`: {message}"),
    }
}

/// The known name closest by edit distance.
fn nearest<'a>(name: &str, known: &[&'a str]) -> &'a str {
    known.iter().min_by_key(|other| strsim::damerau_levenshtein(name, other)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    struct Vocab {
        size: u32,
        input: String,
        #[serde(default)]
        folder: Option<String>,
    }

    fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    const BASE: &str = r#"
        vars { root = "/base", lang = python }
        vocab { size = 10000, input = ${vars.root}"/"${vars.lang}, folder = null, folder = ${?CODENETS_FOLDER} }
    "#;

    /// The trap that the crate named `hocon` falls into: it binds `${vars.root}` when it reads the
    /// included file, so that the including file's value arrives too late.
    #[test]
    fn a_value_overridden_in_the_including_file_reaches_every_substitution_of_the_included_one() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "base.conf", BASE);
        let path = write(dir.path(), "mine.conf", "include \"base.conf\"\nvars.root = /mine\nvocab.size = 500");
        let vocab: Vocab = Conf::load_with(&path, &["vocab", "vars", "train"], &HashMap::new()).unwrap().section("vocab").unwrap();
        assert_eq!(vocab, Vocab { size: 500, input: "/mine/python".into(), folder: None });
        let env = HashMap::from([("CODENETS_FOLDER".to_owned(), "/from/env".to_owned())]);
        let vocab: Vocab = Conf::load_with(&path, &["vocab", "vars", "train"], &env).unwrap().section("vocab").unwrap();
        assert_eq!(vocab.folder.as_deref(), Some("/from/env"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_name() {
        let dir = tempfile::tempdir().unwrap();
        let error = |text: &str| {
            let path = write(dir.path(), "x.conf", text);
            let error = Conf::load_with(&path, &["vocab", "vars", "train"], &HashMap::new())
                .and_then(|conf| conf.section::<Vocab>("vocab"))
                .unwrap_err();
            chain(&error).replace(&dir.path().display().to_string(), "DIR")
        };
        insta::assert_snapshot!(error("vocab { sise = 3, input = a }"));
        insta::assert_snapshot!(error("vocba { size = 3 }"));
        insta::assert_snapshot!(error("vocab { size = many, input = a }"));
        insta::assert_snapshot!(error("vocab { size = 4294967299, input = a }"));
        insta::assert_snapshot!(error("train { }"));
    }
}

//! Configuration files (HOCON) as typed sections.
//!
//! A file has one section for each stage. [`Conf::load`] reads a file with its includes, [`Conf::section`] gives a section as the type
//! of its stage. A key that the type does not have is refused with the nearest known name.
//!
//! An object that chooses one of several kinds may hold an object for each kind; the objects of the other kinds are dropped:
//!
//! ```
//! use ledger::conf::Conf;
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Train { loss: Loss }
//!
//! #[derive(Debug, PartialEq, Deserialize, JsonSchema)]
//! #[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
//! enum Loss { Triplet { margin: f64 }, Softmax { scale: f64 } }
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("x.conf");
//! let text = "train.loss { kind = softmax, triplet { margin = 0.2 }, softmax { scale = 20.0 } }, train.loss.kind = triplet";
//! std::fs::write(&path, text)?;
//! let train: Train = Conf::load(&path, &["train"])?.section("train")?;
//! assert_eq!(train.loss, Loss::Triplet { margin: 0.2 });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod annotated;
mod bounded;
mod cycles;
mod includes;
mod kinds;
mod messages;
mod origins;
mod schema;
mod secret_url;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use hocon::HoconValue;
use schemars::{JsonSchema, Schema, schema_for};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    artifacts::values::Settings,
    error::{Error, Invalid, Result},
};
use kinds::Node;
use messages::{explain, nearest};
use origins::Origins;
pub(crate) use schema::of_sections;
pub use secret_url::{SecretUrl, has_user_info};

/// Section `adopt`: an encoder from another source.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Adopted {
    /// Folder with `encoder.json`, the graphs that it names and `tokenizer.json`. Null: train an encoder.
    pub from: Option<PathBuf>,
}

/// Configurations of earlier versions have no such key.
fn yes() -> bool {
    true
}

/// Section `run`: settings that change no byte of any output.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RunSettings {
    /// Worker threads. Null: all cores.
    pub threads: Option<usize>,
    /// Measure recall and latency of vector search for `reports/evaluate.html`.
    #[serde(default = "yes")]
    pub curve: bool,
}

/// A section that a configuration may have, and the JSON Schema of its type.
#[derive(Debug, Clone)]
pub struct Section {
    pub name: &'static str,
    pub schema: Value,
}

impl Section {
    /// A section with the schema of its type.
    pub fn new(name: &'static str, schema: Schema) -> Self {
        Self { name, schema: schema.into() }
    }
}

impl From<&'static str> for Section {
    /// A section that may hold anything.
    fn from(name: &'static str) -> Self {
        Self { name, schema: Value::Bool(true) }
    }
}

/// A loaded configuration.
#[derive(Debug, Clone)]
pub struct Conf {
    root: hocon::Config,
    path: PathBuf,
    sections: Vec<Section>,
    /// Names of the variables of the environment.
    environment: BTreeSet<String>,
    /// Sections that a command replaced.
    replaced: HashMap<String, Value>,
}

impl Conf {
    /// Loads a file with its includes and `${?VAR}` from the process environment.
    ///
    /// `sections`: what the file may have at top level, [`Registry::sections`](crate::Registry::sections) or names.
    ///
    /// # Errors
    /// A file that cannot be read or is not HOCON, or an unknown section.
    pub fn load<S: Into<Section> + Clone>(path: &Path, sections: &[S]) -> Result<Self> {
        Self::load_with(path, sections, &std::env::vars().collect())
    }

    /// [`Conf::load`] with another environment.
    pub fn load_with<S: Into<Section> + Clone>(path: &Path, sections: &[S], env: &HashMap<String, String>) -> Result<Self> {
        let sections: Vec<Section> = sections.iter().cloned().map(Into::into).collect();
        let failed = |why: String| Error::Config { file: path.to_owned(), why };
        if !path.is_file() {
            return Err(failed("there is no such file: name a configuration with `--conf FILE`".to_owned()));
        }
        let environment: BTreeSet<String> = env.keys().cloned().collect();
        // Which values are set is not known before the parse, and does not matter for circles.
        Origins::read(path, &environment, &|_| true)?.check_cycles().map_err(failed)?;
        let root = bounded::parse(path, env).map_err(failed)?;
        let names: Vec<&str> = sections.iter().map(|section| section.name).collect();
        if let Some(unknown) = root.keys().into_iter().find(|key| !names.contains(key)) {
            let nearest = nearest(unknown, &names);
            let why = format!("unknown section `{unknown}`, did you mean `{nearest}`? (your own variables go into `vars`)");
            return Err(Error::Config { file: path.to_owned(), why });
        }
        Ok(Self { root, path: path.to_owned(), sections, environment, replaced: HashMap::new() })
    }

    /// Where each value was set.
    fn origins(&self) -> Result<Origins> {
        Origins::read(&self.path, &self.environment, &|path| self.root.get(path).is_some())
    }

    /// All sections without includes, substitutions and objects of unused kinds. Written as JSON they are a configuration file. Secrets
    /// are hidden.
    ///
    /// # Errors
    /// An unknown kind, or an unknown key of a kind.
    pub fn resolved(&self) -> Result<Settings> {
        let mut resolved = Settings(Default::default());
        for section in &self.sections {
            if let Some(value) = self.replaced.get(section.name) {
                resolved.0.insert(section.name.to_owned(), value.clone());
            } else if self.root.get(section.name).is_some() {
                let value = self.shown(section)?;
                resolved.0.insert(section.name.to_owned(), self.read(section.name, &value)?);
            }
        }
        Ok(resolved)
    }

    /// The configuration with another value for a section.
    #[must_use]
    pub fn with_section(mut self, name: &str, value: Value) -> Self {
        self.replaced.insert(name.to_owned(), value);
        self
    }

    /// Does the configuration adopt an encoder instead of training one?
    pub fn adopts(&self) -> Result<bool> {
        Ok(self.section::<Adopted>("adopt")?.from.is_some())
    }

    /// A section as the type of its stage.
    ///
    /// # Errors
    /// The section is missing, or a key or value is not one of the type; the message names the key and the nearest known name.
    pub fn section<T: DeserializeOwned + JsonSchema>(&self, name: &str) -> Result<T> {
        if let Some(value) = self.replaced.get(name) {
            return serde_path_to_error::deserialize(value).map_err(|error| Invalid(format!("section `{name}`: {error}")).into());
        }
        self.read(name, &self.flat(name, &schema_for!(T).into())?)
    }

    /// A section in which every object that chooses a kind is flat.
    fn flat(&self, name: &str, schema: &Value) -> Result<HoconValue> {
        let Some(mut value) = self.root.get(name).cloned() else {
            return Err(self.error(format!("section `{name}` is missing: start the file with `include \"base.conf\"`")));
        };
        kinds::flatten(&mut value, Node::root(schema), name).map_err(|why| self.error(why))?;
        Ok(value)
    }

    /// A flat section whose secrets are hidden.
    fn shown(&self, section: &Section) -> Result<HoconValue> {
        let mut value = self.flat(section.name, &section.schema)?;
        secret_url::hide(&mut value, Node::root(&section.schema));
        Ok(value)
    }

    /// Reads a value as a type. `at`: dotted path, for messages.
    fn read<T: DeserializeOwned>(&self, at: &str, value: &HoconValue) -> Result<T> {
        serde_path_to_error::deserialize(hocon::serde::HoconDeserializer::new(value)).map_err(|error| {
            let path = error.path().to_string();
            let at = if path == "." { at.to_owned() } else { format!("{at}.{path}") };
            self.error(explain(&at, &error.into_inner().to_string()))
        })
    }

    fn error(&self, why: String) -> Error {
        Error::Config { file: self.path.clone(), why }
    }
}

#[cfg(test)]
mod tests;

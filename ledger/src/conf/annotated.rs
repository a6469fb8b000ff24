//! The resolved configuration as text, with the origin of each value.

use std::fmt::Write;

use hocon::HoconValue;
use serde_json::Value;

use super::{Conf, kinds::KIND, origins::Origins};
use crate::error::Result;

/// Keys that a value may have been written at: directly, and in the object of its kind.
type Sources = Vec<Vec<String>>;

struct Page<'a> {
    conf: &'a Conf,
    origins: Origins,
    text: String,
}

impl Conf {
    /// The resolved configuration, a line `key = value  # file:line` for each value.
    ///
    /// ```text
    /// train.loss.margin = 0.2  # conf/mine.conf:3
    /// ```
    ///
    /// # Errors
    /// A file that cannot be read again, or an unknown key of a kind.
    pub fn annotated(&self) -> Result<String> {
        let mut page = Page { conf: self, origins: self.origins()?, text: String::new() };
        for section in &self.sections {
            if let Some(value) = self.replaced.get(section.name) {
                page.line(section.name, value, "the command line");
            } else if self.root.get(section.name).is_some() {
                let value = self.shown(section)?;
                page.value(section.name, &value, &vec![vec![section.name.to_owned()]])?;
            }
        }
        Ok(page.text)
    }
}

impl Page<'_> {
    fn value(&mut self, key: &str, value: &HoconValue, sources: &Sources) -> Result<()> {
        match value {
            HoconValue::Object(members) if !members.is_empty() && !is_row(key, value) => {
                let kind = members.get(KIND).and_then(HoconValue::as_str);
                for (name, member) in members {
                    let direct = sources.iter().map(|source| [source.as_slice(), std::slice::from_ref(name)].concat());
                    let in_kind = kind.iter().flat_map(|kind| {
                        sources.iter().map(move |source| [source.as_slice(), &[(*kind).to_owned(), name.clone()]].concat())
                    });
                    self.value(&format!("{key}.{}", quoted(name)), member, &direct.chain(in_kind).collect())?;
                }
                Ok(())
            }
            HoconValue::Array(items) if items.iter().any(HoconValue::is_object) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(&format!("{key}[{index}]"), item, sources)?;
                }
                Ok(())
            }
            value => {
                let json: Value = self.conf.read(key, value)?;
                let origin = self.origin(sources);
                self.line(key, &json, &origin);
                Ok(())
            }
        }
    }

    fn origin(&self, sources: &Sources) -> String {
        let exact = sources.iter().find_map(|source| self.origins.of(source));
        let nearest = || sources.iter().filter_map(|source| self.origins.nearest(source)).max_by_key(|(length, _)| *length);
        exact.or_else(|| nearest().map(|(_, origin)| origin)).map_or_else(|| self.conf.path.display().to_string(), ToString::to_string)
    }

    fn line(&mut self, key: &str, value: &Value, origin: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{key} = {value}  # {origin}");
    }
}

/// An element of a list whose members are plain values (a package) takes one line.
fn is_row(key: &str, value: &HoconValue) -> bool {
    let is_plain = |member: &HoconValue| match member {
        HoconValue::Array(items) => items.iter().all(HoconValue::is_scalar),
        member => member.is_scalar(),
    };
    key.ends_with(']') && value.as_object().is_some_and(|members| members.values().all(is_plain))
}

fn quoted(name: &str) -> String {
    let is_plain = name.chars().all(|c| c.is_alphanumeric() || "-_".contains(c));
    if is_plain { name.to_owned() } else { Value::from(name).to_string() }
}

//! URLs of a configuration that may hold a password or a token.

use std::{borrow::Cow, fmt};

use hocon::{HoconValue, ScalarValue};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use super::kinds::Node;

/// `format` of the type in a JSON Schema: the places whose values are hidden.
const FORMAT: &str = "secret-url";
const HIDDEN: &str = "***";

/// A URL whose user info and query string are hidden in everything that is written: manifests, artifact keys, errors, snapshots. Another
/// password makes no artifact stale.
///
/// ```
/// let url: ledger::conf::SecretUrl = serde_json::from_str("\"https://me:password@host/file?token=1\"").unwrap();
/// assert_eq!(url.to_string(), "https://***@host/file?***");
/// assert_eq!(serde_json::to_string(&url).unwrap(), "\"https://***@host/file?***\"");
/// assert_eq!(url.expose(), "https://me:password@host/file?token=1");
/// ```
#[derive(Clone)]
pub struct SecretUrl {
    shown: String,
    url: SecretString,
}

impl SecretUrl {
    /// A URL.
    pub fn new(url: impl Into<String>) -> Self {
        let url = url.into();
        Self { shown: shown(&url), url: url.into() }
    }

    /// The URL with its secrets, for a request.
    pub fn expose(&self) -> &str {
        self.url.expose_secret()
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.shown)
    }
}

impl<'de> Deserialize<'de> for SecretUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl JsonSchema for SecretUrl {
    fn schema_name() -> Cow<'static, str> {
        "SecretUrl".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": FORMAT })
    }
}

/// Does the text name a user or a password of a URL?
pub fn has_user_info(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| !url.username().is_empty() || url.password().is_some())
}

fn shown(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else {
        // Not a URL: a part of it could be a secret all the same.
        return HIDDEN.to_owned();
    };
    if has_user_info(text) {
        // A scheme that cannot have a user has none here.
        let _ = url.set_password(None);
        let _ = url.set_username(HIDDEN);
    }
    if url.query().is_some() {
        url.set_query(Some(HIDDEN));
    }
    url.set_fragment(None);
    url.to_string()
}

/// Hides the secrets of a flat value, at the places that its schema declares.
pub(crate) fn hide(value: &mut HoconValue, node: Node<'_>) {
    match value {
        HoconValue::Object(members) => {
            for (name, member) in members.iter_mut() {
                if let Some(known) = node.member(name) {
                    hide(member, known);
                }
            }
        }
        HoconValue::Array(items) => {
            let Some(node) = node.items() else { return };
            items.iter_mut().for_each(|item| hide(item, node));
        }
        scalar => {
            let text = scalar.as_str().filter(|_| node.has_format(FORMAT)).map(shown);
            if let Some(text) = text {
                *scalar = HoconValue::Scalar(ScalarValue::string(text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        for (url, expected) in [
            ("https://host/a/b.gz", "https://host/a/b.gz"),
            ("https://token@host/a", "https://***@host/a"),
            ("https://host/a?sig=1&x=2#y", "https://host/a?***"),
            ("no url with a token", "***"),
        ] {
            let url = SecretUrl::new(url);
            assert_eq!((url.to_string(), format!("{url:?}")), (expected.to_owned(), format!("{expected:?}")));
        }
    }

    #[test]
    fn the_schema_of_a_url_is_part_of_the_schema_around_it() {
        #[derive(JsonSchema)]
        struct Mirror {
            #[expect(dead_code, reason = "only the schema is used")]
            url: SecretUrl,
        }
        let schema = serde_json::to_value(schemars::schema_for!(Mirror)).unwrap();
        assert_eq!(schema["properties"]["url"]["type"], "string", "{schema}");
    }
}

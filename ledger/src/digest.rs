//! BLAKE3 digests of files and of values.

use std::{fmt, fs::File, io, path::Path};

use serde::{Deserialize, Serialize};

/// BLAKE3 of a file's bytes, or of a value's canonical JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of a file. Memory does not depend on its size.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok(Self(*hasher.finalize().as_bytes()))
    }

    /// The digest of bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// A digest of bytes that arrive in parts.
    pub fn hasher() -> Hasher {
        Hasher(blake3::Hasher::new())
    }

    /// The digest of a value's JSON with sorted keys: the order of fields does not matter.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Self> {
        Ok(Self::of_bytes(serde_json::to_value(value)?.to_string().as_bytes()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 128 bits.
    pub fn half(&self) -> [u8; 16] {
        self.0.first_chunk().copied().unwrap_or_default()
    }

    /// The first 12 hex digits, for folder names and messages.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

/// Is the text the key of an artifact: the first hex digits of a digest?
pub fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A digest of bytes that arrive in parts.
#[derive(Debug)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes until now.
    pub fn digest(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.short())
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = blake3::HexError;
    fn try_from(hex: String) -> Result<Self, Self::Error> {
        Ok(Self(*blake3::Hash::from_hex(hex)?.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_order_does_not_change_the_digest_of_a_value() {
        let one: serde_json::Value = serde_json::from_str(r#"{"a": 1, "b": [2, 3]}"#).unwrap();
        let two: serde_json::Value = serde_json::from_str(r#"{"b": [2, 3], "a": 1}"#).unwrap();
        assert_eq!(Digest::of(&one).unwrap(), Digest::of(&two).unwrap());
        let three: serde_json::Value = serde_json::from_str(r#"{"b": [3, 2], "a": 1}"#).unwrap();
        assert_ne!(Digest::of(&one).unwrap(), Digest::of(&three).unwrap());
    }
}

//! Ids and digests of rows.

use crate::{
    error::{Context, Result},
    records::Record,
};

/// Id of a row: 128 bits of blake3 over (language, repo, path, code), and over the number of the row where a file has equal code more than
/// once. Equal in every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowId([u8; 16]);

impl RowId {
    /// The id of the first row with this code in its file.
    pub fn of(record: &Record) -> Self {
        Self::digest(&[record.language.name(), &record.repo, &record.path, &record.code])
    }

    /// The id of a later row with the same code in the same file. `number`: how many such rows are before it.
    pub fn repeated(self, number: u32) -> Self {
        if number == 0 { self } else { Self::digest(&[&self.hex(), &number.to_string()]) }
    }

    /// The digest of all that tells a record from another one with the same code in the same file: its lines and its URL.
    pub fn of_place(self, record: &Record) -> Self {
        let (first, last) = record.lines.unwrap_or_default();
        Self::digest(&[&self.hex(), &format!("{first}-{last}"), &record.url])
    }

    /// The digest that all aliases have: language, code tokens and documentation. None for a record without code tokens.
    pub fn of_alias(record: &Record) -> Option<Self> {
        let is_code = !record.code_tokens.is_empty();
        is_code.then(|| {
            let tokens = record.code_tokens.iter();
            let documentation = record.docstring.as_str();
            Self::digest(&[&[record.language.name(), documentation], &tokens.collect::<Vec<_>>()[..]].concat())
        })
    }

    fn digest(parts: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        Self(id)
    }

    /// The id with these bytes.
    pub fn of_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The id with these hex digits.
    pub fn of_hex(text: &str) -> Result<Self> {
        let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32);
        Ok(Self(number.with_context(|| format!("{text:?} is no id of a row: run `codenets verify`"))?.to_be_bytes()))
    }

    pub fn hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

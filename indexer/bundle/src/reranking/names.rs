//! Names of the rows, as reranking compares them with a query: terms of name, class, file and folders, and the kind of the file.
//!
//! Terms are CRC-32 checksums of their text, so that the names of a few hundred candidates are read from a mapped file.

use std::path::Path;

use tantivy::fieldnorm::FieldNormReader;

use crate::{
    Error, Result,
    error::Context,
    lexical::{LENGTHS, name_parts},
    vectors::Npy,
};

/// File with the checksums of all names in a bundle: a vector u32 `[checksums]`.
pub const NAMES: &str = "names.npy";
/// File with the ends of the names in [`NAMES`]: a matrix u32 `[rows, 4]`, columns in the order of [`NamePart`].
pub const NAME_ENDS: &str = "name-ends.npy";
/// File with the [`kind`] of each row: a vector u8 `[rows]`.
pub const KINDS: &str = "kinds.npy";

/// A part of the name of a function or of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamePart {
    /// The function's own name.
    Name,
    /// Enclosing classes and modules.
    Class,
    /// The file name without its extensions.
    File,
    /// The folders of the path.
    Folders,
}

impl NamePart {
    /// All parts.
    pub const ALL: [NamePart; 4] = [Self::Name, Self::Class, Self::File, Self::Folders];
}

/// The checksum of a term.
pub fn checksum(term: &str) -> u32 {
    crc32fast::hash(term.as_bytes())
}

/// Bits of [`KINDS`].
pub mod kind {
    /// The path or the file name says that the function is a test.
    pub const TEST: u8 = 1;
    /// It is in a folder of examples, documentation or benchmarks.
    pub const EXAMPLE: u8 = 2;
    /// A program wrote the file.
    pub const GENERATED: u8 = 4;
    /// It is a copy of another project.
    pub const VENDORED: u8 = 8;
    /// The name starts with `_`.
    pub const PRIVATE: u8 = 16;
    /// All bits with their names.
    pub const ALL: [(&str, u8); 5] =
        [("test", TEST), ("example", EXAMPLE), ("generated", GENERATED), ("vendored", VENDORED), ("private", PRIVATE)];
}

const TEST_FOLDERS: [&str; 9] = ["test", "tests", "testing", "__tests__", "spec", "specs", "testdata", "fixtures", "mocks"];
const EXAMPLE_FOLDERS: [&str; 12] =
    ["example", "examples", "sample", "samples", "demo", "demos", "doc", "docs", "docs_src", "tutorials", "benchmark", "benchmarks"];
const VENDORED_FOLDERS: [&str; 9] =
    ["vendor", "vendors", "vendored", "_vendor", "third_party", "thirdparty", "node_modules", "external", "extern"];
const GENERATED_FOLDERS: [&str; 4] = ["generated", "dist", "build", "_generated"];

/// The kind of a function by its name and path.
pub fn kind_of(name: &str, path: &str) -> u8 {
    let path = path.to_lowercase();
    let parts: Vec<&str> = path.split('/').collect();
    let (file, folders) = parts.split_last().map_or(("", &[][..]), |(file, folders)| (*file, folders));
    let stem = file.split('.').next().unwrap_or_default();
    let in_any = |names: &[&str]| folders.iter().any(|folder| names.contains(folder));
    let is_test = in_any(&TEST_FOLDERS)
        || stem.starts_with("test_")
        || ["_test", "_tests", "_spec", "-test"].iter().any(|end| stem.ends_with(end))
        || [".test.", ".spec."].iter().any(|mark| file.contains(mark))
        || stem == "conftest";
    let is_generated = in_any(&GENERATED_FOLDERS)
        || ["_pb2", "_generated", "_gen"].iter().any(|end| stem.ends_with(end))
        || [".pb.", ".min.", ".generated.", ".g."].iter().any(|mark| file.contains(mark));
    let flag = |is: bool, bit: u8| if is { bit } else { 0 };
    flag(is_test, kind::TEST)
        | flag(in_any(&EXAMPLE_FOLDERS), kind::EXAMPLE)
        | flag(is_generated, kind::GENERATED)
        | flag(in_any(&VENDORED_FOLDERS), kind::VENDORED)
        | flag(name.starts_with('_'), kind::PRIVATE)
}

/// The texts of the parts of a name: function name, classes, file name without extensions, folders.
pub fn texts_of(func_name: &str, path: &str) -> [String; NamePart::ALL.len()] {
    let parts = name_parts(func_name);
    let (name, classes) = parts.split_last().map_or((func_name, &[][..]), |(name, classes)| (*name, classes));
    let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = file.split('.').find(|part| !part.is_empty()).unwrap_or_default();
    [name.to_owned(), classes.join(" "), stem.to_owned(), folders.to_owned()]
}

/// The checksums of a part: its terms in order, and then all its words joined.
pub fn checksums(text: &str, term_of: impl Fn(&str) -> Option<String>) -> Vec<u32> {
    let mut words = Vec::new();
    ledger::words::subtokens(text, &mut words);
    if words.is_empty() {
        return Vec::new();
    }
    words.iter().map(|word| term_of(word).unwrap_or_else(|| word.clone())).chain([words.concat()]).map(|term| checksum(&term)).collect()
}

/// The names of the rows of a bundle.
#[derive(Debug)]
pub struct Names {
    checksums: Npy,
    ends: Npy,
    kinds: Npy,
    lengths: Npy,
    /// Number of columns of `lengths`, and the one of the code.
    fields: usize,
    code: usize,
}

/// The checksums of one part of a row's name.
#[derive(Debug, Clone, Copy)]
pub struct NameTerms<'a>(&'a [[u8; 4]]);

impl Names {
    /// Maps the files of a bundle. `checksums`: length of [`NAMES`]; `fields`: the columns of [`LENGTHS`].
    pub(crate) fn open(dir: &Path, rows: usize, checksums: usize, fields: &[&str]) -> Result<Self> {
        let code = fields.iter().position(|field| *field == "code").context("the bundle has no field `code`")?;
        let names = Self {
            checksums: Npy::open(&dir.join(NAMES), "<u4", &[checksums], 4)?,
            ends: Npy::open(&dir.join(NAME_ENDS), "<u4", &[rows, NamePart::ALL.len()], 4)?,
            kinds: Npy::open(&dir.join(KINDS), "|u1", &[rows], 1)?,
            lengths: Npy::open(&dir.join(LENGTHS), "|u1", &[rows, fields.len()], 1)?,
            fields: fields.len(),
            code,
        };
        let last = names.end((rows * NamePart::ALL.len()).checked_sub(1));
        if last != checksums {
            return Err(Error::damaged(dir.join(NAME_ENDS), format!("its names end at {last} of {checksums}")));
        }
        Ok(names)
    }

    fn end(&self, index: Option<usize>) -> usize {
        let ends = self.ends.bytes().as_chunks::<4>().0;
        index.and_then(|index| ends.get(index)).map_or(0, |end| u32::from_le_bytes(*end) as usize)
    }

    /// A part of a row's name; empty for a row beyond the bundle.
    pub fn part(&self, row: u32, part: NamePart) -> NameTerms<'_> {
        let index = NamePart::ALL.len() * row as usize + part as usize;
        let (start, end) = (self.end(index.checked_sub(1)), self.end(Some(index)));
        NameTerms(self.checksums.bytes().as_chunks::<4>().0.get(start..end).unwrap_or_default())
    }

    /// Number of words of a row's code, to about 10 %.
    pub fn code_length(&self, row: u32) -> u32 {
        self.lengths.bytes().get(row as usize * self.fields + self.code).map_or(0, |norm| FieldNormReader::id_to_fieldnorm(*norm))
    }

    /// The bits of a row's [`kind`].
    pub fn kind(&self, row: u32) -> u8 {
        self.kinds.bytes().get(row as usize).copied().unwrap_or_default()
    }
}

impl NameTerms<'_> {
    /// Is the part empty?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The checksums of the terms.
    pub fn terms(&self) -> impl ExactSizeIterator<Item = u32> {
        self.0[..self.0.len().saturating_sub(1)].iter().map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// The checksum of all words joined; 0 for an empty part.
    pub fn joined(&self) -> u32 {
        self.0.last().map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_function_follows_from_its_path_and_name() {
        for (name, path, expected) in [
            ("run", "src/runner.py", 0),
            ("run", "src/tests/runner.py", kind::TEST),
            ("run", "src/runner_test.go", kind::TEST),
            ("run", "src/Runner.spec.js", kind::TEST),
            ("contest", "contest/latest.py", 0),
            ("_run", "docs/examples/a.py", kind::EXAMPLE | kind::PRIVATE),
            ("F", "api/v1/service.pb.go", kind::GENERATED),
            ("f", "vendor/github.com/x/y.go", kind::VENDORED),
        ] {
            assert_eq!(kind_of(name, path), expected, "{path}");
        }
    }

    #[test]
    fn a_name_has_four_parts() {
        assert_eq!(texts_of("Http::Client.get_json", "src/http/client.test.js"), ["get_json", "Http Client", "client", "src/http"]);
        assert_eq!(texts_of("f", ".eslintrc.js"), ["f", "", "eslintrc", ""]);
    }

    #[test]
    fn the_checksums_of_a_part_are_its_terms_and_the_joined_words() {
        let found = checksums("web_urlDispatchers", |word| Some(word.trim_end_matches('s').to_owned()));
        assert_eq!(found, ["web", "url", "dispatcher", "weburldispatchers"].map(checksum));
        assert!(checksums("__", |_| None).is_empty());
    }
}

//! Licences of packages and folders, by their SPDX identifiers where they are known.

use std::{collections::HashMap, sync::LazyLock};

use ledger::Digest;
use regex::Regex;
use spdx::detection::{Store, TextData, scan::Scanner};

use super::{encoding, source::Registry};

/// Longest licence text that is recorded, in characters.
const MAX_CHARS: usize = 80;
/// Largest licence file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Least similarity with the text of a known licence, from 0 to 1.
const LEAST_SIMILAR: f32 = 0.8;

/// The licence in the metadata file of a package.
pub fn licence_of_package(registry: Registry, metadata: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(metadata);
    let short = |text: &str| Some(short(text.trim().lines().next()?)).filter(|text| !text.is_empty() && text != "UNKNOWN");
    let licence = match registry {
        Registry::Pypi => {
            let header = |name: &str| text.lines().take_while(|line| !line.is_empty()).find_map(|line| line.strip_prefix(name));
            header("License-Expression: ")
                .and_then(short)
                .or_else(|| header("Classifier: License :: OSI Approved :: ").and_then(short))
                .or_else(|| header("License: ").and_then(short))
        }
        Registry::Npm => {
            let json: serde_json::Value = serde_json::from_str(&text).ok()?;
            let licence = json.get("license")?;
            short(licence.as_str().or_else(|| licence.get("type")?.as_str())?)
        }
        Registry::Debian => text.lines().find_map(|line| line.strip_prefix("License: ")).and_then(short),
    };
    licence.map(|name| identifier(&name))
}

/// The SPDX identifier of a name such as `Apache 2.0`; the name where it has none, or is an expression.
fn identifier(name: &str) -> String {
    let found = spdx::imprecise_license_id(name).filter(|(_, length)| *length == name.len());
    found.map_or_else(|| name.to_owned(), |(id, _)| id.name.to_owned())
}

/// Names of licence files, the most telling first: `LICENSE`, `MIT-LICENSE.txt`, `COPYING.LESSER`, `UNLICENSE`.
static NAMES: LazyLock<[Regex; 3]> = LazyLock::new(|| {
    let text = r"(\.(md|markdown|txt|rst|html|adoc|lesser|mit|apache|bsd|gpl|lgpl|[0-9.]+))?";
    let licence = "(licen[sc]es?|copying|copyright)";
    let kind = "(mit|apache|bsd|gpl|lgpl|agpl|mpl|isc|epl)";
    [
        format!("^licen[sc]e{text}$"),
        format!("^(copying|unlicen[sc]e){text}$"),
        format!("^({kind}[0-9.]*[_-]{licence}|{licence}[._-]{kind}[0-9._-]*|{licence}|{kind}(-[0-9.]+)?){text}$"),
    ]
    .map(|name| Regex::new(&format!("(?i){name}")).expect("the expression is constant"))
});

/// Metadata files that name a licence, and how.
static METADATA: LazyLock<Vec<(Regex, Regex)>> = LazyLock::new(|| {
    [
        (r"^package\.json$|^composer\.json$|^bower\.json$", r#""licen[sc]e"\s*:\s*\[?\s*"([^"]+)""#),
        (r"^pyproject\.toml$|^Cargo\.toml$", r#"(?m)^license\s*=\s*(?:\{\s*text\s*=\s*)?["']([^"']+)["']"#),
        (r"^setup\.cfg$", r"(?m)^license\s*=\s*(\S.*)$"),
        (r"^setup\.py$", r#"\blicense\s*=\s*["']([^"']+)["']"#),
        (r"\.gemspec$", r#"\.licenses?\s*=\s*\[?\s*["']([^"']+)["']"#),
        (r"^pom\.xml$", r"(?s)<license>\s*<name>([^<]+)</name>"),
    ]
    .map(|(name, field)| (Regex::new(name).expect("the expression is constant"), Regex::new(field).expect("the expression is constant")))
    .into()
});

/// Sentences of licences in texts that are no licence alone: the first one in the text decides.
const KNOWN: [(&str, &str); 4] = [
    ("Permission is hereby granted, free of charge", "MIT"),
    ("Permission to use, copy, modify, and", "ISC"),
    ("Redistribution and use in source and binary forms", "BSD-2-Clause"),
    ("Licensed under the Apache License", "Apache-2.0"),
];
/// A sentence that makes a BSD licence one of three clauses.
const THIRD_CLAUSE: &str = "Neither the name of";

/// The texts of all known licences, which are unpacked by the first one that is compared. None: the table of the library is damaged.
static LICENCES: LazyLock<Option<Store>> = LazyLock::new(|| Store::load_inline().ok());

/// What a repository says about its licence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// The text of a licence file.
    Text(String),
    /// What the metadata names.
    Name(String),
}

impl Statement {
    /// Equal for equal statements: to notice that one changed, and to know a licence again without comparing its text.
    pub fn digest(&self) -> String {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Name(name) => format!("name {name}"),
        };
        Digest::of_bytes(text.as_bytes()).short()
    }

    /// The licence: its SPDX identifier, or what the repository calls it. `known`: licences by [digest](Self::digest).
    pub fn licence(&self, known: &HashMap<String, String>) -> String {
        known.get(&self.digest()).cloned().unwrap_or_else(|| match self {
            Self::Text(text) => detected(text).or_else(|| licence_of_text(text)).unwrap_or_else(|| "unknown".to_owned()),
            Self::Name(name) => identifier(name),
        })
    }
}

/// The licence whose text is most similar.
fn detected(text: &str) -> Option<String> {
    let scanner = Scanner::new(LICENCES.as_ref()?).confidence_threshold(LEAST_SIMILAR);
    Some(scanner.scan(&TextData::from(text)).license?.name.to_string())
}

/// What a repository says about its licence: its licence file, else what its metadata names. `names`: the files directly in the repository;
/// `read` reads one of at most this number of bytes.
pub fn licence_of_files(names: &[String], read: &dyn Fn(&str, u64) -> Option<Vec<u8>>) -> Option<Statement> {
    let read = |name: &String| Some(String::from_utf8_lossy(&encoding::decode(&read(name, MAX_BYTES)?).0).into_owned());
    let files = NAMES.iter().flat_map(|pattern| names.iter().filter(|name| pattern.is_match(name)));
    let metadata = || {
        METADATA.iter().find_map(|(pattern, field)| {
            let text = names.iter().filter(|name| pattern.is_match(name)).find_map(read)?;
            Some(short(field.captures(&text)?.get(1)?.as_str())).filter(|name| !name.is_empty())
        })
    };
    let has_words = |text: &String| licence_of_text(text).is_some();
    files.filter_map(read).find(has_words).map(Statement::Text).or_else(|| metadata().map(Statement::Name))
}

fn short(text: &str) -> String {
    text.trim().chars().take(MAX_CHARS).collect()
}

/// The first line of a text that is no known licence; where it names only the owners, the licence whose sentence it has.
fn licence_of_text(text: &str) -> Option<String> {
    let first = text
        .lines()
        .map(|line| line.trim_matches(['#', '*', '=', '-', ' ', '\u{feff}', '\t', '\r']))
        .find(|line| !line.is_empty() && !line.starts_with('<'))?;
    let lower = first.to_lowercase();
    let is_owner = ["copyright", "(c)", "©", "redistribution", "permission is"].iter().any(|start| lower.starts_with(start));
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let places = KNOWN.iter().filter_map(|(sentence, name)| Some((joined.find(sentence)?, *name)));
    let name = match places.min() {
        Some((place, "BSD-2-Clause")) if joined[place..].contains(THIRD_CLAUSE) => Some("BSD-3-Clause"),
        other => other.map(|(_, name)| name),
    };
    Some(name.filter(|_| is_owner).map_or_else(|| short(first), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harvest::folder::SourceFolder;

    /// The licence of a folder with these files.
    fn of_files(files: &[(&str, &str)]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let folder = SourceFolder::open(dir.path()).unwrap();
        let statement = licence_of_files(&folder.names(), &|name, max_bytes| folder.read(name, max_bytes).ok())?;
        Some(statement.licence(&HashMap::new()))
    }

    #[test]
    fn licence_files_have_many_names() {
        for name in [
            "LICENSE",
            "license",
            "LICENCE.md",
            "License.txt",
            "MIT-LICENSE",
            "MIT-LICENSE.txt",
            "LICENSE-MIT",
            "LICENSE.MIT",
            "COPYING",
            "COPYING.LESSER",
            "UNLICENSE",
            "LICENSES.txt",
            "BSD_LICENSE",
            "COPYRIGHT",
        ] {
            assert_eq!(of_files(&[(name, "\n# The Pelican License\n\ntext")]).as_deref(), Some("The Pelican License"), "{name}");
        }
        assert_eq!(
            of_files(&[
                ("licensing_server.py", "import x"),
                ("relicense.rb", "x"),
                ("licenses.py", "x = 1"),
                ("LICENSE-3rdparty.csv", "a")
            ]),
            None
        );
        assert_eq!(of_files(&[("COPYING", "GPL"), ("LICENSE", "The Pelican License")]).as_deref(), Some("The Pelican License"));
    }

    #[test]
    fn a_licence_that_starts_with_its_owners_has_its_own_name() {
        let mit = "Copyright (c) 2031 Pelican\n\nPermission is hereby\ngranted, free of charge, to any person";
        assert_eq!(of_files(&[("MIT.txt", &mit.replace("Copyright", ""))]).as_deref(), Some("MIT"));
        assert_eq!(of_files(&[("LICENSE", mit)]).as_deref(), Some("MIT"));
        assert_eq!(of_files(&[("LICENSE", "Copyright (c) 2031 Pelican\n\nNo use.")]).as_deref(), Some("Copyright (c) 2031 Pelican"));
    }

    #[test]
    fn the_text_of_a_licence_has_its_identifier_also_with_another_title_and_owner() {
        let mit = include_str!("../../../LICENSE");
        for text in [mit.to_owned(), format!("# Pelican\n\nIt is free.\n\n{mit}"), mit.replace('\n', "\r\n")] {
            assert_eq!(of_files(&[("LICENSE", &text)]).as_deref(), Some("MIT"));
        }
    }

    #[test]
    fn of_several_licences_in_a_text_the_first_one_counts() {
        let bsd = "Copyright (c) 2031 Pelican\n\nRedistribution and use in source and binary forms\n";
        let mit = "\nA part is of others:\nPermission is hereby granted, free of charge";
        assert_eq!(of_files(&[("LICENSE", &format!("{bsd}{mit}"))]).as_deref(), Some("BSD-2-Clause"));
        assert_eq!(of_files(&[("LICENSE", &format!("{bsd}Neither the name of Pelican{mit}"))]).as_deref(), Some("BSD-3-Clause"));
    }

    #[test]
    fn a_known_statement_is_not_compared_again_and_another_one_has_another_digest() {
        let text = Statement::Text("Pelican".to_owned());
        assert_eq!(text.licence(&HashMap::from([(text.digest(), "known".to_owned())])), "known");
        assert_eq!(text.licence(&HashMap::from([(Statement::Name("Pelican".to_owned()).digest(), "other".to_owned())])), "Pelican");
    }

    #[test]
    fn names_in_metadata_become_identifiers() {
        let of = |name: &str| of_files(&[("package.json", &format!(r#"{{"license": "{name}"}}"#))]);
        for (name, expected) in
            [("Apache 2.0", "Apache-2.0"), ("GPLv2", "GPL-2.0-only"), ("MIT OR Apache-2.0", "MIT OR Apache-2.0"), ("Pelican", "Pelican")]
        {
            assert_eq!(of(name).as_deref(), Some(expected));
        }
    }

    #[test]
    fn metadata_names_the_licence_where_no_file_does() {
        for (name, text) in [
            ("package.json", r#"{"name": "x", "license": "MIT"}"#),
            ("composer.json", r#"{"license": ["MIT", "GPL"]}"#),
            ("pyproject.toml", "[project]\nlicense = { text = \"MIT\" }\n"),
            ("pyproject.toml", "[project]\nlicense = \"MIT\"\n"),
            ("setup.cfg", "[metadata]\nlicense = MIT\n"),
            ("setup.py", "setup(name='x', license='MIT')"),
            ("x.gemspec", "Gem::Specification.new do |s|\n  s.license = \"MIT\"\nend"),
            ("pom.xml", "<project><licenses><license>\n<name>MIT</name></license></licenses></project>"),
        ] {
            assert_eq!(of_files(&[(name, text)]).as_deref(), Some("MIT"), "{name}: {text}");
        }
    }

    #[test]
    fn each_registry_names_its_licence_in_its_own_way() {
        let of = |registry, text: &str| licence_of_package(registry, text.as_bytes());
        assert_eq!(of(Registry::Pypi, "Name: x\nLicense: UNKNOWN\nLicense-Expression: MIT\n"), Some("MIT".to_owned()));
        assert_eq!(of(Registry::Pypi, "Name: x\n\nLicense: MIT\n"), None, "the description is no header");
        assert_eq!(of(Registry::Npm, r#"{"license": {"type": "ISC"}}"#), Some("ISC".to_owned()));
        assert_eq!(of(Registry::Debian, "Files: *\nLicense: GPL-2\n"), Some("GPL-2".to_owned()));
    }
}

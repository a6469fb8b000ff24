//! Licences of packages and folders.

use super::{folder::SourceFolder, source::Registry};

/// Longest licence text that is recorded, in characters.
const MAX_CHARS: usize = 80;
/// Largest licence file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The licence in the metadata file of a package.
pub fn licence_of_package(registry: Registry, metadata: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(metadata);
    let short = |text: &str| {
        Some(text.trim().lines().next()?.chars().take(MAX_CHARS).collect::<String>()).filter(|text| !text.is_empty() && text != "UNKNOWN")
    };
    match registry {
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
    }
}

/// The first line of the licence file in a folder.
pub fn licence_of_folder(folder: &SourceFolder) -> Option<String> {
    let names = ["LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING"];
    let text = names.iter().find_map(|name| folder.read(name, MAX_BYTES).ok())?;
    String::from_utf8_lossy(&text).lines().map(str::trim).find(|line| !line.is_empty()).map(|line| line.chars().take(MAX_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_registry_names_its_licence_in_its_own_way() {
        let of = |registry, text: &str| licence_of_package(registry, text.as_bytes());
        assert_eq!(of(Registry::Pypi, "Name: x\nLicense: UNKNOWN\nLicense-Expression: MIT\n"), Some("MIT".to_owned()));
        assert_eq!(of(Registry::Pypi, "Name: x\n\nLicense: MIT\n"), None, "the description is no header");
        assert_eq!(of(Registry::Npm, r#"{"license": {"type": "ISC"}}"#), Some("ISC".to_owned()));
        assert_eq!(of(Registry::Debian, "Files: *\nLicense: GPL-2\n"), Some("GPL-2".to_owned()));
    }
}

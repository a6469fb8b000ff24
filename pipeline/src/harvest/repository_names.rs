//! Names of the repositories of folder sources.

use std::{collections::BTreeMap, path::Path};

use ledger::bail;

use super::{
    config::Config,
    folder::{is_listable, subfolders},
    source::Source,
};
use crate::error::Result;

/// The name of a repository: `name`, or the name of its folder. With `each_subfolder`, `name` stands before the name of the folder.
pub fn repository_name(folder: &Path, name: Option<&str>, each_subfolder: bool) -> String {
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let own = || {
        let own = full.file_name().map_or("repository".into(), |name| name.to_string_lossy().into_owned());
        // A bare repository.
        let bare = own.strip_suffix(".git").filter(|name| !name.is_empty() && !full.join(".git").exists());
        bare.map_or_else(|| own.clone(), str::to_owned)
    };
    match name {
        None => own(),
        Some(name) if each_subfolder => format!("{name}/{}", own()),
        Some(name) => name.to_owned(),
    }
}

/// Checks that no two folders give repositories of one name: the rows of one would take the place of the rows of the other.
pub fn check_names(config: &Config) -> Result<()> {
    let mut folders = BTreeMap::new();
    for source in config.all_sources() {
        let Source::Dir { path, name, each_subfolder, .. } = source else { continue };
        // The reader names a folder that cannot be listed.
        if !is_listable(path, *each_subfolder) {
            continue;
        }
        let repositories = if *each_subfolder { subfolders(path)?.repositories } else { vec![path.clone()] };
        for folder in repositories {
            let name = repository_name(&folder, name.as_deref(), *each_subfolder);
            if let Some(other) = folders.insert(name.clone(), folder.clone()) {
                let fix = "give their sources different values of `name` in harvest.sources";
                bail!("{} and {} are both named {name}: {fix}", other.display(), folder.display());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn check(sources: serde_json::Value) -> Result<()> {
        let mut config = crate::harvest::list::tests::config(Path::new("."));
        config.source = None;
        config.sources = serde_json::from_value(sources).unwrap();
        check_names(&config)
    }

    #[test]
    fn two_folders_of_one_name_are_refused_unless_their_sources_have_names() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |path: &str| {
            fs::create_dir_all(dir.path().join(path)).unwrap();
            dir.path().join(path)
        };
        let (one, other) = (folder("team-a/api"), folder("team-b/api"));
        let error = check(serde_json::json!([{ "kind": "dir", "path": one }, { "kind": "dir", "path": other }])).unwrap_err().to_string();
        assert!(error.contains("team-a/api") && error.contains("team-b/api") && error.contains("both named api"), "{error}");
        check(serde_json::json!([{ "kind": "dir", "path": one }, { "kind": "dir", "path": other, "name": "team-b/api" }])).unwrap();
        let teams = |name: serde_json::Value| {
            serde_json::json!([
                { "kind": "dir", "path": folder("team-a"), "each-subfolder": true },
                { "kind": "dir", "path": folder("team-b"), "each-subfolder": true, "name": name }
            ])
        };
        check(teams(serde_json::Value::Null)).unwrap_err();
        check(teams("b".into())).unwrap();
        assert_eq!(repository_name(&other, Some("group/team"), true), "group/team/api");
    }
}

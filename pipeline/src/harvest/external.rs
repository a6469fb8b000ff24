//! Digests of what a source reads outside the artifact store: a changed file makes the stage run again.

use std::{collections::BTreeMap, path::Path};

use ledger::{Digest, ensure};

use super::{
    config::Config,
    folder::{Listing, SourceFolder, Subfolders, subfolders},
    left_out::{LeftOut, language_of},
    licence::licence_of_folder,
    packages,
    source::Source,
};
use crate::{
    error::{Context, Result},
    files::data_files,
};

/// Name and digest of the files that a source reads; none where the configuration pins them by sha256.
pub fn external_inputs(config: &Config, source: &Source) -> Result<Option<(String, Digest)>> {
    Ok(match source {
        Source::Packages { optional: false, .. } | Source::Urls { .. } => None,
        Source::Packages { registry, .. } => Some((format!("client:{}", registry.name()), Digest::of(&packages::is_available(*registry))?)),
        Source::Dir { path, each_subfolder, .. } => {
            ensure!(path.is_dir(), "source folder {} does not exist: correct harvest.source.path", path.display());
            let mut contents = BTreeMap::new();
            if *each_subfolder {
                let Subfolders { repositories, left_out } = subfolders(path)?;
                contents.extend(left_out.into_iter().map(|(name, reason)| (name, reason.to_string())));
                for folder in repositories {
                    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    contents.extend(content_of(&folder, config)?.into_iter().map(|(path, content)| (format!("{name}/{path}"), content)));
                }
            } else {
                contents = content_of(path, config)?;
            }
            Some((format!("dir:{}", path.display()), Digest::of(&contents)?))
        }
        Source::Snippets { path, .. } => {
            let digest = Digest::of_file(path).with_context(|| format!("reading {}", path.display()))?;
            Some((format!("snippets:{}", path.display()), digest))
        }
        Source::Csn { path } | Source::Perturbed { path, .. } => {
            ensure!(path.is_dir(), "CodeSearchNet folder {} does not exist: set CSN_DIR or correct harvest.source.path", path.display());
            Some((format!("csn:{}", path.display()), digest_of_files(path, data_files(path)?.0.into_iter())?))
        }
    })
}

/// What a repository gives: its commit, its licence, digests of its source files, and repositories inside. Files that are too large are
/// not hashed.
fn content_of(folder: &Path, config: &Config) -> Result<BTreeMap<String, String>> {
    let folder = SourceFolder::open(folder)?;
    let Listing { files, left_out, .. } = folder.list(false)?;
    let paths = files.into_iter().filter(|path| language_of(path).is_some());
    let content = |path: &str| match folder.read(path, config.max_file_bytes) {
        Ok(bytes) => Some(Digest::of_bytes(&bytes).to_string()),
        Err(refusal) => Some(LeftOut::of_refusal(&refusal, config.max_file_bytes)?.to_string()),
    };
    let mut contents: BTreeMap<String, String> = paths.filter_map(|path| Some((path.clone(), content(&path)?))).collect();
    // Files that git ignores come and go with every build.
    let left_out = left_out.into_iter().filter(|(_, reason)| matches!(reason, LeftOut::NestedRepository | LeftOut::Unreadable));
    contents.extend(left_out.map(|(path, reason)| (path, reason.to_string())));
    // No path of a file ends with a slash.
    contents.insert("commit/".to_owned(), folder.commit().to_owned());
    contents.insert("licence/".to_owned(), licence_of_folder(&folder).unwrap_or_default());
    Ok(contents)
}

fn digest_of_files(root: &Path, paths: impl Iterator<Item = String>) -> Result<Digest> {
    let digest = |path: &str| Digest::of_file(&root.join(path)).with_context(|| format!("reading {}", root.join(path).display()));
    let digests: BTreeMap<String, Digest> = paths.map(|path| Ok((path.clone(), digest(&path)?))).collect::<Result<_>>()?;
    Ok(Digest::of(&digests)?)
}

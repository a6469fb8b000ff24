//! Digests of what a source reads outside the artifact store: a changed file makes the stage run again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use ledger::{Digest, Progress, ensure};

use super::{config::Config, packages, reader::Reader, source::Source};
use crate::{
    error::{Context, Result},
    files::data_files,
    repositories::FILES,
};

/// Name and digest of the files that a source reads; none where the configuration pins them by sha256.
pub fn external_inputs(config: &Config, source: &Source) -> Result<Option<(String, Digest)>> {
    Ok(match source {
        Source::Packages { optional: false, .. } | Source::Urls { .. } => None,
        Source::Packages { registry, .. } => Some((format!("client:{}", registry.name()), Digest::of(&packages::is_available(*registry))?)),
        Source::Dir { path, each_subfolder, .. } => {
            let progress = Progress::new(true);
            // A folder has no downloads.
            let mut reader = Reader::new(config, Path::new(""), &progress).without_files();
            reader.read(source, &mut |_, _| Ok(()))?;
            Some((name_of_folder(path, *each_subfolder), Digest::of(&reader.contents)?))
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

/// Names and digests of the artifacts whose records are kept.
pub fn kept_inputs(config: &Config) -> Result<Vec<(String, Digest)>> {
    let folders: BTreeSet<&PathBuf> = config.kept.iter().filter_map(|kept| kept.from.as_ref()).collect();
    let digest = |folder: &PathBuf| {
        let digest = Digest::of_file(&folder.join(FILES)).with_context(|| format!("reading the kept records in {}", folder.display()))?;
        Ok((format!("kept:{}", folder.display()), digest))
    };
    folders.into_iter().map(digest).collect()
}

/// Name of a folder source among the inputs of the stage.
pub fn name_of_folder(path: &Path, each_subfolder: bool) -> String {
    format!("dir:{}{}", path.display(), if each_subfolder { "/*" } else { "" })
}

fn digest_of_files(root: &Path, paths: impl Iterator<Item = String>) -> Result<Digest> {
    let digest = |path: &str| Digest::of_file(&root.join(path)).with_context(|| format!("reading {}", root.join(path).display()));
    let digests: BTreeMap<String, Digest> = paths.map(|path| Ok((path.clone(), digest(&path)?))).collect::<Result<_>>()?;
    Ok(Digest::of(&digests)?)
}

//! Downloads packages with the registries' own clients and verifies their sha256. No code of a package runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ledger::{Progress, bail, ensure};

use super::{
    sha256::{is_sha256, sha256_of},
    source::{Package, Registry},
};
use crate::error::{Context, Error, Result};

/// Packages per call of the client.
const GROUP: usize = 8;

/// A package file whose sha256 is verified.
#[derive(Debug)]
pub struct Fetched {
    pub path: PathBuf,
    pub sha256: String,
    /// The version that the client chose; only known for Debian packages.
    pub version: Option<String>,
}

fn client(registry: Registry) -> (&'static str, &'static [&'static str]) {
    match registry {
        Registry::Pypi => ("python3", &["-m", "pip"]),
        Registry::Npm => ("npm", &[]),
        Registry::Debian => ("apt-get", &[]),
    }
}

/// Is the client of the registry installed?
pub fn is_available(registry: Registry) -> bool {
    let (program, arguments) = client(registry);
    // The clients read modules and settings from the folder that they are started in, which may come from someone else.
    let mut command = Command::new(program);
    command.args(arguments).arg("--version").current_dir("/");
    command.output().is_ok_and(|output| output.status.success())
}

/// Downloads the packages that are not in the cache and verifies every file. Returns the files in the order of `packages`.
pub fn fetch(registry: Registry, packages: &[Package], cache: &Path, progress: &Progress) -> Result<Vec<Fetched>> {
    packages.iter().try_for_each(|package| check(registry, package))?;
    let cache = cache.join(registry.name());
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    let bar = progress.bar("fetch", packages.len() as u64, "packages");
    let missing: Vec<&Package> = packages.iter().filter(|package| !cache.join(package.cache_name()).is_file()).collect();
    bar.add((packages.len() - missing.len()) as u64);
    for group in missing.chunks(GROUP) {
        let scratch = tempfile::tempdir_in(&cache)?;
        bar.note(group.iter().map(|package| package.name.as_str()).collect::<Vec<_>>().join(" "));
        download(registry, group, scratch.path())?;
        move_to_cache(registry, group, scratch.path(), &cache)?;
        bar.add(group.len() as u64);
    }
    bar.finish();
    packages.iter().map(|package| verify(package, cache.join(package.cache_name()))).collect()
}

fn verify(package: &Package, path: PathBuf) -> Result<Fetched> {
    let sha256 = sha256_of(&path)?;
    ensure!(
        package.sha256.as_ref().is_none_or(|pin| *pin == sha256),
        "{} {}: sha256 is {sha256}, but the configuration pins {}: remove {} and run again, or correct the pin",
        package.name,
        package.version.as_deref().unwrap_or("(any version)"),
        package.sha256.as_deref().unwrap_or_default(),
        path.display()
    );
    Ok(Fetched { version: chosen_version(&path), path, sha256 })
}

/// Refuses what a client reads as a path, a URL or an option: pip builds a folder, which runs the folder's code. A
/// configuration may come from another person. Refuses also a sha256 that can never match.
fn check(registry: Registry, package: &Package) -> Result<()> {
    let plain = |text: &str, more: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let name = package.name.as_str();
    let is_name = match (registry, name.strip_prefix('@').and_then(|scoped| scoped.split_once('/'))) {
        (Registry::Npm, Some((scope, own))) => plain(scope, "-_.") && plain(own, "-_."),
        (Registry::Debian, _) => plain(name, "-.+"),
        _ => plain(name, "-_."),
    };
    ensure!(is_name, "{name:?} is not the name of a {} package: correct harvest.sources", registry.name());
    let punctuation = if registry == Registry::Debian { ".+-~:" } else { ".+-!" };
    let version = package.version.as_deref();
    ensure!(version.is_none_or(|version| plain(version, punctuation)), "{name}: {version:?} is not a version: correct harvest.sources");
    let pin = package.sha256.as_deref();
    ensure!(pin.is_none_or(is_sha256), "{name}: {pin:?} is not a sha256 in lower-case hex: correct harvest.sources");
    Ok(())
}

/// Calls the client once for all packages; its files appear in `into`.
fn download(registry: Registry, packages: &[&Package], into: &Path) -> Result<()> {
    let (program, first) = client(registry);
    let mut command = Command::new(program);
    command.args(first).current_dir(into);
    match registry {
        Registry::Pypi => command.args(["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", "."]),
        Registry::Npm => command.args(["pack", "--silent", "--ignore-scripts"]),
        Registry::Debian => command.args(["download", "-qq"]),
    };
    let separator = match registry {
        Registry::Pypi => "==",
        Registry::Npm => "@",
        Registry::Debian => "=",
    };
    for package in packages {
        command.arg(match &package.version {
            Some(version) => format!("{}{separator}{version}", package.name),
            None => package.name.clone(),
        });
    }
    let output = command.output().map_err(|source| Error::ProgramMissing {
        program: program.to_owned(),
        needed_for: format!("{} packages", registry.name()),
        source,
    })?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        bail!(
            "{program} did not download {}: {last}; check the network, and the names and versions in harvest.sources",
            packages.iter().map(|package| package.name.as_str()).collect::<Vec<_>>().join(", ")
        );
    }
    Ok(())
}

/// Moves the downloads to their names in the cache. A download belongs to the package with its sha256, else to the package
/// whose name starts its file name.
fn move_to_cache(registry: Registry, packages: &[&Package], from: &Path, cache: &Path) -> Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let sha256 = sha256_of(&path)?;
        files.push((path, sha256));
    }
    for package in packages {
        let plain = |name: &str| name.to_lowercase().replace(['-', '_', '.', '/', '@'], "");
        let prefix = plain(&package.name);
        let file = files
            .iter()
            .find(|(_, sha256)| package.sha256.as_ref() == Some(sha256))
            .or_else(|| {
                let named = |path: &Path| path.file_name().map(|name| plain(&name.to_string_lossy())).unwrap_or_default();
                files.iter().filter(|(path, _)| named(path).starts_with(&prefix)).min_by_key(|(path, _)| named(path).len())
            })
            .with_context(|| format!("the {} client wrote no file for {}", registry.name(), package.name))?;
        ensure!(
            package.sha256.as_ref().is_none_or(|pin| *pin == file.1),
            "{}: the downloaded file has sha256 {}, but the configuration pins {}: correct the pin",
            package.name,
            file.1,
            package.sha256.as_deref().unwrap_or_default()
        );
        let name = file.0.file_name().unwrap_or_default().to_string_lossy();
        let target = cache.join(package.cache_name());
        ledger::write_atomically(&name_file(&target), name.as_bytes())?;
        fs::rename(&file.0, &target).with_context(|| format!("moving a download to {}", target.display()))?;
    }
    Ok(())
}

/// File that records the client's name of a cached file.
fn name_file(cached: &Path) -> PathBuf {
    let mut name = cached.as_os_str().to_owned();
    name.push(".name");
    name.into()
}

/// The version in the name of a Debian file: `name_1%3a0.7.0_all.deb`.
fn chosen_version(cached: &Path) -> Option<String> {
    let name = fs::read_to_string(name_file(cached)).ok()?;
    let version = name.strip_suffix(".deb")?.split('_').nth(1)?;
    Some(version.replace("%3a", ":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_client_reads_as_paths_urls_or_options_are_refused() {
        let accepts = |registry: Registry, name: &str, version: &str, sha256: Option<&str>| {
            let package = Package {
                name: name.to_owned(),
                version: Some(version.to_owned()),
                sha256: sha256.map(str::to_owned),
                only: Vec::new(),
                except: Vec::new(),
            };
            check(registry, &package).is_ok()
        };
        assert!(accepts(Registry::Pypi, "python-dateutil", "4.0.0", Some(&"0a".repeat(32))));
        assert!(accepts(Registry::Npm, "@scope/name", "1.2.3-rc.1+b", None));
        assert!(accepts(Registry::Debian, "libstdc++6", "1:12.2.0-14+deb12u1", None));
        for name in ["./folder", "/folder", "../x", "-e", "--index-url", "a b", "owner/repo", "x@file:y", ""] {
            assert!(!accepts(Registry::Pypi, name, "1", None) && !accepts(Registry::Npm, name, "1", None), "{name}");
        }
        assert!(!accepts(Registry::Npm, "name", "file:../x", None) && !accepts(Registry::Pypi, "name", "1 @ https://x", None));
        assert!(!accepts(Registry::Pypi, "name", "1", Some("\u{e9}")) && !accepts(Registry::Pypi, "name", "1", Some(&"0A".repeat(32))));
    }
}

//! Packages by the ordinary clients, pinned by sha256. Sources to read: no code of a package runs.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use ledger::Progress;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::source::Package;

/// Which client fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Registry {
    /// Pure-Python wheels, by pip.
    Pypi,
    /// Tarballs, by npm.
    Npm,
    /// Source and library packages, by apt-get.
    Debian,
}

/// A package on disk, its bytes verified.
#[derive(Debug)]
pub struct Fetched {
    pub path: PathBuf,
    pub sha256: String,
    /// Of an unpinned package: what the client chose.
    pub version: Option<String>,
}

impl Registry {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pypi => "pypi",
            Self::Npm => "npm",
            Self::Debian => "debian",
        }
    }

    fn client(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Pypi => ("python3", &["-m", "pip"]),
            Self::Npm => ("npm", &[]),
            Self::Debian => ("apt-get", &[]),
        }
    }

    /// Does the client answer at all?
    pub fn is_available(self) -> bool {
        let (program, arguments) = self.client();
        Command::new(program).args(arguments).arg("--version").output().is_ok_and(|output| output.status.success())
    }

    /// Fetches what the cache does not hold, in a few calls of the client, and verifies every file.
    pub fn fetch(self, packages: &[Package], cache: &Path, progress: &Progress) -> Result<Vec<Fetched>> {
        packages.iter().try_for_each(|package| self.check(package))?;
        let cache = cache.join(self.name());
        fs::create_dir_all(&cache)?;
        let bar = progress.bar("fetch", packages.len() as u64, "packages");
        let missing: Vec<&Package> = packages.iter().filter(|package| !cache.join(package.cache_name()).is_file()).collect();
        bar.add((packages.len() - missing.len()) as u64);
        for group in missing.chunks(8) {
            let scratch = tempfile::tempdir_in(&cache)?;
            bar.note(group.iter().map(|package| package.name.as_str()).collect::<Vec<_>>().join(" "));
            self.download(group, scratch.path())?;
            self.file_into(group, scratch.path(), &cache)?;
            bar.add(group.len() as u64);
        }
        bar.finish();
        packages
            .iter()
            .map(|package| {
                let path = cache.join(package.cache_name());
                let sha256 = sha256_of(&path)?;
                ensure!(
                    package.sha256.as_ref().is_none_or(|wanted| *wanted == sha256),
                    "{} {}: sha256 is {sha256}, the config pins {}: remove {} and try again, or correct the pin",
                    package.name,
                    package.version.as_deref().unwrap_or("(any version)"),
                    package.sha256.as_deref().unwrap_or_default(),
                    path.display()
                );
                Ok(Fetched { version: chosen_version(&path), path, sha256 })
            })
            .collect()
    }

    /// A configuration may come from others: what the clients would take for a path, a URL or an option (pip builds a
    /// folder, which runs its code) is refused, as is a pin that can never match.
    fn check(self, package: &Package) -> Result<()> {
        let plain = |text: &str, more: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let name = package.name.as_str();
        let is_name = match (self, name.strip_prefix('@').and_then(|scoped| scoped.split_once('/'))) {
            (Self::Npm, Some((scope, own))) => plain(scope, "-_.") && plain(own, "-_."),
            (Self::Debian, _) => plain(name, "-.+"),
            _ => plain(name, "-_."),
        };
        ensure!(is_name, "{name:?} is not the name of a {} package", self.name());
        let punctuation = if self == Self::Debian { ".+-~:" } else { ".+-!" };
        let version = package.version.as_deref();
        ensure!(version.is_none_or(|version| plain(version, punctuation)), "{name}: {version:?} is not a version");
        let pin = package.sha256.as_deref();
        let is_digest = |pin: &str| pin.len() == 64 && pin.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        ensure!(pin.is_none_or(is_digest), "{name}: {pin:?} is not a sha256 in lower-case hex");
        Ok(())
    }

    fn download(self, packages: &[&Package], into: &Path) -> Result<()> {
        let (program, first) = self.client();
        let mut command = Command::new(program);
        command.args(first).current_dir(into);
        match self {
            Self::Pypi => command.args(["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", "."]),
            Self::Npm => command.args(["pack", "--silent", "--ignore-scripts"]),
            Self::Debian => command.args(["download", "-qq"]),
        };
        let join = if self == Self::Pypi {
            "=="
        } else if self == Self::Npm {
            "@"
        } else {
            "="
        };
        for package in packages {
            command.arg(match &package.version {
                Some(version) => format!("{}{join}{version}", package.name),
                None => package.name.clone(),
            });
        }
        let output = command
            .output()
            .with_context(|| format!("{program} is not here: install it, or remove the {} packages from the config", self.name()))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            bail!(
                "{program} could not fetch {}: {last}",
                packages.iter().map(|package| package.name.as_str()).collect::<Vec<_>>().join(", ")
            );
        }
        Ok(())
    }

    /// Moves the downloads to their cache names: by pinned sha256 first, else by file name.
    fn file_into(self, packages: &[&Package], from: &Path, cache: &Path) -> Result<()> {
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
                .with_context(|| format!("the {} client left no file for {}", self.name(), package.name))?;
            ensure!(
                package.sha256.as_ref().is_none_or(|wanted| *wanted == file.1),
                "{}: fetched a file with sha256 {}, the config pins {}",
                package.name,
                file.1,
                package.sha256.as_deref().unwrap_or_default()
            );
            let name = file.0.file_name().unwrap_or_default().to_string_lossy();
            let target = cache.join(package.cache_name());
            ledger::write_atomically(&beside(&target), name.as_bytes())?;
            fs::rename(&file.0, &target).with_context(|| format!("keeping {}", target.display()))?;
        }
        Ok(())
    }
}

/// Where the client's own name of a cached file is kept.
fn beside(cached: &Path) -> PathBuf {
    let mut name = cached.as_os_str().to_owned();
    name.push(".name");
    name.into()
}

/// The version in a Debian file name: `name_1%3a0.7.0_all.deb`.
fn chosen_version(cached: &Path) -> Option<String> {
    let name = fs::read_to_string(beside(cached)).ok()?;
    let version = name.strip_suffix(".deb")?.split('_').nth(1)?;
    Some(version.replace("%3a", ":"))
}

/// Sha256 of a file in hex, streamed.
pub fn sha256_of(path: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path).with_context(|| format!("reading {}", path.display()))?, &mut hasher)?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_would_take_for_a_path_a_url_or_an_option_is_refused() {
        let check = |registry: Registry, name: &str, version: &str, sha256: Option<&str>| {
            let package = Package {
                name: name.to_owned(),
                version: Some(version.to_owned()),
                sha256: sha256.map(str::to_owned),
                only: Vec::new(),
                except: Vec::new(),
            };
            registry.check(&package).is_ok()
        };
        assert!(check(Registry::Pypi, "python-dateutil", "4.0.0", Some(&"0a".repeat(32))));
        assert!(check(Registry::Npm, "@scope/name", "1.2.3-rc.1+b", None));
        assert!(check(Registry::Debian, "libstdc++6", "1:12.2.0-14+deb12u1", None));
        for name in ["./folder", "/folder", "../x", "-e", "--index-url", "a b", "owner/repo", "x@file:y", ""] {
            assert!(!check(Registry::Pypi, name, "1", None) && !check(Registry::Npm, name, "1", None), "{name}");
        }
        assert!(!check(Registry::Npm, "name", "file:../x", None) && !check(Registry::Pypi, "name", "1 @ https://x", None));
        assert!(!check(Registry::Pypi, "name", "1", Some("\u{e9}")) && !check(Registry::Pypi, "name", "1", Some(&"0A".repeat(32))));
    }
}

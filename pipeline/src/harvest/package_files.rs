//! Chooses and collects the source files of a package.

use std::collections::BTreeMap;

use ledger::{Digest, Language};

use super::{
    archive::{EntrySelection, EntryVisitor},
    config::Exclude,
    left_out::{LeftOut, language_of},
    licence::licence_of_package,
    source::{Package, Registry},
    source_file::{FileBytes, RepoFiles, SourceFile},
};
use crate::error::Result;

/// Chooses the files of a package by their paths.
pub struct PackageFilter<'a> {
    pub registry: Registry,
    pub package: &'a Package,
    pub exclude: &'a Exclude,
}

impl PackageFilter<'_> {
    /// The path in the package; npm puts a folder around all files.
    fn inner(&self, path: &str) -> String {
        match self.registry {
            Registry::Npm => path.split_once('/').map_or(path, |(_, rest)| rest).to_owned(),
            Registry::Pypi | Registry::Debian => path.to_owned(),
        }
    }

    /// Is this the file that names the licence?
    fn is_metadata(&self, path: &str) -> bool {
        match self.registry {
            Registry::Pypi => path.ends_with(".dist-info/METADATA"),
            Registry::Npm => self.inner(path) == "package.json",
            Registry::Debian => path.starts_with("usr/share/doc/") && path.ends_with("/copyright"),
        }
    }

    fn select(&self, inner: &str) -> Result<Language, LeftOut> {
        if let Some(prefix) = self.package.except.iter().find(|prefix| inner.starts_with(prefix.as_str())) {
            return Err(LeftOut::InExcept(prefix.clone()));
        }
        if !self.package.only.is_empty() && !self.package.only.iter().any(|prefix| inner.starts_with(prefix.as_str())) {
            return Err(LeftOut::NotInOnly);
        }
        if let Some(reason) = self.exclude.reason(inner.rsplit_once("!/").map_or(inner, |(_, nested)| nested)) {
            return Err(reason);
        }
        language_of(inner).ok_or(LeftOut::UnknownLanguage)
    }

    /// Is this a zip file from which a prefix of `only` reads?
    fn is_nested(&self, inner: &str) -> bool {
        self.registry != Registry::Pypi
            && self.package.only.iter().any(|prefix| prefix.split_once("!/").is_some_and(|(outer, _)| outer == inner))
    }
}

/// Collects the files of a package.
pub struct PackageVisitor<'a> {
    pub filter: PackageFilter<'a>,
    pub max_bytes: u64,
    pub lists_left_out: bool,
    pub licence: Option<String>,
    pub found: RepoFiles,
    /// Number of files that are not read, by reason.
    pub skipped: BTreeMap<String, u64>,
}

impl PackageVisitor<'_> {
    fn list(&mut self, path: String, reason: LeftOut) {
        *self.skipped.entry(reason.report_key()).or_default() += 1;
        if self.lists_left_out {
            self.found.left_out.push((path, reason));
        }
    }
}

impl EntryVisitor for PackageVisitor<'_> {
    fn select(&mut self, path: &str) -> EntrySelection {
        let inner = self.filter.inner(path);
        match self.filter.select(&inner) {
            Ok(_) => EntrySelection::Yes { max_bytes: self.max_bytes },
            Err(reason) if self.filter.is_metadata(path) => {
                self.list(inner, reason);
                EntrySelection::Yes { max_bytes: self.max_bytes }
            }
            Err(_) if self.filter.is_nested(&inner) => EntrySelection::Nested,
            Err(reason) => {
                self.list(inner, reason);
                EntrySelection::No
            }
        }
    }

    fn file(&mut self, path: String, bytes: Vec<u8>) -> Result<()> {
        if self.filter.is_metadata(&path) {
            self.licence = self.licence.take().or_else(|| licence_of_package(self.filter.registry, &bytes));
        } else if let Some(language) = language_of(&path) {
            let (path, content) = (self.filter.inner(&path), Digest::of_bytes(&bytes).to_string());
            self.found.files.push(SourceFile { path, language, content, bytes: FileBytes::Read(bytes) });
        }
        Ok(())
    }

    fn left_out(&mut self, path: String, reason: LeftOut) {
        // `select` listed a metadata file already.
        if !self.filter.is_metadata(&path) {
            let inner = self.filter.inner(&path);
            self.list(inner, reason);
        }
    }
}

//! `retract`: deletes functions from every published bundle at once, without building a bundle.
//!
//! `serve/retracted` lists what is deleted: contents, ids, files and repositories. `tombstones.parquet` of each published bundle lists the
//! ids of its functions that the list deletes. That file and `CHECKSUMS` are the only files of a published bundle that ever change: by
//! rename, and in every published bundle, so that a rollback restores no function. Bundles that are published later leave the listed
//! functions out too. The next `publish`, `rollback` or `retract` completes a retract that was interrupted between the files.

mod carry;
mod functions;

use std::{collections::BTreeMap, fs, path::Path, str::FromStr};

use bundle::{
    BundleManifest,
    lexical::Lexical,
    tombstones::{self, TOMBSTONES},
};
use ledger::{BundleId, Retracted, Retraction, Serve, Store, ensure};

pub use self::functions::Function;
use self::functions::Selection;
use crate::{Error, Result, error::Context, index::checksums};

/// What is deleted with a function whose id is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Every function with its code, wherever it is: spaces, comments and documentation do not count.
    Content,
    /// This function only. A function with other code has another id.
    Id,
    /// Every function of its file.
    Path,
    /// Every function of its repository.
    Repository,
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "content" => Ok(Self::Content),
            "id" => Ok(Self::Id),
            "path" => Ok(Self::Path),
            "repo" => Ok(Self::Repository),
            _ => Err("expected content, id, path or repo".to_owned()),
        }
    }
}

impl By {
    /// The retraction by a function; by its id where a bundle of format 3 or 4 does not have its content.
    fn retraction(self, function: &Function) -> Result<Retraction> {
        let Function { id, repo, path, content, .. } = function;
        let is_line = |text: &str| !text.contains(char::is_control);
        ensure!(is_line(repo) && is_line(path), "the path of {id} has control characters: retract it by content or by id");
        Ok(match (self, content) {
            (Self::Content, Some(content)) => Retraction::Content(content.clone()),
            (Self::Content, None) => Retraction::Function(id.clone()),
            (Self::Id, _) => Retraction::Id(id.clone()),
            (Self::Path, _) => Retraction::File { repo: repo.clone(), path: path.clone() },
            (Self::Repository, _) => Retraction::Repository(repo.clone()),
        })
    }
}

/// What a retract did.
#[derive(Debug)]
pub struct Outcome {
    /// Lines of the list.
    pub listed: usize,
    /// The functions of the published bundle that the list deletes, sorted by id.
    pub deleted: Vec<Function>,
}

/// Adds the functions with the ids of a file (one a line; lines of `serve/retracted` count too) to the list, or with `only` replaces the
/// list, and updates every published bundle.
///
/// # Errors
/// An id that is neither listed nor in a published bundle, and a bundle that cannot be read; then nothing is changed.
pub fn retract(store: &Store, ids: &Path, by: By, only: bool) -> Result<Outcome> {
    let _lock = store.lock()?;
    let data = store.root();
    let serve = Serve::of(data);
    serve.recover()?;
    let lines = Retracted::of_lines(&fs::read_to_string(ids).with_context(|| format!("reading {}", ids.display()))?);
    let before = Retracted::read(data)?.unwrap_or_default();
    let mut all = resolve(&serve, &lines, &before, by)?;
    if !only {
        all.0.extend(before.0);
    }
    all.write(data)?;
    if let Some(error) = enforce(store)? {
        return Err(error).context(
            "the functions are listed, and the published bundle still shows them: run `codenets rollback` or publish another bundle",
        );
    }
    let Some(current) = serve.current_id() else { return Ok(Outcome { listed: all.0.len(), deleted: Vec::new() }) };
    // A new link, so that readers that watch it open the bundle again.
    serve.set_current(&current)?;
    let deleted = Selection::of(&all).in_bundle(&serve.bundle(&current))?;
    Ok(Outcome { listed: all.0.len(), deleted })
}

/// The list with a retraction in place of each id.
fn resolve(serve: &Serve, lines: &Retracted, before: &Retracted, by: By) -> Result<Retracted> {
    let wanted = lines.functions();
    let published = serve.ids()?;
    ensure!(!published.is_empty(), "nothing is published: run `codenets run`");
    let mut found: BTreeMap<String, Function> = BTreeMap::new();
    for id in &published {
        // The error of a damaged bundle is reported when its tombstones are updated.
        let _ = functions::each(&serve.bundle(id), |function| {
            if wanted.contains(&function.id) && found.get(&function.id).is_none_or(|other| other.content.is_none()) {
                found.insert(function.id.clone(), function);
            }
        });
    }
    let unknown: Vec<&String> = wanted.iter().filter(|id| !found.contains_key(*id) && !before.0.contains(*id)).collect();
    ensure!(unknown.is_empty(), "no published bundle holds {unknown:?}: take ids from `codenets search --json`");
    let resolved = lines.retractions().map(|line| match &line {
        Retraction::Function(id) => found.get(id).map_or(Ok(line.clone()), |function| by.retraction(function)),
        _ => Ok(line),
    });
    Ok(Retracted(resolved.map(|line| Ok(line?.to_string())).collect::<Result<_>>()?))
}

/// Updates the tombstones of every published bundle to the list, and completes an interrupted update. The caller holds the lock of the
/// store. Does nothing where nothing was ever retracted. A damaged bundle is set aside, unless it is the published one.
///
/// Returns the error of the published bundle, if there is one: another bundle can replace it.
pub fn enforce(store: &Store) -> Result<Option<Error>> {
    let Some(all) = Retracted::read(store.root())? else { return Ok(None) };
    let selection = Selection::of(&all);
    let serve = Serve::of(store.root());
    let current = serve.current_id();
    let mut failed = None;
    for id in serve.ids()? {
        match enforce_on(&serve.bundle(&id), &selection) {
            Ok(()) => {}
            Err(error) if current.as_ref() == Some(&id) => {
                store.progress().message(&format!("serve     the published bundle {id} is damaged: {}", ledger::chain(&error)));
                failed = Some(error);
            }
            Err(error) => set_aside(store, &serve, &id, &error),
        }
    }
    Ok(failed)
}

fn enforce_on(folder: &Path, selection: &Selection) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let entry = entry?;
        // A file system may have a hidden folder in every folder (`.snapshot`).
        if entry.file_name().to_string_lossy().starts_with('.') && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    let deleted = contained(folder, selection)?;
    // A damaged file is written again from the list of deleted ids.
    if tombstones::read(folder).ok().as_ref() != Some(&deleted) {
        crate::tombstones::write(folder, &deleted)?;
    }
    // Only the line of this file: damage of any other file must stay visible.
    checksums::renew(folder, TOMBSTONES)
}

/// Sets a damaged bundle aside, with a message.
pub fn set_aside(store: &Store, serve: &Serve, id: &BundleId, error: &dyn std::error::Error) {
    let why = ledger::chain(error);
    let outcome = match serve.set_aside(id) {
        Ok(folder) => format!("renamed to {}; delete that folder when nobody needs it", folder.display()),
        Err(error) => format!("not used, and not renamed ({})", ledger::chain(&error)),
    };
    store.progress().message(&format!("serve     bundle {id} is damaged ({why}): {outcome}"));
}

/// Writes the tombstones of a bundle that is about to be published. The caller writes `CHECKSUMS` and holds the lock of the store.
pub fn apply(data: &Path, folder: &Path) -> Result<()> {
    let mut all = Retracted::read(data)?.unwrap_or_default();
    if all.0.is_empty() {
        return Ok(());
    }
    let serve = Serve::of(data);
    let published: Vec<_> = serve.ids()?.iter().map(|id| serve.bundle(id)).collect();
    let carried = carry::contents(&all, &published, folder)?;
    if !carried.is_empty() {
        all.0.extend(carried.into_iter().map(|content| Retraction::Content(content).to_string()));
        all.write(data)?;
    }
    crate::tombstones::write(folder, &contained(folder, &Selection::of(&all))?)
}

fn open(folder: &Path) -> Result<Lexical> {
    let open = || -> Result<Lexical> { Ok(Lexical::open(folder, BundleManifest::read(folder)?.lexical.settings())?) };
    open().with_context(|| format!("reading bundle {}", folder.display()))
}

/// The ids of the functions of a bundle that a list deletes, sorted.
fn contained(folder: &Path, selection: &Selection) -> Result<Vec<String>> {
    // A damaged index is noticed here, before somebody searches it.
    open(folder)?;
    Ok(selection.in_bundle(folder)?.into_iter().map(|function| function.id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_list_deletes_by_has_four_names() {
        let names = ["content", "id", "path", "repo"].map(|name| name.parse::<By>().unwrap());
        assert_eq!(names, [By::Content, By::Id, By::Path, By::Repository]);
        assert!("file".parse::<By>().unwrap_err().contains("content, id, path or repo"));
    }

    /// A data folder with published bundles, each with these functions: id, path, content and code.
    fn published(bundles: &[&[[&str; 4]]]) -> (tempfile::TempDir, Serve) {
        use arrow::array::{ArrayRef, RecordBatch, StringArray};
        use ledger::table::{TableWriter, schema, text_field};
        let dir = tempfile::tempdir().unwrap();
        let serve = Serve::of(dir.path());
        for functions in bundles {
            let id = ledger::BundleId::next(&serve.ids().unwrap(), "0123456789ab", 1_795_372_800);
            fs::create_dir_all(serve.bundle(&id)).unwrap();
            let column = |text: &dyn Fn(&[&str; 4]) -> String| -> ArrayRef {
                std::sync::Arc::new(StringArray::from_iter_values(functions.iter().map(text)))
            };
            let of = |place: usize| column(&move |function| function[place].to_owned());
            let repo = column(&|_| "team/a".to_owned());
            let names = ["id", "repo", "path", "func_name", "content", "language", "code"];
            let schema = schema(names.map(|name| text_field(name, false)).to_vec());
            let columns = vec![of(0), repo, of(1), column(&|_| "f".to_owned()), of(2), column(&|_| "go".to_owned()), of(3)];
            let mut writer = TableWriter::create(&serve.bundle(&id).join(bundle::manifest::DOCS), schema.clone()).unwrap();
            writer.write(&RecordBatch::try_new(schema, columns).unwrap()).unwrap();
            writer.finish().unwrap();
        }
        (dir, serve)
    }

    #[test]
    fn ids_of_any_published_bundle_are_resolved_and_others_are_refused() {
        let (_dir, serve) = published(&[&[["1", "a.go", "c1", ""]], &[["2", "b.go", "c2", ""], ["3", "b.go", "c3", ""]]]);
        let resolved = |text: &str, before: &str, by: By| {
            let list = resolve(&serve, &Retracted::of_lines(text), &Retracted::of_lines(before), by)?;
            Ok::<_, Error>(list.0.into_iter().collect::<Vec<_>>())
        };
        assert_eq!(resolved("1\n3", "", By::Content).unwrap(), ["content\tc1", "content\tc3"]);
        assert_eq!(resolved("1\n3", "", By::Path).unwrap(), ["path\tteam/a\ta.go", "path\tteam/a\tb.go"]);
        assert_eq!(resolved("repo\tteam/b", "", By::Id).unwrap(), ["repo\tteam/b"]);
        let error = resolved("1\n9", "", By::Id).unwrap_err().to_string();
        assert!(error.contains("no published bundle holds [\"9\"]"), "{error}");
        assert_eq!(resolved("9", "9", By::Id).unwrap(), ["9"], "an id that is listed already");
    }

    #[test]
    fn functions_and_contents_of_a_list_are_found_in_a_bundle() {
        let send = "func f(order Order) error { return send(order) }";
        let (_dir, serve) = published(&[&[["old", "a.go", "c1", send]], &[["1", "b.go", "c2", send], ["2", "c.go", "c3", "func f() {}"]]]);
        let folders: Vec<_> = serve.ids().unwrap().iter().map(|id| serve.bundle(id)).collect();
        let found = Selection::of(&Retracted::of_lines("path\tteam/a\tc.go\nid\t1")).in_bundle(&folders[1]).unwrap();
        assert_eq!(found.iter().map(|function| function.id.as_str()).collect::<Vec<_>>(), ["1", "2"]);
        let carried = carry::contents(&Retracted::of_lines("old"), &folders[..1], &folders[1]).unwrap();
        assert_eq!(carried.into_iter().collect::<Vec<_>>(), ["c2"]);
        assert!(carry::contents(&Retracted::of_lines("content\tc3"), &folders[..1], &folders[1]).unwrap().is_empty());
    }
}

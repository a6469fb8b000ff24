//! Files of a commit, read from git's objects: a checkout that changes meanwhile changes nothing.
//!
//! No program starts, and nothing of the working tree is read. Bare repositories, shallow clones and linked working trees are read too.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gix::{
    ObjectId, Repository, ThreadSafeRepository,
    bstr::ByteSlice,
    objs::{Kind, TreeRefIter, tree::EntryKind},
    open::Options,
};
use ledger::{bail, ensure};

use super::{
    checkout::{check_files, git_dir, invalid, is_same, text_file},
    left_out::LeftOut,
};
use crate::error::{Context, Result};

/// Largest tree object, in bytes: a folder with a million files.
const MAX_TREE: u64 = 64 << 20;
/// Most entries of all trees of a commit. A tree that names itself many times over has no end.
const MAX_ENTRIES: usize = 5_000_000;
/// Most bytes of the paths of a commit.
const MAX_PATH_BYTES: usize = 512 << 20;
/// Largest commit or tag, in bytes.
const MAX_COMMIT: u64 = 16 << 20;
/// Most tags that name each other before a commit.
const MAX_TAGS: usize = 10;
/// Deepest folder.
const MAX_DEPTH: usize = 500;

/// A commit of a repository.
pub struct Revision {
    root: PathBuf,
    repository: ThreadSafeRepository,
    commit: ObjectId,
    tree: ObjectId,
}

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFile {
    pub path: String,
    pub id: ObjectId,
}

/// What a commit has: files, and the other paths with the reason.
#[derive(Debug, Default)]
pub struct TreeListing {
    /// Sorted by path.
    pub files: Vec<TreeFile>,
    pub left_out: Vec<(String, LeftOut)>,
}

impl Revision {
    /// Opens the commit that a revision names: `HEAD`, a branch, a tag or the id of a commit.
    ///
    /// # Errors
    /// The folder is no repository that can be read safely, has no such revision, or does not have its objects.
    pub fn open(root: &Path, revision: &str) -> Result<Self> {
        let advice = || format!("revision {revision} of {}: fetch it, or correct `revision` in harvest.sources", root.display());
        Self::read(root, revision).with_context(advice)
    }

    fn read(root: &Path, revision: &str) -> Result<Self> {
        let repository = open_repository(root)?;
        let local = repository.to_thread_local();
        let commit = commit_of(&local, resolve(&local, revision)?)?;
        let found = local.find_commit(commit).map_err(|error| invalid(&error))?;
        let tree = found.tree_id().map_err(|error| invalid(&error))?.detach();
        check_size(&local, tree)?;
        Ok(Self { root: root.to_owned(), repository, commit, tree })
    }

    /// Id of the commit.
    pub fn commit(&self) -> String {
        self.commit.to_string()
    }

    /// Id of the tree: equal trees have equal files.
    pub fn tree(&self) -> String {
        self.tree.to_string()
    }

    /// Names directly in the commit's folder, with the ids of the files.
    pub fn root_files(&self) -> Vec<TreeFile> {
        let repository = self.repository.to_thread_local();
        let mut files = Vec::new();
        let Ok(entries) = entries(&repository, self.tree) else { return files };
        for (name, kind, id) in entries {
            if matches!(kind, EntryKind::Blob | EntryKind::BlobExecutable)
                && let Ok(path) = String::from_utf8(name)
            {
                files.push(TreeFile { path, id });
            }
        }
        files
    }

    /// Every file of the commit.
    ///
    /// # Errors
    /// A tree is missing, damaged or too large.
    pub fn list(&self) -> Result<TreeListing> {
        let repository = self.repository.to_thread_local();
        let mut found = TreeListing::default();
        let mut folders = vec![(String::new(), self.tree, 0)];
        let (mut count, mut bytes) = (0, 0);
        while let Some((within, tree, depth)) = folders.pop() {
            ensure!(depth <= MAX_DEPTH, "{}: folders are nested more than {MAX_DEPTH} times", self.root.display());
            let listed = entries(&repository, tree).with_context(|| format!("folder {within:?} of {}", self.root.display()))?;
            count += listed.len();
            ensure!(count <= MAX_ENTRIES, "{}: the commit has more than {MAX_ENTRIES} paths", self.root.display());
            for (name, kind, id) in listed {
                let path = format!("{within}{}", String::from_utf8_lossy(&name));
                bytes += path.len();
                ensure!(bytes <= MAX_PATH_BYTES, "{}: the paths of the commit have more than {MAX_PATH_BYTES} bytes", self.root.display());
                match kind {
                    _ if name.to_str().is_err() => found.left_out.push((path, LeftOut::NameNotUtf8)),
                    _ if is_unsafe(&name) => found.left_out.push((path, LeftOut::UnsafePath)),
                    EntryKind::Tree => folders.push((format!("{path}/"), id, depth + 1)),
                    EntryKind::Blob | EntryKind::BlobExecutable => found.files.push(TreeFile { path, id }),
                    EntryKind::Link => found.left_out.push((path, LeftOut::Link)),
                    EntryKind::Commit => found.left_out.push((format!("{path}/"), LeftOut::NestedRepository)),
                }
            }
        }
        found.files.sort_by(|a, b| a.path.cmp(&b.path));
        found.left_out.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(found)
    }

    /// Why a file is not read, if it is not: its object is missing, or larger than `max_bytes`.
    pub fn refusal(&self, repository: &Repository, id: ObjectId, max_bytes: u64) -> Option<LeftOut> {
        match repository.find_header(id) {
            Err(_) => Some(LeftOut::Unreadable),
            Ok(header) if header.size() > max_bytes => Some(LeftOut::TooLarge { max_bytes }),
            Ok(_) => None,
        }
    }

    /// The repository, for [`Revision::refusal`].
    pub fn repository(&self) -> Repository {
        self.repository.to_thread_local()
    }

    /// The bytes of a file of at most `max_bytes`; none where its object is missing, damaged or larger.
    pub fn bytes(&self, id: ObjectId, max_bytes: u64) -> Option<Vec<u8>> {
        let repository = self.repository.to_thread_local();
        self.refusal(&repository, id, max_bytes).map_or(Some(()), |_| None)?;
        let mut object = repository.find_object(id).ok().filter(|object| object.kind == Kind::Blob)?;
        Some(std::mem::take(&mut object.data))
    }
}

/// Opens the repository of a folder: a checkout, a linked working tree, or a bare repository.
fn open_repository(root: &Path) -> Result<ThreadSafeRepository> {
    let dot_git = root.join(".git");
    let opened = if fs::symlink_metadata(&dot_git).is_ok() {
        let own = git_dir(root, &dot_git)?;
        check_files(&own)?;
        if dot_git.is_file() {
            check_back_link(root, &own)?;
        }
        if let Some(common) = text_file(&own.join("commondir"))? {
            check_files(&own.join(common.trim_end()))?;
        }
        dot_git
    } else {
        ensure!(
            root.join("HEAD").is_file() && root.join("objects").is_dir(),
            "the folder is no git repository: remove `revision` to read a plain folder"
        );
        check_files(root)?;
        root.to_owned()
    };
    Options::isolated().open(&opened).map_err(|error| invalid(&error).into())
}

/// A file `.git` could name any repository that this user can read: the named one must name this folder too, as a linked working tree
/// (`gitdir`) or a submodule (`core.worktree`).
fn check_back_link(root: &Path, git_dir: &Path) -> Result<()> {
    let is_own = match text_file(&git_dir.join("gitdir"))? {
        Some(linked) => Path::new(linked.trim_end()).parent().is_some_and(|tree| is_same(tree, root)),
        None => {
            let repository = Options::isolated().open_path_as_is(true).open(git_dir).map_err(|error| invalid(&error))?.to_thread_local();
            repository.workdir().is_some_and(|tree| is_same(tree, root))
        }
    };
    ensure!(is_own, "the file .git names {}, which is the repository of another folder", git_dir.display());
    Ok(())
}

/// The commit that an object is, or that a tag names.
fn commit_of(repository: &Repository, mut id: ObjectId) -> Result<ObjectId> {
    for _ in 0..MAX_TAGS {
        let header = repository.find_header(id).map_err(|error| invalid(&error))?;
        ensure!(header.size() <= MAX_COMMIT, "object {id} has more than {MAX_COMMIT} bytes");
        match header.kind() {
            Kind::Commit => return Ok(id),
            Kind::Tag => id = repository.find_tag(id).and_then(|tag| Ok(tag.target_id()?.detach())).map_err(|error| invalid(&error))?,
            Kind::Tree | Kind::Blob => bail!("object {id} is no commit"),
        }
    }
    bail!("more than {MAX_TAGS} tags name each other")
}

/// The object that a revision names.
fn resolve(repository: &Repository, revision: &str) -> Result<ObjectId> {
    if let Ok(id) = ObjectId::from_hex(revision.as_bytes()) {
        return Ok(id);
    }
    if revision == "HEAD" {
        let head = repository.head().map_err(|error| invalid(&error))?;
        return head.id().map(gix::Id::detach).context("HEAD has no commit yet");
    }
    match repository.try_find_reference(revision) {
        Ok(Some(reference)) => Ok(reference.into_fully_peeled_id().map_err(|error| invalid(&error))?.detach()),
        Ok(None) => bail!("there is no such branch or tag"),
        Err(error) => Err(invalid(&error).into()),
    }
}

fn check_size(repository: &Repository, tree: ObjectId) -> Result<()> {
    let size = repository.find_header(tree).map_err(|error| invalid(&error))?.size();
    ensure!(size <= MAX_TREE, "tree {tree} has more than {MAX_TREE} bytes");
    Ok(())
}

type NamedEntry = (Vec<u8>, EntryKind, ObjectId);

fn entries(repository: &Repository, tree: ObjectId) -> Result<Vec<NamedEntry>> {
    check_size(repository, tree)?;
    let object = repository.find_object(tree).map_err(|error| invalid(&error))?;
    ensure!(object.kind == Kind::Tree, "object {tree} is no tree");
    TreeRefIter::from_bytes(&object.data, tree.kind())
        .map(|entry| {
            let entry = entry.ok().with_context(|| format!("tree {tree} is damaged"))?;
            Ok((entry.filename.to_vec(), entry.mode.kind(), entry.oid.to_owned()))
        })
        .collect()
}

fn is_unsafe(name: &[u8]) -> bool {
    matches!(name, b"" | b"." | b"..") || name.contains(&b'/')
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, process::Command};

    use ledger::{Progress, Store};

    use super::*;
    use crate::harvest::{Harvest, HarvestReport, Source, list::tests::config};

    const FUNCTION: &str = "def read(path):\n    '''Reads the whole file.'''\n    return open(path).read()\n";

    fn git(root: &Path, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "init.defaultBranch=main"]);
        let output = command.arg("-C").arg(root).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(root: &Path, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        }
        git(root, &["add", "-A"]);
        git(root, &["commit", "-qm", "files"]);
        git(root, &["rev-parse", "HEAD"])
    }

    fn repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q"]);
        commit(dir.path(), &[("a.py", FUNCTION), ("sub/b.py", &FUNCTION.replace("read", "load")), ("LICENSE", "MIT License\n")]);
        dir
    }

    /// Data files and report of a harvest, without the list of files.
    fn harvest(root: &Path, revision: Option<&str>) -> Result<(BTreeMap<String, Vec<u8>>, HarvestReport, serde_json::Value)> {
        let data = tempfile::tempdir().unwrap();
        let mut config = config(root);
        let source = serde_json::json!({ "kind": "dir", "path": root, "name": "own", "revision": revision });
        config.source = Some(serde_json::from_value::<Source>(source).unwrap());
        let raw = Store::at(data.path(), Progress::new(true), 1)
            .make::<Harvest>(&config)
            .map_err(|error| ledger::Invalid(ledger::chain(&error)))?;
        let files = crate::files::data_files(raw.dir()).unwrap().0.into_iter().filter(|name| name.ends_with(".gz"));
        let files = files.map(|name| (name.clone(), fs::read(raw.dir().join(name)).unwrap())).collect();
        let repos = serde_json::from_slice(&fs::read(raw.dir().join("repos.json")).unwrap()).unwrap();
        Ok((files, serde_json::from_value(raw.manifest().report.clone()).unwrap(), repos))
    }

    #[test]
    fn a_commit_has_the_records_of_its_clean_checkout() {
        let dir = repository();
        let (files, report, repos) = harvest(dir.path(), Some("HEAD")).unwrap();
        let (expected, of_folder, repos_of_folder) = harvest(dir.path(), None).unwrap();
        assert_eq!((files, report.functions, &repos), (expected, of_folder.functions, &repos_of_folder));
        assert_eq!(
            (report.functions, &repos[0]["licence"], &repos[0]["sha"]),
            (2, &"MIT License".into(), &git(dir.path(), &["rev-parse", "HEAD"]).into())
        );
    }

    #[test]
    fn a_checkout_that_changes_does_not_change_the_commit() {
        let dir = repository();
        let before = harvest(dir.path(), Some("main")).unwrap().0;
        fs::write(dir.path().join("a.py"), "torn").unwrap();
        fs::remove_file(dir.path().join("sub/b.py")).unwrap();
        fs::write(dir.path().join("new.py"), FUNCTION).unwrap();
        fs::write(dir.path().join(".git/index"), "torn").unwrap();
        assert_eq!(harvest(dir.path(), Some("main")).unwrap().0, before);
    }

    #[test]
    fn a_branch_a_tag_and_the_id_of_a_commit_are_revisions() {
        let dir = repository();
        let old = harvest(dir.path(), Some("HEAD")).unwrap().0;
        git(dir.path(), &["tag", "-a", "v1", "-m", "one"]);
        git(dir.path(), &["branch", "stable"]);
        let id = git(dir.path(), &["rev-parse", "HEAD"]);
        commit(dir.path(), &[("c.py", FUNCTION)]);
        git(dir.path(), &["pack-refs", "--all"]);
        for revision in ["v1", "stable", &id] {
            assert_eq!(harvest(dir.path(), Some(revision)).unwrap().0, old, "{revision}");
        }
        assert_eq!(harvest(dir.path(), Some("HEAD")).unwrap().1.functions, 3);
        let error = harvest(dir.path(), Some("nowhere")).unwrap_err().to_string();
        assert!(error.contains("there is no such branch or tag") && error.contains("revision nowhere"), "{error}");
    }

    #[test]
    fn bare_and_shallow_clones_and_linked_working_trees_are_read() {
        let dir = repository();
        commit(dir.path(), &[("c.py", FUNCTION)]);
        let expected = harvest(dir.path(), Some("HEAD")).unwrap().0;
        let clones = tempfile::tempdir().unwrap();
        let url = format!("file://{}", dir.path().display());
        git(clones.path(), &["clone", "-q", "--bare", &url, "bare.git"]);
        git(clones.path(), &["clone", "-q", "--depth", "1", &url, "shallow"]);
        git(dir.path(), &["worktree", "add", "-q", &clones.path().join("linked").display().to_string()]);
        for clone in ["bare.git", "shallow", "linked"] {
            assert_eq!(harvest(&clones.path().join(clone), Some("HEAD")).unwrap().0, expected, "{clone}");
        }
    }

    #[test]
    fn what_is_no_file_or_cannot_be_read_is_counted_with_its_reason() {
        let dir = repository();
        std::os::unix::fs::symlink("a.py", dir.path().join("link.py")).unwrap();
        fs::write(dir.path().join("large.py"), "# x\n".repeat(500)).unwrap();
        commit(dir.path(), &[("gone.py", "def gone():\n    '''Is gone from the objects.'''\n    return 0\n")]);
        git(dir.path(), &["update-index", "--add", "--cacheinfo", "160000,0123456789012345678901234567890123456789,module"]);
        git(dir.path(), &["commit", "-qm", "submodule"]);
        let blob = git(dir.path(), &["rev-parse", "HEAD:gone.py"]);
        fs::remove_file(dir.path().join(".git/objects").join(&blob[..2]).join(&blob[2..])).unwrap();
        let (_, report, _) = harvest(dir.path(), Some("HEAD")).unwrap();
        assert_eq!(report.functions, 2);
        for reason in ["link not followed", "file too large", "not readable", "git repository inside a repository"] {
            assert_eq!(report.skipped.get(reason), Some(&1), "{reason}: {:?}", report.skipped);
        }
    }

    #[test]
    fn a_plain_folder_has_no_revision() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.py"), FUNCTION).unwrap();
        let error = harvest(dir.path(), Some("HEAD")).unwrap_err().to_string();
        assert!(error.contains("is no git repository: remove `revision`"), "{error}");
    }

    /// Ten trees, each with the next one ten times: 10^10 paths in some kilobytes.
    #[test]
    fn a_tree_that_grows_without_end_is_refused() {
        let dir = repository();
        let blob = git(dir.path(), &["rev-parse", "HEAD:a.py"]);
        let mut entry = format!("100644 blob {blob}");
        for _ in 0..10 {
            let lines: String = (0..10).map(|number| format!("{entry}\tx{number}\n")).collect();
            let list = dir.path().join("list");
            fs::write(&list, lines).unwrap();
            let output =
                Command::new("git").arg("-C").arg(dir.path()).arg("mktree").stdin(fs::File::open(&list).unwrap()).output().unwrap();
            entry = format!("040000 tree {}", String::from_utf8(output.stdout).unwrap().trim());
        }
        let tree = entry.rsplit(' ').next().unwrap();
        let commit = git(dir.path(), &["commit-tree", tree, "-m", "bomb"]);
        let error = harvest(dir.path(), Some(&commit)).unwrap_err().to_string();
        assert!(error.contains("the commit has more than 5000000 paths"), "{error}");
    }
}

//! The machine that a run has: its home, its libraries, its locks, its network.

use std::{fs, path::Path, process::Command};

use super::{in_time, succeed};
use crate::workspace::{Workspace, source, texts};

/// All files and folders below a folder.
fn listing(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        found.push(entry.path().display().to_string());
        if entry.file_type().unwrap().is_dir() {
            found.extend(listing(&entry.path()));
        }
    }
    found.sort();
    found
}

/// A command without network where the system allows that: in a network namespace of its own.
fn offline(workspace: &Workspace, arguments: &[&str]) -> Command {
    let inner = workspace.command(arguments);
    let is_allowed = Command::new("unshare").args(["-rn", "true"]).output().is_ok_and(|output| output.status.success());
    let mut command = if is_allowed {
        let mut command = Command::new("unshare");
        command.arg("-rn").arg(inner.get_program());
        command
    } else {
        Command::new(inner.get_program())
    };
    command.args(inner.get_args()).current_dir(workspace.root());
    command.envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command
}

/// With telemetry, ONNX Runtime writes a device id, events and log files. The variables `CI` and `ORT_RUNNING_UNIT_TESTS` switch it off, and
/// `.cargo/config.toml` does for the other tests.
#[test]
fn no_command_leaves_traces_in_the_home_or_in_the_temporary_folder() {
    let workspace = Workspace::trained();
    let (home, temporary) = (workspace.path("home"), workspace.path("temporary"));
    for folder in [&home, &temporary] {
        fs::create_dir(folder).unwrap();
    }
    for arguments in [&["run"][..], &["search", "parse a date"], &["evaluate"], &["doctor"], &["tour"]] {
        let mut command = offline(&workspace, arguments);
        command.env("HOME", &home).env("TMPDIR", &temporary).env_remove("CI").env_remove("ORT_RUNNING_UNIT_TESTS");
        command.env_remove(inference::TELEMETRY_VARIABLE);
        command.env_remove("XDG_CACHE_HOME").env_remove("XDG_DATA_HOME").env_remove("XDG_STATE_HOME");
        let output = in_time(command);
        assert!(output.status.success(), "{arguments:?}: {}", texts(&output).1);
        assert_eq!((listing(&home), listing(&temporary)), (Vec::<String>::new(), Vec::new()), "{arguments:?}");
    }
}

/// Someone else may have written the data folder, and the folder in which a command runs.
#[test]
fn no_library_of_a_data_folder_or_the_working_folder_is_loaded() {
    let workspace = Workspace::published();
    for folder in ["data/runtime", "runtime"] {
        fs::create_dir_all(workspace.path(folder)).unwrap();
        fs::write(workspace.path(folder).join("libonnxruntime.so"), "planted").unwrap();
    }
    fs::write(workspace.path("libonnxruntime.so"), "planted").unwrap();
    let home = workspace.path("home");
    fs::create_dir(&home).unwrap();
    let mut command = workspace.command(&["search", "parse a date", "--mode", "vector"]);
    command.env_remove("ORT_DYLIB_PATH").env_remove("XDG_DATA_HOME").env("HOME", &home);
    let (_, err) = texts(&in_time(command));
    assert!(err.contains("codenets setup") && !err.contains("planted"), "{err}");
}

#[test]
fn the_library_that_setup_installed_must_have_the_pinned_bytes() {
    let workspace = Workspace::published();
    let folder = workspace.path(&format!("user/codenets/onnxruntime-{}", inference::PINNED_VERSION));
    fs::create_dir_all(&folder).unwrap();
    let installed = inference::installed().unwrap().path;
    for entry in fs::read_dir(installed.parent().unwrap()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("libonnxruntime") {
            fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    let search = || {
        let mut command = workspace.command(&["search", "parse a date", "--mode", "vector"]);
        command.env_remove("ORT_DYLIB_PATH").env("XDG_DATA_HOME", workspace.path("user"));
        in_time(command)
    };
    assert!(search().status.success(), "{}", texts(&search()).1);
    let library = folder.join("libonnxruntime.so");
    let mut bytes = fs::read(&library).unwrap();
    bytes.push(0);
    fs::write(&library, bytes).unwrap();
    let output = search();
    assert!(!output.status.success() && texts(&output).1.contains("pinned bytes"), "{}", texts(&output).1);
}

/// Python imports modules from the folder that it is started in.
#[test]
fn a_planted_python_module_does_not_run() {
    let workspace = Workspace::empty();
    let canary = workspace.path("canary");
    for module in ["pip", "zipfile", "platform", "pathlib"] {
        fs::write(workspace.path(&format!("{module}.py")), format!("open({:?}, 'w')\n", canary.display().to_string())).unwrap();
    }
    let mut setup = workspace.command(&["setup"]);
    setup.env_remove("ORT_DYLIB_PATH").env("XDG_DATA_HOME", workspace.path("user"));
    setup
        .env("PIP_INDEX_URL", "http://127.0.0.1:1")
        .env("PIP_RETRIES", "0")
        .env("PIP_NO_CACHE_DIR", "1")
        .env("PIP_CONFIG_FILE", "/dev/null");
    let output = in_time(setup);
    assert!(!output.status.success() && texts(&output).1.contains("pip could not fetch"), "{}", texts(&output).1);
    workspace.configure(&source("packages", "registry = pypi, optional = true, packages = []"));
    succeed(&workspace, &["status"]);
    assert!(!canary.exists(), "a module of the working folder ran");
}

/// tantivy's own way of opening an index takes a lock file, which needs write permission, and which any user could hold.
#[test]
fn a_search_needs_no_lock_and_writes_nothing() {
    let workspace = Workspace::published();
    let bundle = fs::canonicalize(workspace.path("data/serve/current")).unwrap();
    let before = listing(&workspace.path("data"));
    assert!(!before.iter().any(|path| path.ends_with(".lock") && path.contains("tantivy")), "{before:?}");
    assert_eq!(workspace.search(&["parse a date"]).len(), 10);
    assert_eq!(listing(&workspace.path("data")), before);
    let lock = fs::File::create(bundle.join("tantivy/.tantivy-meta.lock")).unwrap();
    lock.lock().unwrap();
    succeed(&workspace, &["search", "parse a date"]);
    succeed(&workspace, &["verify"]);
}

/// A sandbox: no network, no new privileges, an empty home, and every file read-only except for a temporary folder. Where the system has no
/// user namespaces, the commands run without a sandbox.
#[test]
fn a_bundle_is_searched_in_a_read_only_sandbox() {
    const ENTER: &str = r#"mount --rbind / "$ROOT" && mount -o remount,bind,ro "$ROOT" && mount --bind "$WORK" "$ROOT$WORK" \
        && mount -o remount,bind,ro "$ROOT$WORK" && mount -t tmpfs tmpfs "$ROOT$TMPDIR" \
        && exec chroot "$ROOT" setpriv --no-new-privs sh -c 'cd "$WORK" && ! touch canary 2>/dev/null && exec "$0" "$@"' "$0" "$@""#;
    let workspace = Workspace::published();
    let (mount_point, temporary) = (tempfile::tempdir().unwrap(), workspace.path("temporary"));
    fs::create_dir(&temporary).unwrap();
    let sandbox = |inner: &Command| {
        let mut command = Command::new("unshare");
        command.args(["-rmn", "sh", "-c", ENTER]).arg(inner.get_program()).args(inner.get_args());
        command.envs(inner.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.env("ROOT", mount_point.path()).env("WORK", workspace.root());
        command.env("TMPDIR", &temporary).env("HOME", "/nonexistent");
        command
    };
    let is_available = sandbox(&Command::new("true")).output().is_ok_and(|output| output.status.success());
    for arguments in [&["search", "parse a date"][..], &["verify"], &["inspect"], &["plan"]] {
        let plain = workspace.command(arguments);
        let output = in_time(if is_available { sandbox(&plain) } else { plain });
        assert!(output.status.success(), "{arguments:?}: {}", texts(&output).1);
    }
}

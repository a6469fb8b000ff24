//! Errors that a caller of the library can tell apart.

use bundle::{Bundle, Error};

#[test]
fn a_folder_without_manifest_is_not_a_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let error = Bundle::options().open(dir.path()).unwrap_err();
    assert!(matches!(&error, Error::NotABundle { dir: found, .. } if found == dir.path()), "{error}");
}

#[test]
fn a_file_that_is_not_a_library_is_a_runtime_error() {
    let dir = tempfile::tempdir().unwrap();
    let library = dir.path().join("libonnxruntime.so");
    std::fs::write(&library, "not a library").unwrap();
    let error = Bundle::options().onnxruntime(&library).open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Runtime(inference::Error::Load { .. })), "{error}");
}

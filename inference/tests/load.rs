//! One ONNX Runtime a process. One test, because the order of loading matters.

use std::path::{Path, PathBuf};

use inference::{Error, Graph, GraphOptions};

fn library() -> Option<PathBuf> {
    let below = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/runtime/libonnxruntime.so");
    std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).or(Some(below)).filter(|path| path.is_file())
}

#[test]
fn a_second_library_is_an_error_that_names_both() {
    let not_loaded = Graph::open(Path::new("encoder.onnx"), GraphOptions::default()).unwrap_err();
    assert!(matches!(not_loaded, Error::NotLoaded), "{not_loaded}");
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("libother.so");
    std::fs::write(&other, "not a library").unwrap();
    let damaged = inference::load(&other).unwrap_err();
    assert!(matches!(&damaged, Error::Load { library, .. } if library.ends_with("libother.so")), "{damaged}");
    let Some(library) = library() else { return eprintln!("skipped: no ONNX Runtime, run `codenets setup`") };
    inference::load(&library).unwrap();
    inference::load(&library).unwrap();
    inference::load_default().unwrap();
    let second = inference::load(&other).unwrap_err().to_string();
    assert!(second.contains("libother.so") && second.contains("libonnxruntime"), "{second}");
}

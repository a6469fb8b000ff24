//! One ONNX Runtime a process. One test, because the order of loading matters.

use std::path::Path;

use inference::{Error, Graph, GraphOptions};

#[test]
fn a_second_library_is_an_error_that_names_both() {
    let not_loaded = Graph::open(Path::new("encoder.onnx"), GraphOptions::default()).unwrap_err();
    assert!(matches!(not_loaded, Error::NotLoaded), "{not_loaded}");
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("libother.so");
    std::fs::write(&other, "not a library").unwrap();
    let damaged = inference::load(&other).unwrap_err();
    assert!(matches!(&damaged, Error::Load { library, .. } if library.ends_with("libother.so")), "{damaged}");
    let library = inference::installed().expect("ONNX Runtime is missing: run `make setup`, or `make test`");
    inference::load_installed().unwrap();
    inference::load(&library.path).unwrap();
    let second = inference::load(&other).unwrap_err().to_string();
    assert!(second.contains("libother.so") && second.contains("libonnxruntime"), "{second}");
}

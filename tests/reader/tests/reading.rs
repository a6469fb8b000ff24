//! Opens the bundle of format 4 in tests/fixtures and searches it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use bundle::{Bundle, Error, Hit, Language, Mode, Provider, Query};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The folder of the unpacked bundle.
static BUNDLE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bundle-format-4");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    let archive = Path::new(ROOT).join("tests/fixtures/bundle-format-4.tar.gz");
    let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(&folder).status().expect("tar is installed");
    assert!(status.success(), "unpacking the fixture");
    folder
});

fn open() -> Bundle {
    Bundle::options().provider(Provider::Cpu).workers(4).open(&*BUNDLE).expect("the fixture opens")
}

fn names(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.func_name.as_str()).collect()
}

#[test]
fn every_mode_finds_the_function() {
    let bundle = open();
    for mode in Mode::ALL {
        let hits = bundle.search(&Query::new("parse an iso date").mode(mode).limit(3)).expect("the search succeeds");
        assert_eq!(hits.len(), 3, "{mode}");
        assert!(names(&hits).contains(&"parse_iso_date"), "{mode}: {:?}", names(&hits));
    }
}

#[test]
fn a_query_is_limited_to_a_language() {
    let hits = open().search(&Query::new("shortest distance").language(Language::Java).limit(10)).expect("the search succeeds");
    assert!(!hits.is_empty() && hits.iter().all(|hit| hit.language == "java"), "{:?}", names(&hits));
}

#[test]
fn a_query_is_limited_to_a_repository_and_a_path() {
    let query = Query::new("distance between words").repo("text").path("**/*.py").limit(10);
    let hits = open().search(&query).expect("the search succeeds");
    assert!(!hits.is_empty() && hits.iter().all(|hit| hit.repo == "text" && hit.path.ends_with(".py")), "{:?}", names(&hits));
}

#[test]
fn a_hit_is_explained_and_shown() {
    let query = Query::new("edit distance between two strings").snippet_lines(3).explain(true).limit(1);
    let hits = open().search(&query).expect("the search succeeds");
    let explanation = hits[0].explanation.as_ref().expect("it was requested");
    assert!(explanation.bm25.is_some() && explanation.vector.is_some());
    assert!(hits[0].render(1, false).contains("levenshtein"));
}

#[test]
fn searches_run_on_several_threads() {
    let bundle = open();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| bundle.search(&Query::new("read a file")).expect("the search succeeds"))).collect();
        let results: Vec<Vec<Hit>> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
        assert!(results.iter().all(|hits| names(hits) == names(&results[0])));
    });
}

/// A process has one ONNX Runtime. The same library again is no error.
#[test]
fn a_second_onnx_runtime_is_an_error() {
    for _ in 0..2 {
        open().search(&Query::new("read a file")).expect("the search succeeds");
    }
    let other = Path::new(env!("CARGO_TARGET_TMPDIR")).join("other-libonnxruntime.so");
    std::fs::write(&other, "no library").expect("the target folder is writable");
    let error = Bundle::options().onnxruntime(&other).open(&*BUNDLE).err().expect("a second library is refused");
    assert!(matches!(error, Error::Runtime(_)), "{error:?}");
    assert!(error.to_string().contains("other-libonnxruntime.so"), "{error}");
}

#[test]
fn a_folder_without_a_bundle_is_an_error_of_its_own() {
    let error = Bundle::options().open(env!("CARGO_MANIFEST_DIR")).err().expect("it is refused");
    assert!(matches!(error, Error::NotABundle { .. }), "{error:?}");
}

#[test]
fn a_path_filter_that_is_no_glob_is_an_error_of_its_own() {
    let error = open().search(&Query::new("x").path("[")).err().expect("it is refused");
    assert!(matches!(error, Error::Glob { .. }), "{error:?}");
}

//! Reports about a corpus: fidelity of the parser, recall of the near-duplicate search, the page of `explore`.

use std::{fs, path::Path, sync::LazyLock};

use serde_json::Value;

use crate::workspace::{ROOT, Workspace, source};

/// Records in CodeSearchNet's dialect, derived again from their own code.
#[test]
fn fidelity_of_our_own_records_is_complete() {
    let workspace = Workspace::new();
    workspace.configure("harvest.dialect = codesearchnet");
    workspace.run_only("harvest");
    workspace.run(&["fidelity", "--csn", &workspace.artifact("raw").display().to_string()]);
    let fidelity = workspace.report("fidelity");
    for language in ["go", "java", "javascript", "php", "python", "ruby"] {
        // A JavaScript function expression has its name from the assignment around it, which is not part of the record.
        let names = if language == "javascript" { &[][..] } else { &["func_name"] };
        for field in ["code_tokens", "docstring_tokens"].iter().chain(names) {
            let share = fidelity[format!("agreement.{language}.{field}")].as_f64().unwrap();
            assert!((share - 1.0).abs() < 1e-12, "{language} {field}: {share}");
        }
    }
    assert!(workspace.fail(&["fidelity", "--csn", "/nowhere"]).contains("/nowhere"));
}

/// Runs the stages up to `tokenize` on 1500 perturbed rows; digests of four kinds.
fn run_perturbed(workspace: &Workspace, threads: &str) -> [Value; 4] {
    workspace.replace_with(&Workspace::tokenized());
    fs::rename(workspace.artifact("raw"), workspace.path("originals")).unwrap();
    fs::remove_dir_all(workspace.path("data")).unwrap();
    workspace.configure(&format!("{}harvest.records-per-file = 200", source("perturbed", "path = originals, rows = 1500, seed = 3")));
    workspace.run(&["run", "--until", "tokenize", "--threads", threads]);
    ["raw", "functions", "syntax", "tokens"].map(|kind| workspace.manifest(kind)["outputs"].clone())
}

static PERTURBED: LazyLock<(Workspace, [Value; 4])> = LazyLock::new(|| {
    let workspace = Workspace::shared("perturbed");
    let digests = run_perturbed(&workspace, "2");
    (workspace, digests)
});

#[test]
fn perturbed_rows_are_reproducible() {
    assert_eq!(run_perturbed(&Workspace::empty(), "1"), PERTURBED.1);
    assert_eq!(PERTURBED.0.manifest("functions")["report"]["lines"], 1500);
}

#[test]
fn the_near_duplicate_search_finds_what_comparing_every_pair_finds() {
    let workspace = &PERTURBED.0;
    workspace.run(&["duplicates", "--csn", &workspace.artifact("raw").display().to_string()]);
    let recall = workspace.report("duplicates");
    assert!(recall["by_force"].as_u64().unwrap() > 50, "{recall}");
    assert!(recall["recall"].as_f64().unwrap() >= 0.99, "{recall}");
    assert_eq!(recall["by_search"], workspace.manifest("functions")["report"]["duplicates"], "the stage marks the same rows");
}

fn explored(workspace: &Workspace) -> String {
    let (path, _) = workspace.run(&["explore"]);
    fs::read_to_string(workspace.path(path.trim())).unwrap()
}

#[test]
fn explore_writes_a_page_about_what_is_recorded() {
    let workspace = Workspace::new();
    assert!(workspace.fail(&["explore"]).contains("functions"));
    workspace.run_until("ingest");
    let page = explored(&workspace);
    assert!(page.contains("Rows by language and split") && !page.contains("Fertility"));
}

#[test]
fn the_page_of_explore_is_one_file_with_every_part() {
    let page = explored(&Workspace::tokenized());
    for part in ["Largest repositories", "code tokens", "Fertility", "cyclomatic", "Samples", "structure: <code>function "] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("src="), "nothing is loaded");
}

/// conf/codesearchnet.conf names every file of the corpus.
#[test]
fn the_public_corpus_has_six_files_with_digests_and_mirrors() {
    let conf = Path::new(ROOT).join("conf/codesearchnet.conf");
    let sections = codenets::stages::registry().sections();
    let harvest: pipeline::harvest::Config = ledger::conf::Conf::load(&conf, &sections).unwrap().section("harvest").unwrap();
    let Some(pipeline::harvest::Source::Urls { files, .. }) = harvest.source else { panic!("a source of URLs") };
    assert_eq!(files.len(), 6);
    assert_eq!(files.iter().map(|file| file.bytes.unwrap()).sum::<u64>(), 5_117_370_511, "as the Hub recorded it");
    for file in files {
        assert_eq!((file.sha256.len(), file.mirrors.len()), (64, 2), "{}", file.name);
        assert!(file.mirrors.iter().all(|url| url.expose().starts_with("https://") && url.expose().contains(&file.name)));
    }
}

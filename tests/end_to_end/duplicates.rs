//! Equal and nearly equal functions: all of them are found; training and evaluation use one of them.

use std::{collections::BTreeSet, fs, sync::LazyLock};

use ledger::table;
use serde_json::Value;

use crate::workspace::{FIXTURES, Workspace};

/// One file with two classes that have an equal method, and two functions that differ in three tokens.
const SAME: &str = r#"
class Reader:
    def shut_down(self):
        self.stream.flush()
        self.stream.close()
        return self.stream.name


class Writer:
    def shut_down(self):
        self.stream.flush()
        self.stream.close()
        return self.stream.name


def aes_encrypt(key, text):
    cipher = AES.new(key, AES.MODE_CBC, bytes(16))
    padded = pad(text.encode("utf-8"), 16)
    block = cipher.encrypt(padded)
    return base64.b64encode(block).decode("ascii")


def aes_decrypt(key, text):
    cipher = AES.new(key, AES.MODE_CBC, bytes(16))
    padded = pad(text.encode("utf-8"), 16)
    block = cipher.decrypt(padded)
    return base64.b64encode(block).decode("ascii")
"#;

/// The fixture corpus, a copy of `text/distance.py` in another repository, and [`SAME`].
static PUBLISHED: LazyLock<Workspace> = LazyLock::new(|| {
    let workspace = Workspace::shared("duplicates");
    workspace.replace_with(&Workspace::tokenized());
    fs::create_dir_all(workspace.path("corpus/vendorless")).unwrap();
    fs::copy(format!("{FIXTURES}/corpus/text/distance.py"), workspace.path("corpus/vendorless/words.py")).unwrap();
    fs::write(workspace.path("corpus/vendorless/same.py"), SAME).unwrap();
    workspace.configure("harvest.keep-undocumented = true");
    workspace.run_all();
    workspace
});

/// Values of a column of an artifact's shards.
fn column(kind: &str, name: &str) -> Vec<Option<String>> {
    let mut values = Vec::new();
    for split in ["train", "valid", "test"] {
        for file in fs::read_dir(PUBLISHED.artifact(kind).join(split)).unwrap() {
            for batch in table::read(&file.unwrap().path(), &[name]).unwrap() {
                let texts = table::texts(&batch.unwrap(), name).unwrap();
                values.extend(texts.iter().map(|text| text.map(str::to_owned)));
            }
        }
    }
    values
}

fn place(hit: &Value) -> String {
    format!("{} {} {}", hit["repo"].as_str().unwrap(), hit["path"].as_str().unwrap(), hit["func_name"].as_str().unwrap())
}

#[test]
fn near_duplicates_are_found_by_their_names() {
    for name in ["aes_encrypt", "aes_decrypt"] {
        let hits = PUBLISHED.search(&[name, "--limit", "3"]);
        assert_eq!(hits[0]["func_name"], name, "{hits:?}");
        assert_eq!(hits[0]["aliases"], 0, "a near-duplicate is no alias: {hits:?}");
    }
}

#[test]
fn training_leaves_duplicates_out_and_every_id_is_unique() {
    let report = &PUBLISHED.manifest("functions")["report"];
    let duplicates = column("functions", "duplicate_of").into_iter().flatten().count() as u64;
    assert_eq!(report["duplicates"], duplicates, "{report}");
    assert!(duplicates > 3 && report["rejected"] == 0, "{report}");
    let ids = column("functions", "id");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    let trained: BTreeSet<_> = column("tokens", "id").into_iter().collect();
    assert_eq!(trained.len() as u64, ids.len() as u64 - duplicates);
}

#[test]
fn aliases_are_one_hit_with_the_places_of_the_others() {
    let hits = PUBLISHED.search(&["edit distance between two strings", "--limit", "50"]);
    let levenshtein: Vec<&Value> = hits.iter().filter(|hit| hit["func_name"] == "levenshtein").collect();
    let [hit] = levenshtein[..] else { panic!("{hits:?}") };
    assert_eq!((&hit["aliases"], hit["also_in"].as_array().unwrap().len()), (&1.into(), 1));
    let places = BTreeSet::from([place(hit), place(&hit["also_in"][0])]);
    assert_eq!(places, BTreeSet::from(["text distance.py levenshtein".to_owned(), "vendorless words.py levenshtein".to_owned()]));
    let (text, _) = PUBLISHED.run(&["search", "levenshtein"]);
    assert!(text.contains("also in "), "{text}");
}

#[test]
fn a_filter_applies_to_every_alias() {
    for repo in ["text", "vendorless"] {
        let hits = PUBLISHED.search(&["edit distance between two strings", "--repo", repo]);
        assert_eq!((&hits[0]["func_name"], &hits[0]["repo"], &hits[0]["aliases"]), (&"levenshtein".into(), &repo.into(), &0.into()));
    }
}

#[test]
fn an_alias_is_found_by_its_own_class() {
    for name in ["Reader.shut_down", "Writer.shut_down"] {
        let hits = PUBLISHED.search(&[name, "--mode", "bm25"]);
        assert_eq!((&hits[0]["func_name"], &hits[0]["aliases"]), (&name.into(), &1.into()), "{hits:?}");
    }
}

#[test]
fn retract_by_id_deletes_one_alias_only() {
    let workspace = Workspace::copy_of(&PUBLISHED);
    let query = ["edit distance between two strings", "--repo", "vendorless"];
    let id = workspace.search(&query)[0]["id"].as_str().unwrap().to_owned();
    fs::write(workspace.path("ids.txt"), id).unwrap();
    workspace.run(&["retract", "ids.txt", "--by", "id"]);
    let hits = workspace.search(&query[..1]);
    assert_eq!((place(&hits[0]), &hits[0]["aliases"]), ("text distance.py levenshtein".to_owned(), &0.into()));
    assert!(workspace.search(&query).iter().all(|hit| hit["func_name"] != "levenshtein"));
}

#[test]
fn predictions_have_a_line_for_each_alias() {
    let workspace = Workspace::copy_of(&PUBLISHED);
    fs::write(workspace.path("queries.csv"), "query\nedit distance between two strings\n").unwrap();
    workspace.run(&["predictions", "--queries", "queries.csv", "--out", "out.csv"]);
    let out = fs::read_to_string(workspace.path("out.csv")).unwrap();
    assert_eq!(out.lines().filter(|line| line.contains(",levenshtein,")).count(), 2, "{out}");
}

use super::super::*;
use crate::chain;
use serde::Deserialize;

#[derive(Debug, Deserialize, PartialEq, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Vocab {
    size: u32,
    input: String,
    #[serde(default)]
    folder: Option<String>,
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

const BASE: &str = r#"
    vars { root = "/base", lang = python }
    vocab { size = 10000, input = ${vars.root}"/"${vars.lang}, folder = null, folder = ${?CODENETS_FOLDER} }
"#;

/// The trap that the crate named `hocon` falls into: it binds `${vars.root}` when it reads the
/// included file, so that the including file's value arrives too late.
#[test]
fn a_value_overridden_in_the_including_file_reaches_every_substitution_of_the_included_one() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "base.conf", BASE);
    let path = write(dir.path(), "mine.conf", "include \"base.conf\"\nvars.root = /mine\nvocab.size = 500");
    let vocab: Vocab = Conf::load_with(&path, &["vocab", "vars", "train"], &HashMap::new()).unwrap().section("vocab").unwrap();
    assert_eq!(vocab, Vocab { size: 500, input: "/mine/python".into(), folder: None });
    let env = HashMap::from([("CODENETS_FOLDER".to_owned(), "/from/env".to_owned())]);
    let vocab: Vocab = Conf::load_with(&path, &["vocab", "vars", "train"], &env).unwrap().section("vocab").unwrap();
    assert_eq!(vocab.folder.as_deref(), Some("/from/env"));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_name() {
    let dir = tempfile::tempdir().unwrap();
    let error = |text: &str| {
        let path = write(dir.path(), "x.conf", text);
        let error = Conf::load_with(&path, &["vocab", "vars", "train"], &HashMap::new())
            .and_then(|conf| conf.section::<Vocab>("vocab"))
            .unwrap_err();
        chain(&error).replace(&dir.path().display().to_string(), "DIR")
    };
    insta::assert_snapshot!(error("vocab { sise = 3, input = a }"));
    insta::assert_snapshot!(error("vocba { size = 3 }"));
    insta::assert_snapshot!(error("vocab { size = many, input = a }"));
    insta::assert_snapshot!(error("vocab { size = 4294967299, input = a }"));
    insta::assert_snapshot!(error("train { }"));
}

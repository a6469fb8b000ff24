//! The file and line of each value.

use std::collections::HashMap;

use super::super::*;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is read")]
enum Loss {
    Softmax { scale: f64 },
    Triplet { margin: f64 },
}

#[derive(Debug, Deserialize, JsonSchema)]
#[expect(dead_code, reason = "only its schema is read")]
struct Train {
    loss: Loss,
    second: Option<Loss>,
}

/// Lines of `annotated` for files, the first of which is loaded; folders are left out.
fn annotated(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let env: HashMap<String, String> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let sections = [Section::from("a"), Section::from("b"), Section::new("train", schema_for!(Train))];
    let conf = Conf::load_with(&dir.path().join(files[0].0), &sections, &env).unwrap();
    let text = conf.annotated().unwrap().replace(&format!("{}/", dir.path().display()), "");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_value_has_the_line_that_set_it_last() {
    let text = "# a comment { with = braces\na {\n  x = 1, y = \"#\"\n  \"z.z\" = [1,\n 2]\n}\na.x = 2\nb : {}\n";
    assert_eq!(
        annotated(&[("one.conf", text)], &[]),
        ["a.x = 2  # one.conf:7", "a.y = \"#\"  # one.conf:3", "a.\"z.z\" = [1,2]  # one.conf:4", "b = {}  # one.conf:8"]
    );
}

#[test]
fn an_included_file_is_named() {
    let files = [
        ("more/mine.conf", "include \"../base.conf\"\na.x = 3\nb { include \"part.conf\" }"),
        ("base.conf", "a { x = 1\n y = 2 }"),
        ("more/part.conf", "\nz = 5"),
    ];
    assert_eq!(annotated(&files, &[]), ["a.x = 3  # more/mine.conf:2", "a.y = 2  # base.conf:2", "b.z = 5  # more/part.conf:2"]);
}

#[test]
fn a_value_of_the_environment_names_the_variable() {
    let files = [("one.conf", "a.x = 1\na.x = ${?CODENETS_X}\na.y = 1\na.y = ${?CODENETS_Y}\nb.z = ${?CODENETS_X}\"/z\"")];
    assert_eq!(
        annotated(&files, &[("CODENETS_X", "7")]),
        ["a.x = \"7\"  # environment variable CODENETS_X", "a.y = 1  # one.conf:3", "b.z = \"7/z\"  # one.conf:5"]
    );
}

#[test]
fn a_field_of_a_kind_has_the_line_in_the_object_of_the_kind() {
    let text = "train.loss {\n kind = softmax\n softmax { scale = 2 }\n triplet { margin = 1 }\n}\n\
                train.second { kind = null\n triplet = ${train.loss.triplet} }\n\
                train.loss.kind = triplet\ntrain.second.kind = triplet";
    assert_eq!(
        annotated(&[("one.conf", text)], &[]),
        [
            "train.loss.kind = \"triplet\"  # one.conf:8",
            "train.loss.margin = 1  # one.conf:4",
            "train.second.kind = \"triplet\"  # one.conf:9",
            "train.second.margin = 1  # one.conf:7"
        ]
    );
}

#[test]
fn an_element_of_a_list_has_the_line_of_the_list() {
    let text = "a.list = [\n {p = [{x = 1, y = []}], q = 2 }\n]\na.list = ${a.list} [{ x = 3 }]";
    assert_eq!(
        annotated(&[("one.conf", text)], &[]),
        ["a.list[0].p[0] = {\"x\":1,\"y\":[]}  # one.conf:4", "a.list[0].q = 2  # one.conf:4", "a.list[1] = {\"x\":3}  # one.conf:4"]
    );
}

#[test]
fn a_value_that_a_command_replaced_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.conf");
    std::fs::write(&path, "a.x = 1").unwrap();
    let conf = Conf::load(&path, &["a"]).unwrap().with_section("a", serde_json::json!({ "x": 2 }));
    assert_eq!(conf.annotated().unwrap(), "a = {\"x\":2}  # the command line\n");
}

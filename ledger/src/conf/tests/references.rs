//! Includes that name no file, and substitutions in a circle.

use std::{collections::HashMap, fs};

use super::super::*;
use crate::chain;

/// The error of a configuration of these files, the first of which is loaded; folders are left out.
fn error(files: &[(&str, &str)]) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let loaded = Conf::load_with(&dir.path().join(files[0].0), &["a", "b"], &HashMap::new());
    loaded.err().map(|error| chain(&error).replace(&format!("{}/", dir.path().display()), ""))
}

#[test]
fn an_include_of_no_file_is_named_with_its_line() {
    for include in
        ["include \"bsae.conf\"", "include file(\"bsae.conf\")", "include required(\"bsae.conf\")", "a { b = 1, include \"bsae\" }"]
    {
        let error = error(&[("one.conf", &format!("a.x = 1\n{include}\n"))]).unwrap();
        assert!(error.contains("one.conf: line 2: include \"bsae") && error.contains("there is no such file"), "{error}");
    }
    assert!(
        error(&[("one.conf", "\u{feff}include \"bsae.conf\"")]).unwrap().contains("one.conf: line 1: include"),
        "behind a byte order mark"
    );
    let inner = [("one.conf", "include \"two\""), ("two.conf", "a.x = 1\n\ninclude \"three.conf\"")];
    assert!(error(&inner).unwrap().contains("two.conf: line 3: include \"three.conf\""));
    assert_eq!(error(&[("one.conf", "include \"two\"\na.include = \"nothing.conf\""), ("two.conf", "a.x = 1")]), None);
}

#[test]
fn files_that_include_the_next_one_twice_end() {
    let names: Vec<String> = (0..25).map(|number| format!("{number}.conf")).collect();
    let texts: Vec<String> =
        (1..25).map(|next| format!("include \"{next}\"\ninclude \"{next}\"\n")).chain(["a.x = 1".to_owned()]).collect();
    let files: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
    assert!(error(&files).unwrap().contains("more than 1000 includes"));
}

#[test]
fn values_that_refer_to_each_other_are_named() {
    let error = |text: &str| error(&[("one.conf", text)]);
    let circle = error("a {\n x = ${a.y}\n y = ${a.x}\n}").unwrap();
    assert!(circle.contains("`a.x` (one.conf:2), `a.y` (one.conf:3) refer to each other"), "{circle}");
    let circle = error("a.x = [${b.y}]\nb.y = [${a.x}]").unwrap();
    assert!(circle.contains("`a.x` (one.conf:1), `b.y` (one.conf:2)"), "{circle}");
    assert!(error("a.x = \"1 \"${b.y}\nb = ${a}").is_some(), "through an object");
    for text in [
        "a { x = 1, y = ${a.x} }\nb = ${a}",
        "a.x = [1], a.x = ${a.x} [2]",
        "a { x = ${b.y}, z = 3 }\nb.y = ${a.z}",
        "a.x = ${b.y}\nb.y = ${a.x}\nb.y = 2",
        "a.x = 1\na.x = ${?b.y}\nb.y = ${a.x}",
    ] {
        assert_eq!(error(text), None, "{text}");
    }
}

//! Small inputs that stand for very much data.

use std::{fmt::Write, fs};

use super::in_time;
use crate::workspace::{Workspace, texts};

/// Each variable holds the one before twice.
#[test]
fn a_configuration_whose_substitutions_fill_the_memory_is_an_error() {
    let workspace = Workspace::empty();
    for (first, twice) in [("\"xxxxxxxxxxxxxxxx\"", "${vars.a}${vars.a}"), ("[1, 2]", "[${vars.a}, ${vars.a}]")] {
        let mut text = format!("vars.a0 = {first}\n");
        for number in 1..40 {
            writeln!(text, "vars.a{number} = {}", twice.replace("vars.a", &format!("vars.a{}", number - 1))).unwrap();
        }
        fs::write(workspace.path("pipeline.conf"), text).unwrap();
        let output = in_time(workspace.command(&["plan"]));
        let (_, err) = texts(&output);
        assert!(!output.status.success() && err.contains("pipeline.conf") && err.contains("its substitutions need more than"), "{err}");
    }
}

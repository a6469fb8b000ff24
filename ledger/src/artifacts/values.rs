//! Values that are recorded as JSON: a resolved configuration, and numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::recordable_json;

/// A resolved configuration: its sections, without includes and substitutions. JSON is HOCON: `--conf` reads its file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings(pub BTreeMap<String, Value>);
recordable_json!(Settings, "config", 1);

/// Numbers by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics(pub BTreeMap<String, f64>);
recordable_json!(Metrics, "metrics", 1);

//! Time spans of a configuration.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A time span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Period(pub Duration);

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span = humantime::parse_duration(&text);
        span.map(Self).map_err(|error| D::Error::custom(format!("{text:?} is no time span ({error}): write `7d`, `12h` or `2w`")))
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_span_is_read_and_written_and_a_wrong_one_is_named() {
        let read = |text: &str| serde_json::from_value::<Period>(text.into());
        assert_eq!(read("7d").unwrap().0, Duration::from_secs(7 * 86_400));
        assert_eq!(serde_json::to_value(read("36h").unwrap()).unwrap(), "1day 12h");
        let error = read("seven").unwrap_err().to_string();
        assert!(error.contains("\"seven\" is no time span") && error.contains("write `7d`"), "{error}");
    }
}

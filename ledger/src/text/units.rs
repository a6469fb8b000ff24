//! Numbers with a unit: scores and token counts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A score outside `0..=1`.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{unit} must lie in 0..=1, got {value}")]
pub struct OutOfRange {
    unit: &'static str,
    value: f64,
}

macro_rules! score {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl TryFrom<f64> for $name {
            type Error = OutOfRange;
            fn try_from(value: f64) -> Result<Self, OutOfRange> {
                if (0.0..=1.0).contains(&value) {
                    Ok(Self(value))
                } else {
                    Err(OutOfRange { unit: stringify!($name), value })
                }
            }
        }

        impl From<$name> for f64 {
            fn from(score: $name) -> f64 {
                score.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:.4}", self.0)
            }
        }
    };
}

macro_rules! count {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl std::iter::Sum for $name {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
                Self(items.map(|item| item.0).sum())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

score!(
    /// Mean reciprocal rank over a query set.
    Mrr
);
count!(
    /// Sub-word tokens, after truncation.
    TokenCount
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_outside_of_0_to_1_is_refused() {
        assert!(serde_json::from_str::<Mrr>("1.2").is_err());
        assert!(serde_json::from_str::<Mrr>("0.71").is_ok());
        assert!(Mrr::try_from(f64::NAN).is_err());
    }
}

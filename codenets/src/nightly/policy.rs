//! Section `model`: when a nightly build trains a new release of the encoder.

use std::time::Duration;

use ledger::{ReleaseId, Releases};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::drift::{Drift, Limits};
use crate::period::Period;

/// Name of the section.
pub const SECTION: &str = "model";

/// Section `model`. `codenets run` does not read it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// When a night trains a new release.
    pub policy: Policy,
    /// Age of the last training from which the policy `every` trains again: `7d`, `12h`, `2w`.
    pub every: Period,
    /// What the policy `drift` trains for; every night warns of it.
    #[serde(default)]
    pub drift: Limits,
}

/// When a night trains a new release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Only where there is no release yet.
    Pinned,
    /// When the last training is older than `model.every`.
    Every,
    /// When the functions have drifted from those of the first night with the release, at most once in `model.every`.
    Drift,
    /// Every night.
    Always,
}

/// The encoder of a night.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This release.
    Use(ReleaseId),
    /// A new one is trained, and compared with the current one where there is one.
    Train { why: String, current: Option<ReleaseId> },
}

/// Chooses the encoder of a night that begins at `now`, in seconds since 1970. `drift`: as the last night with the current release found it.
pub fn choose(config: &Config, releases: &Releases, now: u64, drift: Option<&Drift>) -> Choice {
    if let Some(id) = releases.pinned() {
        return Choice::Use(id);
    }
    let Some(current) = releases.current_id() else {
        return Choice::Train { why: "there is no release yet".to_owned(), current: None };
    };
    // A clock that went back makes no training old.
    let age = Duration::from_secs(now.saturating_sub(releases.last_training_unix_s().unwrap_or_default()));
    let is_old = age >= config.every.0;
    let why = match config.policy {
        Policy::Pinned => None,
        Policy::Always => Some("model.policy is always".to_owned()),
        Policy::Every => is_old.then(|| format!("the last training is older than {}", humantime::format_duration(config.every.0))),
        Policy::Drift => drift.filter(|_| is_old).and_then(|drift| drift.exceeds(&config.drift)),
    };
    match why {
        Some(why) => Choice::Train { why, current: Some(current) },
        None => Choice::Use(current),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ledger::Release;

    use super::*;
    use crate::nightly::drift::tests::drift;

    fn config(policy: &str, every: &str) -> Config {
        serde_json::from_value(serde_json::json!({ "policy": policy, "every": every })).unwrap()
    }

    #[test]
    fn a_night_trains_where_there_is_no_release_or_the_policy_asks_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let releases = Releases::of(dir.path());
        let now = 1_795_372_800;
        assert!(matches!(choose(&config("pinned", "7d"), &releases, now, None), Choice::Train { current: None, .. }));
        let record =
            Release { created_unix_s: now, encoder: "0123456789ab".to_owned(), bundle: "ba9876543210".to_owned(), scores: BTreeMap::new() };
        let id = releases.create(&record, &[], &[]).unwrap();
        releases.set_last_training(now).unwrap();
        let far = Drift { similarity: 0.5, ..drift() };
        let trains_after = |policy: &str, now: u64, drift: Option<&Drift>| match choose(&config(policy, "7d"), &releases, now, drift) {
            Choice::Use(used) => {
                assert_eq!(used, id);
                false
            }
            Choice::Train { current, .. } => {
                assert_eq!(current.as_ref(), Some(&id));
                true
            }
        };
        let trains = |policy: &str, now: u64| trains_after(policy, now, Some(&far));
        let week = 7 * 86_400;
        assert!(trains("drift", now + week) && !trains("drift", now + week - 1));
        assert!(!trains_after("drift", now + week, None) && !trains_after("drift", now + week, Some(&drift())));
        assert!(!trains("pinned", now + 100 * week) && trains("always", now));
        assert_eq!([now - week, now, now + week - 1, now + week].map(|now| trains("every", now)), [false, false, false, true]);
        releases.pin(Some(&id)).unwrap();
        assert!(!trains("always", now) && !trains("every", now + week));
    }
}

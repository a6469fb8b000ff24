//! `nightly`: one night of a scheduled build.
//!
//! ```text
//! policy   section `model`: which release of the encoder a night uses, or that it trains one
//! sources  repositories that cannot be read keep their functions of an earlier night
//! build    the stages of a night, each in a process of its own
//! drift    how far the functions are from those that the release was first used for
//! night    the record of a night and its three lines
//! nights   the records of all nights, and the night that is running
//! page     reports/nightly.html
//! ```
//! The steps: lock, choose the release, train and compare a new one where the policy asks for it, run the stages with the release, publish
//! if the gates pass, collect garbage, report. The published bundle changes in the step `publish` only.

mod build;
pub mod drift;
pub mod night;
mod nights;
mod page;
pub mod policy;
pub mod sources;

use std::{collections::BTreeMap, path::Path, time::Instant};

use anyhow::{Error, Result, ensure};
use clap::Args;
use indexer::{
    bundle_diff::bundle_diff,
    evaluate::compare::{SystemDifference, compare},
    publish,
};
use ledger::{
    Recordable, Registry, ReleaseId, Releases, Report, Scores, Serve, Stage, Store, conf::Conf, rfc3339, unix_now, write_report_file,
};
use pipeline::{Harvest, Ingest, Parse};

use self::{
    build::{Build, Protocol},
    night::{Ending, Night, StageRun},
    nights::Nights,
    policy::Choice,
    sources::{KeptRepository, Plan},
};
use crate::{
    commands::{build::send_events, fetch::fetch_configured},
    night_conf,
    options::Options,
    releases,
};

/// What a night may do beyond its configuration.
#[derive(Debug, Clone, Default, Args)]
pub struct NightlyArgs {
    /// Publish the bundle although a gate refuses it; the reason is recorded
    #[arg(long, value_name = "REASON")]
    pub force: Option<String>,
    /// Remove the functions of repositories whose folders are gone, without nights of grace and without publish.max-lost-*
    #[arg(long)]
    pub accept_removed: bool,
    /// Build the lexical index from nothing, so that no text of deleted functions stays in the segments of earlier nights
    #[arg(long)]
    pub rebuild_index: bool,
    /// Keep unreferenced artifacts: do not collect garbage
    #[arg(long)]
    pub keep_garbage: bool,
    /// Was --conf given, or is it the default?
    #[arg(skip)]
    pub conf_is_given: bool,
}

/// A night that published nothing new, with the exit status of the command.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Stopped {
    pub status: u8,
    pub why: String,
}

/// Exit status: a gate refused the bundle.
const HELD_BACK: u8 = 3;
/// Exit status: another process makes a run in the data folder (`EX_TEMPFAIL` of sysexits.h).
const IN_USE: u8 = 75;
/// System whose scores decide about a release.
const DECIDING: &str = "hybrid";
/// Probability of chance from which two releases count as equal.
const EQUAL_FROM: f64 = 0.05;

/// Runs a night.
///
/// # Errors
/// [`Stopped`] where a gate refused the bundle or another run has the data folder; the error of the step that failed.
pub fn nightly(registry: &Registry, options: &Options, args: &NightlyArgs) -> Result<()> {
    let conf = options.load(registry)?;
    let store = options.store_of(registry, &conf)?;
    let _lock = store.lock_run_now().map_err(|error| match error {
        ledger::Error::InUse { .. } => Error::new(Stopped { status: IN_USE, why: error.to_string() }),
        other => other.into(),
    })?;
    let mut before = Nights::read(store.root());
    let (clock, cpu) = (Instant::now(), build::cpu_seconds());
    // A night that is killed knows no more about unreadable repositories than the night before.
    let kept = before.0.last().map(|night| night.kept.clone()).unwrap_or_default();
    let mut night = Night { kept, ..Night::begin(unix_now()) };
    if let Some(unfinished) = Nights::start(store.root(), &night)? {
        night.warnings.push(format!("the night of {} did not end: {}", rfc3339(unfinished.started_unix_s), unfinished.why()));
        before.0.push(unfinished);
    }
    let last = before.0.last();
    let ended = Steps { registry, options, args, store: &store, conf: &conf, last }.run(&mut night);
    if let Err(error) = &ended {
        (night.ending, night.why) = (ending_of(error), Some(format!("{error:#}")));
    }
    night.wall_s = clock.elapsed().as_secs_f64();
    night.cpu_s = build::cpu_seconds() - cpu;
    describe(&store, &mut night);
    send_events(&store);
    let reported = report(options, &store, &night, &before);
    match (ended, night.ending) {
        (Ok(()), _) => reported,
        (Err(error), ending) => {
            // The first error is the one that matters: a full disk stops the report too.
            if let Err(error) = reported {
                ledger::print_line(&format!("the report of the night is not written: {error:#}"));
            }
            let is_held_back = ending == Ending::HeldBack;
            Err(if is_held_back { Error::new(Stopped { status: HELD_BACK, why: format!("{error:#}") }) } else { error })
        }
    }
}

/// A refusal of a gate, or a failure?
fn ending_of(error: &Error) -> Ending {
    let is_refusal = |cause: &&(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref::<indexer::Error>(), Some(indexer::Error::NotPublished(_)))
    };
    if error.chain().any(|cause| is_refusal(&cause)) { Ending::HeldBack } else { Ending::Failed }
}

/// The steps of a night.
struct Steps<'a> {
    registry: &'a Registry,
    options: &'a Options,
    args: &'a NightlyArgs,
    store: &'a Store,
    conf: &'a Conf,
    last: Option<&'a Night>,
}

impl Steps<'_> {
    fn run(&self, night: &mut Night) -> Result<()> {
        self.check_published(night);
        self.fetch(night)?;
        let build = self.build(night)?;
        let release = if self.conf.adopts()? { None } else { Some(self.release(&build, night)?) };
        night.release = release.as_ref().map(ToString::to_string);
        let stages = match build.run(release.as_ref(), Protocol::Night) {
            Err(error) => self.run_again(release.as_ref(), night, error)?,
            Ok(stages) => stages,
        };
        night.stages.extend(stages);
        if let Some(id) = &release {
            self.measure_drift(id, night);
        }
        self.publish(night)?;
        self.collect(night)
    }

    /// Fetches the mirrors, where the configuration names them.
    fn fetch(&self, night: &mut Night) -> Result<()> {
        night.warnings.extend(fetch_configured(self.conf, self.store)?.into_iter().flat_map(|fetched| fetched.warnings));
        Ok(())
    }

    /// Verifies the published bundle. Where it is damaged, damaged artifacts are found too, so that their stages run.
    fn check_published(&self, night: &mut Night) {
        if let Err(error) = publish::verify(self.store.root()) {
            let damage = ledger::chain(&error);
            let text = format!("the published bundle is damaged, the night publishes it again: {damage}");
            self.store.progress().message(&format!("nightly   {text}"));
            night.is_published_damaged = true;
            night.warnings.push(text);
            // An error is a file that cannot be read: the stage that reads it fails.
            let _ = self.store.verify();
        }
    }

    /// Runs the stages once more where a repository became unreadable since the plan of the night.
    fn run_again(&self, release: Option<&ReleaseId>, night: &mut Night, error: Error) -> Result<Vec<StageRun>> {
        let kept = std::mem::take(&mut night.kept);
        night.warnings.retain(|warning| !warning.starts_with(sources::WARNING));
        match self.build(night) {
            Ok(build) if night.kept != kept => build.run(release, Protocol::Night),
            Ok(_) => Err(error),
            Err(second) => Err(error.context(format!("the repositories cannot be read again: {second:#}"))),
        }
    }

    /// Plans what is read, and what is kept of an earlier night.
    fn build(&self, night: &mut Night) -> Result<Build<'_>> {
        let config: night_conf::Config = self.conf.section(night_conf::SECTION)?;
        let grace = if self.args.accept_removed { 0 } else { config.grace };
        let last: &[KeptRepository] = self.last.map_or(&[], |night| &night.kept);
        let plan = Plan::make(self.conf, self.store, last, night.started_unix_s, grace)?;
        let warnings = plan.warnings(grace);
        warnings.iter().for_each(|warning| self.store.progress().message(&format!("nightly   {warning}")));
        night.warnings.extend(warnings);
        let kept = plan.write(self.store.root())?;
        night.kept = plan.repositories;
        let NightlyArgs { conf_is_given, rebuild_index, .. } = *self.args;
        Ok(Build { registry: self.registry, options: self.options, conf_is_given, store: self.store, kept, rebuild_index })
    }

    /// The release of this night: the current one, or a new one that is not worse.
    fn release(&self, build: &Build<'_>, night: &mut Night) -> Result<ReleaseId> {
        let releases = Releases::of(self.store.root());
        let config: policy::Config = self.conf.section(policy::SECTION)?;
        let current = releases.current_id().map(|id| id.to_string());
        let drift = self.last.filter(|last| last.release == current).and_then(|last| last.drift.as_ref());
        let (why, current) = match policy::choose(&config, &releases, night.started_unix_s, drift) {
            Choice::Use(id) => return Ok(id),
            Choice::Train { why, current } => (why, current),
        };
        self.store.progress().message(&format!("nightly   trains a release of the encoder: {why}"));
        let old = match &current {
            Some(id) => {
                night.stages.extend(build.run(Some(id), Protocol::Full)?);
                Some(self.store.current::<Scores>()?.dir().to_owned())
            }
            None => None,
        };
        releases.set_last_training(night.started_unix_s)?;
        night.stages.extend(build.run(None, Protocol::Full)?);
        let new = self.store.current::<Scores>()?.dir().to_owned();
        let (is_promoted, verdict) = match &old {
            Some(old) => match compare(&new, old) {
                Ok(lines) => verdict(&lines),
                // Without queries nothing says that the new one is not worse.
                Err(error) => (false, format!("not promoted, it is not comparable ({})", ledger::chain(&error))),
            },
            None => (true, "the first one".to_owned()),
        };
        let id = match current {
            Some(current) if !is_promoted => current,
            _ => releases::promote(self.store)?,
        };
        night.training = Some(format!("trained ({why}): {verdict}"));
        self.store.progress().message(&format!("nightly   uses release {id}: {verdict}"));
        Ok(id)
    }

    /// Measures the drift, which no night fails for. Where no function was parsed it is that of the last night.
    fn measure_drift(&self, release: &ReleaseId, night: &mut Night) {
        let is_parsed = night.stages.iter().any(|stage| stage.ran && stage.stage == Parse::NAME);
        let last = self.last.filter(|last| !is_parsed && last.release == night.release).and_then(|last| last.drift);
        let score =
            || self.store.current::<Scores>().and_then(|scores| scores.open()).ok().and_then(|scores| releases::score_of(&scores.flat));
        let measured = last.map_or_else(|| drift::measure(self.store, release, score()), Ok);
        match measured.and_then(|drift| Ok((drift, drift.exceeds(&self.conf.section::<policy::Config>(policy::SECTION)?.drift)))) {
            Ok((drift, exceeds)) => {
                night.drift = Some(drift);
                let warning =
                    |why| format!("the functions have drifted from those of the release: {why}; model.policy = drift trains a new one");
                night.warnings.extend(exceeds.map(warning));
            }
            Err(error) => night.warnings.push(format!("the drift is not measured: {error:#}")),
        }
    }

    fn publish(&self, night: &mut Night) -> Result<()> {
        let serve = Serve::of(self.store.root());
        let before = serve.current_id();
        let mut config: publish::Config = self.conf.section(publish::NAME)?;
        if let Some(reason) = &self.args.force {
            ensure!(!reason.trim().is_empty(), "--force has no reason: write why the bundle is published without gates");
            night.forced = Some(reason.clone());
            config = config.without_gates();
        }
        if self.args.accept_removed {
            config = config.accepting_lost();
        }
        let published = publish::publish(self.store, &config, night.is_published_damaged)?;
        night.ending = if published == before { Ending::Unchanged } else { Ending::Published };
        night.deleted_next = publish::deleted_next(self.store, config.keep)?.map(|id| id.to_string());
        if let (Some(old), Some(new)) = (before.filter(|_| night.ending == Ending::Published), published) {
            let [old, new] = [old, new].map(|id| serve.bundle(&id));
            // The bundle of before may be damaged, or deleted by `publish.keep`.
            match bundle_diff(&old, &new) {
                Ok(change) => night.change = change,
                Err(error) => night.warnings.push(format!("the bundles are not compared: {}", ledger::chain(&error))),
            }
        }
        Ok(())
    }

    fn collect(&self, night: &mut Night) -> Result<()> {
        if self.args.keep_garbage {
            return Ok(());
        }
        let deleted = archive::gc::collect(self.store, &|work_dir: &Path| trainer::tracking::is_unsent(work_dir))?;
        night.deleted = deleted.len() as u64;
        night.deleted_bytes = deleted.iter().map(|one| one.bytes).sum();
        Ok(())
    }
}

/// Is a new release not worse than the current one, by the paired test of hybrid search? With the reason.
fn verdict(lines: &[SystemDifference]) -> (bool, String) {
    let deciding: Vec<&SystemDifference> = lines.iter().filter(|line| line.system == DECIDING).collect();
    let is_worse = |line: &&SystemDifference| line.difference.mean < 0.0 && line.difference.p < EQUAL_FROM;
    let text: Vec<String> = deciding
        .iter()
        .map(|line| format!("{} {:+.4}, p {:.4}, {} queries", line.set, line.difference.mean, line.difference.p, line.queries))
        .collect();
    let is_promoted = !deciding.iter().any(is_worse);
    let word = if is_promoted { "promoted" } else { "not promoted, it is worse" };
    (is_promoted, format!("{word} ({})", text.join("; ")))
}

/// What is published, and what was left out.
fn describe(store: &Store, night: &mut Night) {
    let serve = Serve::of(store.root());
    night.published = serve.current_id().map(|id| id.to_string());
    if let Ok(manifest) = bundle::BundleManifest::read(&serve.current()) {
        night.rows = manifest.rows;
    }
    night.left_out = left_out::<Harvest>(store);
    night.left_out.extend(left_out::<Ingest>(store));
    night.scores = store.current::<Scores>().and_then(|scores| scores.open()).map(|scores| scores.flat).unwrap_or_default();
}

/// What the recorded run of a stage left out, by reason.
fn left_out<S: Stage>(store: &Store) -> BTreeMap<String, u64> {
    let report =
        store.current_manifest(S::Output::KIND).and_then(|(_, manifest)| serde_json::from_value::<S::Report>(manifest.report).ok());
    report.map(|report| report.left_out()).unwrap_or_default()
}

fn report(options: &Options, store: &Store, night: &Night, before: &Nights) -> Result<()> {
    let published = before.0.iter().rev().find(|night| matches!(night.ending, Ending::Published | Ending::Unchanged));
    let data = store.root();
    Nights::add(data, night)?;
    write_report_file(data, "nightly.json", &serde_json::to_vec_pretty(night)?)?;
    write_report_file(data, "nightly.html", page::html(night, &before.0, published)?.as_bytes())?;
    options.print(&night.text(published), &serde_json::to_value(night)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use indexer::evaluate::Difference;

    #[test]
    fn a_release_is_promoted_unless_hybrid_search_is_worse() {
        let line = |system: &str, mean: f64, p: f64| SystemDifference {
            set: "test".to_owned(),
            system: system.to_owned(),
            queries: 9,
            difference: Difference { mean, p, wins: 1, losses: 2 },
        };
        let is_promoted = |mean: f64, p: f64| verdict(&[line("vector", -0.5, 0.0), line("hybrid", mean, p)]).0;
        assert!(is_promoted(0.01, 0.5) && is_promoted(-0.01, 0.05) && is_promoted(0.0, 1.0));
        assert!(!is_promoted(-0.01, 0.049));
        let (_, text) = verdict(&[line("hybrid", -0.2, 0.001)]);
        assert_eq!(text, "not promoted, it is worse (test -0.2000, p 0.0010, 9 queries)");
    }

    #[test]
    fn a_refusal_of_a_gate_is_no_failure() {
        let refusal = || indexer::Error::NotPublished("worse".to_owned());
        assert_eq!(ending_of(&Error::new(refusal()).context("publishing")), Ending::HeldBack);
        assert_eq!(ending_of(&Error::msg("disk full")), Ending::Failed);
    }
}

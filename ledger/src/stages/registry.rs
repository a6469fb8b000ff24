//! The list of stages without their types.
//!
//! A program builds one [`Registry`]. `run`, `plan`, `status`, `reproduce`, the sections of a configuration and the artifact kinds of a
//! store follow from it. A new stage is one more line in the list:
//!
//! ```ignore
//! Registry::new(vec![Recorded::<Harvest>::boxed(), Recorded::<Ingest>::boxed(), Recorded::<MyStage>::boxed()])
//! ```

use std::marker::PhantomData;

use schemars::{Schema, schema_for};
use serde_json::Value;

use super::{freshness::Freshness, rerun::RerunOutcome, stage::Stage, status::StageStatus};
use crate::{
    artifacts::{artifact::Artifact, recordable::Recordable},
    conf::{Conf, RunSettings, Section, of_sections},
    ensure,
    error::{BoxError, Error, Result},
    store::artifact_store::Store,
};

/// A stage whose types are erased.
pub trait AnyStage: Send + Sync {
    /// Name of the stage and of its section in the configuration.
    fn name(&self) -> &'static str;
    /// What the stage does, in one line.
    fn about(&self) -> &'static str;
    /// Artifact kind that the stage writes; none where it writes no artifact.
    fn kind(&self) -> Option<&'static str>;
    /// Does this configuration run the stage?
    fn is_enabled(&self, conf: &Conf) -> Result<bool>;
    /// JSON Schema of the section of the stage.
    fn schema(&self) -> Schema;
    /// The section of the stage, as its artifact records it.
    fn config(&self, conf: &Conf) -> Result<Value>;
    /// Why the stage would run now, without regard to the stages before it.
    fn freshness(&self, store: &Store, conf: &Conf) -> Result<Freshness>;
    /// Why the stage would run now, given the status of the stages before it.
    fn status(&self, store: &Store, conf: &Conf, before: &[StageStatus]) -> Result<StageStatus>;
    /// Checks what the stage needs from the machine (a library, a device) before any stage of a run starts.
    fn prepare(&self, store: &Store, conf: &Conf) -> Result<()>;
    /// Runs the stage unless its artifact is up to date.
    fn run(&self, store: &Store, conf: &Conf) -> Result<()>;
    /// Runs the recorded stage again, compares the bytes, and deletes the new output.
    fn rerun(&self, store: &Store, conf: &Conf) -> Result<RerunOutcome>;
}

type Condition = Box<dyn Fn(&Conf) -> Result<bool> + Send + Sync>;
type Preparation = Box<dyn Fn(&Store, &Conf) -> Result<()> + Send + Sync>;
type Completion<S> = Box<dyn Fn(&Store, &Conf, &Artifact<<S as Stage>::Output>) -> Result<()> + Send + Sync>;

/// [`AnyStage`] for a [`Stage`].
pub struct Recorded<S: Stage> {
    condition: Option<Condition>,
    preparation: Option<Preparation>,
    start: Option<Preparation>,
    completion: Option<Completion<S>>,
    stage: PhantomData<fn() -> S>,
}

impl<S: Stage + 'static> Recorded<S> {
    /// A builder: `Recorded::<MyStage>::new().only_if(…)`.
    #[expect(clippy::new_without_default, reason = "a builder: `new().only_if(…)`")]
    pub fn new() -> Self {
        Self { condition: None, preparation: None, start: None, completion: None, stage: PhantomData }
    }

    /// A stage that every configuration runs and that needs nothing from the machine.
    pub fn boxed() -> Box<dyn AnyStage> {
        Box::new(Self::new())
    }

    /// Runs the stage only with configurations for which `condition` is true.
    pub fn only_if<E: Into<BoxError>>(self, condition: impl Fn(&Conf) -> Result<bool, E> + Send + Sync + 'static) -> Self {
        Self { condition: Some(Box::new(move |conf| condition(conf).map_err(Error::other))), ..self }
    }

    /// Calls `preparation` before any stage of a run starts.
    pub fn prepared_by<E: Into<BoxError>>(self, preparation: impl Fn(&Store, &Conf) -> Result<(), E> + Send + Sync + 'static) -> Self {
        Self { preparation: Some(Box::new(move |store, conf| preparation(store, conf).map_err(Error::other))), ..self }
    }

    /// Calls `start` right before the stage runs, or runs again.
    pub fn started_by<E: Into<BoxError>>(self, start: impl Fn(&Store, &Conf) -> Result<(), E> + Send + Sync + 'static) -> Self {
        Self { start: Some(Box::new(move |store, conf| start(store, conf).map_err(Error::other))), ..self }
    }

    /// Calls `completion` with the artifact after each run, also where the artifact was up to date.
    pub fn followed_by(self, completion: impl Fn(&Store, &Conf, &Artifact<S::Output>) -> Result<()> + Send + Sync + 'static) -> Self {
        Self { completion: Some(Box::new(completion)), ..self }
    }
}

impl<S: Stage + 'static> Recorded<S> {
    fn start(&self, store: &Store, conf: &Conf) -> Result<()> {
        self.start.as_ref().map_or(Ok(()), |start| start(store, conf))
    }
}

impl<S: Stage + 'static> AnyStage for Recorded<S> {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn about(&self) -> &'static str {
        S::ABOUT
    }

    fn kind(&self) -> Option<&'static str> {
        Some(S::Output::KIND)
    }

    fn is_enabled(&self, conf: &Conf) -> Result<bool> {
        self.condition.as_ref().map_or(Ok(true), |condition| condition(conf))
    }

    fn schema(&self) -> Schema {
        schema_for!(S::Config)
    }

    fn config(&self, conf: &Conf) -> Result<Value> {
        Ok(serde_json::to_value(conf.section::<S::Config>(S::NAME)?)?)
    }

    fn freshness(&self, store: &Store, conf: &Conf) -> Result<Freshness> {
        store.freshness::<S>(&conf.section(S::NAME)?)
    }

    fn status(&self, store: &Store, conf: &Conf, before: &[StageStatus]) -> Result<StageStatus> {
        StageStatus::of::<S>(store, &conf.section(S::NAME)?, before)
    }

    fn prepare(&self, store: &Store, conf: &Conf) -> Result<()> {
        self.preparation.as_ref().map_or(Ok(()), |preparation| preparation(store, conf))
    }

    fn run(&self, store: &Store, conf: &Conf) -> Result<()> {
        self.start(store, conf)?;
        let artifact = store.make::<S>(&conf.section(S::NAME)?)?;
        self.completion.as_ref().map_or(Ok(()), |completion| completion(store, conf, &artifact))
    }

    fn rerun(&self, store: &Store, conf: &Conf) -> Result<RerunOutcome> {
        self.start(store, conf)?;
        let outcome = store.rerun::<S>(&conf.section(S::NAME)?);
        outcome.map_err(|error| Error::Stage { name: S::NAME.to_owned(), source: error.into() })
    }
}

/// Which stages of a registry to run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StageSelection {
    /// Every stage that the configuration enables.
    #[default]
    All,
    /// These stages, also where the configuration does not enable them.
    Only(Vec<String>),
    /// Every enabled stage up to this one.
    Until(String),
}

/// All stages of a program, each after the stages whose artifacts it reads.
pub struct Registry {
    stages: Vec<Box<dyn AnyStage>>,
    /// Sections that no stage reads.
    sections: Vec<Section>,
}

impl Registry {
    /// `stages`: each after the stages whose artifacts it reads.
    pub fn new(stages: Vec<Box<dyn AnyStage>>) -> Self {
        Self { stages, sections: Vec::new() }
    }

    /// The registry with one more section of the configuration, which a command reads.
    #[must_use]
    pub fn with_section(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }

    /// The registry with one more stage after all others.
    #[must_use]
    pub fn with(mut self, stage: Box<dyn AnyStage>) -> Self {
        self.stages.push(stage);
        self
    }

    /// All stages in order.
    pub fn stages(&self) -> impl Iterator<Item = &dyn AnyStage> {
        self.stages.iter().map(AsRef::as_ref)
    }

    /// Names of the stages, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.stages().map(AnyStage::name).collect()
    }

    /// Sections that a configuration may have: one for each stage, `run` (settings that change no byte of any output), `vars` (the
    /// user's own variables) and those of [`Registry::with_section`].
    pub fn sections(&self) -> Vec<Section> {
        let common = [Section::new("run", schema_for!(RunSettings)), Section::from("vars")];
        let own = self.sections.iter().cloned();
        common.into_iter().chain(own).chain(self.stages().map(|stage| Section::new(stage.name(), stage.schema()))).collect()
    }

    /// JSON Schema (draft 2020-12) of a resolved configuration.
    pub fn schema(&self) -> Value {
        of_sections(&self.sections())
    }

    /// Artifact kinds, each after the kinds that its stage reads.
    pub fn kinds(&self) -> Vec<&'static str> {
        let mut kinds: Vec<&'static str> = Vec::new();
        for kind in self.stages().filter_map(AnyStage::kind) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }

    /// The stages of a selection, in order.
    ///
    /// # Errors
    /// A name that no stage of the registry has.
    pub fn selected(&self, conf: &Conf, selection: &StageSelection) -> Result<Vec<&dyn AnyStage>> {
        let named: Vec<&str> = match selection {
            StageSelection::All => Vec::new(),
            StageSelection::Only(names) => names.iter().map(String::as_str).collect(),
            StageSelection::Until(name) => vec![name],
        };
        for name in named {
            ensure!(self.names().contains(&name), "there is no stage {name:?}: the stages are {}", self.names().join(", "));
        }
        let mut found = Vec::new();
        for stage in self.stages() {
            let is_last = matches!(selection, StageSelection::Until(name) if name == stage.name());
            let is_selected = match selection {
                StageSelection::Only(names) => names.iter().any(|name| name == stage.name()),
                StageSelection::All | StageSelection::Until(_) => stage.is_enabled(conf)?,
            };
            if is_selected {
                found.push(stage);
            }
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    /// Reads the section of every enabled stage, so that an error in the last one is reported before the first one runs.
    pub fn check(&self, conf: &Conf) -> Result<()> {
        for stage in self.selected(conf, &StageSelection::All)? {
            stage.config(conf)?;
        }
        Ok(())
    }

    /// The status of every enabled stage.
    pub fn status(&self, store: &Store, conf: &Conf) -> Result<Vec<StageStatus>> {
        let mut states = Vec::new();
        for stage in self.selected(conf, &StageSelection::All)? {
            let state = stage.status(store, conf, &states)?;
            states.push(state);
        }
        Ok(states)
    }

    /// The selected stages in order, after their configuration, and what they need from the machine, was checked.
    pub fn prepared(&self, store: &Store, conf: &Conf, selection: &StageSelection) -> Result<Vec<&dyn AnyStage>> {
        let stages = self.selected(conf, selection)?;
        match selection {
            StageSelection::Only(_) => stages.iter().try_for_each(|stage| stage.config(conf).map(drop))?,
            StageSelection::All | StageSelection::Until(_) => self.check(conf)?,
        }
        for stage in &stages {
            stage.prepare(store, conf)?;
        }
        Ok(stages)
    }

    /// Runs the selected stages that are not up to date, in this process.
    pub fn run(&self, store: &Store, conf: &Conf, selection: &StageSelection) -> Result<()> {
        self.prepared(store, conf, selection)?.into_iter().try_for_each(|stage| stage.run(store, conf))
    }

    /// Runs recorded stages again and compares the bytes; `report` receives the outcome of each stage.
    pub fn rerun(
        &self,
        store: &Store,
        conf: &Conf,
        selection: &StageSelection,
        report: &mut dyn FnMut(&'static str, RerunOutcome),
    ) -> Result<()> {
        let stages: Vec<_> = self.selected(conf, selection)?.into_iter().filter(|stage| stage.kind().is_some()).collect();
        for stage in &stages {
            stage.prepare(store, conf)?;
        }
        for stage in stages {
            report(stage.name(), stage.rerun(store, conf)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fs};

    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::{
        artifacts::{manifest::Rows, recordable::VALUE, values::Metrics},
        error::chain,
        progress::Progress,
        stages::stage::{Report, Run},
    };

    /// Writes one number.
    struct Toy;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct ToyConfig {
        number: f64,
    }

    #[derive(Serialize, Deserialize)]
    struct ToyReport;

    impl Report for ToyReport {
        fn rows(&self) -> Rows {
            Rows { read: 0, written: 1, rejected: 0 }
        }
    }

    impl Stage for Toy {
        const NAME: &'static str = "toy";
        const ABOUT: &'static str = "Write a number";
        const REVISION: u32 = 1;
        type Config = ToyConfig;
        type Inputs = ();
        type Output = Metrics;
        type Report = ToyReport;
        type Error = Error;

        fn run(config: &ToyConfig, (): &(), run: &Run<'_>) -> Result<ToyReport> {
            ensure!(config.number >= 0.0, "toy.number is negative");
            fs::write(run.out.join(VALUE), format!("{{\"number\": {}}}", config.number))?;
            Ok(ToyReport)
        }
    }

    struct Workspace {
        dir: tempfile::TempDir,
        registry: Registry,
        store: Store,
    }

    impl Workspace {
        fn new(stage: Recorded<Toy>) -> Self {
            let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::new(vec![Box::new(stage)]));
            let store = Store::at(dir.path().join("data"), Progress::new(true), 1).with_kinds(registry.kinds());
            Self { dir, registry, store }
        }

        fn conf(&self, text: &str) -> Conf {
            let path = self.dir.path().join("x.conf");
            fs::write(&path, text).unwrap();
            Conf::load_with(&path, &self.registry.sections(), &HashMap::new()).unwrap()
        }

        fn states(&self, conf: &Conf) -> Vec<String> {
            self.registry.status(&self.store, conf).unwrap().into_iter().map(|status| status.why).collect()
        }
    }

    #[test]
    fn sections_kinds_and_schema_follow_from_the_list() {
        let registry = Workspace::new(Recorded::new()).registry;
        assert_eq!(registry.sections().iter().map(|section| section.name).collect::<Vec<_>>(), ["run", "vars", "toy"]);
        assert_eq!(registry.kinds(), ["metrics"]);
        assert_eq!(registry.schema()["properties"]["toy"]["properties"]["number"]["type"], "number");
        let registry = registry.with_section(Section::from("command"));
        assert_eq!(registry.sections().iter().map(|section| section.name).collect::<Vec<_>>(), ["run", "vars", "command", "toy"]);
    }

    #[test]
    fn a_stage_runs_until_it_is_up_to_date() {
        let workspace = Workspace::new(Recorded::new());
        let conf = workspace.conf("toy.number = 1");
        assert_eq!(workspace.registry.stages().next().unwrap().config(&conf).unwrap(), serde_json::json!({ "number": 1.0 }));
        assert_eq!(workspace.states(&conf), ["not recorded yet"]);
        workspace.registry.run(&workspace.store, &conf, &StageSelection::All).unwrap();
        assert_eq!(workspace.states(&conf), ["up to date"]);
        assert_eq!(workspace.states(&workspace.conf("toy.number = 2")), ["config changed: number"]);
    }

    #[test]
    fn a_stage_runs_again_with_the_same_bytes() {
        let workspace = Workspace::new(Recorded::new());
        let conf = workspace.conf("toy.number = 1");
        workspace.registry.run(&workspace.store, &conf, &StageSelection::All).unwrap();
        let mut outcomes = Vec::new();
        workspace
            .registry
            .rerun(&workspace.store, &conf, &StageSelection::All, &mut |name, outcome| outcomes.push((name, outcome)))
            .unwrap();
        assert!(matches!(&outcomes[..], [("toy", RerunOutcome::Ran { files: 1, other, .. })] if other.is_empty()), "{outcomes:?}");
    }

    #[test]
    fn an_error_of_a_stage_names_the_stage() {
        let workspace = Workspace::new(Recorded::new());
        let error = workspace.registry.run(&workspace.store, &workspace.conf("toy.number = -1"), &StageSelection::All).unwrap_err();
        assert_eq!(chain(&error), "stage toy: toy.number is negative");
        assert!(matches!(error, Error::Stage { name, .. } if name == "toy"));
    }

    #[test]
    fn a_stage_that_is_not_enabled_runs_only_when_it_is_named() {
        let workspace = Workspace::new(Recorded::new().only_if(|_| Ok::<_, Error>(false)));
        let conf = workspace.conf("toy.number = 1");
        let names = |selection| workspace.registry.selected(&conf, &selection).map(|stages| stages.len());
        assert_eq!(names(StageSelection::All).unwrap(), 0);
        assert_eq!(names(StageSelection::Only(vec!["toy".to_owned()])).unwrap(), 1);
        let error = names(StageSelection::Until("tpy".to_owned())).unwrap_err();
        assert_eq!(error.to_string(), "there is no stage \"tpy\": the stages are toy");
    }

    #[test]
    fn a_failed_preparation_stops_the_run_before_the_first_stage() {
        let workspace = Workspace::new(Recorded::new().prepared_by(|_, _| Err("no device")));
        let conf = workspace.conf("toy.number = 1");
        let error = workspace.registry.run(&workspace.store, &conf, &StageSelection::All).unwrap_err();
        assert_eq!(error.to_string(), "no device");
        assert_eq!(workspace.states(&conf), ["not recorded yet"]);
    }

    #[test]
    fn a_completion_is_called_after_a_run_and_where_the_artifact_is_up_to_date() {
        let called = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = called.clone();
        let workspace = Workspace::new(Recorded::new().followed_by(move |_, _, artifact| {
            assert_eq!(artifact.manifest().rows.written, 1);
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        }));
        for number in 1..=2 {
            workspace.registry.run(&workspace.store, &workspace.conf("toy.number = 1"), &StageSelection::All).unwrap();
            assert_eq!(called.load(std::sync::atomic::Ordering::Relaxed), number);
        }
    }
}

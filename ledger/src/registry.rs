//! The list of stages, without their types: what runs, in which order, and what each stage reads and writes.
//!
//! A program builds one [`Registry`] and derives everything from it: `run`, `plan`, `status`, `reproduce`, the sections of a
//! configuration, the artifact kinds of a store. A new stage is one more line in that list:
//!
//! ```ignore
//! Registry::new(vec![Recorded::<Harvest>::boxed(), Recorded::<Ingest>::boxed(), Recorded::<MyStage>::boxed()])
//! ```

use std::marker::PhantomData;

use schemars::{Schema, schema_for};
use serde_json::Value;

use crate::{
    Artifact, Error, Freshness, Inputs, Recordable, RerunOutcome, Stage, StageStatus, Store,
    conf::{Conf, RunSettings, Section, of_sections},
    ensure,
    error::Result,
};

/// A stage whose types are erased.
pub trait AnyStage: Send + Sync {
    /// Name of the stage and of its section in the configuration.
    fn name(&self) -> &'static str;
    /// One line for help texts: what the stage does.
    fn about(&self) -> &'static str;
    /// Artifact kind that the stage writes; none where it writes no artifact.
    fn kind(&self) -> Option<&'static str>;
    /// Artifact kinds that the stage reads.
    fn inputs(&self) -> Vec<&'static str>;
    /// Does this configuration run the stage?
    fn is_enabled(&self, conf: &Conf) -> Result<bool>;
    /// JSON Schema of the section of the stage.
    fn schema(&self) -> Schema;
    /// The section of the stage as its artifact records it.
    fn config(&self, conf: &Conf) -> Result<Value>;
    /// Why the stage would run now, apart from the stages before it.
    fn freshness(&self, store: &Store, conf: &Conf) -> Result<Freshness>;
    /// Why the stage would run now, given the states of the stages before it.
    fn status(&self, store: &Store, conf: &Conf, before: &[StageStatus]) -> Result<StageStatus>;
    /// Checks what the stage needs from the machine (a library, a device) before any stage of a run starts.
    fn prepare(&self, store: &Store, conf: &Conf) -> Result<()>;
    /// Runs the stage unless its artifact is up to date.
    fn run(&self, store: &Store, conf: &Conf) -> Result<()>;
    /// Runs the recorded stage again and compares the bytes; nothing is kept.
    fn rerun(&self, store: &Store, conf: &Conf) -> Result<RerunOutcome>;
}

type Condition = fn(&Conf) -> Result<bool>;
type Preparation = fn(&Store, &Conf) -> Result<()>;
type Completion<S> = fn(&Store, &Conf, &Artifact<<S as Stage>::Output>) -> Result<()>;

/// [`AnyStage`] of a [`Stage`] that leaves an artifact.
pub struct Recorded<S: Stage> {
    condition: Option<Condition>,
    preparation: Option<Preparation>,
    completion: Option<Completion<S>>,
    stage: PhantomData<fn() -> S>,
}

impl<S: Stage + 'static> Recorded<S> {
    #[expect(clippy::new_without_default, reason = "a builder: `new().only_if(…)`")]
    pub fn new() -> Self {
        Self { condition: None, preparation: None, completion: None, stage: PhantomData }
    }

    /// A stage that every configuration runs and that needs nothing from the machine.
    pub fn boxed() -> Box<dyn AnyStage> {
        Box::new(Self::new())
    }

    /// Runs the stage only with configurations for which this holds.
    pub fn only_if(self, condition: Condition) -> Self {
        Self { condition: Some(condition), ..self }
    }

    /// Called before any stage of a run starts.
    pub fn prepared_by(self, preparation: Preparation) -> Self {
        Self { preparation: Some(preparation), ..self }
    }

    /// Called with the artifact after each run, also where the artifact was up to date.
    pub fn followed_by(self, completion: Completion<S>) -> Self {
        Self { completion: Some(completion), ..self }
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

    fn inputs(&self) -> Vec<&'static str> {
        S::Inputs::kinds()
    }

    fn is_enabled(&self, conf: &Conf) -> Result<bool> {
        self.condition.map_or(Ok(true), |condition| condition(conf))
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
        self.preparation.map_or(Ok(()), |preparation| preparation(store, conf))
    }

    fn run(&self, store: &Store, conf: &Conf) -> Result<()> {
        let artifact = store.make::<S>(&conf.section(S::NAME)?)?;
        self.completion.map_or(Ok(()), |completion| completion(store, conf, &artifact))
    }

    fn rerun(&self, store: &Store, conf: &Conf) -> Result<RerunOutcome> {
        let outcome = store.rerun::<S>(&conf.section(S::NAME)?);
        outcome.map_err(|error| Error::Stage { name: S::NAME.to_owned(), source: error.into() })
    }
}

/// Which stages of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StageSelection {
    /// Every stage that the configuration enables.
    #[default]
    All,
    /// The named stages, also where the configuration does not enable them.
    Only(Vec<String>),
    /// Every enabled stage up to the named one.
    Until(String),
}

/// All stages of a program, each after the stages whose artifacts it reads.
pub struct Registry {
    stages: Vec<Box<dyn AnyStage>>,
}

impl Registry {
    pub fn new(stages: Vec<Box<dyn AnyStage>>) -> Self {
        Self { stages }
    }

    pub fn stages(&self) -> impl Iterator<Item = &dyn AnyStage> {
        self.stages.iter().map(AsRef::as_ref)
    }

    /// Names in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.stages().map(AnyStage::name).collect()
    }

    /// Sections that a configuration may have: one for each stage, `run` (settings that change no byte of any output) and `vars` (the
    /// user's own variables).
    pub fn sections(&self) -> Vec<Section> {
        let common = [Section::new("run", schema_for!(RunSettings)), Section::from("vars")];
        common.into_iter().chain(self.stages().map(|stage| Section::new(stage.name(), stage.schema()))).collect()
    }

    /// JSON Schema (draft 2020-12) of a resolved configuration.
    pub fn schema(&self) -> Value {
        of_sections(&self.sections())
    }

    /// Artifact kinds in the order in which they are made.
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
    /// A name that no stage has.
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

    /// Reads the section of every enabled stage, so that a mistake in the last one is reported before the first one runs.
    pub fn check(&self, conf: &Conf) -> Result<()> {
        for stage in self.selected(conf, &StageSelection::All)? {
            stage.config(conf)?;
        }
        Ok(())
    }

    /// The state of every enabled stage.
    pub fn status(&self, store: &Store, conf: &Conf) -> Result<Vec<StageStatus>> {
        let mut states = Vec::new();
        for stage in self.selected(conf, &StageSelection::All)? {
            let state = stage.status(store, conf, &states)?;
            states.push(state);
        }
        Ok(states)
    }

    /// Runs the selected stages that are not up to date.
    pub fn run(&self, store: &Store, conf: &Conf, selection: &StageSelection) -> Result<()> {
        self.check(conf)?;
        let stages = self.selected(conf, selection)?;
        for stage in &stages {
            stage.prepare(store, conf)?;
        }
        for stage in stages {
            stage.run(store, conf)?;
        }
        Ok(())
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

impl StageStatus {
    /// The state of a stage that leaves no artifact, as `freshness` describes it.
    pub fn without_artifact(name: &str, target: &str, inputs: &[&str], freshness: (&str, &str), will_run: bool) -> Self {
        Self {
            stage: name.to_owned(),
            kind: target.to_owned(),
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            state: freshness.0.to_owned(),
            why: freshness.1.to_owned(),
            will_run,
            key: None,
            age_s: None,
            rows: None,
            bytes: None,
        }
    }
}

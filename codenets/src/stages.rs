//! The list of all stages. A new stage is one more line here: `run`, `plan`, `status`, `explain`, `reproduce`, the sections of a
//! configuration, the artifact kinds that `save`, `gc` and `lineage` know, and the shell completions follow from it.

use indexer::{Embed, Evaluate, Index, publish::Publish};
use ledger::{
    Error, Recorded, Registry, Result, Stage, Store,
    conf::{Conf, RunSettings, Section},
};
use pipeline::{Harvest, Ingest, Parse, Tokenize, Vocab};
use trainer::{Adopt, Export, Train};

use crate::{night_conf, nightly::policy};

/// Every stage, each after the stages whose artifacts it reads.
pub fn registry() -> Registry {
    Registry::new(vec![
        Recorded::<Harvest>::boxed(),
        Recorded::<Ingest>::boxed(),
        Recorded::<Parse>::boxed(),
        Box::new(Recorded::<Vocab>::new().only_if(trains)),
        Box::new(Recorded::<Tokenize>::new().only_if(trains)),
        Box::new(Recorded::<Train>::new().prepared_by(teacher_library).started_by(teacher).only_if(trains).followed_by(
            |store, _, checkpoint| {
                warn(store, trainer::tracking::record_checkpoint(store, checkpoint));
                Ok(())
            },
        )),
        Box::new(with_onnxruntime::<Export>().only_if(trains).followed_by(|store, _, encoder| {
            warn(store, trainer::tracking::record_encoder(store, encoder));
            Ok(())
        })),
        Box::new(with_onnxruntime::<Adopt>().only_if(Conf::adopts)),
        Box::new(with_onnxruntime::<Embed>()),
        Box::new(with_onnxruntime::<Index>()),
        Box::new(with_onnxruntime::<Evaluate>().followed_by(|store, conf, scores| {
            let settings: RunSettings = conf.section("run")?;
            indexer::evaluate::write_reports(store, scores, settings.curve).map_err(Error::other)
        })),
        Box::new(Publish),
    ])
    .with_section(Section::new(policy::SECTION, schemars::schema_for!(policy::Config)))
    .with_section(Section::new(night_conf::SECTION, schemars::schema_for!(night_conf::Config)))
}

/// Does the configuration train an encoder instead of adopting one?
fn trains(conf: &Conf) -> Result<bool> {
    Ok(!conf.adopts()?)
}

/// A stage that runs encoders. A missing library is reported before the first stage runs; it is loaded right before the stage.
fn with_onnxruntime<S: Stage + 'static>() -> Recorded<S> {
    Recorded::new()
        .prepared_by(|_, _| inference::installed().map(drop).map_err(Error::other))
        .started_by(|_, _| inference::load_installed().map_err(Error::other))
}

/// Does the training run another encoder?
fn has_teacher(conf: &Conf) -> Result<bool> {
    let config = conf.section::<trainer::config::Config>(Train::NAME)?;
    Ok(config.teacher.is_some() || config.token_start.is_some())
}

fn teacher_library(_: &Store, conf: &Conf) -> Result<()> {
    if has_teacher(conf)? { inference::installed().map(drop).map_err(Error::other) } else { Ok(()) }
}

fn teacher(_: &Store, conf: &Conf) -> Result<()> {
    if has_teacher(conf)? { inference::load_installed().map_err(Error::other) } else { Ok(()) }
}

/// A tracking server that does not answer never fails a stage.
fn warn(store: &Store, tracked: trainer::Result<()>) {
    if let Err(error) = tracked {
        store.progress().message(&format!("mlflow    not updated: {}", ledger::chain(&error)));
    }
}

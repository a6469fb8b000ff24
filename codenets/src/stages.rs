//! The list of all stages. A new stage is one more line here: `run`, `plan`, `status`, `explain`, `reproduce`, the sections of a
//! configuration, the artifact kinds that `save`, `gc` and `lineage` know, and the shell completions follow from it.

use indexer::{Embed, Evaluate, Index, publish::Publish};
use ledger::{Error, Recorded, Registry, Result, Store, conf::Conf, onnxruntime_library};
use pipeline::{Harvest, Ingest, Parse, Tokenize, Vocab};
use trainer::{Adopt, Export, Train};

/// Every stage, each after the stages whose artifacts it reads.
pub fn registry() -> Registry {
    Registry::new(vec![
        Recorded::<Harvest>::boxed(),
        Recorded::<Ingest>::boxed(),
        Recorded::<Parse>::boxed(),
        Box::new(Recorded::<Vocab>::new().only_if(trains)),
        Box::new(Recorded::<Tokenize>::new().only_if(trains)),
        Box::new(Recorded::<Train>::new().only_if(trains).prepared_by(onnxruntime).followed_by(|store, _, checkpoint| {
            warn(store, trainer::tracking::record_checkpoint(store, checkpoint));
            Ok(())
        })),
        Box::new(Recorded::<Export>::new().only_if(trains).prepared_by(onnxruntime).followed_by(|store, _, encoder| {
            warn(store, trainer::tracking::record_encoder(store, encoder));
            Ok(())
        })),
        Box::new(Recorded::<Adopt>::new().only_if(Conf::adopts).prepared_by(onnxruntime)),
        Box::new(Recorded::<Embed>::new().prepared_by(onnxruntime)),
        Box::new(Recorded::<Index>::new().prepared_by(onnxruntime)),
        Box::new(
            Recorded::<Evaluate>::new()
                .prepared_by(onnxruntime)
                .followed_by(|store, _, scores| indexer::evaluate::write_reports(store, scores).map_err(Error::other)),
        ),
        Box::new(Publish),
    ])
}

/// Does the configuration train an encoder instead of adopting one?
fn trains(conf: &Conf) -> Result<bool> {
    Ok(!conf.adopts()?)
}

/// Loads ONNX Runtime, so that a missing library is reported before the first stage runs.
fn onnxruntime(store: &Store, _: &Conf) -> Result<()> {
    inference::load(&onnxruntime_library(store.root())?).map_err(Error::other)
}

/// A tracking server that does not answer never fails a stage.
fn warn(store: &Store, tracked: trainer::Result<()>) {
    if let Err(error) = tracked {
        store.progress().message(&format!("mlflow    not updated: {}", ledger::chain(&error)));
    }
}

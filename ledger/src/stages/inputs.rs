//! The artifacts that a stage reads.

use crate::{
    artifacts::{artifact::Artifact, manifest::InputRecord, recordable::Recordable},
    error::Result,
    store::artifact_store::Store,
};

/// The artifacts that a stage reads: none (`()`), one (`Artifact<A>`), or a tuple.
pub trait Inputs: Sized {
    /// The current artifacts of the store.
    fn current(store: &Store) -> Result<Self>;
    /// Kind and digest of each artifact.
    fn records(&self) -> Vec<(&'static str, InputRecord)>;
    /// Kinds in the order of `records`.
    fn kinds() -> Vec<&'static str>;
}

impl Inputs for () {
    fn current(_: &Store) -> Result<Self> {
        Ok(())
    }
    fn records(&self) -> Vec<(&'static str, InputRecord)> {
        Vec::new()
    }
    fn kinds() -> Vec<&'static str> {
        Vec::new()
    }
}

impl<A: Recordable> Inputs for Artifact<A> {
    fn current(store: &Store) -> Result<Self> {
        store.current()
    }
    fn records(&self) -> Vec<(&'static str, InputRecord)> {
        vec![(A::KIND, self.record())]
    }
    fn kinds() -> Vec<&'static str> {
        vec![A::KIND]
    }
}

macro_rules! inputs_of_tuple {
    ($($part:ident $index:tt),+) => {
        impl<$($part: Inputs),+> Inputs for ($($part,)+) {
            fn current(store: &Store) -> Result<Self> {
                Ok(($($part::current(store)?,)+))
            }
            fn records(&self) -> Vec<(&'static str, InputRecord)> {
                [$(self.$index.records()),+].concat()
            }
            fn kinds() -> Vec<&'static str> {
                [$($part::kinds()),+].concat()
            }
        }
    };
}
inputs_of_tuple!(A 0, B 1);
inputs_of_tuple!(A 0, B 1, C 2);

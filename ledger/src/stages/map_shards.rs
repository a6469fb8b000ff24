//! A stage that computes a table shard by shard, and reuses unchanged shards.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use rayon::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

use super::stage::Run;
use crate::{
    artifacts::{
        artifact::Artifact,
        manifest::{Manifest, ShardRecord},
        recordable::Recordable,
    },
    digest::Digest,
    error::{BoxError, Context, Error, Result},
    progress::Bar,
    tables::{
        shards::{Shard, Shards},
        table,
    },
    text::language::Split,
};

impl Run<'_> {
    /// Computes one output shard from each input shard, in parallel, and returns their reports in the order of the shards.
    ///
    /// A shard is hard-linked from the previous artifact instead of computed when its input bytes, the stage, the configuration and the
    /// other inputs are equal. `work` gets the input shard, the intact shard of this name in the previous artifact (none where the
    /// configuration or another input changed), the path of the output shard, and the progress bar. It may reuse rows of the previous
    /// shard if that changes no byte.
    ///
    /// # Errors
    /// The first error of `work`, with the name of the shard.
    pub fn map_shards<A: Recordable, R: Serialize + DeserializeOwned + Send, E: Into<BoxError>>(
        &self,
        label: &str,
        input: &Artifact<A>,
        shards: &Shards,
        work: impl Fn(&Shard, Option<&Path>, &Path, &Bar) -> Result<R, E> + Sync,
    ) -> Result<Vec<R>> {
        let bar = self.progress.bar(label, shards.rows()?, "rows");
        for split in Split::ALL {
            let folder = self.out.join(split.name());
            fs::create_dir_all(&folder).map_err(Error::io("creating", &folder))?;
        }
        let previous = self.shards.reusable(A::KIND);
        let reports = shards
            .iter()
            .collect::<Vec<_>>()
            .into_par_iter()
            .map(|shard| {
                let target = self.out.join(&shard.name);
                let source = input.file_digest(Path::new(&shard.name))?;
                let (report, value) = match previous.and_then(|last| reuse::<R>(last, shard, source, &target)) {
                    Some(reused) => {
                        bar.add(table::row_count(&shard.path)?);
                        self.shards.reused.fetch_add(1, Ordering::Relaxed);
                        reused
                    }
                    None => {
                        let last = previous.and_then(|last| intact(last, shard));
                        let report = work(shard, last.as_deref(), &target, &bar).map_err(Error::other);
                        let report = report.with_context(|| format!("shard {}", shard.name))?;
                        self.shards.run.fetch_add(1, Ordering::Relaxed);
                        let value = serde_json::to_value(&report)?;
                        (report, value)
                    }
                };
                let record = ShardRecord { input: source, report: value };
                self.shards.records.lock().expect("no holder panics").insert(shard.name.clone(), record);
                Ok(report)
            })
            .collect::<Result<Vec<R>>>()?;
        bar.finish();
        Ok(reports)
    }
}

/// The shard in the previous artifact, unless its bytes are damaged.
fn intact((dir, manifest): &(PathBuf, Manifest), shard: &Shard) -> Option<PathBuf> {
    let file = dir.join(&shard.name);
    (Digest::of_file(&file).ok()? == manifest.outputs.get(Path::new(&shard.name))?.blake3).then_some(file)
}

fn reuse<R: DeserializeOwned>(last: &(PathBuf, Manifest), shard: &Shard, source: Digest, target: &Path) -> Option<(R, serde_json::Value)> {
    let record = last.1.shards.get(&shard.name).filter(|record| record.input == source)?;
    let report = serde_json::from_value(record.report.clone()).ok()?;
    let file = intact(last, shard)?;
    (fs::hard_link(&file, target).is_ok() || fs::copy(&file, target).is_ok()).then(|| (report, record.report.clone()))
}

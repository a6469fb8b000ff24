//! A stage that computes a table shard by shard, and reuses unchanged shards.

use std::{fs, path::Path, sync::atomic::Ordering};

use rayon::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

use super::{earlier_shards::EarlierShards, stage::Run};
use crate::{
    artifacts::{artifact::Artifact, manifest::ShardRecord, recordable::Recordable},
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
    /// other inputs are equal. `work` gets the input shard, the shards of the previous artifact, the path of the output shard, and the
    /// progress bar. It may reuse rows of the previous shards if that changes no byte.
    ///
    /// # Errors
    /// The first error of `work`, with the name of the shard.
    pub fn map_shards<A: Recordable, R: Serialize + DeserializeOwned + Send, E: Into<BoxError>>(
        &self,
        label: &str,
        input: &Artifact<A>,
        shards: &Shards,
        work: impl Fn(&Shard, &EarlierShards<'_>, &Path, &Bar) -> Result<R, E> + Sync,
    ) -> Result<Vec<R>> {
        let bar = self.progress.bar(label, shards.rows()?, "rows");
        for split in Split::ALL {
            let folder = self.out.join(split.name());
            fs::create_dir_all(&folder).map_err(Error::io("creating", &folder))?;
        }
        let earlier = EarlierShards::of(self.shards.reusable(A::KIND));
        let reports = shards
            .iter()
            .collect::<Vec<_>>()
            .into_par_iter()
            .map(|shard| {
                let target = self.out.join(&shard.name);
                let source = input.file_digest(Path::new(&shard.name))?;
                let (report, value) = match reuse::<R>(&earlier, shard, source, &target) {
                    Some(reused) => {
                        bar.add(table::row_count(&shard.path)?);
                        self.shards.reused.fetch_add(1, Ordering::Relaxed);
                        reused
                    }
                    None => {
                        let report = work(shard, &earlier, &target, &bar).map_err(Error::other);
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

fn reuse<R: DeserializeOwned>(earlier: &EarlierShards<'_>, shard: &Shard, source: Digest, target: &Path) -> Option<(R, serde_json::Value)> {
    let record = earlier.record(&shard.name, source)?;
    let report = serde_json::from_value(record.report.clone()).ok()?;
    let file = earlier.get(&shard.name)?;
    (fs::hard_link(file, target).is_ok() || fs::copy(file, target).is_ok()).then(|| (report, record.report.clone()))
}

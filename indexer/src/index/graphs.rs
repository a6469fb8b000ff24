//! The HNSW graphs of a bundle: kept from the bundle before, or built.

use std::path::Path;

use bundle::{
    BundleManifest,
    manifest::MANIFEST,
    vectors::{HnswInfo, MATRIX, NODE_ROWS, VECTORS, Vectors},
};
use ledger::{Artifact, Bundle, Run};

use super::plan::require_intact;
use crate::{
    Result,
    vectors::{self, EarlierGraphs, GraphPlan, Hnsw},
};

/// Writes the graphs next to the vectors in `dir`, where there are enough rows. `earlier`: the bundle whose graphs may be kept.
pub fn write_graphs(
    hnsw: &Hnsw,
    rows: u64,
    dimension: usize,
    dir: &Path,
    earlier: Option<&Artifact<Bundle>>,
    run: &Run<'_>,
) -> Result<Option<HnswInfo>> {
    if rows < hnsw.from_rows.max(1) {
        return Ok(None);
    }
    let open = || Vectors::open(dir, usize::try_from(rows)?, dimension);
    let opened = open()?;
    let plan = earlier.map_or(Ok(None), |artifact| {
        plan_of(artifact, &opened, hnsw).or_else(|error| {
            run.progress.message(&format!("index     every graph is built anew: {} is damaged: {error}", artifact.dir().display()));
            Ok::<_, crate::Error>(None)
        })
    })?;
    let bar = run.progress.bar("graphs", rows, "vectors");
    let mut info = match plan {
        Some(plan) => {
            let (kept, others) = (plan.kept.len(), plan.other_rows.len());
            run.progress.message(&format!("index     {kept} graphs are kept, {others} functions of {rows} are not in them"));
            vectors::extend(&opened, hnsw, plan, dir, || bar.add(1))?
        }
        None => vectors::build(&opened, hnsw, dir, || bar.add(1))?,
    };
    bar.finish();
    info.recall_at_10 = vectors::recall(&open()?.with_hnsw(dir, &info, run.threads)?)?;
    Ok(Some(info))
}

/// What is kept of the graphs of a recorded bundle; none where it has none, or graphs of other settings.
fn plan_of(artifact: &Artifact<Bundle>, vectors: &Vectors, hnsw: &Hnsw) -> Result<Option<GraphPlan>> {
    let bundle = artifact.open()?.dir;
    require_intact(artifact, &bundle.join(MANIFEST))?;
    let manifest = BundleManifest::read(&bundle)?;
    let Some(info) = &manifest.vectors.hnsw else { return Ok(None) };
    let dir = bundle.join(VECTORS);
    let listed = info.nodes.map(|_| NODE_ROWS);
    [MATRIX].into_iter().chain(listed).try_for_each(|name| require_intact(artifact, &dir.join(name)))?;
    let earlier = EarlierGraphs::open(&dir, info, usize::try_from(manifest.rows)?, manifest.vectors.dimension)?;
    GraphPlan::of(&earlier, vectors, hnsw, |file| require_intact(artifact, file).is_ok())
}

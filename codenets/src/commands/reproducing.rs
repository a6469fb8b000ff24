//! `codenets reproduce`: runs recorded stages again and compares what they write.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use archive::{remote::Remote, reproduce as differences, restore as restoring, snapshot::Selection};
use bundle::{Mode, Query, manifest::DOCS};
use clap::Args;
use indexer::{Evaluate, Index, index};
use ledger::{Bundle, Encoder, Raw, Recordable, Registry, RerunOutcome, Scores, Stage, StageSelection, Store, conf::Conf, table};
use pipeline::Harvest;
use serde_json::{Value, json};
use trainer::Adopt;

use super::records::mib;
use crate::options::Options;

/// Which stages run again.
#[derive(Debug, Args)]
pub struct ReproduceArgs {
    /// URL of a snapshot to restore into --data first
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Name or digest of the snapshot
    #[arg(long, default_value = "latest")]
    name: String,
    /// Use the settings of the last night, and compare its index with one that is built from nothing
    #[arg(long)]
    night: bool,
    /// Run these stages only
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    stage: Vec<String>,
}

/// Folder in the data folder that `reproduce --from` restores into.
const REPRODUCED: &str = "reproduced";

/// `reproduce`.
pub fn reproduce(registry: &Registry, options: &Options, args: &ReproduceArgs, conf_is_given: bool) -> Result<()> {
    let mut options = options.clone();
    if let Some(from) = &args.from {
        options.data = options.data.join(REPRODUCED);
        restore_to_reproduce(registry, &options, from, &args.name)?;
        if !conf_is_given {
            options.conf = options.data.join(restoring::CONFIG);
        }
    }
    let mut conf = options.load(registry)?;
    let store = options.store_of(registry, &conf)?;
    if args.night {
        conf = with_recorded_sections(conf, &store)?;
    }
    let selection = if args.stage.is_empty() { StageSelection::All } else { StageSelection::Only(args.stage.clone()) };
    let (mut rows, mut differing, mut ran) = (Vec::new(), Vec::new(), 0);
    let (mut printed, mut is_index_equal) = (Ok(()), false);
    registry.rerun(&store, &conf, &selection, &mut |stage, outcome| {
        let text = outcome_text(stage, &outcome, &conf);
        if printed.is_ok() && !options.json {
            printed = outln!("{stage:<9} {text}");
        }
        if let RerunOutcome::Ran { other, .. } = &outcome {
            ran += 1;
            is_index_equal |= stage == Index::NAME && other.is_empty();
            if !other.is_empty() {
                differing.push(stage);
            }
        }
        rows.push(json!({ "stage": stage, "outcome": text }));
    })?;
    printed?;
    if args.night && is_index_equal {
        let text = from_nothing(&store, &conf)?;
        if !options.json {
            outln!("{text}")?;
        }
        rows.push(json!({ "stage": Index::NAME, "outcome": text }));
    }
    if options.json {
        outln!("{}", Value::Array(rows))?;
    }
    ensure!(differing.is_empty(), "{} gave other bytes than recorded", differing.join(", "));
    ensure!(ran > 0, "no stage was run again: see the reason of each stage above");
    Ok(())
}

/// Restores a snapshot into an empty folder and prints in what its commit, tool and system differ from this machine.
fn restore_to_reproduce(registry: &Registry, options: &Options, from: &str, name: &str) -> Result<()> {
    if options.data.exists() {
        std::fs::remove_dir_all(&options.data).with_context(|| format!("deleting {}", options.data.display()))?;
    }
    let store = options.store(registry);
    let restored = restoring::restore(&store, &Remote::open(from, false)?, name, &Selection::all(store.kinds()))?;
    store.progress().message(&format!("restored {} artifacts to {}", restored.artifacts + restored.kept, store.root().display()));
    let found = differences::differences(&store)?;
    if !options.json {
        out!("{}", differences::text(&found))?;
        if found.is_empty() {
            outln!("commit, tool and system are the same here")?;
        }
    }
    Ok(())
}

fn outcome_text(stage: &str, outcome: &RerunOutcome, conf: &Conf) -> String {
    let extended = || earlier(conf).ok().flatten().filter(|_| stage == Index::NAME);
    match outcome {
        RerunOutcome::NotRecorded => "not recorded".to_owned(),
        RerunOutcome::Differs(why) => format!("not run, its inputs differ: {why}"),
        RerunOutcome::Lacks(what) => format!("not run: {what}"),
        RerunOutcome::Ran { files, bytes, other, seconds } if other.is_empty() => {
            let of = extended().map_or_else(String::new, |key| format!(", as an extension of the bundle {key}"));
            format!("same bytes: {files} files, {:.1} MiB, {seconds:.1} s{of}", mib(*bytes))
        }
        RerunOutcome::Ran { files, other, .. } => {
            let named: Vec<String> = other.iter().take(5).map(|path| path.display().to_string()).collect();
            format!("OTHER BYTES in {} of {files} files: {}", other.len(), named.join(", "))
        }
    }
}

/// Key of the bundle that the index extends.
fn earlier(conf: &Conf) -> Result<Option<String>> {
    Ok(conf.section::<index::Config>(Index::NAME)?.earlier)
}

/// The configuration with the sections that a night changes, as the current artifacts record them: the kept repositories, the release, the
/// bundle that the index extends, the sample of queries.
fn with_recorded_sections(mut conf: Conf, store: &Store) -> Result<Conf> {
    for (stage, kind) in
        [(Harvest::NAME, Raw::KIND), (Adopt::NAME, Encoder::KIND), (Index::NAME, Bundle::KIND), (Evaluate::NAME, Scores::KIND)]
    {
        if let Some((_, manifest)) = store.current_manifest(kind).filter(|(_, manifest)| manifest.stage == stage) {
            conf = conf.with_section(stage, manifest.config);
        }
    }
    Ok(conf)
}

/// Queries that two bundles answer, and hits of each that are compared.
const COMPARED: usize = 20;
const HITS: usize = 100;

/// Builds the index of the recorded bundle from nothing, and says how its hits differ: documents without a row count in the statistics of an
/// index that extends another one, and graphs of near neighbours are approximate.
fn from_nothing(store: &Store, conf: &Conf) -> Result<String> {
    let config: index::Config = conf.section(Index::NAME)?;
    let recorded = store.current::<Bundle>()?.open()?.dir;
    let Some(key) = config.earlier.clone() else {
        return Ok("index     is built from nothing: there is no other build to compare it with".to_owned());
    };
    let config = index::Config { earlier: None, ..config };
    store.built::<Index, _>(&config, |out| {
        let [ours, fresh] = [recorded, out.join("bundle")].map(|dir| bundle::Bundle::options().open(dir));
        let (ours, fresh) = (ours?, fresh?);
        let queries = documented(&ours)?;
        ensure!(!queries.is_empty(), "the bundle has no documented functions to search for");
        let lexical = share_of_equal_hits(&ours, &fresh, &queries, Mode::Bm25)?;
        let vector = share_of_equal_hits(&ours, &fresh, &queries, Mode::Vector)?;
        Ok(format!(
            "index     from nothing, without the bundle {key}: of the first {HITS} hits of {} queries, {:.1} % of the lexical and {:.1} % of \
             the vector search are the same functions",
            queries.len(),
            100.0 * lexical,
            100.0 * vector
        ))
    })?
}

/// Summaries of documented functions, evenly spread.
fn documented(bundle: &bundle::Bundle) -> Result<Vec<String>> {
    let mut counted = 0usize;
    each_summary(bundle, |_| counted += 1)?;
    let (step, mut number, mut summaries) = (counted.div_ceil(COMPARED).max(1), 0usize, Vec::new());
    each_summary(bundle, |summary| {
        if number.is_multiple_of(step) {
            summaries.push(summary.to_owned());
        }
        number += 1;
    })?;
    Ok(summaries)
}

fn each_summary(bundle: &bundle::Bundle, mut take: impl FnMut(&str)) -> Result<()> {
    for batch in table::read(&bundle.dir().join(DOCS), &["summary"])? {
        table::texts(&batch?, "summary")?.iter().flatten().filter(|text| !text.is_empty()).for_each(&mut take);
    }
    Ok(())
}

/// Share of the hits of all queries that both bundles find.
fn share_of_equal_hits(ours: &bundle::Bundle, fresh: &bundle::Bundle, queries: &[String], mode: Mode) -> Result<f64> {
    let (mut equal, mut all) = (0, 0);
    for query in queries {
        let found = |bundle: &bundle::Bundle| -> Result<BTreeSet<String>> {
            let hits = bundle.search(&Query::new(query).mode(mode).limit(HITS))?;
            Ok(hits.into_iter().map(|hit| hit.id).collect())
        };
        let (ours, fresh) = (found(ours)?, found(fresh)?);
        equal += ours.intersection(&fresh).count();
        all += ours.len().max(fresh.len());
    }
    Ok(equal as f64 / all.max(1) as f64)
}

//! The `indexer` tool's command line.

use std::{
    ffi::OsString,
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use ledger::{
    Bundle, Language, Recordable, Scores, Stage, StageStatus, Store,
    cli::{Common, ReproduceArgs, Reproduction, StatusArgs, make, write_report},
    conf::Conf,
    journal, onnxruntime_library, write_atomically,
};
use serde_json::Value;

use crate::{
    Embed, Evaluate, Index, bench,
    bundle::{Mode, OpenBundle, Query},
    embed,
    encoder::Provider,
    evaluate,
    measure::{self, Measured},
    predictions, publish, retract, runtime, tour,
};

/// An encoder and columns to a searchable bundle: embed, index, evaluate, publish, search.
///
/// `search`, `predictions` and `bench` read the published bundle (`<data>/serve/current`).
#[derive(Debug, Parser)]
#[command(name = "indexer", version, after_help = "Example: indexer search \"parse an iso date\" --language python --limit 5")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every stage of this tool that is not fresh, then publish
    Run,
    /// Functions to vectors, by onnxruntime
    Embed,
    /// Build the bundle: tantivy, vectors, encoder, manifest
    Index,
    /// BM25, vector and hybrid on the held-out split; writes report.html. With --predictions and --annotations: the
    /// CodeSearchNet challenge's NDCG of a predictions file, by whomever it was made
    Evaluate(Judged),
    /// Two evaluations of the same queries: what differs, and whether by chance
    Compare {
        /// A folder of data/scores
        first: PathBuf,
        /// Another, of this ledger or of any
        second: PathBuf,
    },
    /// Serve the bundle if it passes the gates (atomic)
    Publish,
    /// Serve the bundle that was published before the current one
    Rollback,
    /// Take functions out of everything that is published, at once, and keep them out of what will be
    Retract {
        /// A file of ids, a line each, as `search --json` gives them
        ids: PathBuf,
        /// These ids alone: what was retracted before and is not among them comes back
        #[arg(long)]
        only: bool,
    },
    /// Hash the served bundle again
    Verify,
    /// Search the published bundle: words, "an exact phrase", beginnings of words (pars*)
    Search {
        /// What to look for, in words; `-` reads it from standard input
        query: String,
        /// Only this language
        #[arg(long, short)]
        language: Option<Language>,
        /// How many results
        #[arg(long, short = 'k', default_value_t = 10)]
        limit: usize,
        /// bm25, vector or hybrid
        #[arg(long, short, default_value = "hybrid")]
        mode: Mode,
        /// Only this repository, by its whole name
        #[arg(long)]
        repo: Option<String>,
        /// Only paths like this glob: `*` and `?` stop at `/`, `**` does not (`src/**/*.py`)
        #[arg(long)]
        path: Option<String>,
        /// Also say what each score is made of
        #[arg(long)]
        explain: bool,
        /// Where the query is encoded: cpu, cuda or tensorrt
        #[arg(long, default_value = "cpu")]
        provider: Provider,
    },
    /// The CodeSearchNet challenge's csv: query,language,identifier,url, 300 a query and language
    Predictions {
        /// Csv with a column `query`
        #[arg(long)]
        queries: PathBuf,
        /// Csv to write
        #[arg(long)]
        out: PathBuf,
        /// Languages, comma-separated (default: all six)
        #[arg(long, value_delimiter = ',')]
        languages: Vec<Language>,
        /// bm25, vector or hybrid
        #[arg(long, short, default_value = "hybrid")]
        mode: Mode,
        /// Where queries are encoded: cpu, cuda or tensorrt
        #[arg(long, default_value = "cpu")]
        provider: Provider,
    },
    /// Stages, scores and three example searches
    Tour,
    /// Latency of a search on one thread, and the stages' rates: reports/bench.json
    Bench {
        #[arg(long, default_value_t = 500)]
        queries: usize,
    },
    /// One part of an index timed alone, as JSON: for `make bench-index`
    Measure {
        #[command(subcommand)]
        measured: Measured,
    },
    /// The ledger as a tree: key, age, rows, and why a stage is stale
    Status(StatusArgs),
    /// Run recorded stages once more and compare bytes; nothing is kept
    Reproduce(ReproduceArgs),
}

/// A file of predictions, and the judgments it is scored by.
#[derive(Debug, clap::Args)]
struct Judged {
    /// Csv with columns query, language, url, best first
    #[arg(long, requires = "annotations")]
    predictions: Option<PathBuf>,
    /// Csv with columns Query, Language, GitHubUrl, Relevance: CodeSearchNet's annotationStore.csv
    #[arg(long, requires = "predictions")]
    annotations: Option<PathBuf>,
}

/// Bytes of a query from standard input, at most.
const LONGEST_QUERY: u64 = 16 << 20;
/// Bytes of a command line's arguments: onnxruntime 1.30 matches the whole line by a regular expression when it is loaded,
/// one call of a function deeper for each character, and ends the process with a stack overflow at some 40,000.
const LONGEST_ARGUMENTS: usize = 8192;

fn from_standard_input() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().take(LONGEST_QUERY + 1).read_to_string(&mut text).context("reading the query from standard input")?;
    ensure!(text.len() as u64 <= LONGEST_QUERY, "the query has more than {LONGEST_QUERY} bytes");
    Ok(text)
}

fn require_short_arguments() -> Result<()> {
    let bytes: usize = std::env::args_os().map(|argument| argument.len() + 1).sum();
    ensure!(
        bytes <= LONGEST_ARGUMENTS,
        "the command line has {bytes} bytes, more than the {LONGEST_ARGUMENTS} that onnxruntime bears: pass the query by standard input, `search - < file`"
    );
    Ok(())
}

fn published(common: &Common, provider: Provider, workers: usize) -> Result<OpenBundle> {
    let dir = publish::served(&common.data);
    require_short_arguments()?;
    ensure!(dir.exists(), "nothing is published at {}: run `make demo` or `make run` first", dir.display());
    runtime::load(&onnxruntime_library(&common.data)?)?;
    OpenBundle::open(&dir.canonicalize()?, provider, workers)
}

/// Runs the tool with these arguments (the first is its name).
pub fn run<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<()> {
    let Cli { command, common } = Cli::try_parse_from(arguments).unwrap_or_else(|error| error.exit());
    match command {
        Command::Search { query, language, limit, mode, repo, path, explain, provider } => {
            let text = if query == "-" { from_standard_input()? } else { query };
            let query = Query { text, language, repo, path, mode, limit, snippet_lines: 3, explain };
            return search(&common, query, provider);
        }
        Command::Predictions { queries, out, languages, mode, provider } => {
            let store = common.store_with(common.threads);
            let languages = if languages.is_empty() { Language::ALL.to_vec() } else { languages };
            let rows = predictions::write(
                &published(&common, provider, rayon::current_num_threads())?,
                &queries,
                &out,
                &languages,
                mode,
                store.progress(),
            )?;
            println!("{rows} predictions in {}", out.display());
            return Ok(());
        }
        Command::Evaluate(Judged { predictions: Some(predictions), annotations: Some(annotations) }) => {
            return challenge(&common, &predictions, &annotations);
        }
        Command::Compare { first, second } => {
            let lines = evaluate::compare::compare(&first, &second)?;
            if common.json {
                println!("{}", serde_json::to_string(&lines)?)
            } else {
                print!("{}", evaluate::compare::render(&lines))
            }
            return Ok(());
        }
        Command::Tour => return tour::print(&common.store_with(common.threads), &published(&common, Provider::Cpu, 1)?),
        Command::Bench { queries } => return latency(&common, queries),
        Command::Measure { measured } => {
            if matches!(measured, Measured::Embed { .. }) {
                runtime::load(&onnxruntime_library(&common.data)?)?;
            }
            println!(
                "{}",
                measure::measure(&measured, common.threads.filter(|&threads| threads > 0).unwrap_or_else(rayon::current_num_threads))?
            );
            return Ok(());
        }
        Command::Rollback => {
            println!("{} is served", publish::rollback(&common.store_with(common.threads))?);
            return Ok(());
        }
        Command::Retract { ids, only } => {
            let (listed, named) = retract::retract(&common.store_with(common.threads), &ids, only)?;
            println!("{listed} ids are retracted, {named} of them from the served bundle");
            return Ok(());
        }
        Command::Verify => {
            publish::verify(&common.data)?;
            println!("the served bundle is intact");
            return Ok(());
        }
        _ => {}
    }
    let conf = common.load()?;
    let store = common.store(&conf)?;
    let load = || runtime::load(&onnxruntime_library(store.root())?);
    match command {
        Command::Run => {
            load()?;
            make::<Embed>(&store, &conf)?;
            make::<Index>(&store, &conf)?;
            evaluate_and_report(&store, &conf)?;
            publish::publish(&store, &conf.section("publish")?).map(|_| ())
        }
        Command::Embed => load().and_then(|()| make::<Embed>(&store, &conf)),
        Command::Index => load().and_then(|()| make::<Index>(&store, &conf)),
        Command::Evaluate(_) => {
            load()?;
            evaluate_and_report(&store, &conf)?;
            let (_, manifest) = store.current_manifest(Scores::KIND).context("the scores were just recorded")?;
            let report: evaluate::EvaluateReport = serde_json::from_value(manifest.report)?;
            if common.json {
                println!("{}", serde_json::to_string(&report)?)
            } else {
                print!("{}", evaluate::render(&report))
            }
            Ok(())
        }
        Command::Publish => {
            load()?;
            println!("{} is served", publish::publish(&store, &conf.section("publish")?)?);
            Ok(())
        }
        Command::Reproduce(args) => {
            load()?;
            let mut found = Reproduction::default();
            found.stage::<Embed>(&args, &store, &conf)?;
            found.stage::<Index>(&args, &store, &conf)?;
            found.stage::<Evaluate>(&args, &store, &conf)?;
            found.end()
        }
        Command::Status(args) => common.print_status(&args, &store, |stages| {
            // Parsed here too, so that a mistake in it is told before hours of work and not behind them.
            conf.section::<publish::Config>("publish")?;
            stages.push(StageStatus::of::<Embed>(&store, &conf.section::<embed::Config>("embed")?, stages)?);
            stages.push(StageStatus::of::<Index>(&store, &conf.section("index")?, stages)?);
            stages.push(StageStatus::of::<Evaluate>(&store, &conf.section("evaluate")?, stages)?);
            stages.push(publish_status(&store, stages));
            Ok(())
        }),
        _ => Ok(()),
    }
}

/// The scores of the ledger also go to `reports/evaluate.json`, and their page to `reports/evaluate.html`, with what is no part of the
/// record: how long a vector search takes here.
fn evaluate_and_report(store: &Store, conf: &Conf) -> Result<()> {
    let recorded = store.make::<Evaluate>(&conf.section(Evaluate::NAME)?)?;
    let page = recorded.dir().join("report.html");
    let shown = store.root().join("reports").join("evaluate.html");
    let mark = format!("<!-- scores {} -->", recorded.manifest().key);
    let bundle_is_here = store.current::<Bundle>()?.is_here();
    if bundle_is_here && !std::fs::read_to_string(&shown).is_ok_and(|text| text.contains(&mark)) {
        let bundle = OpenBundle::open(&store.current::<Bundle>()?.open()?.dir, Provider::Cpu, 1)?;
        let text = std::fs::read_to_string(&page).with_context(|| format!("reading {}", page.display()))?;
        write_atomically(&shown, (evaluate::page::with_curve(&text, &bench::curve(&bundle)?) + &mark).as_bytes())?;
    }
    let scores = recorded.open()?;
    let flat = scores.flat.into_iter().map(|(key, value)| (key, Value::from(value))).collect();
    write_report(store.root(), "evaluate", &flat)
}

/// The CodeSearchNet challenge's scores of a predictions file, also to `reports/challenge.json`.
fn challenge(common: &Common, predictions: &Path, annotations: &Path) -> Result<()> {
    let standings = evaluate::challenge::score(predictions, annotations)?;
    let flat = standings
        .iter()
        .flat_map(|of| {
            [("ndcg_within", of.ndcg_within), ("ndcg_all", of.ndcg_all)].map(|(name, score)| (format!("{name}_{}", of.language), score))
        })
        .map(|(name, score)| (name, Value::from(score)))
        .collect();
    write_report(&common.data, "challenge", &flat)?;
    if common.json {
        println!("{}", serde_json::to_string(&standings)?)
    } else {
        print!("{}", evaluate::challenge::render(&standings))
    }
    Ok(())
}

/// `publish` leaves no artifact: its row says whether the ledger's bundle is the one served.
fn publish_status(store: &Store, before: &[StageStatus]) -> StageStatus {
    let pending = before.iter().any(|stage| stage.will_run);
    let fresh = publish::is_current(store);
    let is_here = store.current::<Bundle>().map_or(true, |bundle| bundle.is_here());
    let (state, why) = match (pending, fresh) {
        (true, _) => ("after", "stages before it will run first"),
        (false, true) => ("fresh", "fresh"),
        (false, false) if !is_here => ("elsewhere", "the bundle's files were not restored: restore WITH=bundle to serve it from here"),
        (false, false) => ("stale", "the ledger's bundle is not the one served"),
    };
    StageStatus {
        stage: "publish".to_owned(),
        kind: "current".to_owned(),
        inputs: vec![Bundle::KIND.to_owned(), Scores::KIND.to_owned()],
        state: state.to_owned(),
        why: why.to_owned(),
        will_run: pending || (!fresh && is_here),
        key: None,
        age_s: None,
        rows: None,
        bytes: None,
    }
}

fn search(common: &Common, query: Query, provider: Provider) -> Result<()> {
    let hits = published(common, provider, 1)?.search(&query)?;
    if common.json {
        println!("{}", serde_json::to_string_pretty(&hits)?);
    } else if hits.is_empty() {
        println!("nothing found");
    } else {
        hits.iter().enumerate().for_each(|(number, hit)| print!("{}", hit.render(number + 1, std::io::stdout().is_terminal())));
    }
    Ok(())
}

fn latency(common: &Common, queries: usize) -> Result<()> {
    let store = common.store_with(common.threads);
    let (stages, mut flat) = journal(&store);
    let bundle = published(common, Provider::Cpu, 1)?;
    let latency = bench::latency(&bundle, queries)?;
    if !common.json {
        println!("{stages}");
        println!(
            "search, one thread, encoder included, {} functions, {} queries, milliseconds",
            latency["search_rows"], latency["search_queries"]
        );
        for mode in Mode::ALL {
            let at = |name: &str| latency[&format!("search_{}_{name}", mode.name())].as_f64().unwrap_or_default();
            println!("  {:<7} p50 {:>7.2}  p99 {:>7.2}  max {:>7.2}", mode.name(), at("p50_ms"), at("p99_ms"), at("max_ms"));
        }
    }
    let points = bench::curve(&bundle)?;
    if !common.json {
        println!("\nvector search, one thread, ten nearest\n{}", bench::render(&points));
    }
    flat.extend(latency);
    flat.insert("vector_search".to_owned(), serde_json::to_value(&points)?);
    write_report(store.root(), "bench", &flat)?;
    if common.json {
        println!("{}", Value::Object(flat));
    }
    Ok(())
}

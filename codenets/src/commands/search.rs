//! Commands that read or change the published bundle.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use bundle::{Bundle, Hit, MAX_QUERY_BYTES, Mode, Query};
use clap::Args;
use indexer::{
    Evaluate, evaluate, publish,
    retract::{By, Outcome},
};
use inference::Provider;
use ledger::{Language, Registry, Scores, Serve, Stage, StageSelection, Store, write_report};
use serde_json::{Map, Value, json};

use crate::options::Options;

/// What to search for, and how.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Query; `-` reads it from standard input
    pub query: String,
    /// Only this language
    #[arg(long, short)]
    pub language: Option<Language>,
    /// Number of results
    #[arg(long, short = 'k', default_value_t = 10)]
    pub limit: usize,
    /// Search mode: bm25, vector or hybrid
    #[arg(long, short, default_value = "hybrid")]
    pub mode: Mode,
    /// Only this repository, by its full name
    #[arg(long)]
    pub repo: Option<String>,
    /// Only paths that match this glob: `*` matches within a segment, `**/` across segments (`src/**/*.py`)
    #[arg(long, value_name = "GLOB")]
    pub path: Option<String>,
    /// Also print the parts of each score
    #[arg(long)]
    pub explain: bool,
    #[command(flatten)]
    pub execution: ExecutionArgs,
}

/// Where queries are encoded.
#[derive(Debug, Args)]
pub struct ExecutionArgs {
    /// Execution provider that encodes queries: cpu, cuda or tensorrt
    #[arg(long, default_value = "cpu")]
    pub provider: inference::Provider,
}

/// What to score: the held-out split, judged queries, or a file of predictions.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Score judged queries instead of the held-out split: their format (csn, cosqa, files or jsonl) and their file
    #[arg(long, num_args = 2, value_names = ["FORMAT", "FILE"], conflicts_with_all = ["predictions", "annotations"])]
    pub judgments: Option<Vec<String>>,
    #[command(flatten)]
    pub bundle: BundleArgs,
    /// CSV with columns query, language, url, best first
    #[arg(long, value_name = "CSV", requires = "annotations")]
    pub predictions: Option<PathBuf>,
    /// CSV with columns Query, Language, GitHubUrl, Relevance: CodeSearchNet's annotationStore.csv
    #[arg(long, value_name = "CSV", requires = "predictions")]
    pub annotations: Option<PathBuf>,
}

/// Which bundle is searched.
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// Folder of a bundle [default: the published one, else the recorded one]
    #[arg(long, value_name = "FOLDER")]
    pub bundle: Option<PathBuf>,
}

/// Queries in, predictions out.
#[derive(Debug, Args)]
pub struct PredictionsArgs {
    /// CSV with a column `query`
    #[arg(long, value_name = "CSV")]
    pub queries: PathBuf,
    /// CSV to write
    #[arg(long, value_name = "CSV")]
    pub out: PathBuf,
    /// Languages, separated by commas [default: all]
    #[arg(long, value_delimiter = ',')]
    pub languages: Vec<Language>,
    /// Search mode: bm25, vector or hybrid
    #[arg(long, short, default_value = "hybrid")]
    pub mode: Mode,
    #[command(flatten)]
    pub bundle: BundleArgs,
    #[command(flatten)]
    pub execution: ExecutionArgs,
}

/// Largest command line, in bytes: ONNX Runtime 1.30 matches the whole line with a recursive regular expression when it is loaded and
/// overflows its stack at some 40,000 characters.
const MAX_ARGUMENT_BYTES: usize = 8192;

/// The three example searches of `tour`.
const EXAMPLES: [&str; 3] =
    ["parse an iso date string", "retry a request with exponential backoff", "shortest path between two nodes of a graph"];

fn query_text(args: &SearchArgs) -> Result<String> {
    if args.query != "-" {
        return Ok(args.query.clone());
    }
    let mut text = String::new();
    // One byte more than a search accepts: the search reports the limit.
    let most = MAX_QUERY_BYTES as u64 + 1;
    std::io::stdin().take(most).read_to_string(&mut text).context("reading the query from standard input")?;
    Ok(text)
}

/// Opens the published bundle.
fn published(options: &Options, provider: Provider, workers: usize) -> Result<Bundle> {
    let current = Serve::of(&options.data).current();
    let bytes: usize = std::env::args_os().map(|argument| argument.len() + 1).sum();
    ensure!(
        bytes <= MAX_ARGUMENT_BYTES,
        "the command line has {bytes} bytes, ONNX Runtime accepts {MAX_ARGUMENT_BYTES}: pass the query on standard input, `codenets search - < file`"
    );
    ensure!(current.exists(), "nothing is published at {}: run `codenets run`", current.display());
    open(&current.canonicalize()?, provider, workers)
}

fn open(dir: &Path, provider: Provider, workers: usize) -> Result<Bundle> {
    Ok(Bundle::options().provider(provider).workers(workers).open(dir)?)
}

/// Opens the bundle of the arguments, else the published one, else the recorded one.
fn selected(options: &Options, store: &Store, args: &BundleArgs, provider: Provider) -> Result<Bundle> {
    let workers = rayon::current_num_threads();
    match &args.bundle {
        Some(dir) => open(dir, provider, workers),
        None if Serve::of(&options.data).current().exists() => published(options, provider, workers),
        None => {
            let recorded = store.current::<ledger::Bundle>().context("no bundle is published or recorded: run `codenets run`")?;
            open(&recorded.open()?.dir, provider, workers)
        }
    }
}

/// `search`.
pub fn search(options: &Options, args: SearchArgs) -> Result<()> {
    let text = query_text(&args)?;
    let mut query = Query::new(text).mode(args.mode).limit(args.limit).snippet_lines(3).explain(args.explain);
    if let Some(language) = args.language {
        query = query.language(language);
    }
    if let Some(repo) = args.repo {
        query = query.repo(repo);
    }
    if let Some(path) = args.path {
        query = query.path(path);
    }
    let hits = published(options, args.execution.provider, 1)?.search(&query)?;
    if options.json {
        outln!("{}", serde_json::to_string_pretty(&hits)?)?;
    } else if hits.is_empty() {
        outln!("nothing found")?;
    } else {
        print_hits(&hits)?;
    }
    Ok(())
}

/// `evaluate`: the stage and its table, or the score of a predictions file.
pub fn evaluate(registry: &Registry, options: &Options, args: &EvaluateArgs) -> Result<()> {
    if let (Some(predictions), Some(annotations)) = (&args.predictions, &args.annotations) {
        return challenge(options, predictions, annotations);
    }
    if let Some([format, file]) = args.judgments.as_deref() {
        return judge(registry, options, &args.bundle, format, Path::new(file));
    }
    ensure!(args.bundle.bundle.is_none(), "--bundle needs --judgments FORMAT FILE: the held-out split is scored with the recorded bundle");
    let conf = options.load(registry)?;
    let store = options.store_of(registry, &conf)?;
    registry.run(&store, &conf, &StageSelection::Only(vec![Evaluate::NAME.to_owned()]))?;
    let report = report(&store)?.context("the scores were just recorded")?;
    options.print(&evaluate::render(&report), &serde_json::to_value(&report)?)?;
    Ok(())
}

/// Scores of judged queries, also in reports/judgments.json.
fn judge(registry: &Registry, options: &Options, bundle: &BundleArgs, format: &str, file: &Path) -> Result<()> {
    let store = options.store(registry);
    let bundle = selected(options, &store, bundle, Provider::Cpu)?;
    let judged = evaluate::judge::score(&bundle, format.parse()?, file, store.progress())?;
    let flat = judged.scores.iter().flat_map(|score| {
        score.systems.iter().map(move |(system, value)| (format!("{}_{}_{system}", score.measure, score.group), Value::from(*value)))
    });
    write_report(&options.data, "judgments", &flat.collect())?;
    options.print(&evaluate::judge::render(&judged), &serde_json::to_value(&judged)?)
}

fn report(store: &Store) -> Result<Option<evaluate::EvaluateReport>> {
    let scores = store.current_manifest(<Scores as ledger::Recordable>::KIND);
    scores.map(|(_, manifest)| Ok(serde_json::from_value(manifest.report)?)).transpose()
}

/// The CodeSearchNet challenge's scores of a predictions file, also in reports/challenge.json.
fn challenge(options: &Options, predictions: &Path, annotations: &Path) -> Result<()> {
    let scores = evaluate::challenge::score(predictions, annotations)?;
    let flat = scores
        .iter()
        .flat_map(|of| {
            [("ndcg_within", of.ndcg_within), ("ndcg_all", of.ndcg_all)].map(|(name, score)| (format!("{name}_{}", of.language), score))
        })
        .map(|(name, score)| (name, Value::from(score)))
        .collect();
    write_report(&options.data, "challenge", &flat)?;
    options.print(&evaluate::challenge::render(&scores), &serde_json::to_value(&scores)?)?;
    Ok(())
}

/// `compare`.
pub fn compare(options: &Options, first: &Path, second: &Path) -> Result<()> {
    let lines = evaluate::compare::compare(first, second)?;
    options.print(&evaluate::compare::render(&lines), &serde_json::to_value(&lines)?)?;
    Ok(())
}

/// `predictions`.
pub fn predictions(registry: &Registry, options: &Options, args: &PredictionsArgs) -> Result<()> {
    let store = options.store(registry);
    let languages = if args.languages.is_empty() { Language::ALL.to_vec() } else { args.languages.clone() };
    let bundle = selected(options, &store, &args.bundle, args.execution.provider)?;
    let rows = indexer::predictions::write(&bundle, &args.queries, &args.out, &languages, args.mode, store.progress())?;
    options.print(&format!("{rows} predictions in {}", args.out.display()), &json!({ "rows": rows, "file": args.out }))
}

fn print_hits(hits: &[Hit]) -> Result<()> {
    for (number, hit) in hits.iter().enumerate() {
        // Bold words are control characters; `render` leaves out all others.
        std::io::stdout().write_all(hit.render(number + 1, std::io::stdout().is_terminal()).as_bytes())?;
    }
    Ok(())
}

/// `tour`: what a newcomer sees at the end of `make demo`.
pub fn tour(registry: &Registry, options: &Options) -> Result<()> {
    let store = options.store(registry);
    let bundle = published(options, Provider::Cpu, 1)?;
    let (stages, flat) = ledger::journal(&store);
    write_report(store.root(), "journal", &flat)?;
    if options.json {
        return tour_json(&store, &bundle, flat);
    }
    outln!("\nStages\n\n{stages}")?;
    if let Some(report) = report(&store)? {
        outln!("Scores on the held-out split (documentation is the query, and is not searched)\n\n{}", evaluate::render(&report))?;
        outln!("Report: {}\n", ledger::report_path(store.root(), evaluate::PAGE).display())?;
    }
    for text in EXAMPLES {
        outln!("search: {text}")?;
        let hits = bundle.search(&Query::new(text).mode(Mode::Hybrid).limit(3).snippet_lines(3))?;
        print_hits(&hits)?;
        outln!()?;
    }
    Ok(())
}

fn tour_json(store: &Store, bundle: &Bundle, stages: Map<String, Value>) -> Result<()> {
    let mut searches = Map::new();
    for text in EXAMPLES {
        searches.insert(text.to_owned(), serde_json::to_value(bundle.search(&Query::new(text).limit(3))?)?);
    }
    outln!("{}", json!({ "stages": stages, "scores": report(store)?, "searches": searches }))?;
    Ok(())
}

/// `rollback`.
pub fn rollback(registry: &Registry, options: &Options) -> Result<()> {
    let id = publish::rollback(&options.store(registry))?;
    options.print(&format!("{id} is published"), &json!({ "published": id.as_str() }))
}

/// Deleted functions that are printed.
const PRINTED: usize = 20;

/// `retract`.
pub fn retract(registry: &Registry, options: &Options, ids: &Path, by: By, only: bool) -> Result<()> {
    let Outcome { listed, deleted } = indexer::retract::retract(&options.store(registry), ids, by, only)?;
    let mut text = String::new();
    for function in deleted.iter().take(PRINTED) {
        writeln!(text, "{} {}  {}  {}", function.repo, function.path, function.func_name, function.id)?;
    }
    if deleted.len() > PRINTED {
        writeln!(text, "and {} more", deleted.len() - PRINTED)?;
    }
    write!(text, "deleted functions of the published bundle: {}; lines of the list: {listed}", deleted.len())?;
    options.print(&text, &json!({ "listed": listed, "in_published_bundle": deleted.len(), "deleted": deleted }))
}

/// `prune`.
pub fn prune(registry: &Registry, options: &Options, keep: Option<usize>) -> Result<()> {
    let keep = match keep {
        Some(keep) => keep,
        None => options.load(registry)?.section::<publish::Config>(publish::NAME)?.keep,
    };
    let removed = publish::prune_published(&options.store(registry), keep)?;
    let text =
        if removed.is_empty() { "nothing to delete".to_owned() } else { removed.iter().map(|id| format!("deleted {id}\n")).collect() };
    options.print(&text, &serde_json::to_value(removed.iter().map(ToString::to_string).collect::<Vec<_>>())?)?;
    Ok(())
}

//! Commands about releases of the encoder.

use anyhow::{Context, Result};
use clap::Subcommand;
use ledger::{Registry, ReleaseId, Releases, rfc3339};
use serde_json::{Value, json};

use crate::{options::Options, releases};

#[derive(Debug, Subcommand)]
pub enum Model {
    /// List the releases: date, encoder, score, which one nights use
    ///
    /// Reads the releases in --data; writes nothing.
    #[command(after_help = "Example: codenets model list")]
    List,
    /// Make a release of the recorded encoder, and use it from the next night on
    ///
    /// Reads the recorded encoder, bundle and scores; writes a release, and a pin that keeps its lineage.
    #[command(after_help = "Example: codenets model promote")]
    Promote,
    /// Use a release whatever model.policy says
    ///
    /// Reads the releases in --data; writes models/current and models/pinned.
    #[command(after_help = "Example: codenets model pin 20261122T184000Z-0123456789ab")]
    Pin {
        /// Id of the release, as `codenets model list` prints it [default: the one that nights use]
        #[arg(conflicts_with = "off")]
        id: Option<String>,
        /// Follow model.policy again
        #[arg(long)]
        off: bool,
    },
    /// Use the release before the current one
    ///
    /// Reads the releases in --data; writes models/current. The policies `every` and `always` train again when it is their time: see
    /// `codenets model pin`.
    #[command(after_help = "Example: codenets model rollback")]
    Rollback,
}

/// `model`.
pub fn model(registry: &Registry, options: &Options, command: &Model) -> Result<()> {
    let store = options.store(registry);
    let releases = Releases::of(store.root());
    if matches!(command, Model::List) {
        return list(options, &releases);
    }
    let _lock = store.lock_run()?;
    let current = || releases.current_id().context("there is no release yet: run `codenets nightly`, or `codenets model promote`");
    let (id, text) = match command {
        Model::List => return Ok(()),
        Model::Promote => {
            let id = releases::promote(&store)?;
            (id.clone(), format!("nights use release {id}"))
        }
        Model::Pin { off: true, .. } => {
            releases.pin(None)?;
            (current()?, "nights follow model.policy".to_owned())
        }
        Model::Pin { id, .. } => {
            let id = id.as_deref().map_or_else(current, parsed)?;
            releases.pin(Some(&id))?;
            (id.clone(), format!("nights use release {id}, whatever model.policy says"))
        }
        Model::Rollback => {
            let now = current()?;
            let before = releases.ids()?.into_iter().rfind(|id| *id < now);
            let id = before.with_context(|| format!("there is no release before {now}"))?;
            if releases.pinned().is_some() {
                releases.pin(Some(&id))?;
            } else {
                releases.set_current(&id)?;
            }
            (id.clone(), format!("nights use release {id}"))
        }
    };
    options.print(&text, &json!({ "release": id.as_str(), "pinned": releases.pinned().is_some() }))
}

fn parsed(id: &str) -> Result<ReleaseId> {
    ReleaseId::parse(id).with_context(|| format!("{id:?} is no id of a release: `codenets model list` shows them"))
}

fn list(options: &Options, releases: &Releases) -> Result<()> {
    let (current, pinned) = (releases.current_id(), releases.pinned());
    let (mut text, mut rows) = (String::new(), Vec::new());
    for id in releases.ids()? {
        let release = releases.read(&id)?;
        let (is_current, is_pinned) = (current.as_ref() == Some(&id), pinned.as_ref() == Some(&id));
        let score = releases::score_of(&release.scores);
        let shown = score.map_or_else(|| "-".to_owned(), |score| format!("{score:.4}"));
        let mark = match (is_current, is_pinned) {
            (_, true) => "  in use, pinned",
            (true, _) => "  in use",
            _ => "",
        };
        text += &format!("{id}  {}  encoder {}  mrr@corpus {shown}{mark}\n", rfc3339(release.created_unix_s), release.encoder);
        rows.push(json!({ "id": id.as_str(), "release": release, "current": is_current, "pinned": is_pinned }));
    }
    let text =
        if rows.is_empty() { "there is no release yet: run `codenets nightly`, or `codenets model promote`".to_owned() } else { text };
    options.print(&text, &Value::Array(rows))
}

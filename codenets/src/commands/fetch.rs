//! `fetch`: mirrors of remote repositories.

use anyhow::{Context, Result};
use ledger::{Registry, Stage, Store, conf::Conf};
use pipeline::{Harvest, harvest};
use serde_json::json;

use crate::{
    mirrors::{self, Fetched},
    night_conf,
    options::Options,
};

/// Fetches the mirrors that the section `nightly.fetch` names; none where there is no such section.
pub fn fetch_configured(conf: &Conf, store: &Store) -> Result<Option<Fetched>> {
    let Some(config) = conf.section::<night_conf::Config>(night_conf::SECTION)?.fetch else { return Ok(None) };
    config.check(conf.section::<harvest::Config>(Harvest::NAME)?.folders())?;
    let bar = store.progress().bar("fetch", 0, "repositories");
    let fetched = mirrors::fetch(&config, || bar.add(1))?;
    bar.finish();
    store.progress().message(&format!("fetch     {} mirrors are up to date", fetched.mirrors));
    fetched.warnings.iter().for_each(|warning| store.progress().message(&format!("fetch     {warning}")));
    Ok(Some(fetched))
}

/// The command.
pub fn fetch(registry: &Registry, options: &Options) -> Result<()> {
    let conf = options.load(registry)?;
    let store = options.store_of(registry, &conf)?;
    let fetched = fetch_configured(&conf, &store)?;
    let fetched = fetched.context("the configuration names no repositories: write nightly.fetch { folder, list }")?;
    let text = format!("{} mirrors are up to date, {} warnings", fetched.mirrors, fetched.warnings.len());
    options.print(&text, &json!({ "fetched": fetched.mirrors, "warnings": fetched.warnings }))
}

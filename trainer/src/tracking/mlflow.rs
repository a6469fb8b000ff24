//! MLflow over its REST API (`mlflow/protos/service.proto`), where `MLFLOW_TRACKING_URI` names a server.
//!
//! A server that cannot be reached when training starts is an error; one that goes away later is said once, and what it
//! missed stays in TensorBoard's files.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use ledger::Progress;
use reqwest::blocking::Client;
use serde_json::{Value, json};

/// A run on a server.
#[derive(Debug)]
pub struct Mlflow {
    client: Client,
    server: String,
    run: String,
    waiting: Vec<Value>,
    is_lost: bool,
}

/// Metrics of one request, at most (the API's limit).
const MOST_METRICS: usize = 1000;
/// Parameters of one request, at most, and the characters of a value.
const MOST_PARAMETERS: usize = 100;
const MOST_CHARACTERS: usize = 500;

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Mlflow {
    /// The server of the environment, if it names one; the run that `beside` remembers, or a new one with `config` as
    /// its parameters.
    pub fn of_environment(name: &str, config: &Value, beside: &Path) -> Result<Option<Self>> {
        let Some(server) = std::env::var("MLFLOW_TRACKING_URI").ok().filter(|server| !server.is_empty()) else { return Ok(None) };
        if !server.starts_with("http://") && !server.starts_with("https://") {
            bail!("MLFLOW_TRACKING_URI {server:?} is not the http address of a server: unset it, or run `mlflow server`");
        }
        let client = Client::builder().timeout(Duration::from_secs(20)).build().context("making a http client")?;
        let server = server.trim_end_matches('/').to_owned();
        let mut mlflow = Self { client, server, run: String::new(), waiting: Vec::new(), is_lost: false };
        let remembered = beside.join("mlflow.json");
        let known = fs::read(&remembered).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        if let Some(run) = known.as_ref().and_then(|known| known["run_id"].as_str()) {
            mlflow.run = run.to_owned();
            mlflow.call("runs/update", &json!({"run_id": run, "status": "RUNNING"}))?;
            return Ok(Some(mlflow));
        }
        let experiment = std::env::var("MLFLOW_EXPERIMENT_NAME").unwrap_or_else(|_| "codenets".to_owned());
        let experiment = mlflow.experiment(&experiment)?;
        let made = mlflow.call("runs/create", &json!({"experiment_id": experiment, "run_name": name, "start_time": now_ms()}))?;
        mlflow.run = made["run"]["info"]["run_id"].as_str().context("mlflow made a run without an id")?.to_owned();
        let mut parameters = Vec::new();
        flatten("", config, &mut parameters);
        for part in parameters.chunks(MOST_PARAMETERS) {
            mlflow.call("runs/log-batch", &json!({"run_id": mlflow.run, "params": part}))?;
        }
        fs::write(&remembered, json!({"run_id": mlflow.run}).to_string()).with_context(|| format!("writing {}", remembered.display()))?;
        Ok(Some(mlflow))
    }

    fn experiment(&self, name: &str) -> Result<String> {
        let found = self.client.get(self.address("experiments/get-by-name")).query(&[("experiment_name", name)]).send();
        let found = found.with_context(|| format!("asking {} (MLFLOW_TRACKING_URI)", self.server))?;
        let answer: Value = if found.status().is_success() {
            serde_json::from_str(&found.text()?).context("mlflow's answer is not json")?
        } else {
            let made = self.call("experiments/create", &json!({"name": name}))?;
            json!({"experiment": made})
        };
        Ok(answer["experiment"]["experiment_id"].as_str().context("mlflow named no experiment")?.to_owned())
    }

    fn address(&self, call: &str) -> String {
        format!("{}/api/2.0/mlflow/{call}", self.server)
    }

    fn call(&self, call: &str, body: &Value) -> Result<Value> {
        let context = || format!("asking {} (MLFLOW_TRACKING_URI) for {call}", self.server);
        let answer = self.client.post(self.address(call)).header("content-type", "application/json").body(body.to_string());
        let answer = answer.send().with_context(context)?;
        let status = answer.status();
        let text = answer.text().with_context(context)?;
        if !status.is_success() {
            bail!("{} answered {call} with {status}: {}", self.server, text.chars().take(200).collect::<String>());
        }
        serde_json::from_str(&text).with_context(context)
    }

    /// Keeps scalars until [`Mlflow::flush`], or until a request is full.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)], progress: &Progress) {
        let now = now_ms();
        let metric = |(key, value): &(&str, f64)| json!({"key": key, "value": value, "timestamp": now, "step": step});
        self.waiting.extend(values.iter().map(metric));
        if self.waiting.len() + 16 > MOST_METRICS {
            self.flush(progress);
        }
    }

    pub fn flush(&mut self, progress: &Progress) {
        let metrics = std::mem::take(&mut self.waiting);
        if metrics.is_empty() || self.is_lost {
            return;
        }
        if let Err(error) = self.call("runs/log-batch", &json!({"run_id": self.run, "metrics": metrics})) {
            self.is_lost = true;
            progress.say(&format!("train     goes on without mlflow: {error:#}"));
        }
    }

    pub fn finish(&mut self, progress: &Progress) {
        self.flush(progress);
        let end = json!({"run_id": self.run, "status": "FINISHED", "end_time": now_ms()});
        if !self.is_lost
            && let Err(error) = self.call("runs/update", &end)
        {
            progress.say(&format!("train     mlflow: {error:#}"));
        }
    }
}

/// `{"a": {"b": 1}}` as the parameter `a.b`.
fn flatten(name: &str, value: &Value, out: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(&if name.is_empty() { key.clone() } else { format!("{name}.{key}") }, value, out);
            }
        }
        value => {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            out.push(json!({"key": name, "value": text.chars().take(MOST_CHARACTERS).collect::<String>()}));
        }
    }
}

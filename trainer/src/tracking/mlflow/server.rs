//! An MLflow server and its REST API (`mlflow/protos/service.proto`, `model_registry.proto`): address, credentials, and limits of a
//! request.

use std::{collections::BTreeMap, env, fmt, fs::File, time::Duration};

use ledger::{bail, ensure};
use percent_encoding::percent_decode_str;
use reqwest::{
    Url,
    blocking::{Body, Client, RequestBuilder},
    redirect,
};
use serde_json::{Value, json};

use super::spool::MetricValue;
use crate::error::{Context, Error, Result};

/// Maximum time to connect.
const CONNECT: Duration = Duration::from_secs(3);
/// Maximum time of a call without files.
const ANSWER: Duration = Duration::from_secs(20);
/// Minimum speed of an upload.
const UPLOAD_BYTES_PER_S: u64 = 100_000;

/// Maximum number of metrics of a request (a limit of the API).
const MAX_METRICS: usize = 1000;
/// Maximum number of parameters or tags of a request (a limit of the API).
const MAX_TEXTS: usize = 100;
/// Maximum size of a request; the API allows 10⁶ bytes.
const MAX_BYTES: usize = 800_000;
/// Maximum number of characters of the value of a parameter.
const PARAMETER: usize = 6000;
/// [`PARAMETER`] of old servers.
const OLD_PARAMETER: usize = 500;
/// Maximum number of characters of the value of a tag.
const TAG: usize = 5000;
/// Maximum number of characters of a name.
const NAME: usize = 250;

/// The server that the environment variables name.
#[derive(Debug)]
pub struct Server {
    client: Client,
    /// Without credentials and without a slash at its end.
    pub address: String,
    credentials: Credentials,
    pub experiment: String,
    /// Name of the registered model.
    pub model: String,
    /// Does every new version become the champion?
    pub promotes: bool,
}

enum Credentials {
    None,
    Token(String),
    Password(String, Option<String>),
}

/// Does not print the credentials.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("credentials")
    }
}

/// A run on the server.
#[derive(Debug)]
pub struct RemoteRun {
    pub id: String,
    /// Address of the artifacts of the run.
    pub artifacts: String,
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

impl Server {
    /// The server that `MLFLOW_TRACKING_URI` names; none where the variable is not set.
    ///
    /// # Errors
    /// A variable is invalid.
    pub fn of_environment() -> Result<Option<Self>> {
        let Some(address) = variable("MLFLOW_TRACKING_URI") else { return Ok(None) };
        let (address, mut credentials) = address_and_credentials(&address)?;
        if let Some(token) = variable("MLFLOW_TRACKING_TOKEN") {
            credentials = Credentials::Token(token);
        } else if let Some(name) = variable("MLFLOW_TRACKING_USERNAME") {
            credentials = Credentials::Password(name, variable("MLFLOW_TRACKING_PASSWORD"));
        }
        let model = variable("CODENETS_MLFLOW_MODEL").unwrap_or_else(|| "codenets-encoder".to_owned());
        ensure!(!model.contains(['\'', '/', ':']), "CODENETS_MLFLOW_MODEL is {model:?}: it must not contain ', / or :");
        let client = Client::builder().connect_timeout(CONNECT).timeout(ANSWER).redirect(redirect::Policy::none()).build();
        Ok(Some(Self {
            client: client.context("setting up the HTTP client")?,
            address,
            credentials,
            experiment: variable("MLFLOW_EXPERIMENT_NAME").unwrap_or_else(|| "codenets".to_owned()),
            model,
            promotes: variable("CODENETS_MLFLOW_PROMOTE").is_some_and(|value| value == "1"),
        }))
    }

    fn url(&self, call: &str) -> String {
        format!("{}/api/2.0/mlflow/{call}", self.address)
    }

    fn send(&self, request: RequestBuilder, call: &str) -> Result<String> {
        let request = match &self.credentials {
            Credentials::None => request,
            Credentials::Token(token) => request.bearer_auth(token),
            Credentials::Password(name, password) => request.basic_auth(name, password.as_ref()),
        };
        let unreachable =
            |error: reqwest::Error| Error::MlflowUnreachable { address: self.address.clone(), cause: ledger::chain(&error.without_url()) };
        let answer = request.send().map_err(unreachable)?;
        let status = answer.status();
        let text = answer.text().map_err(unreachable)?;
        if status.is_success() {
            return Ok(text);
        }
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let code = body["error_code"].as_str().unwrap_or_default().to_owned();
        let text: String = body["message"].as_str().unwrap_or(&text).split_whitespace().collect::<Vec<_>>().join(" ");
        Err(self.refused(call, status.as_u16(), code, &text))
    }

    fn refused(&self, call: &str, status: u16, code: String, text: &str) -> Error {
        let text = text.chars().take(200).collect();
        Error::MlflowRefused { address: self.address.clone(), call: call.to_owned(), status, code, text }
    }

    fn json(&self, request: RequestBuilder, call: &str) -> Result<Value> {
        let text = self.send(request, call)?;
        serde_json::from_str(&text).map_err(|_| self.refused(call, 200, String::new(), "the answer is not JSON: is it an MLflow server?"))
    }

    fn get(&self, call: &str, query: &[(&str, &str)]) -> Result<Value> {
        self.json(self.client.get(self.url(call)).query(query), call)
    }

    fn post(&self, call: &str, body: &Value) -> Result<Value> {
        let request = self.client.post(self.url(call)).header("content-type", "application/json").body(body.to_string());
        self.json(request, call)
    }

    fn experiment_id(&self) -> Result<String> {
        let get = || self.get("experiments/get-by-name", &[("experiment_name", &self.experiment)]);
        let id = |answer: &Value| answer["experiment"]["experiment_id"].as_str().map(str::to_owned);
        let found = match get() {
            Ok(found) => found,
            Err(error) if error.is_mlflow_code("RESOURCE_DOES_NOT_EXIST") => {
                match self.post("experiments/create", &json!({"name": self.experiment})) {
                    Ok(created) => json!({ "experiment": created }),
                    // Another process created it in the meantime.
                    Err(error) if error.is_mlflow_code("RESOURCE_ALREADY_EXISTS") => get()?,
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        id(&found).context("the mlflow server named no experiment")
    }

    /// The run with this tag, or a new one with it. A call after a lost answer therefore does not create a second run.
    pub fn run(&self, name: &str, time: u64, tag: (&str, &str)) -> Result<RemoteRun> {
        let experiment = self.experiment_id()?;
        let filter = format!("tags.`{}` = '{}'", tag.0, tag.1);
        let found = self.post("runs/search", &json!({"experiment_ids": [experiment], "filter": filter, "max_results": 1}))?;
        let info = if let Some(run) = found["runs"].get(0) {
            run["info"].clone()
        } else {
            let tags = [json!({"key": tag.0, "value": tag.1})];
            let run = json!({"experiment_id": experiment, "run_name": name, "start_time": time, "tags": tags});
            self.post("runs/create", &run)?["run"]["info"].take()
        };
        let text = |key: &str| info[key].as_str().map(str::to_owned);
        let id = text("run_id").context("the mlflow server created a run without an id")?;
        Ok(RemoteRun { id, artifacts: text("artifact_uri").unwrap_or_default() })
    }

    /// Sets the status of a run.
    pub fn update_run(&self, run: &str, status: &str, end: Option<u64>) -> Result<()> {
        let mut update = json!({"run_id": run, "status": status});
        if let Some(end) = end {
            update["end_time"] = end.into();
        }
        self.post("runs/update", &update).map(drop)
    }

    /// Adds parameters to a run.
    pub fn log_params(&self, run: &str, params: &BTreeMap<String, String>) -> Result<()> {
        let log = |most: usize| -> Result<()> {
            for params in batches(texts(params, most), MAX_TEXTS) {
                self.post("runs/log-batch", &json!({"run_id": run, "params": params}))?;
            }
            Ok(())
        };
        let is_long = params.values().any(|value| value.chars().count() > OLD_PARAMETER);
        match log(PARAMETER) {
            // It may be an old server. Parameters that were accepted may be sent again with the same value.
            Err(error) if is_long && error.is_mlflow_code("INVALID_PARAMETER_VALUE") => log(OLD_PARAMETER),
            logged => logged,
        }
    }

    /// Adds tags to a run.
    pub fn log_tags(&self, run: &str, tags: &BTreeMap<String, String>) -> Result<()> {
        for tags in batches(texts(tags, TAG), MAX_TEXTS) {
            self.post("runs/log-batch", &json!({"run_id": run, "tags": tags}))?;
        }
        Ok(())
    }

    /// Adds metrics to a run, in requests of at most [`MAX_METRICS`]. The server ignores a metric that it has already.
    pub fn log_metrics(&self, run: &str, metrics: Vec<Value>) -> Result<()> {
        for metrics in batches(metrics, MAX_METRICS) {
            self.post("runs/log-batch", &json!({"run_id": run, "metrics": metrics}))?;
        }
        Ok(())
    }

    /// Do these metrics fill a request?
    pub fn is_full(metrics: &[Value]) -> bool {
        metrics.len() + 50 > MAX_METRICS
    }

    /// Uploads a body to an address of the artifact proxy.
    pub fn upload(&self, url: &str, body: Body, bytes: u64) -> Result<()> {
        let time = ANSWER + Duration::from_secs(bytes / UPLOAD_BYTES_PER_S);
        let request = self.client.put(url).timeout(time).body(body);
        self.send(request, "the upload of an artifact").map(drop)
    }

    /// Uploads a file without reading it into memory.
    pub fn upload_file(&self, url: &str, file: File) -> Result<()> {
        let bytes = file.metadata().context("reading an artifact")?.len();
        self.upload(url, Body::sized(file, bytes), bytes)
    }

    /// The registered model; it is created if it does not exist.
    pub fn registered_model(&self) -> Result<Value> {
        let get = || self.get("registered-models/get", &[("name", &self.model)]);
        let found = match get() {
            Err(error) if error.is_mlflow_code("RESOURCE_DOES_NOT_EXIST") => {
                match self.post("registered-models/create", &json!({"name": self.model})) {
                    Err(error) if error.is_mlflow_code("RESOURCE_ALREADY_EXISTS") => get()?,
                    created => created?,
                }
            }
            found => found?,
        };
        Ok(found["registered_model"].clone())
    }

    /// The version of the model with this tag.
    pub fn version_tagged(&self, key: &str, value: &str) -> Result<Option<Value>> {
        let filter = format!("name = '{}' and tags.`{key}` = '{value}'", self.model);
        let found = self.get("model-versions/search", &[("filter", &filter), ("max_results", "1")])?;
        Ok(found["model_versions"].get(0).cloned())
    }

    /// A version of the model.
    pub fn version(&self, version: &str) -> Result<Value> {
        Ok(self.get("model-versions/get", &[("name", &self.model), ("version", version)])?["model_version"].take())
    }

    /// Registers a version of the model.
    pub fn create_version(&self, run: &str, source: &str, tags: &BTreeMap<String, String>) -> Result<Value> {
        let version = json!({"name": self.model, "source": source, "run_id": run, "tags": texts(tags, TAG)});
        Ok(self.post("model-versions/create", &version)?["model_version"].take())
    }

    /// Moves an alias to a version.
    pub fn set_alias(&self, alias: &str, version: &str) -> Result<()> {
        let alias = json!({"name": self.model, "alias": alias, "version": version});
        self.post("registered-models/alias", &alias).map(drop)
    }
}

/// The address without credentials, and the credentials in it.
fn address_and_credentials(text: &str) -> Result<(String, Credentials)> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(mut url) = url else {
        // The message does not contain the value, which may have a password.
        bail!(
            "MLFLOW_TRACKING_URI is not the http address of a server: start a server with `mlflow server` and set its address, or unset the variable"
        );
    };
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let credentials = match url.username() {
        "" => Credentials::None,
        name => Credentials::Password(plain(name), url.password().map(plain)),
    };
    url.set_query(None);
    // Both fail only for an address without a host.
    let _ = (url.set_username(""), url.set_password(None));
    Ok((url.as_str().trim_end_matches('/').to_owned(), credentials))
}

fn texts(texts: &BTreeMap<String, String>, most: usize) -> Vec<Value> {
    let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    texts.iter().map(|(key, value)| json!({"key": cut(key, NAME), "value": cut(value, most)})).collect()
}

/// A metric of a request. JSON has no NaN and no infinity; the JSON of protobuf has names for them.
pub fn metric(name: &str, MetricValue(value): MetricValue, time: u64, step: u64) -> Value {
    let value = match value {
        value if value.is_nan() => json!("NaN"),
        value if value == f64::INFINITY => json!("Infinity"),
        value if value == f64::NEG_INFINITY => json!("-Infinity"),
        value => json!(value),
    };
    json!({"key": name.chars().take(NAME).collect::<String>(), "value": value, "timestamp": time, "step": step})
}

/// Splits values into batches of at most `most` values and [`MAX_BYTES`] bytes.
fn batches(values: Vec<Value>, most: usize) -> Vec<Vec<Value>> {
    let mut batches: Vec<Vec<Value>> = Vec::new();
    let mut bytes = 0;
    for value in values {
        let size = value.to_string().len() + 1;
        match batches.last_mut() {
            Some(batch) if batch.len() < most && bytes + size <= MAX_BYTES => {
                bytes += size;
                batch.push(value);
            }
            _ => {
                bytes = size;
                batches.push(vec![value]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_within_the_limits() {
        let sizes = |values: Vec<Value>, most| batches(values, most).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(vec![json!(1); 2001], 1000), [1000, 1000, 1]);
        assert_eq!(sizes(vec![json!("x".repeat(300_000)); 5], 1000), [2, 2, 1]);
        assert!(batches(Vec::new(), 9).is_empty());
        let long = BTreeMap::from([("k".repeat(300), "\u{e9}".repeat(7000))]);
        let cut = texts(&long, PARAMETER);
        assert_eq!(cut[0]["value"].as_str().unwrap().chars().count(), 6000);
        assert_eq!(cut[0]["key"].as_str().unwrap().len(), 250);
    }

    #[test]
    fn numbers_that_json_does_not_have_are_sent_by_name() {
        let value = |value: f64| metric("loss", MetricValue(value), 1, 2)["value"].clone();
        assert_eq!(value(0.25), json!(0.25));
        assert_eq!([f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(value), ["NaN", "Infinity", "-Infinity"]);
    }

    #[test]
    fn credentials_are_removed_from_the_address() {
        let (address, credentials) = address_and_credentials("https://me%40home:se%2fcret@host:1/sub/").unwrap();
        assert_eq!(address, "https://host:1/sub");
        assert!(matches!(&credentials, Credentials::Password(name, Some(word)) if name == "me@home" && word == "se/cret"));
        assert!(!format!("{credentials:?}").contains("cret"));
        for wrong in ["", "databricks", "file:./mlruns", "sqlite:///a.db", "host:5000", "http://"] {
            assert!(address_and_credentials(wrong).is_err(), "{wrong}");
        }
    }
}

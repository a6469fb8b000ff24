//! One MLflow server and its REST API (`mlflow/protos/service.proto`, `model_registry.proto`): addresses, credentials, the
//! limits of a request, and what went wrong. It knows nothing of spools.

use std::{collections::BTreeMap, env, fmt, fs::File, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use percent_encoding::percent_decode_str;
use reqwest::{
    Url,
    blocking::{Body, Client, RequestBuilder},
    redirect,
};
use serde_json::{Value, json};

use super::spool::Number;

/// A server that does not take a connection in this time is dead.
const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(20);
/// The slowest upload that is waited for.
const UPLOAD_BYTES_PER_S: u64 = 100_000;

/// Metrics, and parameters or tags, of one request (the API's limits), and the bytes of one (it allows 10⁶).
const MOST_METRICS: usize = 1000;
const MOST_TEXTS: usize = 100;
const MOST_BYTES: usize = 800_000;
/// Characters of a parameter's value: now, and in old servers.
const PARAMETER: usize = 6000;
const PARAMETER_ONCE: usize = 500;
/// Characters of a tag's value, and of a name.
const TAG: usize = 5000;
const NAME: usize = 250;

/// Where runs go, as the environment says.
#[derive(Debug)]
pub struct Server {
    client: Client,
    /// Without credentials and without a slash at its end.
    pub address: String,
    credentials: Credentials,
    pub experiment: String,
    /// Name of the registered model.
    pub model: String,
    /// Whether a new version becomes the champion whatever the champion is.
    pub promotes: bool,
}

enum Credentials {
    None,
    Token(String),
    Password(String, Option<String>),
}

/// Never what is in them.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("credentials")
    }
}

/// Why a request came to nothing.
#[derive(Debug)]
pub enum Failure {
    /// No answer: it may be there again later.
    Unreachable {
        address: String,
        cause: String,
    },
    Refused {
        address: String,
        call: String,
        status: u16,
        code: String,
        text: String,
    },
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { address, cause } => write!(f, "{address} (MLFLOW_TRACKING_URI) cannot be reached: {cause}"),
            Self::Refused { address, call, status, code, text } => {
                write!(f, "{address} (MLFLOW_TRACKING_URI) answered {call} with {status} {code}: {text}")?;
                match status {
                    401 | 403 => f.write_str("; set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
                    300..=399 => f.write_str("; name the address that it leads to"),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl Failure {
    /// The failure among an error's causes.
    pub fn of(error: &anyhow::Error) -> Option<&Self> {
        error.chain().find_map(|cause| cause.downcast_ref())
    }

    fn is_code(error: &anyhow::Error, expected: &str) -> bool {
        matches!(Self::of(error), Some(Self::Refused { code, .. }) if code == expected)
    }
}

/// A run as the server has it.
#[derive(Debug)]
pub struct RemoteRun {
    pub id: String,
    pub artifacts: String,
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

impl Server {
    /// The server that the environment names, if it names one.
    pub fn of_environment() -> Result<Option<Self>> {
        let Some(address) = variable("MLFLOW_TRACKING_URI") else { return Ok(None) };
        let (address, mut credentials) = address_and_credentials(&address)?;
        if let Some(token) = variable("MLFLOW_TRACKING_TOKEN") {
            credentials = Credentials::Token(token);
        } else if let Some(name) = variable("MLFLOW_TRACKING_USERNAME") {
            credentials = Credentials::Password(name, variable("MLFLOW_TRACKING_PASSWORD"));
        }
        let model = variable("CODENETS_MLFLOW_MODEL").unwrap_or_else(|| "codenets-encoder".to_owned());
        ensure!(!model.contains(['\'', '/', ':']), "CODENETS_MLFLOW_MODEL {model:?} may not contain ', / and :");
        let client = Client::builder().connect_timeout(CONNECT).timeout(ANSWER).redirect(redirect::Policy::none()).build();
        Ok(Some(Self {
            client: client.context("making a http client")?,
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

    fn send(&self, request: RequestBuilder, call: &str) -> Result<String, Failure> {
        let request = match &self.credentials {
            Credentials::None => request,
            Credentials::Token(token) => request.bearer_auth(token),
            Credentials::Password(name, password) => request.basic_auth(name, password.as_ref()),
        };
        let unreachable = |error: reqwest::Error| Failure::Unreachable {
            address: self.address.clone(),
            cause: format!("{:#}", anyhow::Error::from(error.without_url())),
        };
        let answer = request.send().map_err(unreachable)?;
        let status = answer.status();
        let text = answer.text().map_err(unreachable)?;
        if status.is_success() {
            return Ok(text);
        }
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        let code = said["error_code"].as_str().unwrap_or_default().to_owned();
        let text: String = said["message"].as_str().unwrap_or(&text).split_whitespace().collect::<Vec<_>>().join(" ");
        Err(self.refused(call, status.as_u16(), code, &text))
    }

    fn refused(&self, call: &str, status: u16, code: String, text: &str) -> Failure {
        let text = text.chars().take(200).collect();
        Failure::Refused { address: self.address.clone(), call: call.to_owned(), status, code, text }
    }

    fn json(&self, request: RequestBuilder, call: &str) -> Result<Value> {
        let text = self.send(request, call)?;
        serde_json::from_str(&text)
            .map_err(|_| self.refused(call, 200, String::new(), "its answer is no json: is it an mlflow server?").into())
    }

    fn get(&self, call: &str, query: &[(&str, &str)]) -> Result<Value> {
        self.json(self.client.get(self.url(call)).query(query), call)
    }

    fn post(&self, call: &str, body: &Value) -> Result<Value> {
        let request = self.client.post(self.url(call)).header("content-type", "application/json").body(body.to_string());
        self.json(request, call)
    }

    fn experiment_id(&self) -> Result<String> {
        let ask = || self.get("experiments/get-by-name", &[("experiment_name", &self.experiment)]);
        let id = |answer: &Value| answer["experiment"]["experiment_id"].as_str().map(str::to_owned);
        let found = match ask() {
            Ok(found) => found,
            Err(error) if Failure::is_code(&error, "RESOURCE_DOES_NOT_EXIST") => {
                match self.post("experiments/create", &json!({"name": self.experiment})) {
                    Ok(made) => json!({ "experiment": made }),
                    // By another process, in between.
                    Err(error) if Failure::is_code(&error, "RESOURCE_ALREADY_EXISTS") => ask()?,
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        id(&found).context("mlflow named no experiment")
    }

    /// The run with this tag, or a new one with it: an answer that was lost makes no second run.
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
        let id = text("run_id").context("mlflow made a run without an id")?;
        Ok(RemoteRun { id, artifacts: text("artifact_uri").unwrap_or_default() })
    }

    pub fn update_run(&self, run: &str, status: &str, end: Option<u64>) -> Result<()> {
        let mut update = json!({"run_id": run, "status": status});
        if let Some(end) = end {
            update["end_time"] = end.into();
        }
        self.post("runs/update", &update).map(drop)
    }

    pub fn log_params(&self, run: &str, params: &BTreeMap<String, String>) -> Result<()> {
        let log = |most: usize| -> Result<()> {
            for params in batches(texts(params, most), MOST_TEXTS) {
                self.post("runs/log-batch", &json!({"run_id": run, "params": params}))?;
            }
            Ok(())
        };
        let is_long = params.values().any(|value| value.chars().count() > PARAMETER_ONCE);
        match log(PARAMETER) {
            // Perhaps an old server; a parameter that it has already may be sent again as it is.
            Err(error) if is_long && Failure::is_code(&error, "INVALID_PARAMETER_VALUE") => log(PARAMETER_ONCE),
            logged => logged,
        }
    }

    pub fn log_tags(&self, run: &str, tags: &BTreeMap<String, String>) -> Result<()> {
        for tags in batches(texts(tags, TAG), MOST_TEXTS) {
            self.post("runs/log-batch", &json!({"run_id": run, "tags": tags}))?;
        }
        Ok(())
    }

    /// One request a thousand; the same metric with the same time twice is one to the server.
    pub fn log_metrics(&self, run: &str, metrics: Vec<Value>) -> Result<()> {
        for metrics in batches(metrics, MOST_METRICS) {
            self.post("runs/log-batch", &json!({"run_id": run, "metrics": metrics}))?;
        }
        Ok(())
    }

    /// Whether metrics for more than one request wait.
    pub fn is_full(metrics: &[Value]) -> bool {
        metrics.len() + 50 > MOST_METRICS
    }

    /// Puts bytes at an address of the artifact proxy; a file is streamed.
    pub fn upload(&self, url: &str, body: Body, bytes: u64) -> Result<()> {
        let time = ANSWER + Duration::from_secs(bytes / UPLOAD_BYTES_PER_S);
        let request = self.client.put(url).timeout(time).body(body);
        Ok(self.send(request, "an artifact's upload").map(drop)?)
    }

    pub fn upload_file(&self, url: &str, file: File) -> Result<()> {
        let bytes = file.metadata().context("reading an artifact")?.len();
        self.upload(url, Body::sized(file, bytes), bytes)
    }

    /// The registered model, made if it is not there yet.
    pub fn registered_model(&self) -> Result<Value> {
        let ask = || self.get("registered-models/get", &[("name", &self.model)]);
        let found = match ask() {
            Err(error) if Failure::is_code(&error, "RESOURCE_DOES_NOT_EXIST") => {
                match self.post("registered-models/create", &json!({"name": self.model})) {
                    Err(error) if Failure::is_code(&error, "RESOURCE_ALREADY_EXISTS") => ask()?,
                    made => made?,
                }
            }
            found => found?,
        };
        Ok(found["registered_model"].clone())
    }

    /// A version of the model that has this tag.
    pub fn version_tagged(&self, key: &str, value: &str) -> Result<Option<Value>> {
        let filter = format!("name = '{}' and tags.`{key}` = '{value}'", self.model);
        let found = self.get("model-versions/search", &[("filter", &filter), ("max_results", "1")])?;
        Ok(found["model_versions"].get(0).cloned())
    }

    pub fn version(&self, version: &str) -> Result<Value> {
        Ok(self.get("model-versions/get", &[("name", &self.model), ("version", version)])?["model_version"].take())
    }

    pub fn make_version(&self, run: &str, source: &str, tags: &BTreeMap<String, String>) -> Result<Value> {
        let version = json!({"name": self.model, "source": source, "run_id": run, "tags": texts(tags, TAG)});
        Ok(self.post("model-versions/create", &version)?["model_version"].take())
    }

    pub fn set_alias(&self, alias: &str, version: &str) -> Result<()> {
        let alias = json!({"name": self.model, "alias": alias, "version": version});
        self.post("registered-models/alias", &alias).map(drop)
    }
}

/// The address alone, and what stands before its @.
fn address_and_credentials(text: &str) -> Result<(String, Credentials)> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(mut url) = url else {
        // Not repeated: it may hold a password.
        bail!("MLFLOW_TRACKING_URI is not the http address of a server: name one (`mlflow server` starts one), or unset it");
    };
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let credentials = match url.username() {
        "" => Credentials::None,
        name => Credentials::Password(plain(name), url.password().map(plain)),
    };
    // Both can only fail where there is no host.
    let _ = (url.set_username(""), url.set_password(None));
    Ok((url.as_str().trim_end_matches('/').to_owned(), credentials))
}

fn texts(texts: &BTreeMap<String, String>, most: usize) -> Vec<Value> {
    let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    texts.iter().map(|(key, value)| json!({"key": cut(key, NAME), "value": cut(value, most)})).collect()
}

/// One metric of a request. JSON has no NaN and no infinity; protobuf's has their names.
pub fn metric(name: &str, Number(value): Number, time: u64, step: u64) -> Value {
    let value = match value {
        value if value.is_nan() => json!("NaN"),
        value if value == f64::INFINITY => json!("Infinity"),
        value if value == f64::NEG_INFINITY => json!("-Infinity"),
        value => json!(value),
    };
    json!({"key": name.chars().take(NAME).collect::<String>(), "value": value, "timestamp": time, "step": step})
}

/// Parts of at most so many values and bytes.
fn batches(values: Vec<Value>, most: usize) -> Vec<Vec<Value>> {
    let mut batches: Vec<Vec<Value>> = Vec::new();
    let mut bytes = 0;
    for value in values {
        let size = value.to_string().len() + 1;
        match batches.last_mut() {
            Some(batch) if batch.len() < most && bytes + size <= MOST_BYTES => {
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
    fn requests_stay_within_the_limits() {
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
    fn numbers_that_json_lacks_go_by_name() {
        let value = |value: f64| metric("loss", Number(value), 1, 2)["value"].clone();
        assert_eq!(value(0.25), json!(0.25));
        assert_eq!([f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(value), ["NaN", "Infinity", "-Infinity"]);
    }

    #[test]
    fn credentials_leave_the_address() {
        let (address, credentials) = address_and_credentials("https://me%40home:se%2fcret@host:1/sub/").unwrap();
        assert_eq!(address, "https://host:1/sub");
        assert!(matches!(&credentials, Credentials::Password(name, Some(word)) if name == "me@home" && word == "se/cret"));
        assert!(!format!("{credentials:?}").contains("cret"));
        for wrong in ["", "databricks", "file:./mlruns", "sqlite:///a.db", "host:5000", "http://"] {
            assert!(address_and_credentials(wrong).is_err(), "{wrong}");
        }
    }
}

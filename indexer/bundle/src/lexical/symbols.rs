//! Names of functions and files: their parts, and the keys by which an exact name is found.

/// Longest path, in folders, whose ends are keys.
const MAX_PATH_PARTS: usize = 12;

/// The parts of a qualified name: `a.B::c`, `A#b`, `Pkg/Type->f`.
///
/// ```
/// assert_eq!(bundle::lexical::name_parts("Http::Client.get_json"), ["Http", "Client", "get_json"]);
/// ```
pub fn name_parts(name: &str) -> Vec<&str> {
    let parts: Vec<&str> = name.split(['.', ':', '#', '/', '\\', '>']).map(|part| part.trim_end_matches('-')).collect();
    let named: Vec<&str> = parts.into_iter().filter(|part| part.contains(char::is_alphanumeric)).collect();
    if named.is_empty() { vec![name] } else { named }
}

/// The letters and digits of a text, in lower case and without accents: equal for a name in snake, camel and dotted form.
fn key(text: &str) -> String {
    ledger::words::folded(text)
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .filter(|c| c.is_alphanumeric())
        .collect()
}

/// The keys of a function: its name, its name with each of the enclosing classes, and the ends of its path (after a `/`).
///
/// ```
/// let keys = bundle::lexical::symbol_keys("Client.getJSON", "src/http/client.py");
/// assert_eq!(keys, ["getjson", "clientgetjson", "/clientpy", "/httpclientpy", "/srchttpclientpy"]);
/// ```
pub fn symbol_keys(name: &str, path: &str) -> Vec<String> {
    let ends = |parts: &[&str], before: &str| -> Vec<String> {
        (1..=parts.len().min(MAX_PATH_PARTS)).map(|count| format!("{before}{}", key(&parts[parts.len() - count..].concat()))).collect()
    };
    let mut keys = ends(&name_parts(name), "");
    keys.extend(ends(&path.split('/').collect::<Vec<_>>(), "/"));
    keys.retain(|key| !key.trim_start_matches('/').is_empty());
    keys
}

/// The keys of a query that is a name or a path: the whole text, and its path.
pub(crate) fn query_keys(text: &str) -> Vec<String> {
    let whole = key(text);
    if whole.is_empty() { Vec::new() } else { vec![format!("/{whole}"), whole] }
}

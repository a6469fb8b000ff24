//! Parses a configuration within bounds of time and memory: a substitution can double a value, so a file of a few lines can stand for
//! any amount of data.

use std::{
    collections::HashMap,
    path::Path,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use crate::progress::resident_mib;

/// Longest time of parsing.
const MAX_TIME: Duration = Duration::from_secs(30);
/// Largest growth of this process while it parses.
const MAX_MIB: u64 = 1024;
/// That of a main thread: objects can be nested deeply.
const STACK_BYTES: usize = 8 << 20;
const CHECK_EVERY: Duration = Duration::from_millis(10);

/// Parses a HOCON file with its includes and the environment. Where the bounds are exceeded, the thread that parses goes on until the
/// process ends.
///
/// # Errors
/// Why the file is not a configuration.
pub fn parse(path: &Path, env: &HashMap<String, String>) -> Result<hocon::Config, String> {
    let (sender, receiver) = mpsc::channel();
    let (owned, env) = (path.to_owned(), env.clone());
    let (started, before) = (Instant::now(), resident_mib());
    // The message of the error already holds those of its sources.
    let parse = move || drop(sender.send(hocon::parse_file_with_env(owned, &env).map_err(|error| error.to_string())));
    thread::Builder::new().name("configuration".to_owned()).stack_size(STACK_BYTES).spawn(parse).map_err(|error| error.to_string())?;
    loop {
        match receiver.recv_timeout(CHECK_EVERY) {
            Ok(parsed) => return parsed.map_err(|why| format!("not a valid HOCON file: {why}")),
            Err(RecvTimeoutError::Disconnected) => return Err("not a valid HOCON file".to_owned()),
            Err(RecvTimeoutError::Timeout) if started.elapsed() > MAX_TIME || resident_mib() > before + MAX_MIB => {
                return Err(format!(
                    "its substitutions need more than {MAX_MIB} MiB or {} s: remove those that repeat large values",
                    MAX_TIME.as_secs()
                ));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

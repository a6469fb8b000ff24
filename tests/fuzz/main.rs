//! A fuzzer for stable Rust: `fuzz TARGET [SECONDS] [SEED]` runs a target on changed seeds until the time is over.
//!
//! An input that panics, takes longer than ten seconds or needs more than 1 GiB is written to `tests/fixtures/fuzz/TARGET/`, from where
//! the tests run it. The current input is in the temporary folder as `fuzz-TARGET-last`, in case the process is killed.

mod mutation;
mod targets;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Longest time of one input.
const SLOW: Duration = Duration::from_secs(10);
/// Largest memory of the process.
const MOST_MIB: u64 = 1024;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let target = arguments.first().map(String::as_str).unwrap_or_default();
    if !targets::TARGETS.contains(&target) {
        eprintln!("usage: fuzz TARGET [SECONDS] [SEED]\ntargets: {}", targets::TARGETS.join(", "));
        return ExitCode::FAILURE;
    }
    let number = |place: usize, default: u64| arguments.get(place).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (seconds, seed) = (number(1, 600), number(2, 0));
    let found = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/fuzz")).join(target);
    let current: Arc<Mutex<(Vec<u8>, Instant)>> = Arc::new(Mutex::new((Vec::new(), Instant::now())));
    watch(&current, &found);
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let seeds = mutation::seeds(target);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (started, mut runs, mut reported) = (Instant::now(), 0u64, 0);
    let last = std::env::temp_dir().join(format!("fuzz-{target}-last"));
    while started.elapsed().as_secs() < seconds {
        let input = mutation::mutated(&seeds, &mut rng);
        *current.lock().expect("no holder panics") = (input.clone(), Instant::now());
        // In case the process is killed.
        fs::write(&last, &input).expect("the temporary folder is writable");
        if std::panic::catch_unwind(|| targets::run(target, &input, scratch.path())).is_err() {
            return report("a panic", &input, &found);
        }
        runs += 1;
        let now = started.elapsed().as_secs();
        if now >= reported + 60 {
            reported = now;
            eprintln!("{target}: {now} s, {runs} inputs, {} MiB at most", peak_mib());
        }
    }
    let _ = fs::remove_file(&last);
    println!("{target}: {runs} inputs in {seconds} s from {} seeds, {} MiB at most: no panic, no hang", seeds.len(), peak_mib());
    ExitCode::SUCCESS
}

/// Ends the process when one input takes too long or needs too much memory.
fn watch(current: &Arc<Mutex<(Vec<u8>, Instant)>>, found: &Path) {
    let (current, found) = (current.clone(), found.to_owned());
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_millis(200));
            let (input, since) = current.lock().expect("no holder panics").clone();
            if since.elapsed() > SLOW {
                report("a hang", &input, &found);
                std::process::exit(1);
            }
            if peak_mib() > MOST_MIB {
                report("memory", &input, &found);
                std::process::exit(1);
            }
        }
    });
}

/// Writes a failing input where the tests find it.
fn report(what: &str, input: &[u8], found: &Path) -> ExitCode {
    let path = found.join(ledger::Digest::of_bytes(input).short());
    let written = fs::create_dir_all(found).and_then(|()| fs::write(&path, input));
    eprintln!("{what}: {} ({written:?})", path.display());
    ExitCode::FAILURE
}

fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() / 1024
}

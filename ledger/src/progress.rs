//! Progress on standard error: bars with rate and ETA on a terminal, a line every 15 seconds in a log.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two lines of a log (no terminal).
const LOG_EVERY: Duration = Duration::from_secs(15);

/// Where messages and bars go: standard error, or nowhere.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    quiet: bool,
}

/// The progress of one step.
#[derive(Debug, Clone)]
pub struct Bar {
    bar: ProgressBar,
    log: Option<Arc<Log>>,
}

#[derive(Debug)]
struct Log {
    label: String,
    unit: &'static str,
    started: Instant,
    next_s: AtomicU64,
}

impl Progress {
    /// `quiet`: print nothing.
    pub fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// Prints a line.
    pub fn message(&self, line: &str) {
        if !self.quiet {
            print_line(line);
        }
    }

    /// A bar over `total` units; a total of 0 shows a rate without an end.
    pub fn bar(&self, label: &str, total: u64, unit: &'static str) -> Bar {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let bar = if self.quiet || !terminal {
            ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden())
        } else {
            let style = if total > 0 {
                format!("{{prefix:<9}} {{wide_bar}} {{human_pos}}/{{human_len}} {unit} {{per_sec}} ETA {{eta}} {{msg}}")
            } else {
                format!("{{prefix:<9}} {{spinner}} {{human_pos}} {unit} {{per_sec}} {{elapsed}} {{msg}}")
            };
            let bar = ProgressBar::new(total);
            bar.set_style(ProgressStyle::with_template(&style).expect("the template is constant"));
            bar
        };
        bar.set_prefix(label.to_owned());
        let log = (!self.quiet && !terminal).then(|| {
            let label = label.to_owned();
            Arc::new(Log { label, unit, started: Instant::now(), next_s: AtomicU64::new(LOG_EVERY.as_secs()) })
        });
        Bar { bar, log }
    }
}

impl Bar {
    /// Adds finished units.
    pub fn add(&self, units: u64) {
        self.bar.inc(units);
        if let Some(log) = &self.log {
            log.tick(self.bar.position(), self.bar.length().unwrap_or_default());
        }
    }

    /// Shows a text after the bar, such as a loss or a file name.
    pub fn note(&self, text: String) {
        self.bar.set_message(text);
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Log {
    fn tick(&self, done: u64, total: u64) {
        let elapsed = self.started.elapsed();
        let next = self.next_s.load(Ordering::Relaxed);
        if elapsed.as_secs() < next
            || self.next_s.compare_exchange(next, elapsed.as_secs() + LOG_EVERY.as_secs(), Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let rate = done as f64 / elapsed.as_secs_f64();
        let end = if total > done { format!(", ETA {:.0} s", (total - done) as f64 / rate.max(1e-9)) } else { String::new() };
        let of = if total > 0 { format!("/{total}") } else { String::new() };
        print_line(&format!("{:<9} {done}{of} {}, {rate:.0} {}/s{end}", self.label, self.unit, self.unit));
    }
}

/// Prints a line on standard error. One that is closed or full ends no run: `eprintln!` would panic. Control characters, which could
/// change a terminal, are replaced.
pub fn print_line(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", plain(line));
}

/// The text without control characters other than line ends and tabs.
pub fn plain(text: &str) -> String {
    text.replace(|character: char| character.is_control() && !['\n', '\t'].contains(&character), "\u{fffd}")
}

/// Peak RSS of this process since the last reset, in MiB; 0 where the system does not report it.
pub fn peak_rss_mib() -> u64 {
    status_mib("VmHWM:")
}

/// RSS of this process, in MiB; 0 where the system does not report it.
pub fn resident_mib() -> u64 {
    status_mib("VmRSS:")
}

fn status_mib(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() / 1024
}

/// CPU time of all threads of this process in seconds; 0 where the system does not report it.
pub fn cpu_seconds() -> f64 {
    two_times(14)
}

/// CPU time of the processes that this process has waited for, in seconds; 0 where the system does not report it.
pub fn cpu_seconds_of_children() -> f64 {
    two_times(16)
}

/// User and system time from two fields of `/proc/self/stat`, which counts from 1 and has hundredths of a second.
fn two_times(field: usize) -> f64 {
    // The second field is a name in parentheses.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(field - 3).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Resets the peak RSS, so that each stage of a process has its own.
pub fn reset_peak_rss() {
    // A system without this file has one peak for the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_time_of_this_process_are_read() {
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(resident_mib() >= 64 && peak_rss_mib() >= 64, "{}", block.len());
        let before = cpu_seconds();
        let mut sum = 0u64;
        while cpu_seconds() < before + 0.02 {
            sum = (0..100_000u64).fold(sum, |sum, number| sum.wrapping_mul(31).wrapping_add(number));
        }
        assert!(std::hint::black_box(sum) > 0);
    }
}

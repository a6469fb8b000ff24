//! Two weeks of nights, each with a fault. Every morning the published bundle is complete and at most one night old, and the report names the
//! fault.

use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    interruptions::fail_with_a_full_disk,
    nightly::repositories,
    workspace::{Workspace, files_below, git, read_json, source, texts},
};

/// A company's nights: a folder of repositories, to which a function is added every day.
struct Fortnight {
    workspace: Workspace,
    repositories: PathBuf,
    /// Days so far.
    day: usize,
}

/// What a night must have done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The function of the day is found.
    New,
    /// The night failed: the function of the day before is found.
    Old,
}

impl Fortnight {
    fn new() -> Self {
        let workspace = Workspace::tokenized();
        let repositories = repositories(&workspace);
        let settings = format!("path = {}, each-subfolder = true, revision = HEAD", repositories.display());
        workspace.configure(&(source("dir", &settings) + "publish { min-share-of-current = 0, max-lost-functions = 0.5 }"));
        Self { workspace, repositories, day: 0 }
    }

    /// Commits the function of the day to a repository.
    fn work(&mut self, repository: &str) {
        self.day += 1;
        let folder = self.repositories.join(repository);
        let text = format!(
            "def {0}(value):\n    \"\"\"Return the value of {0} and the day.\"\"\"\n    return value, {1}\n",
            self.name(),
            self.day
        );
        fs::write(folder.join(format!("day{}.py", self.day)), text).unwrap();
        git(&folder, &["add", "-A"]);
        git(&folder, &["commit", "-qm", "day"]);
    }

    fn name(&self) -> String {
        name_of(self.day)
    }

    fn night(&self) -> Value {
        let output = self.workspace.try_run(&["nightly", "--json"]);
        let (out, err) = texts(&output);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("day {}: {error}: {out}{err}", self.day))
    }

    /// Runs a night that publishes the function of the day.
    fn good_night(&self) -> Value {
        let night = self.night();
        assert_eq!(night["ending"], "published", "day {}: {night}", self.day);
        self.morning(Expected::New);
        night
    }

    /// Folder of the published bundle.
    fn published(&self) -> PathBuf {
        self.workspace.path("data/serve/current").canonicalize().unwrap()
    }

    /// The published bundle is complete and new enough.
    fn morning(&self, expected: Expected) {
        let bundle = self.published();
        for line in fs::read_to_string(bundle.join("CHECKSUMS")).unwrap().lines() {
            let (digest, path) = line.split_once("  ").unwrap();
            let own = ledger::Digest::of_file(&bundle.join(path)).unwrap().to_string();
            assert_eq!(own, digest, "day {}: {path}", self.day);
        }
        let newest = if expected == Expected::New { self.day } else { self.day - 1 };
        let hits = self.workspace.search(&[&name_of(newest)]);
        assert_eq!(hits[0]["func_name"], name_of(newest).as_str(), "day {}", self.day);
    }

    /// Kills a night with SIGKILL after some time.
    fn kill_night(&self, milliseconds: u64) {
        let mut night = self.workspace.command(&["nightly", "--quiet"]).process_group(0).spawn().unwrap();
        thread::sleep(Duration::from_millis(milliseconds));
        // It may have ended before.
        let _ = rustix::process::kill_process_group(rustix::process::Pid::from_child(&night), rustix::process::Signal::KILL);
        night.wait().unwrap();
    }
}

/// A name without digits: words of the days are no compounds of each other.
fn name_of(day: usize) -> String {
    const WORDS: [&str; 16] = [
        "zero", "anise", "basil", "cumin", "dill", "elder", "fennel", "ginger", "hyssop", "iris", "juniper", "kale", "lovage", "mint",
        "nigella", "oregano",
    ];
    format!("spice_{}", WORDS[day])
}

fn warns(night: &Value, text: &str) -> bool {
    night["warnings"].as_array().unwrap().iter().any(|warning| warning.as_str().unwrap().contains(text))
}

/// Changes a byte in the middle of a file.
fn damage(file: &Path) {
    let length = fs::metadata(file).unwrap().len();
    let mut opened = fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    opened.seek(SeekFrom::Start(length / 2)).unwrap();
    opened.read_exact(&mut byte).unwrap();
    opened.seek(SeekFrom::Start(length / 2)).unwrap();
    opened.write_all(&[!byte[0]]).unwrap();
}

impl Fortnight {
    /// Nights that are killed, and one with a full disk.
    fn killed(&mut self) {
        self.work("text");
        self.kill_night(150);
        self.morning_after_a_kill();

        self.work("math");
        let after_kill = self.good_night();
        assert!(warns(&after_kill, "did not end: its process was killed"), "{after_kill}");

        // The night itself and its stages are killed at many points.
        self.work("math");
        for point in (5..60).step_by(11) {
            let output = self.workspace.command(&["nightly", "--quiet"]).env("CODENETS_FAULT", point.to_string()).output().unwrap();
            assert!(!output.status.success(), "{point}");
            self.morning_after_a_kill();
        }
        self.night();
        self.morning(Expected::New);
        let nights = fs::read_to_string(self.workspace.path("data/reports/nights.jsonl")).unwrap();
        for why in ["its process was killed, the machine stopped", "was killed by signal 9"] {
            assert!(nights.lines().rev().take(6).any(|line| line.contains(why)), "{why}: {nights}");
        }

        self.work("text");
        fail_with_a_full_disk(&self.workspace, &["nightly"]);
        self.morning(Expected::Old);
    }

    /// A repository whose clone is torn, and one that is gone and comes back.
    fn unreadable(&mut self) {
        // A repository whose clone is torn, next to one that changes.
        self.work("text");
        let head = self.repositories.join("graphs/.git/HEAD");
        let text = fs::read(&head).unwrap();
        fs::write(&head, "torn").unwrap();
        let torn = self.good_night();
        assert!(warns(&torn, "repository graphs cannot be read"), "{torn}");
        fs::write(&head, text).unwrap();

        // A repository is gone, and back on the next day.
        self.work("text");
        let away = self.workspace.path("away");
        fs::rename(self.repositories.join("net"), &away).unwrap();
        assert!(warns(&self.good_night(), "repository net is gone"));
        fs::rename(&away, self.repositories.join("net")).unwrap();
    }

    /// Damage of an artifact and of the published bundle.
    fn damaged(&mut self) {
        self.work("net");
        let files = files_below(&self.workspace.artifact("raw"));
        damage(files.iter().find(|file| file.ends_with("python_train_0.jsonl.gz")).unwrap());
        self.good_night();

        self.work("net");
        damage(&self.published().join("docs.parquet"));
        let repaired = self.good_night();
        assert!(warns(&repaired, "the published bundle is damaged"), "{repaired}");
    }

    /// A gate that refuses, and sources that are not mounted.
    fn refused(&mut self) {
        // Most functions are gone: a gate refuses the bundle.
        self.work("math");
        for name in ["dates", "graphs", "net", "store", "text"] {
            git(&self.repositories.join(name), &["rm", "-rqf", "."]);
            git(&self.repositories.join(name), &["commit", "-qm", "empty", "--allow-empty"]);
        }
        let refused = self.night();
        assert!(refused["ending"] == "held-back" && refused["why"].as_str().unwrap().contains("have no functions any more"), "{refused}");
        self.morning(Expected::Old);
        for name in ["dates", "graphs", "net", "store", "text"] {
            git(&self.repositories.join(name), &["reset", "-q", "--hard", "HEAD~1"]);
        }
        self.good_night();

        self.work("math");
        fs::rename(&self.repositories, self.workspace.path("unmounted")).unwrap();
        let unmounted = self.night();
        assert!(unmounted["ending"] == "failed" && unmounted["why"].as_str().unwrap().contains("the folder does not exist"), "{unmounted}");
        self.morning(Expected::Old);
        fs::rename(self.workspace.path("unmounted"), &self.repositories).unwrap();
    }

    /// A clock that goes back, and two nights at once.
    fn clock_and_two_nights(&mut self) {
        // The bundle of the last good night has a later time than tonight: the clock goes back.
        self.good_night();
        self.work("math");
        let serve = self.workspace.path("data/serve");
        let (id, later) = (self.published(), serve.join("bundles/29990101T000000Z-0123456789ab"));
        fs::rename(&id, &later).unwrap();
        fs::remove_file(serve.join("current")).unwrap();
        std::os::unix::fs::symlink(Path::new("bundles").join(later.file_name().unwrap()), serve.join("current")).unwrap();
        self.good_night();

        // Two nights at once.
        self.work("text");
        let both: Vec<_> = (0..2).map(|_| self.workspace.command(&["nightly", "--quiet"]).spawn().unwrap()).collect();
        let mut ends: Vec<i32> = both.into_iter().map(|mut night| night.wait().unwrap().code().unwrap()).collect();
        ends.sort_unstable();
        assert_eq!(ends, [0, 75]);
        self.morning(Expected::New);
    }

    /// The night may have ended before it was killed.
    fn morning_after_a_kill(&self) {
        let has_day = self.workspace.search(&[&self.name()])[0]["func_name"] == self.name().as_str();
        self.morning(if has_day { Expected::New } else { Expected::Old });
    }
}

#[test]
fn after_each_of_fourteen_nights_with_faults_a_complete_bundle_is_published() {
    let mut week = Fortnight::new();
    week.work("math");
    week.good_night();
    week.killed();
    week.unreadable();
    week.damaged();
    week.refused();
    week.clock_and_two_nights();
    assert_eq!(week.day, 13);
    let nights = fs::read_to_string(week.workspace.path("data/reports/nights.jsonl")).unwrap();
    assert!(nights.lines().count() >= 14, "{nights}");
    assert_eq!(read_json(&week.workspace.path("data/reports/nightly.json"))["ending"], "published");
}

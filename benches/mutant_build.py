"""The mutants of the modules in MODULES, a sample of them, and one build with all of them: benches/mutants.py tests it."""

import collections
import dataclasses
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Module to the paths of its files. The first that fits counts.
MODULES = {
    "ledger": ["ledger/src/"],
    "ingest": ["pipeline/src/ingest/"],
    "evaluate": ["indexer/src/evaluate/", "indexer/src/split_queries.rs"],
    "fusion": ["indexer/bundle/src/fusion/", "indexer/src/fusion/", "indexer/src/index/learning.rs"],
    "vectors": ["indexer/bundle/src/vectors/", "indexer/src/vectors/"],
    "publish": ["indexer/src/publish/"],
    "retract": ["indexer/src/retract/", "indexer/src/tombstones.rs", "indexer/bundle/src/tombstones.rs"],
    "gc": ["archive/src/gc.rs"],
    "archive": ["archive/src/"],
    "training data": ["trainer/src/data/", "trainer/src/training/validation.rs"],
}
# Smallest number of sampled mutants of a module.
LEAST_SAMPLE = 12
# Appended to the crate that all the others depend on.
SWITCH = """
/// Written by benches/mutants.py.
pub mod mutants {
    use std::{ffi::OsString, io::Write, sync::{LazyLock, atomic::{AtomicBool, Ordering}}};
    static ACTIVE: LazyLock<u32> = LazyLock::new(|| std::env::var("CODENETS_MUTANT").ok().and_then(|number| number.parse().ok()).unwrap_or(u32::MAX));
    static FILE: LazyLock<Option<OsString>> = LazyLock::new(|| std::env::var_os("CODENETS_MUTANTS_REACHED"));
    static REACHED: [AtomicBool; COUNT] = [const { AtomicBool::new(false) }; COUNT];
    pub fn active(number: u32) -> bool {
        if let Some(file) = &*FILE && !REACHED[number as usize].swap(true, Ordering::Relaxed) {
            let _ = std::fs::File::options().append(true).create(true).open(file).and_then(|mut file| file.write_all(format!("{number}\\n").as_bytes()));
        }
        *ACTIVE == number
    }
}
"""


@dataclasses.dataclass
class Mutant:
    number: int
    module: str
    file: str
    # Without line and column: it stays when other lines change.
    title: str
    name: str
    package: str
    genre: str
    span: tuple
    function: tuple
    replacement: str
    file_digest: str


def run(command, **options):
    return subprocess.run(command, check=True, text=True, **options)


def module_of(file):
    return next((name for name, paths in MODULES.items() if any(file.startswith(path) for path in paths)), None)


def offset_of(starts, place):
    return starts[place["line"] - 1] + place["column"] - 1


def line_starts(text):
    return [0] + [found.end() for found in re.finditer("\n", text)]


def body_start(text, start, end):
    """Offset of the `{` of a function that begins at `start`; none for functions that cannot be compiled conditionally."""
    depth, place = 0, start
    token = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])'|.", re.DOTALL)
    while place < end:
        found = token.match(text, place).group()
        if found in "([":
            depth += 1
        elif found in ")]":
            depth -= 1
        elif found == "{" and depth == 0:
            signature = text[start:place]
            is_conditional = re.search(r"\bconst\s+(unsafe\s+)?fn\b|->[^{]*\bimpl\b", signature) is None
            return place if is_conditional else None
        place += len(found)
    return None


def listed():
    """All mutants of the modules, and how many of them cannot be compiled conditionally."""
    output = run(["cargo", "mutants", "--list", "--json", "--no-config"], cwd=ROOT, stdout=subprocess.PIPE).stdout
    mutants, left_out, texts = [], 0, {}
    for entry in json.loads(output):
        module = module_of(entry["file"])
        if module is None:
            continue
        if entry["file"] not in texts:
            text = (ROOT / entry["file"]).read_text()
            # Tests in the file are not the code that they test.
            code = re.split(r"#\[cfg\(test\)\]\n(?:pub )?mod tests", text)[0]
            texts[entry["file"]] = text, line_starts(text), hashlib.blake2b(code.encode(), digest_size=8).hexdigest()
        text, starts, digest = texts[entry["file"]]
        if entry["function"] is None:
            left_out += 1
            continue
        place = lambda span: (offset_of(starts, span["start"]), offset_of(starts, span["end"]))
        function = place(entry["function"]["span"])
        if body_start(text, *function) is None:
            left_out += 1
            continue
        title = re.sub(r":\d+:\d+:", ":", entry["name"], count=1)
        if entry["genre"] == "FnValue":
            # The position tells nothing more: a function is replaced once by each value.
            number_of_title = 0
        else:
            number_of_title = sum(other.file == entry["file"] and other.title.split(" #")[0] == title for other in mutants)
        title += f" #{number_of_title + 1}" if number_of_title else ""
        mutants.append(
            Mutant(0, module, entry["file"], title, entry["name"], entry["package"], entry["genre"], place(entry["span"]), function,
                   entry["replacement"], digest)
        )
    return mutants, left_out


def sampled(mutants, count, seed, recorded=frozenset()):
    """A sample of every module: in proportion to its size, and at least LEAST_SAMPLE. Titles in `recorded`, of earlier samples, come first:
    a change of the code changes the sample little. The order mixes the modules."""
    rng = random.Random(seed)
    chosen = []
    for module in MODULES:
        own = sorted((mutant for mutant in mutants if mutant.module == module), key=lambda mutant: mutant.title)
        rng.shuffle(own)
        own.sort(key=lambda mutant: mutant.title not in recorded)
        chosen += own[: max(LEAST_SAMPLE, round(count * len(own) / max(1, len(mutants))))]
    rng.shuffle(chosen)
    for number, mutant in enumerate(chosen):
        mutant.number = number
    return chosen


class Build:
    """The clone in which all mutants are compiled."""

    def __init__(self, work, target):
        self.work, self.tree, self.target, self.user_target = work, work / "tree", work / "target", target

    def programs_of(self, mutants, tree):
        """Errors of the mutants that do not compile, by number, and the test programs. An earlier build of the same files is used again."""
        key = hashlib.blake2b("\n".join([tree, *(mutant.name for mutant in mutants)]).encode(), digest_size=8).hexdigest()
        record = self.work / "build.json"
        if record.exists():
            known = json.loads(record.read_text())
            if known.get("key") == key and all(pathlib.Path(path).exists() for path, _ in known["programs"].values()):
                return {int(number): error for number, error in known["dropped"].items()}, known["programs"]
        record.unlink(missing_ok=True)
        self.clone()
        self.warm()
        dropped, programs = self.compile(mutants)
        record.write_text(json.dumps({"key": key, "dropped": dropped, "programs": programs}))
        return dropped, programs

    def clone(self):
        """Copies the checkout with its uncommitted changes."""
        shutil.rmtree(self.tree, ignore_errors=True)
        run(["git", "clone", "--quiet", "--shared", str(ROOT), str(self.tree)])
        changed = run(["git", "ls-files", "--modified", "--others", "--exclude-standard", "-z"], cwd=ROOT, stdout=subprocess.PIPE).stdout
        for name in filter(None, changed.split("\0")):
            source, target = ROOT / name, self.tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_file():
                shutil.copy2(source, target)
            else:
                target.unlink(missing_ok=True)
        # A changed function may have a result that is not used.
        manifest = self.tree / "Cargo.toml"
        manifest.write_text(re.sub(r'= "deny"', '= "allow"', manifest.read_text()))

    def warm(self):
        """Starts from the third-party crates that the user's target folder has: hard links, because cargo replaces files."""
        if self.target.exists() or not (self.user_target / "debug/.fingerprint").is_dir():
            return
        (self.target / "debug").mkdir(parents=True)
        for part in ["build", "deps"]:
            run(["cp", "-al", str(self.user_target / "debug" / part), str(self.target / "debug")])
        # cargo writes into these.
        run(["cp", "-a", str(self.user_target / "debug/.fingerprint"), str(self.target / "debug")])
        # Python packages that tests install.
        if (self.user_target / "tmp").is_dir():
            run(["cp", "-a", str(self.user_target / "tmp"), str(self.target)])

    def write(self, mutants, dropped):
        """Writes every file with its mutants; returns the line ranges of the mutants by file."""
        by_file, ranges = collections.defaultdict(list), {}
        for mutant in mutants:
            if mutant.number not in dropped:
                by_file[mutant.file].append(mutant)
        for file in {mutant.file for mutant in mutants} | {"ledger/src/lib.rs"}:
            text = (ROOT / file).read_text()
            ranges[file], pieces, done = [], [], 0
            for (start, end), own in self.functions(by_file[file]):
                begin = body_start(text, start, end)
                pieces.append(text[done : begin + 1] + "\n")
                crate = "crate" if file.startswith("ledger/") else "::ledger"
                for mutant in own:
                    first = "".join(pieces).count("\n") + 1
                    changed = text[begin + 1 : mutant.span[0]] + mutant.replacement + text[mutant.span[1] : end - 1]
                    pieces.append(f"if {crate}::mutants::active({mutant.number}) {{\n{changed}\n}} else\n")
                    ranges[file].append((first, "".join(pieces).count("\n"), mutant.number))
                pieces.append("{" + text[begin + 1 : end - 1] + "}\n")
                done = end - 1
            pieces.append(text[done:])
            if file == "ledger/src/lib.rs":
                pieces.append(SWITCH.replace("COUNT", str(len(mutants))))
            new = "".join(pieces)
            path = self.tree / file
            if path.read_text() != new:
                path.write_text(new)
        return ranges

    @staticmethod
    def functions(mutants):
        """Mutants by the outermost function around them, in the order of the file."""
        outermost = []
        for span in sorted({mutant.function for mutant in mutants}, key=lambda span: (span[0], -span[1])):
            if not outermost or span[0] >= outermost[-1][1]:
                outermost.append(span)
        return [(span, [mutant for mutant in mutants if span[0] <= mutant.function[0] < span[1]]) for span in outermost]

    def compile(self, mutants):
        """Compiles the mutants; those that do not compile are dropped until the others do. Returns their errors by number, and the test
        programs."""
        dropped, round_number = {}, 0
        while True:
            round_number += 1
            ranges = self.write(mutants, dropped)
            say(f"compiles {len(mutants) - len(dropped)} mutants, round {round_number}")
            command = ["cargo", "build", "--workspace", "--tests", "--keep-going", "--message-format=json"]
            environment = dict(os.environ, CARGO_TARGET_DIR=str(self.target))
            with open(self.work / "build.log", "w") as log:
                lines = subprocess.run(command, cwd=self.tree, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
            messages = [json.loads(line) for line in lines.stdout.splitlines() if line.startswith("{")]
            if lines.returncode == 0:
                return dropped, self.programs(messages)
            found = {}
            for message in messages:
                if message["reason"] == "compiler-message" and message["message"]["level"] == "error":
                    for number in self.to_blame(message["message"], ranges):
                        found.setdefault(number, message["message"]["message"])
            if not found.keys() - dropped.keys():
                raise SystemExit(f"the mutants do not compile, and no mutant is to blame: see {self.work / 'build.log'}")
            dropped |= found

    @staticmethod
    def to_blame(message, ranges):
        """The mutants in which an error is: by its primary places, or else by the others."""
        places = [(span["is_primary"], span["file_name"], span["line_start"], span["line_end"]) for span in message["spans"]]
        for is_primary in [True, False]:
            found = {
                number
                for primary, file, first, last in places
                if primary == is_primary
                for start, end, number in ranges.get(os.path.normpath(file), [])
                if start <= last and first <= end
            }
            # An error of the whole `if` names every mutant of the function: the smallest one that it names is dropped.
            if found:
                return found if len(found) == 1 else {min(found)}
        return set()

    @staticmethod
    def programs(messages):
        """Test programs: name to path, folder in which they run, and package."""
        found = {}
        for message in messages:
            if message["reason"] == "compiler-artifact" and message["executable"] and message["profile"]["test"]:
                kind, folder = message["target"]["kind"], pathlib.Path(message["manifest_path"]).parent
                name = message["target"]["name"]
                if kind == ["lib"] or name == "end_to_end":
                    found[name] = message["executable"], str(folder)
        return found


def say(text):
    print(f"mutants: {text}", file=sys.stderr, flush=True)

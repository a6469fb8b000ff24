"""Mutation testing: changes the code in one place at a time and runs the tests. A mutant that no test notices is a missing test.

    python3 benches/mutants.py [--sample 300] [--seed 1] [--only gc,fusion] [--again] [--no-end-to-end] [--minutes 60] [--report]

`cargo mutants --list` gives the mutants of the modules in MODULES; a seeded sample of them is tested. They are compiled together, once: a
function with mutants becomes `if active(3) { mutant } else if active(8) { mutant } else { original }`, and an environment variable makes
one mutant active. So a mutant costs the time of its tests only.

The unit tests of the mutant's own crate run first, then those of the other crates. Mutants that survive them are tested by the end-to-end
tests, module by module. The first failure ends it, and tests that never call the function are left out. The work is done in TARGET/mutants,
in a clone of the checkout with its changes.

Outcomes are in benches/mutants.jsonl, so that the next call goes on, on another machine too. A caught mutant stays caught while its file is
unchanged, a survivor while nothing changed (`--again`: survivors are tested again).

Survivors with a reason are listed in benches/mutants.txt. Exits with status 1 where less than 85 % of the viable mutants are caught, or
some are not tested yet.
"""

import argparse
import collections
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time

from mutant_build import Build, listed, MODULES, ROOT, run, sampled, say

ACCEPTED = ROOT / "benches/mutants.txt"
OUTCOMES = ROOT / "benches/mutants.jsonl"
LEAST_SHARE = 0.85
# Outcome of a mutant that survived the unit tests, and some end-to-end tests; others follow.
UNIT = "unit"
# Time of the first end-to-end tests of a mutant.
FIRST_SECONDS = 60
# Address space of a test process: a mutant may allocate without end.
MEMORY = 24 << 30


@dataclasses.dataclass
class Suite:
    """Tests that run together: all unit tests of a crate, or a module of the end-to-end tests."""

    name: str
    command: list
    folder: pathlib.Path
    package: str
    seconds: float = 0.0
    reached: frozenset = frozenset()

    def run(self, mutant=None, reached=None, limit=None):
        """Runs the tests until the first one fails; returns its name (`timeout`: none ended in time), and the seconds."""
        scratch = tempfile.mkdtemp(prefix="codenets-mutants-")
        # Some tests run as another user.
        os.chmod(scratch, 0o755)
        environment = dict(os.environ, TMPDIR=scratch)
        if mutant is not None:
            environment["CODENETS_MUTANT"] = str(mutant)
        if reached is not None:
            environment["CODENETS_MUTANTS_REACHED"] = str(reached)
        limits = lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        started = time.monotonic()
        child = subprocess.Popen(self.command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL, text=True, errors="replace", start_new_session=True, preexec_fn=limits)
        failed = None
        previous = signal.signal(signal.SIGALRM, lambda *_: kill(child))
        signal.alarm(int(limit or 0))
        for line in child.stdout:
            if found := re.match(r"test (\S+).* \.\.\. FAILED", line):
                failed = found.group(1)
                kill(child)
                break
        code = child.wait()
        is_late = limit is not None and time.monotonic() - started >= int(limit)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        # Programs that a test started.
        kill(child)
        shutil.rmtree(scratch, ignore_errors=True)
        if failed is None and code != 0:
            failed = "timeout" if is_late else f"the program ended with status {code}"
        return failed, time.monotonic() - started

    def measure(self, work):
        """Runs the tests without a mutant, and records which mutants they reach. Tests that fail are left out. An earlier measurement of
        the same program counts."""
        record, file = work / f"{self.name}.json", work / "reached"
        program = pathlib.Path(self.command[0]).stat().st_mtime
        if record.exists():
            known = json.loads(record.read_text())
            if known["program"] == program:
                self.seconds, self.command, self.reached = known["seconds"], known["command"], frozenset(known["reached"])
                return
        while True:
            file.unlink(missing_ok=True)
            failed, self.seconds = self.run(reached=file)
            if failed is None:
                break
            if "::" not in failed:
                raise SystemExit(f"{self.name} without a mutant: {failed}")
            say(f"{self.name}: {failed} fails without a mutant and is left out")
            self.command = [*self.command, "--skip", failed]
        self.reached = frozenset(int(line) for line in file.read_text().split()) if file.exists() else frozenset()
        known = {"program": program, "seconds": self.seconds, "command": self.command, "reached": sorted(self.reached)}
        record.write_text(json.dumps(known))


def kill(child):
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def suites_of(programs):
    suites = []
    for name, (path, folder) in sorted(programs.items()):
        if name != "end_to_end":
            suites.append(Suite(name, [path, "--test-threads=2"], folder, name))
            continue
        tests = run([path, "--list", "--format", "terse"], cwd=folder, stdout=subprocess.PIPE).stdout
        for module in sorted({line.split("::")[0] for line in tests.splitlines() if line.endswith(": test")}):
            suites.append(Suite(f"end_to_end {module}", [path, f"{module}::", "--test-threads=2"], folder, "end_to_end"))
    return suites


def tested(mutant, suites, most_seconds, passed):
    """Outcome of a mutant, by which suite and test, and the seconds. Suites begin until `most_seconds` have passed. `passed`: names of the
    suites that did not notice the mutant; more are added."""
    spent = 0.0
    for suite in suites:
        if mutant.number not in suite.reached or suite.name in passed:
            continue
        if spent > most_seconds:
            return UNIT, "", "", spent
        failed, seconds = suite.run(mutant.number, limit=30 + 5 * suite.seconds)
        spent += seconds
        if failed is not None:
            return ("timeout" if failed == "timeout" else "caught"), suite.name, f"{suite.name} {failed}", spent
        passed.append(suite.name)
    return "missed", "", "", spent


def accepted():
    """Survivors with a reason: a line with the name, and indented lines with the reason."""
    reasons, name = {}, None
    for line in ACCEPTED.read_text().splitlines() if ACCEPTED.exists() else []:
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith(" "):
            reasons[name] = (reasons[name] + " " + line.strip()).strip()
        else:
            name = line.strip()
            reasons[name] = ""
    return reasons


def report(mutants, outcomes):
    """Prints the table and the survivors; returns the share of tested mutants that are caught, and how many are untested."""
    reasons = accepted()
    counts = {module: collections.Counter() for module in MODULES}
    survivors = []
    for mutant in mutants:
        outcome = outcomes.get(mutant.number)
        counts[mutant.module][outcome["outcome"] if outcome and outcome["outcome"] != UNIT else "untested"] += 1
        if outcome and outcome["outcome"] == "missed":
            counts[mutant.module]["accepted"] += mutant.title in reasons
            survivors.append(mutant)
    columns = ["caught", "timeout", "missed", "accepted", "unviable", "untested"]
    print(f"{'module':15}" + "".join(f"{column:>10}" for column in columns) + f"{'share':>9}")
    total = collections.Counter()
    for module, own in [*counts.items(), ("all", total)]:
        if module != "all":
            total.update(own)
        if sum(own.values()) == 0:
            continue
        print(f"{module:15}" + "".join(f"{own[column]:10}" for column in columns) + f"{100 * share(own):8.1f}%")
    for mutant in sorted(survivors, key=lambda mutant: (mutant.title in reasons, mutant.name)):
        reason = f"\n    {reasons[mutant.title]}" if mutant.title in reasons else ""
        print(f"{'accepted' if reason else 'missed  '} {mutant.name}{reason}")
    return share(total), total["untested"]


def share(counts):
    caught = counts["caught"] + counts["timeout"]
    return caught / max(1, caught + counts["missed"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=300, help="number of mutants")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help=f"modules, separated by commas: {', '.join(MODULES)}")
    parser.add_argument("--again", action="store_true", help="test survivors again")
    parser.add_argument("--no-end-to-end", action="store_true", help="unit tests only; survivors stay untested")
    parser.add_argument("--minutes", type=float, help="stop after this time")
    parser.add_argument("--report", action="store_true", help="print the outcomes so far")
    options = parser.parse_args()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
    work = target / "mutants"
    work.mkdir(parents=True, exist_ok=True)

    mutants, left_out = listed()
    only = set(filter(None, options.only.split(",")))
    unknown = only - set(MODULES)
    if unknown:
        raise SystemExit(f"unknown modules {', '.join(sorted(unknown))}: expected {', '.join(MODULES)}")
    say(f"{len(mutants)} mutants; {left_out} more cannot be compiled conditionally (constants, `const fn`, `impl` results)")
    mutants = sampled(mutants, options.sample, options.seed, recorded().keys())
    names = run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE).stdout.split("\0")
    tree = hashlib.blake2b(digest_size=8)
    for name in sorted(filter(None, names)):
        if (ROOT / name).is_file() and not name.startswith(("docs/", "benches/")):
            tree.update(name.encode() + (ROOT / name).read_bytes())
    outcomes = known(mutants, tree.hexdigest(), options.again and not options.report)
    if not options.report:
        is_open = lambda mutant: outcomes.get(mutant.number, {"outcome": UNIT})["outcome"] == UNIT
        wanted = [mutant for mutant in mutants if is_open(mutant) and (not only or mutant.module in only)]
        if wanted:
            test_all(wanted, mutants, outcomes, Build(work, target), tree.hexdigest(), options)
    caught, untested = report([mutant for mutant in mutants if not only or mutant.module in only], outcomes)
    raise SystemExit(0 if caught >= LEAST_SHARE and untested == 0 else 1)


def recorded():
    """All outcomes of earlier calls, by title of the mutant."""
    lines = OUTCOMES.read_text().splitlines() if OUTCOMES.exists() else []
    return {outcome["title"]: outcome for outcome in map(json.loads, lines)}


def record(outcome):
    """Adds an outcome to the file, or replaces that of the same mutant."""
    outcomes = recorded() | {outcome["title"]: outcome}
    part = OUTCOMES.with_suffix(".part")
    part.write_text("".join(json.dumps(outcomes[title]) + "\n" for title in sorted(outcomes)))
    part.replace(OUTCOMES)


def known(mutants, tree, again):
    """Outcomes of earlier calls that still hold, by number of the mutant."""
    by_title, found = recorded(), {}
    for mutant in mutants:
        outcome = by_title.get(mutant.title)
        if outcome and outcome["file_digest"] == mutant.file_digest:
            is_final = outcome["outcome"] not in ("missed", UNIT)
            if is_final or outcome["tree"] == tree and not again:
                found[mutant.number] = outcome
    return found


def test_all(wanted, mutants, outcomes, build, tree, options):
    started = time.monotonic()

    def keep(mutant, outcome, by, passed=()):
        found = {"title": mutant.title, "module": mutant.module, "outcome": outcome, "by": by, "file_digest": mutant.file_digest,
                 "tree": tree}
        outcomes[mutant.number] = found | ({"passed": list(passed)} if outcome == UNIT else {})
        record(outcomes[mutant.number])

    dropped, programs = build.programs_of(mutants, tree)
    for mutant in wanted:
        if mutant.number in dropped:
            keep(mutant, "unviable", dropped[mutant.number])
    wanted = [mutant for mutant in wanted if mutant.number not in dropped]
    suites, catches = suites_of(programs), collections.Counter()
    measured = []
    # Most mutants are caught by the first end-to-end tests: all mutants are tested for a minute, then the others to the end.
    for is_end_to_end, most_seconds in [(False, float("inf")), (True, FIRST_SECONDS), (True, float("inf"))]:
        if is_end_to_end and options.no_end_to_end:
            return
        own = [suite for suite in suites if (suite.package == "end_to_end") == is_end_to_end]
        for suite in own if wanted and own != measured else []:
            suite.measure(build.work)
            say(f"{suite.name}: {suite.seconds:.0f} s, reaches {len(suite.reached)} of {len(mutants)} mutants")
        measured, clock, survivors = own, time.monotonic(), []
        for done, mutant in enumerate(wanted):
            if options.minutes and time.monotonic() - started > 60 * options.minutes:
                say(f"stops after {options.minutes:g} minutes; the next call goes on")
                return
            if mutant.number in outcomes and not is_end_to_end:
                survivors.append(mutant)
                continue
            # The own crate first, then the suites that are fast, or caught mutants of this module before.
            order = lambda suite: (suite.package != mutant.package, suite.seconds / (1 + catches[mutant.module, suite.name]))
            passed = outcomes.get(mutant.number, {}).get("passed", [])
            outcome, suite, by, seconds = tested(mutant, sorted(own, key=order), most_seconds, passed)
            catches[mutant.module, suite] += 1
            if outcome == "missed" and not is_end_to_end:
                outcome = UNIT
            if outcome == UNIT:
                survivors.append(mutant)
            keep(mutant, outcome, by, passed)
            left = (time.monotonic() - clock) / (done + 1) * (len(wanted) - done - 1) / 60
            what = "survives so far" if outcome == UNIT else outcome
            say(f"{done + 1}/{len(wanted)} {what} in {seconds:.0f} s, {left:.0f} minutes left: {mutant.name}{' by ' + by if by else ''}")
        wanted = survivors


if __name__ == "__main__":
    main()

"""What a night costs: CPU seconds, wall seconds and disk kept, by the share of files that changed.

    python3 benches/nightly.py --codenets target/release/codenets --repositories FOLDER [--work FOLDER] [--conf conf/nightly.conf]

FOLDER holds git repositories, one in each subfolder; they are cloned into the work folder and stay as they are. After the first night (which
trains) and the second one (which uses the release), each row makes commits in a third of the repositories and runs a night: edits of a line
(seven of ten changed files), moves, deletions and additions. Two full builds from nothing on the last state are what the nights are compared
with: one that trains, and one that adopts the release.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import time

EXTENSIONS = {".go", ".java", ".js", ".php", ".py", ".rb"}
# Share of the files that change, and a name.
ROWS = [("nothing changed", 0.0), ("one line", None), ("1 % of the files", 0.01), ("10 % of the files", 0.1)]


def git(folder, *arguments):
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "core.hooksPath=/dev/null"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, stdout=subprocess.DEVNULL)


def sources(repository):
    names = subprocess.run(["git", "-C", str(repository), "ls-files", "-z"], check=True, stdout=subprocess.PIPE, text=True).stdout.split("\0")
    return [repository / name for name in names if pathlib.Path(name).suffix in EXTENSIONS and (repository / name).is_file()]


def edit(path, rng):
    """Adds a statement after a line that ends with a semicolon or is an assignment: the code of one function changes."""
    text = path.read_text(errors="surrogateescape")
    lines = text.splitlines(keepends=True)
    places = [place for place, line in enumerate(lines) if line[:1] in " \t" and " = " in line and line.rstrip()[-1:] not in "\\,([{"]
    if places:
        place = rng.choice(places)
        lines.insert(place, lines[place])
    else:
        lines.append("\n")
    path.write_text("".join(lines), errors="surrogateescape")


def change(repositories, share, rng):
    """Commits changes of a share of all source files, in a third of the repositories; none: one line of one file."""
    files = {repository: sources(repository) for repository in repositories}
    if share is None:
        repository = rng.choice([repository for repository in repositories if files[repository]])
        edit(rng.choice(files[repository]), rng)
        git(repository, "commit", "-qam", "one line")
        return 1
    wanted = round(share * sum(map(len, files.values())))
    chosen = rng.sample(repositories, max(1, len(repositories) // 3))
    candidates = [(repository, file) for repository in chosen for file in files[repository]]
    picked = rng.sample(candidates, min(wanted, len(candidates)))
    for number, (repository, file) in enumerate(picked):
        kind = number % 10
        if kind < 7:
            edit(file, rng)
        elif kind == 7:
            git(repository, "mv", str(file), str(file.with_name(f"moved_{file.name}")))
        elif kind == 8:
            git(repository, "rm", "-qf", str(file))
        else:
            shutil.copy(file, file.with_name(f"added_{file.name}"))
            edit(file.with_name(f"added_{file.name}"), rng)
    for repository in chosen:
        git(repository, "add", "-A")
        git(repository, "commit", "-q", "--allow-empty", "-m", "changes")
    return len(picked)


def disk(folder):
    """Bytes on disk: files with several hard links count once."""
    seen, total = set(), 0
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            status = path.stat()
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total


def timed(command, environment):
    """CPU and wall seconds of a command and its processes, and its output."""
    started = time.monotonic()
    before = os.times()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    output = child.communicate()[0]
    after = os.times()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {child.returncode}: {output}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu, time.monotonic() - started, output


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codenets", required=True)
    parser.add_argument("--repositories", required=True, type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, help="folder for the clones and the data; deleted first")
    parser.add_argument("--conf", default="conf/nightly.conf")
    parser.add_argument("--out", type=pathlib.Path, help="JSON of the rows")
    options = parser.parse_args()
    temporary = None if options.work else tempfile.TemporaryDirectory()
    work = options.work or pathlib.Path(temporary.name)
    if options.work:
        shutil.rmtree(work, ignore_errors=True)
    (work / "repositories").mkdir(parents=True)
    repositories = []
    for source in sorted(path for path in options.repositories.iterdir() if (path / ".git").exists()):
        target = work / "repositories" / source.name
        subprocess.run(["git", "clone", "--quiet", "--shared", str(source), str(target)], check=True)
        repositories.append(target)
    environment = dict(os.environ, REPOSITORIES=str(work / "repositories"))
    data = work / "data"
    night = [options.codenets, "nightly", "--conf", options.conf, "--data", str(data), "--quiet"]
    rng, rows = random.Random(1), []
    for name, share in [("first night: trains", "first"), ("second night: uses the release", 0.0), *ROWS]:
        files = 0 if share in ("first", 0.0) else change(repositories, share, rng)
        kept = disk(data) if data.exists() else 0
        cpu, wall, _ = timed(night, environment)
        record = json.loads((data / "reports/nightly.json").read_text())
        ran = [stage["stage"] for stage in record["stages"] if stage["ran"]]
        rows.append({"row": name, "files": files, "cpu_s": cpu, "wall_s": wall, "kept_bytes": disk(data) - kept, "functions": record["rows"],
                     "ran": ran, "stages": {stage["stage"]: stage["cpu_s"] for stage in record["stages"]}})
        print(f"{name}: {files} files, {cpu:.1f} CPU seconds, {wall:.1f} s, ran {', '.join(ran) or 'nothing'}", flush=True)
    run = lambda name, more: [options.codenets, "run", "--conf", str(conf(work, name, options.conf, more)), "--data", str(work / name), "--quiet"]
    release = data / "models" / os.readlink(data / "models/current")
    pinned = f'adopt.from = "{release}/encoder"\nindex.reranking.learned.from = "{release}/reranker.json"'
    full = {name: timed(run(name, more), environment)[:2] for name, more in [("trained", ""), ("pinned", pinned)]}
    print(f"\n{rows[-1]['functions']:,} functions, {len(repositories)} repositories; full build that trains: {full['trained'][0]:.1f} CPU seconds, "
          f"with the release: {full['pinned'][0]:.1f}\n")
    print("| night | files | CPU seconds | of a build that trains | of a build with the release | seconds | MiB kept |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        shares = [100 * row["cpu_s"] / full[name][0] for name in ("trained", "pinned")]
        print(f"| {row['row']} | {row['files']} | {row['cpu_s']:.1f} | {shares[0]:.1f} % | {shares[1]:.1f} % | {row['wall_s']:.1f} | "
              f"{row['kept_bytes'] / (1 << 20):.0f} |")
    if options.out:
        options.out.write_text(json.dumps({"rows": rows, "full": full}, indent=1))


def conf(work, name, base, more):
    path = work / f"{name}.conf"
    path.write_text(f'include "{pathlib.Path(base).resolve()}"\n{more}\n')
    return path


if __name__ == "__main__":
    main()

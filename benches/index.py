"""Measures the three parts of an index next to other tools.

    make bench-index [DATA=data] [ROUNDS=3] [ROWS="10000 100000"] [THREADS=2]

Lexical: our writer and tantivy's own writer (`codenets-bench measure lexical`), tantivy-py and bm25s. Vectors: our HNSW graphs, and those
of faiss and hnswlib (M 16, efConstruction 128): time to build, and queries per second on one thread at the smallest ef that reaches a
recall@10 of 0.95 and 0.99. Embed: functions per second, with a plain ONNX Runtime loop and sentence-transformers on the same graph. With
--growth: our vectors only, on growing numbers of rows. index_peers.py describes what is timed of the other tools. Our own times include
reading the Parquet files.

The tools take turns (ours, other, other, ours, ...). Each run is a process, on the same rows of DATA and with the same number of threads.
Numbers are medians with (smallest to largest). A ratio is our median divided by theirs, more than 1 where ours is better, with the
smallest and largest ratio of a round. Queries are every n-th vector; they are not in the matrix. If --growth needs more vectors than
there are, x_i + x_j / 2 of random pairs follow: they are near their originals, as copies of code are. Rates and sizes are valid then;
recall is comparable for the same rows only. Measure on a quiet machine: threads that wait for each other (OpenMP, ONNX Runtime) lose more
time than others.

Installs the other tools into an environment (index_requirements.txt), prints Markdown, writes DATA/reports/bench-index.json.
"""

import argparse
import json
import math
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from index_peers import shards

HERE = pathlib.Path(__file__).resolve().parent
PARTS = ["lexical", "vectors", "embed"]
GOALS = (0.95, 0.99)
COSTS = ("rows_per_second", "rows_per_cpu_second", "bytes_per_row")


def venv(folder, with_embed):
    """Python of an environment with the pinned tools; installed once, and again when the pins change or more tools are needed."""
    light, _, heavy = (HERE / "index_requirements.txt").read_text().partition("# embed")
    python, stamp = folder / "bin/python", folder / "pins.txt"
    have = stamp.read_text() if stamp.is_file() else ""
    pins = light + f"# embed{heavy}" if with_embed else light
    if not have.startswith(pins):
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        (folder / "pins-wanted.txt").write_text(pins)
        # hnswlib has no wheels.
        pip = [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--no-binary=hnswlib"]
        subprocess.run([*pip, "-r", str(folder / "pins-wanted.txt")], check=True)
        stamp.write_text(pins)
    return python


def alternated(sides, rounds):
    """The reports of every tool in every round; every second round runs the tools in reverse order."""
    runs = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: -1 if number % 2 else 1]:
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            done = subprocess.run([str(part) for part in sides[name]], capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{name} ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
            runs[name].append(json.loads(done.stdout))
    return runs


def spread(values):
    """Median, smallest and largest over the rounds; None if a round has no value."""
    values = list(values)
    if any(value is None for value in values):
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": values}


def ratio(ours, theirs):
    if ours is None or theirs is None:
        return None
    each = [a / b for a, b in zip(ours["rounds"], theirs["rounds"])]
    return {"median": ours["median"] / theirs["median"], "min": min(each), "max": max(each)}


def shown(value, digits=0, unit=1.0):
    if value is None:
        return "–"
    low, middle, high = (f"{value[key] / unit:,.{digits}f}" for key in ("min", "median", "max"))
    return middle if low == high else f"{middle} ({low}–{high})"


def table(title, heads, rows):
    print(f"\n### {title}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def lexical_of(runs):
    return {
        "rows": runs[0]["rows"],
        "rows_per_second": spread(run["rows"] / run["seconds"] for run in runs),
        "rows_per_cpu_second": spread(run["rows"] / run["cpu_seconds"] for run in runs),
        "bytes_per_row": spread(run["bytes"] / run["rows"] for run in runs),
        "peak_mib": spread(run["peak_mib"] for run in runs),
        "runs": runs,
    }


def embed_of(runs):
    return {
        "rows": runs[0]["rows"],
        "functions_per_second": spread(run["functions_per_second"] for run in runs),
        "functions_per_cpu_second": spread(run["rows"] / run["cpu_seconds"] for run in runs),
        "busy": spread(run["busy"] for run in runs),
        "agreement": min((run["agreement"] for run in runs if "agreement" in run), default=None),
        "runs": runs,
    }


def reaching(points, goal):
    """The point of the smallest ef that reaches a recall, and the queries per second at exactly this recall, interpolated."""
    points = sorted(points, key=lambda point: point["ef"])
    for before, point in zip([None, *points], points):
        if point["recall"] >= goal:
            at_goal = point["qps"]
            if before and before["recall"] < goal:
                share = (goal - before["recall"]) / (point["recall"] - before["recall"])
                at_goal = math.exp((1 - share) * math.log(before["qps"]) + share * math.log(point["qps"]))
            return {**point, "at_goal": at_goal}
    return None


def vectors_of(runs):
    graphs, exact = [run["hnsw"] for run in runs], [run.get("exact") for run in runs]
    of = {"rows": runs[0]["rows"], "dimension": runs[0]["dimension"], "runs": runs}
    of["rows_per_second"] = spread(run["rows"] / run["hnsw"]["build_seconds"] for run in runs)
    of["rows_per_cpu_second"] = spread(run["rows"] / run["hnsw"]["build_cpu_seconds"] for run in runs)
    of["bytes_per_row"] = spread(run["hnsw"]["bytes"] / run["rows"] for run in runs)
    of["open_ms"] = spread(graph["open_ms"] for graph in graphs)
    for goal in GOALS:
        found = [reaching(graph["points"], goal) for graph in graphs]
        each = {key: spread(point and point[key] for point in found) for key in ("ef", "recall", "qps", "at_goal")}
        of[f"at_{goal}"] = each
    of["best_recall"] = spread(max(point["recall"] for point in graph["points"]) for graph in graphs)
    of["exact"] = {key: spread(scan and scan[key] for scan in exact) for key in ("open_ms", "recall", "qps")}
    of["exact"]["bytes_per_row"] = spread(scan and scan["bytes"] / run["rows"] for scan, run in zip(exact, runs))
    return of


def against(found, *path):
    """Ratios of the first tool to every other for the number at a path; None for the first itself."""

    def at(side):
        for key in path:
            side = side[key]
        return side

    first, *others = found.values()
    return [None, *(ratio(at(first), at(other)) for other in others)]


def ratios(found, paths):
    """Adds the ratios to each tool for the report, and returns them by column."""
    columns = [against(found, *path) for path in paths]
    for at, side in enumerate(found.values()):
        side["ratios"] = {**side.get("ratios", {}), **{".".join(path): column[at] for path, column in zip(paths, columns)}}
    return columns


def bench_lexical(options, rows):
    ours = [options.bench, "measure", "lexical", "--syntax", options.syntax, "--rows", rows, "--threads", options.threads]
    peer = [*options.peer, "lexical"]
    rest = ["--syntax", options.syntax, "--rows", rows, "--threads", options.threads, "--scratch", options.scratch]
    sides = {"ours": [*ours, "--engine", "ours"], "tantivy writer": [*ours, "--engine", "bare"]}
    sides |= {"tantivy-py": [*peer, "tantivy", *rest, "--tokenizer", options.tokenizer], "bm25s": [*peer, "bm25s", *rest]}
    found = {name: lexical_of(runs) for name, runs in alternated(sides, options.rounds).items()}
    by_wall, by_cpu = ratios(found, [["rows_per_second"], ["rows_per_cpu_second"]])
    heads = ["tool", "rows/s", "rows/CPU-s", "bytes a row", "peak MiB", "ratio", "ratio by CPU"]
    lines = [
        [name, *(shown(of[key]) for key in COSTS), shown(of["peak_mib"]), shown(wall, 2), shown(cpu, 2)]
        for (name, of), wall, cpu in zip(found.items(), by_wall, by_cpu)
    ]
    table(f"Lexical index of {found['ours']['rows']:,} rows, {options.threads} threads", heads, lines)
    return found


def bench_vectors(options, folder, growth=False):
    files = ["--matrix", folder / "matrix.npy", "--queries", folder / "queries.npy", "--threads", options.threads]
    sides = {"ours": [options.bench, "measure", "vectors", *files]}
    for name in [] if growth else ["faiss", "hnswlib"]:
        sides[name] = [*options.peer, "vectors", name, *files, "--scratch", options.scratch]
    return {name: vectors_of(runs) for name, runs in alternated(sides, options.rounds).items()}


def print_vectors(options, found):
    title = f"{found['ours']['rows']:,} vectors of {found['ours']['dimension']}"
    by_wall, by_cpu = ratios(found, [["rows_per_second"], ["rows_per_cpu_second"]])
    lines = [
        [name, *(shown(of[key]) for key in COSTS), shown(of["open_ms"], 2), shown(wall, 2), shown(cpu, 2)]
        for (name, of), wall, cpu in zip(found.items(), by_wall, by_cpu)
    ]
    heads = ["tool", "rows/s", "rows/CPU-s", "bytes a row", "open ms", "ratio", "ratio by CPU"]
    table(f"Graphs built of {title}, {options.threads} threads", heads, lines)
    lines = []
    for goal in GOALS:
        key = f"at_{goal}"
        plain, level = ratios(found, [[key, "qps"], [key, "at_goal"]])
        for (name, of), one, two in zip(found.items(), plain, level):
            recall = shown(of[key]["recall"], 4) if of[key]["qps"] else f"not reached: {shown(of['best_recall'], 4)}"
            lines.append([goal, name, shown(of[key]["ef"]), recall, shown(of[key]["qps"]), shown(one, 2), shown(two, 2)])
    (plain,) = ratios(found, [["exact", "qps"]])
    for (name, of), one in zip(found.items(), plain):
        if of["exact"]["qps"]:
            lines.append(["exact", name, "–", shown(of["exact"]["recall"], 4), shown(of["exact"]["qps"]), shown(one, 2), "–"])
    heads = ["recall@10 wanted", "tool", "ef", "recall@10", "queries/s", "ratio", "ratio at this recall"]
    table(f"Searching {title}, one thread", heads, lines)


def bench_embed(options, rows):
    rest = ["--encoder", options.encoder, "--syntax", options.syntax, "--rows", rows, "--threads", options.threads]
    ours = [options.bench, "measure", "embed", *rest]
    sides = {"ours": ours, **{f"ours, sessions: {count}": [*ours, "--sessions", count] for count in options.sessions}}
    for name in ["onnxruntime", "sentence-transformers"]:
        sides[name] = [*options.peer, "embed", name, *rest, *(["--embeddings", options.embeddings] if options.compared else [])]
    found = {name: embed_of(runs) for name, runs in alternated(sides, options.rounds).items()}
    by_wall, by_cpu = ratios(found, [["functions_per_second"], ["functions_per_cpu_second"]])
    lines = []
    for (name, of), wall, cpu in zip(found.items(), by_wall, by_cpu):
        agreement = "–" if of["agreement"] is None else f"{of['agreement']:.5f}"
        lines.append([name, shown(of["functions_per_second"], 1), shown(of["busy"], 2), shown(wall, 2), shown(cpu, 2), agreement])
        if of["agreement"] is not None and of["agreement"] < 0.999:
            print(f"{name}: a vector differs from ours, cosine {agreement}", file=sys.stderr)
    heads = ["tool", "functions/s", "threads busy", "ratio", "ratio by CPU", "smallest cosine with ours"]
    table(f"Embedding {found['ours']['rows']:,} functions, {options.threads} threads", heads, lines)
    return found


def print_growth(options, all_found):
    lines = []
    for of in all_found:
        exact, near = of["exact"], [of[f"at_{goal}"] for goal in GOALS]
        line = [f"{of['rows']:,}", f"{of['real']:,}", shown(of["rows_per_second"]), shown(of["bytes_per_row"]), shown(exact["bytes_per_row"])]
        line += [shown(of["open_ms"], 2), shown(exact["open_ms"], 2), shown(exact["qps"])]
        lines.append(line + [f"{shown(point['qps'])}, ef {shown(point['ef'])}" if point["qps"] else "not reached" for point in near])
    heads = ["rows", "real rows", "rows/s to a graph", "bytes a row: graph", "matrix", "open ms: graph", "matrix", "queries/s: exact"]
    table(f"Growth, {options.threads} threads, queries on one", [*heads, *(f"graph at {goal}" for goal in GOALS)], lines)


def write_matrix(embeddings, rows, queries, out, mix=False):
    """Writes distinct unit vectors as matrix.npy and every n-th as queries.npy; all rows if `rows` is None."""
    import numpy
    import pyarrow.parquet

    parts, seen, have, wanted = [], set(), 0, rows + queries if rows else math.inf
    for path in shards(embeddings):
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(columns=["embedding"]) if have < wanted else []:
            if have < wanted:
                part = batch.column(0).flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1).astype(numpy.float32)
                keys = [hash(row.tobytes()) for row in part]
                new = [at for at, key in enumerate(keys) if key not in seen and not seen.add(key)]
                parts.append(part[new][: int(min(wanted - have, len(new)))])
                have += len(parts[-1])
    real = numpy.concatenate(parts)
    real /= numpy.maximum(numpy.linalg.norm(real, axis=1, keepdims=True), 1e-12)
    count = max(1, min(queries, len(real) // 10))
    held = numpy.arange(count) * (len(real) // count)
    numpy.save(out / "queries.npy", real[held])
    real = numpy.delete(real, held, axis=0)
    rows = rows if mix else min(len(real), rows or len(real))
    target = numpy.lib.format.open_memmap(out / "matrix.npy", mode="w+", dtype=numpy.float32, shape=(rows, real.shape[1]))
    target[: len(real)] = real[:rows]
    draw = numpy.random.default_rng(0)
    for start in range(len(real), rows, 1 << 16):
        first = draw.integers(len(real), size=min(1 << 16, rows - start))
        mixed = real[first] + 0.5 * real[(first + draw.integers(1, len(real), size=len(first))) % len(real)]
        target[start : start + len(first)] = mixed / numpy.linalg.norm(mixed, axis=1, keepdims=True)
    target.flush()
    return min(rows, len(real))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--bench", required=True, help="the codenets-bench binary")
    options.add_argument("--data", required=True, type=pathlib.Path)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--rows", type=int, nargs="+", help="of lexical and vectors [default: all rows]")
    options.add_argument("--embed-rows", type=int, default=4096)
    options.add_argument("--threads", type=int, default=os.cpu_count())
    options.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    options.add_argument("--growth", type=int, nargs="+", default=[])
    options.add_argument("--queries", type=int, default=500)
    options.add_argument("--sessions", type=int, nargs="*", default=[], help="of embed: also ours with these numbers of sessions")
    options.add_argument("--tokenizer", choices=["en_stem", "whitespace"], default="en_stem", help="as index.stemming is set")
    options.add_argument("--venv", type=pathlib.Path)
    arguments, options = sys.argv[1:], options.parse_args()
    python = venv((options.venv or options.data / "bench-index-venv").absolute(), "embed" in options.only)
    # From here on with the Python of the environment, which has NumPy and pyarrow.
    if pathlib.Path(sys.prefix).resolve() != python.parent.parent.resolve():
        os.execv(python, [str(python), str(HERE / "index.py"), *arguments])
    import pyarrow.parquet

    current = lambda kind: options.data / kind / (options.data / kind / "CURRENT").read_text().strip()  # noqa: E731
    options.syntax, options.embeddings, options.encoder = current("syntax"), current("embeddings"), current("encoder")
    made_by = json.loads((options.embeddings / "manifest.json").read_text())["inputs"]
    options.compared = all(made_by.get(path.parent.name, {}).get("key") == path.name for path in (options.encoder, options.syntax))
    options.peer = [python, HERE / "index_peers.py"]
    # Counts rows, and reads each file once: no tool is the first to read it from disk.
    total = sum(pyarrow.parquet.read_metadata(path).num_rows for path in shards(options.syntax) if path.read_bytes())
    report = {"threads": options.threads, "rounds": options.rounds, "lexical": [], "vectors": [], "embed": [], "growth": []}
    with tempfile.TemporaryDirectory(dir=options.data, prefix="bench-index-") as folder:
        options.scratch = folder = pathlib.Path(folder).absolute()
        for rows in options.rows or [None]:
            if "lexical" in options.only:
                report["lexical"].append(bench_lexical(options, min(rows or total, total)))
            if "vectors" in options.only:
                write_matrix(options.embeddings, rows, options.queries, folder)
                report["vectors"].append(bench_vectors(options, folder))
                print_vectors(options, report["vectors"][-1])
        if "embed" in options.only:
            report["embed"].append(bench_embed(options, min(options.embed_rows, total)))
        for rows in options.growth:
            real = write_matrix(options.embeddings, rows, options.queries, folder, mix=True)
            report["growth"].append(bench_vectors(options, folder, growth=True)["ours"] | {"real": real})
        if options.growth:
            print_growth(options, report["growth"])
    (options.data / "reports").mkdir(exist_ok=True)
    (options.data / "reports/bench-index.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Measures the corpus stages next to pandas, polars, datasets, py-tree-sitter and tokenizers.

    python3 benches/corpus.py --codenets target/release/codenets --bench "cargo bench …" --data DATA [--rounds 3]

Installs the other tools (benches/requirements.txt) into an environment, then runs ours and theirs in turns on the same files with the
same number of threads. Prints medians, spreads and ratios. The corpus stages have run in the data folder DATA. A rate is bytes of
input per second of CPU: it depends little on the number of threads and on other work of the machine. Wall seconds are printed, too.
Writes corpus-bench.json into DATA/reports.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
# Functions in one iteration of a bench (benches/stages.rs).
SAMPLE = 1000


def venv(folder):
    """Python of an environment with the pinned tools; installed once."""
    pins = (HERE / "requirements.txt").read_text()
    stamp = folder / "pins.txt"
    python = folder / "bin/python"
    if not stamp.is_file() or stamp.read_text() != pins:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", "-r", str(HERE / "requirements.txt")]
        subprocess.run(pip, check=True)
        stamp.write_text(pins)
    return str(python)


def peer(python, name, threads, **inputs):
    with tempfile.TemporaryDirectory() as out:
        command = [python, str(HERE / "corpus_peers.py"), name, "--threads", str(threads), "--out", f"{out}/out"]
        for key, value in inputs.items():
            command += [f"--{key}", str(value)]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def ours(codenets, stage, kind, conf, data, threads):
    """Runs one stage again; `data` is a copy of the data folder that has hard links to the files of the inputs."""
    shutil.rmtree(data / kind, ignore_errors=True)
    command = [codenets, "run", "--only", stage, "--conf", conf, "--data", str(data), "--threads", str(threads), "--quiet"]
    started = time.monotonic()
    child = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    return {"wall_s": time.monotonic() - started, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_rss_mib": usage.ru_maxrss / 1024}


def microseconds(text, unit):
    return float(text) * {"ns": 1e-3, "µs": 1.0, "ms": 1e3, "s": 1e6}[unit]


def divan(command, syntax, tokenizer):
    """Medians of `cargo bench`, by name, in microseconds."""
    environment = {**os.environ, "CODENETS_SYNTAX": str(syntax), "CODENETS_TOKENIZER": str(tokenizer)}
    text = subprocess.run(command, shell=True, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    found = {}
    for line in text.splitlines():
        match = re.match(r"\W*(\w+)\s+([\d.]+) (\S+)\s+│\s+([\d.]+) (\S+)\s+│\s+([\d.]+) (\S+)", line)
        if match:
            found[match[1]] = microseconds(match[6], match[7])
    return found


def line(name, runs, size, flat):
    """Prints one row of the table; returns the median CPU seconds."""
    cpu = [run["cpu_s"] for run in runs]
    wall, median = statistics.median(run["wall_s"] for run in runs), statistics.median(cpu)
    peak = max(run["peak_rss_mib"] for run in runs)
    spread = (max(cpu) - min(cpu)) / median if median else 0.0
    print(f"{name:<28} {size / 1e6 / median:>9.1f} {wall:>8.2f} {median:>8.2f} {spread:>7.0%} {peak:>7.0f}", flush=True)
    flat.update({f"{name}.cpu_s": median, f"{name}.wall_s": wall, f"{name}.spread": spread, f"{name}.peak_mib": peak})
    return median


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--codenets", required=True, help="the codenets binary")
    options.add_argument("--bench", required=True, help="command that runs benches/stages.rs")
    options.add_argument("--conf", default="conf/demo.conf")
    options.add_argument("--data", required=True, type=pathlib.Path)
    options.add_argument("--venv", type=pathlib.Path)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, nargs="+", default=[1])
    options = options.parse_args()
    python = venv(options.venv or options.data / "bench-venv")
    current = lambda data, kind: data / kind / (data / kind / "CURRENT").read_text().strip()  # noqa: E731
    work = pathlib.Path(tempfile.mkdtemp(dir=options.data, prefix="bench-")).resolve()
    flat = {}
    try:
        for kind in ("raw", "functions", "syntax", "vocabulary", "tokens"):
            shutil.copytree(options.data / kind, work / kind, copy_function=os.link)
        raw = current(work, "raw")
        print(f"{'':<28} {'MB/CPU-s':>9} {'wall s':>8} {'CPU s':>8} {'spread':>7} {'MiB':>7}")
        for threads in options.threads:
            runs = {name: [] for name in ("ours", "ingest-pandas", "ingest-polars", "ingest-datasets")}
            for _ in range(options.rounds):
                runs["ours"].append(ours(options.codenets, "ingest", "functions", options.conf, work, threads))
                for name in list(runs)[1:]:
                    runs[name].append(peer(python, name, threads, raw=raw))
            size = runs["ingest-pandas"][0]["bytes"]
            cpu = {name: line(f"ingest {name}, {threads} threads", found, size, flat) for name, found in runs.items()}
            for name in list(runs)[1:]:
                flat[f"ratio.{name}.{threads}"] = cpu[name] / cpu["ours"]
                without = statistics.median(run["work_cpu_s"] for run in runs[name]) / cpu["ours"]
                flat[f"ratio.{name}.without-imports.{threads}"] = without
                print(f"ratio to {name}: {cpu[name] / cpu['ours']:.2f}, without the imports of the other tool {without:.2f}")
            text = work / "texts.txt"
            run_in(python, TEXTS, current(work, "syntax"), text)
            runs = {name: [] for name in ("ours, four columns", "tokenize-bare")}
            for _ in range(options.rounds):
                runs["ours, four columns"].append(ours(options.codenets, "tokenize", "tokens", options.conf, work, threads))
                tokenizer = current(work, "vocabulary") / "tokenizer.json"
                runs["tokenize-bare"].append(peer(python, "tokenize-bare", threads, text=text, tokenizer=tokenizer))
            size = runs["tokenize-bare"][0]["bytes"]
            cpu = {name: line(f"tokenize {name}, {threads} threads", found, size, flat) for name, found in runs.items()}
            flat[f"ratio.tokenize-stage-over-bare.{threads}"] = cpu["tokenize-bare"] / cpu["ours, four columns"]
            # ingest wrote the same bytes again, so that the inputs of `parse` are unchanged.
            runs = {name: [] for name in ("ours, every column", "ast-python", "ast-bare")}
            for _ in range(options.rounds):
                runs["ours, every column"].append(ours(options.codenets, "parse", "syntax", options.conf, work, threads))
                for name in list(runs)[1:]:
                    runs[name].append(peer(python, name, threads, syntax=current(work, "syntax")))
            size = runs["ast-python"][0]["bytes"]
            cpu = {name: line(f"parse {name}, {threads} threads", found, size, flat) for name, found in runs.items()}
            if threads == options.threads[0]:
                with tempfile.TemporaryDirectory() as out:
                    check = f"{out}/check.jsonl"
                    peer(python, "ast-python", threads, syntax=current(work, "syntax"), check=check)
                    flat["ast_tokens_equal_share"] = float(run_in(python, EQUAL, current(work, "syntax"), check))
                    print(f"rows whose ast_tokens are equal in both: {flat['ast_tokens_equal_share']:.4%}")
            flat[f"ratio.parse-every-column-over-ast-python.{threads}"] = cpu["ast-python"] / cpu["ours, every column"]
            python_path = cpu["ast-python"] - cpu["ast-bare"]
            flat[f"python.linearise_cpu_s.{threads}"] = python_path
        syntax = current(work, "syntax")
        medians = divan(options.bench, syntax, current(work, "vocabulary") / "tokenizer.json")
        for name, value in medians.items():
            print(f"{name:<28} {value:>12.1f} us")
            flat[f"divan.{name}_us"] = value
        flat["ratio.linearise-share-of-bare-parse"] = medians["bare_parse"] / medians["parse_and_linearise"]
        flat["ratio.every-column-share-of-bare-parse"] = medians["bare_parse"] / medians["every_column"]
        flat["ratio.words-over-library"] = medians["tokenizers_library"] / medians["word_by_word"]
        # Microseconds per function without parsing: for Python the difference of two runs, for us of two benches.
        theirs = flat[f"python.linearise_cpu_s.{options.threads[0]}"] / run_in(python, ROWS, syntax) * 1e6
        own = (medians["parse_and_linearise"] - medians["bare_parse"]) / SAMPLE
        flat["ratio.path-alone-over-python-path-alone"] = theirs / own
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for key, value in flat.items():
        if key.startswith("ratio."):
            print(f"{key[6:]:<48} {value:>7.2f}")
    (options.data / "reports").mkdir(exist_ok=True)
    (options.data / "reports/corpus-bench.json").write_text(json.dumps(flat, indent=1) + "\n")


# Number of rows of a table; texts as `tokenize` reads them; share of rows whose tokens are equal to those of another tool.
ROWS = """
import sys, pathlib, pyarrow.parquet as p
print(sum(p.read_metadata(f).num_rows for f in pathlib.Path(sys.argv[1]).glob("*/*.parquet")))
"""
TEXTS = """
import sys, pathlib, pyarrow.parquet as p
with open(sys.argv[2], "w", encoding="utf-8") as out:
    for f in sorted(pathlib.Path(sys.argv[1]).glob("*/*.parquet")):
        for row in p.read_table(f, columns=["name_words", "code_words"]).to_pylist():
            print(row["name_words"], row["code_words"], file=out)
print(0)
"""
EQUAL = """
import sys, json, pathlib, pyarrow.parquet as p
ours = {}
for f in pathlib.Path(sys.argv[1]).glob("*/*.parquet"):
    for row in p.read_table(f, columns=["id", "ast_tokens"]).to_pylist():
        ours[row["id"]] = row["ast_tokens"]
theirs = [json.loads(line) for line in open(sys.argv[2], encoding="utf-8")]
print(sum(ours[row["id"]] == row["ast_tokens"] for row in theirs) / len(ours))
"""


def run_in(python, code, *arguments):
    """The number that a snippet prints in the environment of the other tools."""
    command = [python, "-c", code, *map(str, arguments)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


if __name__ == "__main__":
    main()

"""Measures how time and memory of the corpus stages grow from few to many rows. Each stage runs in its own process.

    python3 benches/scale.py --codenets target/release/codenets --csn FOLDER --data data-scale --rows 100000 2000000

`harvest` generates the rows from the records of FOLDER (conf/scale.conf). Prints rows/s, MB/s of jsonl, CPU microseconds per row and
peak memory for every stage, number of rows and number of threads. Writes scale.json into the data folder.
"""

import argparse
import gzip
import json
import os
import pathlib
import shutil
import time

STAGES = {"ingest": "functions", "parse": "syntax", "vocab": "vocabulary", "tokenize": "tokens"}


def run(command, environment):
    """Wall seconds, CPU seconds and peak MiB of a command."""
    started = time.monotonic()
    child = os.posix_spawn(command[0], command, environment)
    _, status, usage = os.wait4(child, 0)
    wall = time.monotonic() - started
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def jsonl_bytes(raw):
    total = 0
    for path in sorted(raw.rglob("*.jsonl.gz")):
        with gzip.open(path) as lines:
            while chunk := lines.read(1 << 22):
                total += len(chunk)
    return total


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--codenets", required=True, help="the codenets binary")
    options.add_argument("--csn", required=True)
    options.add_argument("--data", required=True, type=pathlib.Path)
    options.add_argument("--rows", type=int, nargs="+", default=[100_000, 2_000_000])
    options.add_argument("--threads", type=int, nargs="+", default=[2])
    options.add_argument("--conf", default="conf/scale.conf")
    options = options.parse_args()
    flat = {}
    print(f"{'rows':>9} {'threads':>7} {'stage':<9} {'seconds':>8} {'rows/s':>8} {'MB/s':>7} {'CPU us/row':>10} {'MiB':>6}")
    for rows in options.rows:
        data = options.data / str(rows)
        environment = {**os.environ, "CSN_DIR": options.csn, "ROWS": str(rows)}
        own = ["--conf", options.conf, "--data", str(data), "--quiet"]
        run([options.codenets, "run", "--only", "harvest", *own], environment)
        raw = data / "raw" / (data / "raw/CURRENT").read_text().strip()
        megabytes = jsonl_bytes(raw) / 1e6
        flat[f"{rows}.jsonl_mb"] = megabytes
        for threads in options.threads:
            for stage, kind in STAGES.items():
                shutil.rmtree(data / kind, ignore_errors=True)
                wall, cpu, peak = run([options.codenets, "run", "--only", stage, *own, "--threads", str(threads)], environment)
                cost = cpu / rows * 1e6
                for key, value in {"wall_s": wall, "cpu_us_per_row": cost, "peak_mib": peak}.items():
                    flat[f"{rows}.{threads}.{stage}.{key}"] = value
                print(
                    f"{rows:>9} {threads:>7} {stage:<9} {wall:>8.1f} {rows / wall:>8.0f} {megabytes / wall:>7.1f} {cost:>10.1f} {peak:>6.0f}",
                    flush=True,
                )
    few, many = min(options.rows), max(options.rows)
    if {1, 2} <= set(options.threads):
        for stage in STAGES:
            efficiency = flat[f"{many}.1.{stage}.wall_s"] / flat[f"{many}.2.{stage}.wall_s"] / 2
            flat[f"efficiency.{stage}"] = efficiency
            print(f"{stage}: parallel efficiency of two threads on {many} rows {efficiency:.0%}")
    for threads in options.threads if many > few else []:
        for stage in STAGES:
            growth = flat[f"{many}.{threads}.{stage}.cpu_us_per_row"] / flat[f"{few}.{threads}.{stage}.cpu_us_per_row"] - 1
            flat[f"growth.{threads}.{stage}"] = growth
            print(f"{stage}, {threads} threads: {growth:+.1%} CPU per row from {few} to {many} rows")
    (options.data / "scale.json").write_text(json.dumps(flat, indent=1) + "\n")


if __name__ == "__main__":
    main()

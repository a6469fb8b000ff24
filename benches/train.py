"""Measures training steps next to PyTorch: the same model, lengths and number of threads, in alternating runs on one machine.

    make bench-train [DATA=data] [ROUNDS=3] [STEPS=8] [THREADS=2] [DEVICE=cuda]

Models: `bert` (3 layers, width 128, 8 heads, intermediate width 512, mean pooling) and `nbow` (width 128, weighted mean), batch 128,
symmetric cross-entropy over the batch, AdamW. Lengths: `full` (30 and 200 ids per row) and `bucketed` (lengths of real rows of the tokens
in DATA, sorted by length in windows of 16 batches). PyTorch: torch.nn modules, eager, scaled_dot_product_attention with a mask, pooling
by a batched product for nbow. Prints medians over all steps without the first two of each run, their spread, and peak memory of the
process. With cuda, PyTorch reports the memory of the GPU only: the two are not comparable. A ratio is PyTorch's time divided by ours.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

BATCH, VOCABULARY = 128, 10_000
CONF = """
include "{base}"
train {{
  encoder {{ kind = {encoder}, {encoder} {{ {settings} }} }}
  pooler = {pooler}
  loss {{
    kind = softmax-cross-entropy
    softmax-cross-entropy {{ symmetric = true, initial-scale = 14.0, learn-scale = true }}
  }}
  optimizer {{ learning-rate = 0.0001, weight-decay = 0.01 }}
  kernels = {kernels}
  device = {device}
}}
"""
ENCODERS = {
    "bert": ("dimension = 128, intermediate = 512, layers = 3, heads = 8, dropout = 0.0", "mean"),
    "nbow": ("dimension = 128", "weighted-mean"),
}


def real_lengths(data):
    """Lengths of the training rows, as training frames them: one id before a query, two before code."""
    import pyarrow.parquet

    tokens = data / "tokens" / (data / "tokens" / "CURRENT").read_text().strip()
    lengths = []
    for path in sorted((tokens / "train").glob("**/*.parquet")):
        table = pyarrow.parquet.read_table(path, columns=["query", "code"]).to_pydict()
        lengths += [(len(q) + 1, len(c) + 2) for q, c in zip(table["query"], table["code"]) if q]
    return lengths


def bucketed(lengths):
    shuffler = random.Random(0)
    shuffler.shuffle(lengths)
    batches = []
    for start in range(0, len(lengths) - BATCH * 16 + 1, BATCH * 16):
        window = sorted(lengths[start : start + BATCH * 16], key=lambda pair: (pair[1], pair[0]))
        batches += [window[i : i + BATCH] for i in range(0, len(window), BATCH)]
    shuffler.shuffle(batches)
    return batches


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True, help="the codenets-bench binary")
    parser.add_argument("--base", type=pathlib.Path, required=True, help="conf/base.conf")
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--models", nargs="+", default=["bert", "nbow"], choices=list(ENCODERS))
    parser.add_argument("--stock", action="store_true", help="also burn's own kernels")
    arguments = parser.parse_args()
    peer = pathlib.Path(__file__).with_name("train_peer.py")
    cases = {"full": [[(30, 200)] * BATCH]}
    real = real_lengths(arguments.data)
    if len(real) >= BATCH * 16:
        cases["bucketed"] = bucketed(real)[: arguments.steps]
        inner = [pair for batch in cases["bucketed"] for pair in batch]
        places = sum(len(batch) * max(code for _, code in batch) for batch in cases["bucketed"])
        print(f"bucketed: {1 - sum(code for _, code in inner) / places:.1%} of a padded rectangle of code is padding")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for model in arguments.models:
            for case, batches in cases.items():
                lengths = folder / "lengths.json"
                lengths.write_text(json.dumps({"vocabulary": VOCABULARY, "batches": [{"query": [q for q, _ in b], "code": [c for _, c in b]} for b in batches]}))
                sides = {}
                kernels = ["stock"] if arguments.device == "cuda" else ["fused", "stock"] if arguments.stock else ["fused"]
                for kernel in kernels:
                    conf = folder / f"{kernel}.conf"
                    settings, pooler = ENCODERS[model]
                    conf.write_text(CONF.format(base=arguments.base.resolve(), encoder=model, settings=settings, pooler=pooler, kernels=kernel, device=arguments.device))
                    sides[f"codenets {kernel}"] = [
                        arguments.bench, "train-steps", "--conf", str(conf), "--lengths", str(lengths), "--threads", str(arguments.threads)
                    ]
                modes = ["eager", "compiled-bf16", "eager-bf16"] if arguments.device == "cuda" else ["eager"]
                for mode in modes:
                    sides[f"pytorch {mode}"] = [
                        sys.executable, str(peer), "--model", model, "--lengths", str(lengths), "--threads", str(arguments.threads),
                        "--device", arguments.device, "--mode", mode,
                    ]
                times = {side: [] for side in sides}
                memory = {side: 0 for side in sides}
                for _ in range(arguments.rounds):
                    for side, command in sides.items():
                        done = subprocess.run([*command, "--steps", str(arguments.steps + 2)], capture_output=True, text=True)
                        if done.returncode:
                            sys.exit(f"{side}: {done.stderr}")
                        report = json.loads(done.stdout.splitlines()[-1])
                        times[side] += [s / n for s, n in zip(report["seconds"], report["samples"])][2:]
                        memory[side] = max(memory[side], report["peak_mib"])
                base = statistics.median(times["pytorch eager"])
                for side, each in times.items():
                    quartiles = statistics.quantiles(each, n=4)
                    row = {
                        "model": model,
                        "lengths": case,
                        "side": side,
                        "samples_per_s": 1 / statistics.median(each),
                        "spread": (quartiles[2] - quartiles[0]) / quartiles[1],
                        "peak_mib": memory[side],
                        "ratio": base / statistics.median(each),
                        "memory_ratio": memory[side] / memory["pytorch eager"],
                    }
                    results.append(row)
                    print(
                        f"{model:5} {case:9} {side:16} {row['samples_per_s']:9.1f} samples/s (spread {row['spread']:.0%})"
                        f"  x{row['ratio']:.2f}  {row['peak_mib']:6.0f} MiB (x{row['memory_ratio']:.2f})",
                        flush=True,
                    )
    reports = arguments.data / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    (reports / "bench_train.json").write_text(json.dumps(results, indent=1))


main()

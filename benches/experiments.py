"""Compares encoders and losses: trains each on the corpus of CONF, exports it, and ranks with the exported graph.

    make experiments CONF=conf/six-languages-large.conf COSQA=folder

Prints for each: time and peak memory of the training stage, size of the graph, and mrr@1000 on the test split. This is CodeSearchNet's
protocol: a shuffle with seed 0, batches of 1000 without the last partial one, cosine; a tie counts as a loss. If COSQA is the folder of
its two files, also MRR on CoSQA's development set: 500 queries, all 6,267 functions ranked. Recorded trainings do not run again; scores
that are in DATA/reports/experiments.json are not computed again.
"""

import argparse
import gzip
import json
import pathlib
import os
import re
import subprocess
import sys

# Before ONNX Runtime is imported: it sends telemetry otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy
import onnxruntime
import pyarrow.parquet
import tokenizers

# Words as schema.md of a bundle defines them, for ASCII.
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

CE = "kind = softmax-cross-entropy, symmetric = true, initial-scale = 14.0, learn-scale = true"
LOSSES = {
    "softmax-cross-entropy, symmetric": CE,
    "softmax-cross-entropy": CE.replace("symmetric = true", "symmetric = false"),
    "margin-softmax": "kind = margin-softmax, margin = 1.0, scale = 14.0",
    "margin-softmax, scale 1 (predecessor)": "kind = margin-softmax, margin = 1.0, scale = 1.0",
    "cosine-margin": "kind = cosine-margin, margin = 0.5",
    "triplet": "kind = triplet, margin = 0.5",
    "lambda ndcg-1": "kind = lambda, scheme = ndcg-1, k = null, sigma = 1.0, mu = 10.0, scale = 14.0",
    "lambda ndcg-2": "kind = lambda, scheme = ndcg-2, k = null, sigma = 1.0, mu = 10.0, scale = 14.0",
    "lambda ndcg-2pp": "kind = lambda, scheme = ndcg-2pp, k = null, sigma = 1.0, mu = 10.0, scale = 14.0",
    "lambda lambda-rank": "kind = lambda, scheme = lambda-rank, k = null, sigma = 1.0, mu = 10.0, scale = 14.0",
    "lambda rank-net": "kind = lambda, scheme = rank-net, k = null, sigma = 1.0, mu = 10.0, scale = 14.0",
    "lambda rank-net-gt-diff": "kind = lambda, scheme = rank-net-gt-diff, k = null, sigma = 1.0, mu = 10.0, scale = 14.0",
    "approx-ndcg": "kind = approx-ndcg, alpha = 1.0, scale = 14.0",
}
NBOW = "kind = nbow, dimension = 256"
SLOW = "optimizer { weight-decay = 0.01, max-gradient-norm = 1.0 }, batch.size = 128, options.token-dropout = 0.1"
# Kind, pooler, learning rate.
ENCODERS = {
    "conv1d 3x128, kernel 16": ("kind = conv1d, dimension = 128, layers = 3, kernel = 16, dropout = 0.1", "weighted-mean", 0.002),
    "birnn 2x64": ("kind = birnn, dimension = 128, hidden = 64, layers = 2, dropout = 0.1", "weighted-mean", 0.0005),
    "bert 128/512/3/8": ("kind = bert, dimension = 128, intermediate = 512, layers = 3, heads = 8, dropout = 0.1", "mean", 0.0005),
    "albert 64/128/512/3/8": ("kind = albert, embedding = 64, dimension = 128, intermediate = 512, layers = 3, heads = 8, dropout = 0.1", "mean", 0.0005),
    "conv-attention 128": (
        "kind = conv-attention, dimension = 128, convolutions = 1, kernel = 8, intermediate = 512, layers = 2, heads = 8, dropout = 0.1",
        "weighted-mean",
        0.0005,
    ),
}


def chosen(text):
    """`kind = x, rest` as an object that selects a kind: `kind = x, x { rest }`."""
    kind, _, settings = text.removeprefix("kind = ").partition(", ")
    return f"kind = {kind}, {kind} {{ {settings} }}"


def experiments(epochs, slow_epochs):
    for loss, text in LOSSES.items():
        yield "nbow 256", "weighted-mean", loss, epochs, f"train.encoder {{ {chosen(NBOW)} }}\ntrain.loss {{ {chosen(text)} }}\ntrain.epochs = {epochs}"
    for pooler in ("mean", "max"):
        yield "nbow 256", pooler, "softmax-cross-entropy, symmetric", epochs, (
            f"train.encoder {{ {chosen(NBOW)} }}\ntrain.loss {{ {chosen(CE)} }}\ntrain.pooler = {pooler}\ntrain.epochs = {epochs}"
        )
    for name, (encoder, pooler, rate) in ENCODERS.items() if slow_epochs else ():
        yield name, pooler, "softmax-cross-entropy, symmetric", slow_epochs, (
            f"train.encoder {{ {chosen(encoder)} }}\ntrain.loss {{ {chosen(CE)} }}\ntrain {{ pooler = {pooler}, epochs = {slow_epochs}, {SLOW} }}\n"
            f"train.optimizer.learning-rate = {rate}"
        )


class Encoder:
    def __init__(self, folder):
        self.spec = json.loads((folder / "encoder.json").read_text())
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.session = onnxruntime.InferenceSession(str(folder / self.spec["query_graph"]), providers=["CPUExecutionProvider"])

    def frame(self, ids, side, language):
        before = [self.tokenizer.token_to_id(token.replace("{language}", language)) for token in self.spec[f"{side}_prefix"]]
        return (before + list(ids))[: self.spec[f"{side}_tokens"]]

    def text(self, text, side, language="python"):
        words = " ".join(WORDS.findall(text)).lower()
        return self.frame(self.tokenizer.encode(words, add_special_tokens=False).ids, side, language)

    def vectors(self, rows):
        pad = self.tokenizer.token_to_id(self.spec["pad_token"])
        out = numpy.zeros((len(rows), self.spec["dimension"]), dtype=numpy.float32)
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        for start in range(0, len(order), 64):
            part = order[start : start + 64]
            longest = max(1, max(len(rows[row]) for row in part))
            ids = numpy.array([rows[row] + [pad] * (longest - len(rows[row])) for row in part], dtype=numpy.int64)
            mask = numpy.array([[1] * len(rows[row]) + [0] * (longest - len(rows[row])) for row in part], dtype=numpy.int64)
            out[part] = self.session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})[0]
        return out


def reciprocal_ranks(query, code, own):
    scores = query @ code.T
    return 1 / (scores >= scores[numpy.arange(len(own)), own][:, None]).sum(1)


def mrr_1000(encoder, tokens):
    query, code = [], []
    for path in sorted((tokens / "test").glob("**/*.parquet")):
        table = pyarrow.parquet.read_table(path, columns=["language", "query", "code"]).to_pydict()
        for language, q, c in zip(table["language"], table["query"], table["code"]):
            if q:
                query.append(encoder.frame(q, "query", language))
                code.append(encoder.frame(c, "code", language))
    order = numpy.random.RandomState(0).permutation(len(query))
    query, code = encoder.vectors(query)[order], encoder.vectors(code)[order]
    own = numpy.arange(1000)
    ranks = [reciprocal_ranks(query[i : i + 1000], code[i : i + 1000], own) for i in range(0, len(query) - 999, 1000)]
    return float(numpy.concatenate(ranks).mean()) if ranks else float("nan")


def cosqa(encoder, folder):
    codes = sorted(json.load(gzip.open(folder / "cosqa_codebase_6267.json.gz")).items(), key=lambda item: item[1])
    dev = json.load(gzip.open(folder / "cosqa_dev_500.json.gz"))
    name = lambda code: (re.search(r"def\s+(\w+)", code) or ["", ""])[1]
    code = encoder.vectors([encoder.text(name(code) + " " + code, "code") for code, _ in codes])
    query = encoder.vectors([encoder.text(row["doc"], "query") for row in dev])
    return float(reciprocal_ranks(query, code, numpy.array([row["retrieval_idx"] for row in dev])).mean())


def artifact(data, kind):
    folder = data / kind / (data / kind / "CURRENT").read_text().strip()
    return folder, json.loads((folder / "manifest.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codenets", required=True, help="the codenets binary")
    parser.add_argument("--conf", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="data folder with tokens (make tokenize)")
    parser.add_argument("--cosqa", type=pathlib.Path)
    parser.add_argument("--epochs", type=int, default=4, help="epochs of nbow")
    parser.add_argument("--slow-epochs", type=int, default=1, help="epochs of the other encoders; 0: none of them")
    parser.add_argument("--out", type=pathlib.Path, help="Markdown file for the table")
    arguments = parser.parse_args()
    data = arguments.data
    reports = data / "reports" / "experiments.json"
    reports.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(reports.read_text()) if reports.exists() else {}
    lines = []
    for encoder, pooler, loss, epochs, setting in experiments(arguments.epochs, arguments.slow_epochs):
        conf = data / "reports" / "experiment.conf"
        head = f'include "{arguments.conf.resolve()}"\n'
        conf.write_text(head + setting + "\nexport.max-mrr-loss = 1.0\n")
        done = subprocess.run([arguments.codenets, "run", "--until", "export", "--conf", str(conf), "--data", str(data)], stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        checkpoint, trained = artifact(data, "checkpoint")
        folder, exported = artifact(data, "encoder")
        if folder.name not in known or (arguments.cosqa and "cosqa" not in known[folder.name]):
            graph = Encoder(folder)
            scores = {"mrr@1000": mrr_1000(graph, artifact(data, "tokens")[0])}
            if arguments.cosqa:
                scores["cosqa"] = cosqa(graph, arguments.cosqa)
            known[folder.name] = scores
            reports.write_text(json.dumps(known, indent=1))
        scores, report = known[folder.name], trained["report"]
        lines.append(
            f"| {encoder} | {pooler} | {loss} | {len(report['epochs'])} | {report['training_s']:.0f} | {report['samples_per_s']:.0f} "
            f"| {trained['host']['peak_rss_mib']} | {exported['report']['bytes'] / 2**20:.1f} | {report['best_valid_mrr']:.3f} "
            f"| {scores['mrr@1000']:.3f} | {scores.get('cosqa', float('nan')):.3f} |"
        )
        print(lines[-1], flush=True)
    head = [
        "| encoder | pooler | loss | epochs | s | pairs/s | peak MiB | graph MiB | valid mrr@in-batch(1000) | test mrr@1000 | CoSQA dev MRR |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    if arguments.out:
        arguments.out.write_text("\n".join(head + lines) + "\n")
    print("\n".join(head + lines))


main()

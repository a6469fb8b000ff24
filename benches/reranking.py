"""Chooses the weights of reranking (index.reranking.weights) on development sets. Needs numpy and scipy.

    codenets-bench candidates BUNDLE files questions.json --out questions.jsonl
    codenets-bench candidates BUNDLE documentation valid --data DATA --out valid.jsonl
    python3 benches/reranking.py questions.jsonl:1.5 csn.jsonl:2 cosqa.jsonl:1 valid.jsonl:0.5

Each set has a weight: its queries share it. The weights of the features minimise a softmax cross-entropy over the candidates of each query
(for questions about files, over the best candidate of each file), with a penalty on the squares of their differences from `score = 8`, and
another on what each class of queries adds. Prints the score of each set (NDCG@10 by file, NDCG, or MRR) with the fused order, with the
weights, and with weights fitted on two thirds of the repositories or queries for the last third; then the weights as HOCON.
"""

import argparse
import collections
import json
import math
import pathlib
import re

import numpy
from scipy.optimize import minimize

SOURCE = pathlib.Path(__file__).parent.parent / "indexer/bundle/src/reranking/features.rs"
FEATURES = re.findall(r'^    "([^"]+)",$', SOURCE.read_text().split("pub const FEATURES")[1].split("];")[0], re.M)
CLASSES = ["symbol", "keywords", "question"]
START = numpy.array([8.0 if name == "score" else 0.0 for name in FEATURES])
FOLDS = 3


class Query:
    """A query: features, file and grade of each candidate; `fold`: what must be in one fold."""

    def __init__(self, kind, class_name, rows, relevant, group, fold):
        self.kind, self.number, self.relevant, self.group, self.fold = kind, CLASSES.index(class_name), relevant, group, fold
        self.features = numpy.array([row[2] for row in rows]).reshape(-1, len(FEATURES))
        self.files = numpy.array([row[0] for row in rows], dtype=int)
        self.grades = numpy.array([row[1] for row in rows], dtype=float)
        self.is_answered = bool(len(rows)) and bool((self.grades > 0).any())
        length, product = (self.features[:, FEATURES.index(name)] for name in ("length", "length-concentrated"))
        self.concentration = float((product[length > 0] / length[length > 0])[0]) if (length > 0).any() else 1.0


def read(path):
    queries = []
    for index, line in enumerate(path.read_text().splitlines()):
        found = json.loads(line)
        if isinstance(found, list):
            class_name, by_file, rows = found
            queries.append(Query("files" if by_file else "mrr", class_name, rows, [1.0], "", index))
            continue
        rows = [(row["file"], row["grade"], row["features"]) for row in found["rows"]]
        fold = found["repo"] or found["query"]
        queries.append(Query(found["measure"], found["class"], rows, found["relevant"], found["group"], fold))
    folds = {fold: number % FOLDS for number, fold in enumerate(sorted({query.fold for query in queries}))}
    for query in queries:
        query.fold = folds[query.fold]
    return queries


def loss(flat, queries, penalty, class_penalty):
    weights = flat.reshape(1 + len(CLASSES), len(FEATURES))
    value, slope, total = 0.0, numpy.zeros_like(weights), sum(query.weight for query in queries)
    for query in filter(lambda query: query.is_answered, queries):
        scores = query.features @ (weights[0] + weights[1 + query.number])
        rows = numpy.arange(len(scores))
        if query.kind == "files":
            order = numpy.argsort(-scores, kind="stable")
            rows = order[numpy.unique(query.files[order], return_index=True)[1]]
        shifted = scores[rows] - scores[rows].max()
        probability = numpy.exp(shifted) / numpy.exp(shifted).sum()
        grades = query.grades[rows]
        target = (grades > 0) * (2**grades - 1 if query.kind == "csn" else 1.0)
        target = target / target.sum()
        value -= query.weight / total * (target * numpy.log(probability)).sum()
        gradient = query.weight / total * (query.features[rows].T @ (probability - target))
        slope[0] += gradient
        slope[1 + query.number] += gradient
    value += penalty * ((weights[0] - START) ** 2).sum() + class_penalty * (weights[1:] ** 2).sum()
    slope[0] += 2 * penalty * (weights[0] - START)
    slope[1:] += 2 * class_penalty * weights[1:]
    return value, slope.ravel()


def fit(queries, options):
    start = numpy.concatenate([START, numpy.zeros(len(CLASSES) * len(FEATURES))])
    arguments = (queries, options.penalty, options.class_penalty)
    return minimize(loss, start, args=arguments, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x.reshape(-1, len(FEATURES))


def ranked(query, weights, diversity):
    """Rows by score, and then by diversity of their files."""
    scores = query.features @ (weights[0] + weights[1 + query.number])
    order = numpy.argsort(-scores, kind="stable")
    if not len(order) or scores.max() <= scores.min():
        return order
    values, better = (scores[order] - scores.min()) / (scores.max() - scores.min()), collections.Counter()
    for place, row in enumerate(order):
        values[place] -= diversity * query.concentration * better[query.files[row]]
        better[query.files[row]] += 1
    return order[numpy.argsort(-values, kind="stable")]


def measure(query, weights, diversity):
    grades = query.grades[ranked(query, weights, diversity)]
    if query.kind == "mrr":
        found = numpy.flatnonzero(grades > 0)
        return 1 / (found[0] + 1) if len(found) else 0.0
    if query.kind == "files":
        first = {grade: place for place, grade in reversed(list(enumerate(grades[:10]))) if grade > 0}
        best = sum(1 / math.log2(place + 2) for place in range(min(len(query.relevant), 10)))
        return sum(1 / math.log2(place + 2) for place in first.values()) / best
    gains = [(2**grade - 1) / math.log2(place + 2) for place, grade in enumerate(grades[:300])]
    ideal = [(2**grade - 1) / math.log2(place + 2) for place, grade in enumerate(sorted(query.relevant, reverse=True))]
    return sum(gains) / sum(ideal) if sum(ideal) else 0.0


def score(queries, weights, diversity):
    """The mean over the queries; for the challenge over the languages."""
    groups = collections.defaultdict(list)
    for query in queries:
        groups[query.group if query.kind == "csn" else ""].append(measure(query, weights, diversity))
    return numpy.mean([numpy.mean(values) for values in groups.values()])


def hocon(weights, least):
    lines = []
    for name, values in zip(["all", *CLASSES], weights):
        kept = {feature: round(value, 2) for feature, value in zip(FEATURES, values) if abs(value) >= (least if name != "all" else 0.005)}
        lines.append(f"{name} {{ " + ", ".join(f"{feature} = {value:g}" for feature, value in kept.items()) + " }")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="FILE:WEIGHT")
    parser.add_argument("--penalty", type=float, default=1e-4)
    parser.add_argument("--class-penalty", type=float, default=1e-3)
    parser.add_argument("--diversity", type=float, default=0.25, help="index.diversity.file")
    parser.add_argument("--least", type=float, default=0.2, help="smaller weights of a class are left out")
    options = parser.parse_args()
    sets = {}
    for argument in options.sets:
        name, _, weight = argument.rpartition(":")
        sets[name] = read(pathlib.Path(name))
        for query in sets[name]:
            query.weight = float(weight) / len(sets[name])
    everything = [query for queries in sets.values() for query in queries]
    weights = fit(everything, options)
    weights[1:] -= (mean := weights[1:].mean(axis=0))
    weights[0] += mean
    folds = [fit([query for query in everything if query.fold != fold], options) for fold in range(FOLDS)]
    fused = numpy.zeros_like(weights)
    fused[0] = START
    print(f"{'set':<30} {'queries':>8} {'fused':>8} {'weights':>8} {'held out':>8}")
    for name, queries in sets.items():
        parts = [[query for query in queries if query.fold == fold] for fold in range(FOLDS)]
        held_out = sum(score(part, of, options.diversity) * len(part) for part, of in zip(parts, folds) if part) / len(queries)
        found = [score(queries, of, options.diversity) for of in (fused, weights)]
        print(f"{name:<30} {len(queries):>8} {found[0]:>8.4f} {found[1]:>8.4f} {held_out:>8.4f}")
    print(hocon(weights, options.least))


if __name__ == "__main__":
    main()

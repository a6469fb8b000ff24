"""Reranking of a codenets bundle: orders fused candidates by their names, files and scores (docs/bundle-format.md)."""

import collections
import math
import zlib

import numpy

PARTS = ["name", "class", "file", "folders"]
KINDS = {"test": 1, "example": 2, "generated": 4, "vendored": 8, "private": 16}
ASKED = {"test": 1, "fixture": 1, "mock": 1, "exampl": 2, "sampl": 2, "demo": 2, "benchmark": 2, "generat": 4}
QUESTION_WORDS = "how what where which why when who does do is are can should find".split()


def class_of(text):
    tokens = text.split()
    if len(tokens) == 1:
        return "symbol"
    is_question = len(tokens) > 4 or text.strip().endswith("?") or tokens[0].lower() in QUESTION_WORDS
    return "question" if is_question else "keywords"


def scaled(scores):
    low, high = min(scores, default=0), max(scores, default=0)
    return [(score - low) / (high - low) if high > low else 1.0 for score in scores]


def checksum(text):
    return zlib.crc32(text.encode())


class Names:
    """Names of the rows: checksums of the terms of each part, and of all words joined."""

    def __init__(self, bundle, manifest):
        def load(name):
            return numpy.load(bundle / name, mmap_mode="r")

        self.checksums, self.ends, self.kinds = load("names.npy"), load("name-ends.npy").ravel(), load("kinds.npy")
        self.groups = load("groups.npy")
        fields = [field["name"] for field in manifest["lexical"]["fields"]]
        self.norms = load("lengths.npy")[:, fields.index("code")]

    def part(self, row, part):
        index = len(PARTS) * row + PARTS.index(part)
        found = self.checksums[self.ends[index - 1] if index else 0 : self.ends[index]].tolist()
        return found[:-1], found[-1] if found else 0


class QueryNames:
    """Terms of a query by checksum, and its identifiers and neighbouring words, joined."""

    def __init__(self, text, words_of, term_of, idf):
        self.idf = {checksum(term): value for term, value in idf.items()}
        self.total = sum(self.idf.values())
        self.joined = {}
        tokens = [words_of(token) for token in text.split()]
        words = sum(tokens, [])
        for some in tokens + list(zip(words, words[1:])) + list(zip(words, words[1:], words[2:])):
            if some:
                self.joined[checksum("".join(some))] = sum(self.idf.get(checksum(term_of(word)), 0) for word in some)
        terms = [term_of(word) for word in words]
        self.asked = {bit for start, bit in ASKED.items() if any(term.startswith(start) for term in terms)}

    def name_features(self, terms, joined):
        if not terms:
            return 0.0, 0.0, 0.0
        idf = sum(self.idf.get(term, 0) for term in set(terms))
        share = 1.0 if joined in self.joined else sum(term in self.idf for term in terms) / len(terms)
        query = min(max(self.joined.get(joined, 0), idf) / self.total, 1.0) if self.total else 0.0
        return share, query, float(joined in self.joined)


def sums_of(groups, scores):
    """By group the sum of its scores, the i-th best times 0.8^i; by the largest sum."""
    sums, factors = collections.Counter(), {}
    for group, score in zip(groups, scores):
        sums[group] += score * factors.get(group, 1.0)
        factors[group] = factors.get(group, 1.0) * 0.8
    largest = max(sums.values(), default=0)
    return {group: total / largest if largest else 0.0 for group, total in sums.items()}


def features(names, query, lists, fused, bm25, coverage, length_of):
    """Features of each fused candidate. `coverage`: covered idf by group and row, words by row, idf by word."""
    covered, words_of_rows, idf = coverage
    rows, all_idf = [row for row, _ in fused], sum(idf.values())
    scores = scaled([score for _, score in fused])
    cosines = dict(zip([row for row, _ in lists[1]], scaled([score for _, score in lists[1]])))
    best = lists[0][0][1] if lists[0] else 0.0
    files = {row: int(names.groups[row, 0]) for row in rows}
    classes = {row: (files[row], names.part(row, "class")[1]) for row in rows}
    file_sums, class_sums = (sums_of([of[row] for row in rows], scores) for of in (files, classes))
    repositories = collections.Counter(int(names.groups[row, 1]) for row in rows)
    concentration = sum((count / len(rows)) ** 2 for count in repositories.values())
    file_words = collections.defaultdict(set)
    for row in rows:
        file_words[files[row]] |= words_of_rows[row]

    def share(group, row):
        return min(covered[group][row] / all_idf, 1.0) if all_idf else 0.0

    seen = set()
    for row, score in zip(rows, scores):
        lexical, cosine = bm25.get(row, 0) / best if best else 0.0, cosines.get(row, 0.0)
        found = {"score": score, "bm25": lexical, "cosine": cosine, "agreement": lexical * cosine}
        found |= {"covered": share("any", row), "path-covered": share("path", row), "code-covered": share("code", row)}
        for part in PARTS:
            values = query.name_features(*names.part(row, part))
            found |= {f"{part}-{name}": value for name, value in zip(("words", "query", "joined"), values)}
        found |= {"file-sum": file_sums[files[row]], "class-sum": class_sums[classes[row]], "file-best": float(files[row] not in seen)}
        found["file-covered"] = min(sum(idf[word] for word in file_words[files[row]]) / all_idf, 1.0) if all_idf else 0.0
        found |= {kind: float(bool(names.kinds[row] & bit) and bit not in query.asked) for kind, bit in KINDS.items()}
        found["length"] = math.log1p(length_of(int(names.norms[row]))) / 8
        found |= {f"{name}-concentrated": value * concentration for name, value in list(found.items())}
        seen.add(files[row])
        yield row, found


def rerank(bundle, manifest, text, words_of, term_of, lists, fused, bm25, coverage, length_of):
    """The fused candidates, best first."""
    weights = manifest["reranker"]["weights"]
    weighted = collections.Counter(weights["all"])
    weighted.update(weights[class_of(text)])
    query = QueryNames(text, words_of, term_of, coverage[2])
    found = features(Names(bundle, manifest), query, lists, fused, bm25, coverage, length_of)
    scored = [(row, sum(weight * of.get(name, 0.0) for name, weight in weighted.items())) for row, of in found]
    return sorted(scored, key=lambda hit: -hit[1])

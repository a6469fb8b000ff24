"""Searches a codenets bundle without any code of codenets: read_bundle.py BUNDLE MODE QUERY.

Written from the `schema.md` of the bundle. Prints the ten best functions as JSON.
"""

import atexit
import collections
import functools
import itertools
import json
import math
import os
import pathlib
import re
import shutil
import sys
import tempfile
import unicodedata

# Before ONNX Runtime is imported: it sends telemetry otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy
import onnxruntime
import pyarrow.parquet
import tantivy
import tokenizers

import reranking


@functools.cache
def lexical_index(bundle):
    """The tantivy index. tantivy-py locks a file when it opens an index: a folder of links keeps the lock out of the bundle."""
    folder = pathlib.Path(links := tempfile.mkdtemp())
    atexit.register(shutil.rmtree, links)
    for file in (bundle / "tantivy").iterdir():
        (folder / file.name).symlink_to(file.resolve())
    return tantivy.Index.open(str(folder))


@functools.cache
def document_rows(bundle):
    """The row of each document, and the number of documents before each segment. Up to format 5 documents are rows."""
    segments = json.loads((bundle / "tantivy/meta.json").read_text())["segments"]
    starts = [0, *itertools.accumulate(segment["max_doc"] for segment in segments)]
    path = bundle / "document-rows.npy"
    return numpy.load(path) if path.exists() else numpy.arange(starts[-1]), starts


def rows_of(bundle, hits):
    """Row and score of each hit, without the documents that have no row any more."""
    rows, starts = document_rows(bundle)
    for score, address in hits:
        row = int(rows[starts[address.segment_ord] + address.doc])
        if row != GONE:
            yield row, score


GONE = 2**32 - 1


def documents_of(manifest):
    """Number of documents of the lexical index: up to format 5 the rows."""
    return manifest["lexical"].get("documents", manifest["rows"])


def fields(manifest, hidden=()):
    """The text fields that are searched, with their settings and positions."""
    numbered = enumerate(manifest["lexical"]["fields"])
    return {field["name"]: (position, field) for position, field in numbered if field["weight"] > 0 and field["name"] not in hidden}


LATIN = {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ı": "i"}
# Blocks of Han, Hiragana, Katakana, Bopomofo and Hangul.
IDEOGRAPHS = r"\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u3100-\u318f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"


def folded(text):
    """NFKC, and Latin letters without marks."""
    out = []
    for letter in unicodedata.normalize("NFKC", text):
        base = unicodedata.normalize("NFD", letter)[0]
        out.append(LATIN.get(letter) or (base if base.isascii() and base.isalpha() else letter))
    return "".join(out)


def words(text):
    found = []
    for word in re.findall(rf"[{IDEOGRAPHS}]+|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", folded(text)):
        is_pairs = len(word) > 2 and re.match(f"[{IDEOGRAPHS}]", word)
        found += [first + second for first, second in zip(word, word[1:])] if is_pairs else [word.lower()]
    return found


def compounds_of(part):
    """Neighbouring words of a part joined, then all its words joined."""
    own = words(part)
    return [first + second for first, second in zip(own, own[1:])] + (["".join(own)] if len(own) > 2 else [])


class Parsed(list):
    """Words of a query, and its compounds. In a bundle of one language, the name of the language is removed from the words."""

    def __init__(self, manifest, query):
        all_words, languages = words(query), list(manifest["languages"])
        specific = [word for word in all_words if len(languages) > 1 or word != languages[0]]
        super().__init__(specific or all_words)
        self.compounds = [compound for part in query.split() for compound in compounds_of(part)]


def with_names_first(bundle, text, ranked):
    """Rows whose name, qualified name or end of the path is the text come first, if the text is one word."""
    if len(text.split()) != 1:
        return ranked
    index = lexical_index(bundle)
    searcher, key = index.searcher(), "".join(letter for letter in text.lower() if letter.isalnum())
    either = [(tantivy.Occur.Should, tantivy.Query.term_query(index.schema, "symbol", form)) for form in (key, "/" + key)]
    hits = searcher.search(tantivy.Query.boolean_query(either), 1000).hits
    named = {row for row, _ in rows_of(bundle, hits)} - deleted(bundle)
    missing = [(row, 0.0) for row in sorted(named - {row for row, _ in ranked})]
    return sorted(ranked + missing, key=lambda hit: hit[0] not in named)


def terms(manifest, query):
    """Terms of the words, by the tokenizer of the fields."""
    if manifest["lexical"]["tokenizer"] == "whitespace":
        return sorted(set(query))
    assert manifest["lexical"]["tokenizer"] == "en_stem"
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).filter(tantivy.Filter.remove_long(40))
    analyzer = builder.filter(tantivy.Filter.lowercase()).filter(tantivy.Filter.stemmer("english")).build()
    return sorted(set(analyzer.analyze(" ".join(query))))


def deleted(bundle):
    """Deleted rows."""
    tombstones = set(pyarrow.parquet.read_table(bundle / "tombstones.parquet")["id"].to_pylist())
    ids = pyarrow.parquet.read_table(bundle / "docs.parquet", columns=["id"])["id"].to_pylist()
    return {row for row, name in enumerate(ids) if name in tombstones}


def scored_terms(manifest, query):
    """Terms for scoring: those of the words without stop words, unless the query has only stop words; then those of the compounds."""
    stop_words = set(manifest["lexical"]["stop_words"])
    of_words = terms(manifest, [word for word in query if word not in stop_words] or query)
    return of_words, [term for term in terms(manifest, query.compounds) if term not in of_words]


def idf_of(searcher, manifest, word):
    having, documents = searcher.doc_freq("any", word), documents_of(manifest)
    return math.log(1 + (documents - having + 0.5) / (having + 0.5))


def length_of(norm):
    """The length that a field norm stands for: Lucene's SmallFloat.byte4ToInt."""
    if norm < 24:
        return norm
    bits, shift = (norm - 24) & 7, ((norm - 24) >> 3) - 1
    return 24 + (bits if shift < 0 else (bits | 8) << shift)


def frequencies(bundle, manifest, field, mean, lengths, word):
    """Frequency of a word in a field by row, from tantivy's score of the one word (k1 1.2, b .75, mean length over all documents)."""
    index, documents = lexical_index(bundle), documents_of(manifest)
    searcher = index.searcher()
    having = searcher.doc_freq(field, word)
    if having == 0:
        return {}
    idf = math.log(1 + (documents - having + 0.5) / (having + 0.5))
    term = tantivy.Query.term_query(index.schema, field, word, index_option="freq")
    found = {}
    for row, score in rows_of(bundle, searcher.search(term, documents).hits):
        share = score / (idf * 2.2)
        found[row] = round(share * 1.2 * (0.25 + 0.75 * lengths[row] / mean) / (1 - share))
    return found


def bm25f(bundle, manifest, query):
    """BM25F of every row that has a word in a searched field."""
    index = lexical_index(bundle)
    searcher, documents, k1 = index.searcher(), documents_of(manifest), manifest["lexical"]["k1"]
    norms = numpy.load(bundle / "lengths.npy", mmap_mode="r")
    lengths_of_norms = numpy.array([length_of(norm) for norm in range(256)])
    scores = collections.Counter()
    for word in sum(scored_terms(manifest, query), []):
        idf = idf_of(searcher, manifest, word)
        counts = collections.Counter()
        for name, (position, field) in fields(manifest).items():
            lengths = lengths_of_norms[norms[:, position]]
            mean = field["words"] / max(field["rows"], 1)
            for row, frequency in frequencies(bundle, manifest, name, field["words"] / documents, lengths, word).items():
                counts[row] += field["weight"] * frequency / (1 - field["b"] + field["b"] * lengths[row] / mean)
        for row, count in counts.items():
            scores[row] += idf * (k1 + 1) * count / (k1 + count)
    return scores


GROUPS = ["file", "repository", "similar", "alias"]


def aliases(bundle):
    return numpy.load(bundle / "groups.npy", mmap_mode="r")[:, GROUPS.index("alias")]


def distinct(bundle, manifest, ranked):
    """The best of each group of aliases; format 4 has none."""
    if "aliases" not in manifest:
        return ranked
    groups, seen = aliases(bundle), set()
    return [(row, score) for row, score in ranked if not (groups[row] in seen or seen.add(groups[row]))]


def of_same_rows(bundle, manifest, lexical, vector):
    """Both lists; where they have aliases of each other, the vector list has the row of the lexical list."""
    if "aliases" not in manifest:
        return [lexical, vector]
    groups = aliases(bundle)
    rows = {groups[row]: row for row, _ in lexical}
    return [lexical, [(rows.get(groups[row], row), score) for row, score in vector]]


def best(bundle, manifest, scores):
    """The best candidates of lexical search, without deleted rows."""
    tombstones = deleted(bundle)
    rows = [hit for hit in scores.items() if hit[0] not in tombstones]
    return distinct(bundle, manifest, sorted(rows, key=lambda hit: (-hit[1], hit[0])))[: manifest["candidates"]]


def lexical(bundle, manifest, query):
    return best(bundle, manifest, bm25f(bundle, manifest, query))


def cosines(bundle, manifest, query):
    """The inner product of every row with the query."""
    encoder = manifest["encoder"]
    assert "graph" not in encoder, "this reader supports graphs that pool"
    tokenizer = tokenizers.Tokenizer.from_file(str(bundle / "encoder/tokenizer.json"))
    before, after = ([tokenizer.token_to_id(token) for token in encoder[key]] for key in ("query_prefix", "query_suffix"))
    longest = encoder["query_tokens"] - len(before) - len(after)
    ids = before + tokenizer.encode(" ".join(query), add_special_tokens=False).ids[:longest] + after
    session = onnxruntime.InferenceSession(str(bundle / "encoder" / encoder["query_graph"]), providers=["CPUExecutionProvider"])
    (embedding,) = session.run(
        ["embedding"],
        {"input_ids": numpy.array([ids], dtype=numpy.int64), "attention_mask": numpy.ones((1, len(ids)), dtype=numpy.int64)},
    )
    return numpy.load(bundle / "vectors/embeddings.npy", mmap_mode="r") @ embedding[0]


def vector(bundle, manifest, query):
    scores, tombstones = cosines(bundle, manifest, query), deleted(bundle)
    best = sorted((row for row in range(len(scores)) if row not in tombstones), key=lambda row: (-scores[row], row))
    return distinct(bundle, manifest, [(row, float(scores[row])) for row in best])[: manifest["candidates"]]


def coverage(bundle, manifest, query):
    """By group of fields the sum of the idf of the terms that each row has; the words that each row has; the idf of the words."""
    index, documents = lexical_index(bundle), documents_of(manifest)
    searcher, searched = index.searcher(), fields(manifest)
    query_terms, compounds = scored_terms(manifest, query)
    groups = {"name": ["name", "class", "qualified"], "path": ["file"], "code": ["signature", "code", "comments", "strings"], "any": list(searched)}
    covered, words_of_rows = {group: collections.Counter() for group in groups}, collections.defaultdict(set)
    for word in query_terms + compounds:
        for group, names in groups.items():
            if group == "any" and word in compounds:
                continue
            one = [(tantivy.Occur.Should, tantivy.Query.term_query(index.schema, name, word)) for name in names if name in searched]
            hits = searcher.search(tantivy.Query.boolean_query(one), documents).hits if one else []
            for row, _ in rows_of(bundle, hits):
                covered[group][row] += idf_of(searcher, manifest, word)
                if group == "any":
                    words_of_rows[row].add(word)
    return covered, words_of_rows, {word: idf_of(searcher, manifest, word) for word in query_terms}


def features(bundle, manifest, query, lists):
    """Features of a learned fusion, of every row of either list (docs/bundle-format.md)."""
    covered, _, idf = coverage(bundle, manifest, query)
    searcher, k1 = lexical_index(bundle).searcher(), manifest["lexical"]["k1"]
    most = sum(idf_of(searcher, manifest, word) * (k1 + 1) for word in sum(scored_terms(manifest, query), []))
    all_idf = sum(idf.values())

    def share(group, row):
        return min(covered[group][row] / all_idf, 1.5) if all_idf else 0

    def own(row):
        return {
            "covered": covered["any"][row] / all_idf if all_idf else 0,
            "name-covered": share("name", row),
            "path-covered": share("path", row),
            "code-covered": share("code", row),
            "name-of-most": covered["name"][row] / most if most else 0,
        }

    return features_of(bundle, manifest, query, lists, bm25f(bundle, manifest, query), most, own)


def features_of(bundle, manifest, query, lists, scores, most, own_features):
    """Features of every row of either list: those of both lists, and those that `own_features` gives for a row.

    `scores`: lexical score by row; `most`: the largest possible one.
    """
    cosine = cosines(bundle, manifest, query)
    ranks = [{row: rank for rank, (row, _) in enumerate(hits)} for hits in lists]
    best, best_cosine = (hits[0][1] if hits else 0.0 for hits in lists)
    listed = numpy.array([score for _, score in lists[1]] or [0.0])
    length = math.log(1 + len(scored_terms(manifest, query)[0])) / 4
    found = {}
    for row in set(ranks[0]) | set(ranks[1]):
        largest = scores.get(row, 0) / best if best else 0
        own = float(cosine[row]) if lists[1] else 0.0
        standard = (own - listed.mean()) / listed.std() / 4 if listed.std() else 0
        found[row] = {
            "bm25-of-largest": largest,
            "bm25-of-most": scores.get(row, 0) / most if most else 0,
            "cosine": own,
            "cosine-standard": standard,
            "bm25-rank": 1 / (1 + ranks[0][row] / 10) if row in ranks[0] else 0,
            "cosine-rank": 1 / (1 + ranks[1][row] / 10) if row in ranks[1] else 0,
            **own_features(row),
            "bm25-of-largest x length": largest * length,
            "cosine x length": own * length,
            "cosine-standard x length": standard * length,
            "bm25-of-largest x best-cosine": largest * best_cosine,
            "cosine-standard x best-cosine": standard * best_cosine,
        }
    return found


def fuse(bundle, manifest, query, lists, features):
    fusion = manifest["fusion"]
    fused = {}
    if fusion["kind"] == "min-max":
        for hits, share in zip(lists, (1 - fusion["weight"], fusion["weight"])):
            scores = [score for _, score in hits]
            for row, score in hits:
                span = max(scores) - min(scores)
                fused[row] = fused.get(row, 0) + share * ((score - min(scores)) / span if span else 1.0)
    elif fusion["kind"] == "sum":
        known = features(bundle, manifest, query, lists)
        fused = {row: (1 - fusion["weight"]) * of["bm25-of-largest"] + fusion["weight"] * of["cosine"] for row, of in known.items()}
    elif fusion["kind"] == "learned":
        known = features(bundle, manifest, query, lists)
        fused = {row: sum(weight * of[name] for name, weight in fusion["weights"].items()) for row, of in known.items()}
    else:
        for hits in lists:
            for rank, (row, _) in enumerate(hits, 1):
                fused[row] = fused.get(row, 0) + 1 / (fusion["k"] + rank)
    return sorted(fused.items(), key=lambda hit: (-hit[1], hit[0]))


def diversified(bundle, manifest, ranked):
    """A row loses a part of its scaled score for each better row of the same group."""
    penalties, groups = dict(manifest["diversity"]), numpy.load(bundle / "groups.npy", mmap_mode="r")
    if not ranked or ranked[0][1] == ranked[-1][1]:
        return ranked
    repositories = collections.Counter(groups[row, GROUPS.index("repository")] for row, _ in ranked)
    penalties["file"] *= sum((count / len(ranked)) ** 2 for count in repositories.values())
    best, worst, better = ranked[0][1], ranked[-1][1], collections.Counter()
    keys = {}
    for row, score in ranked:
        keys[row] = (score - worst) / (best - worst)
        for kind, penalty in penalties.items():
            group = kind, groups[row, GROUPS.index(kind)]
            keys[row] -= penalty * better[group]
            better[group] += 1
    return sorted(ranked, key=lambda hit: -keys[hit[0]])


def reranked(bundle, manifest, text, query, lists, fused):
    """The fused candidates, ordered by the reranking model; format 4 has none."""
    if "reranker" not in manifest:
        return fused

    def term_of(word):
        return next(iter(terms(manifest, [word])), word)

    scores, known = bm25f(bundle, manifest, query), coverage(bundle, manifest, query)
    return reranking.rerank(bundle, manifest, text, words, term_of, lists, fused, scores, known, length_of)


def arranged(bundle, manifest, text, mode, ranked):
    """Diversity of hybrid search, and exact names first."""
    if mode == "hybrid":
        ranked = diversified(bundle, manifest, ranked)
    return distinct(bundle, manifest, ranked if mode == "vector" else with_names_first(bundle, text, ranked))


def search(folder, mode, text, versions, lexical, features, arrange):
    """Prints the ten best functions of a bundle of one of these formats."""
    # `current` may be another bundle a moment later.
    bundle = pathlib.Path(folder).resolve()
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["bundle_format"] in versions, f"this reader supports formats {versions}"
    query = Parsed(manifest, text)
    if mode == "bm25":
        ranked = lexical(bundle, manifest, query)
    elif mode == "vector":
        ranked = vector(bundle, manifest, query)
    else:
        lists = of_same_rows(bundle, manifest, lexical(bundle, manifest, query), vector(bundle, manifest, query))
        ranked = reranked(bundle, manifest, text, query, lists, fuse(bundle, manifest, query, lists, features))
    ranked = arrange(bundle, manifest, text, mode, ranked)
    docs = pyarrow.parquet.read_table(bundle / "docs.parquet", columns=["id", "func_name"]).to_pylist()
    hits = [{"row": row, "score": score, **docs[row]} for row, score in ranked[:10]]
    print(json.dumps(hits))


if __name__ == "__main__":
    search(*sys.argv[1:], (5, 6), lexical, features, arranged)

"""Searches a codenets bundle of format 4 without any code of codenets: read_bundle_format_4.py BUNDLE MODE QUERY.

Written from the `schema.md` of the bundle. Prints the ten best functions as JSON.
"""

import collections
import json
import math
import pathlib
import re
import sys

import numpy
import onnxruntime
import pyarrow.parquet
import tantivy
import tokenizers

FIELDS = ["name", "signature", "file", "code", "documentation"]


def scored_fields(manifest):
    """Fields with a boost. A boost of 0 leaves a field out."""
    return [field for field in FIELDS if manifest["lexical"]["boosts"][field] > 0]


def words(text):
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", text)]


def parsed(manifest, query):
    """Words of a query. In a bundle of one language, the name of the language is removed."""
    all_words = words(query)
    languages = list(manifest["languages"])
    specific = [word for word in all_words if len(languages) > 1 or word != languages[0]]
    return specific or all_words


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
    """Terms for scoring: without stop words, unless the query has only stop words."""
    stop_words = set(manifest["lexical"]["stop_words"])
    return terms(manifest, [word for word in query if word not in stop_words] or query)


def bm25(bundle, manifest, query, fields):
    """BM25 of every row that has a term in one of the fields."""
    index = tantivy.Index.open(str(bundle / "tantivy"))
    clauses = []
    for field in fields:
        for word in scored_terms(manifest, query):
            term = tantivy.Query.term_query(index.schema, field, word, index_option="freq")
            boosted = tantivy.Query.boost_query(term, manifest["lexical"]["boosts"][field])
            clauses.append((tantivy.Occur.Should, boosted))
    searcher = index.searcher()
    found = searcher.search(tantivy.Query.boolean_query(clauses), manifest["rows"]).hits
    return {searcher.doc(address)["row"][0]: score for score, address in found}


def lexical(bundle, manifest, query):
    tombstones = deleted(bundle)
    rows = [hit for hit in bm25(bundle, manifest, query, scored_fields(manifest)).items() if hit[0] not in tombstones]
    return sorted(rows, key=lambda hit: (-hit[1], hit[0]))[: manifest["candidates"]]


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
    return [(row, float(scores[row])) for row in best[: manifest["candidates"]]]


def features(bundle, manifest, query, lists):
    """Features of a learned fusion, of every row of either list (docs/bundle-format.md)."""
    searcher = tantivy.Index.open(str(bundle / "tantivy")).searcher()
    query_terms, settings, rows = scored_terms(manifest, query), manifest["lexical"], manifest["rows"]
    fields = scored_fields(manifest)

    def idf(having):
        return math.log(1 + (rows - having + 0.5) / (having + 0.5))

    by_field = {word: {field: searcher.doc_freq(field, word) for field in fields} for word in query_terms}
    by_word = {word: idf(max(frequencies.values())) for word, frequencies in by_field.items()}
    weigh = {word: [settings["boosts"][f] * idf(n) * (settings["k1"] + 1) for f, n in of.items() if n] for word, of in by_field.items()}
    most = sum(max(weights, default=0) for weights in weigh.values())
    scores, names, cosine = bm25(bundle, manifest, query, fields), bm25(bundle, manifest, query, ["name"]), cosines(bundle, manifest, query)
    covered = collections.Counter()
    for word in query_terms:
        one = [(tantivy.Occur.Should, tantivy.Query.term_query(tantivy.Index.open(str(bundle / "tantivy")).schema, f, word)) for f in fields]
        for _, address in searcher.search(tantivy.Query.boolean_query(one), rows).hits:
            covered[searcher.doc(address)["row"][0]] += by_word[word]
    ranks = [{row: rank for rank, (row, _) in enumerate(hits)} for hits in lists]
    best, best_cosine = (hits[0][1] if hits else 0.0 for hits in lists)
    listed = numpy.array([score for _, score in lists[1]] or [0.0])
    length = math.log(1 + len(query_terms)) / 4
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
            "covered": covered[row] / sum(by_word.values()) if by_word else 0,
            "name-of-most": names.get(row, 0) / most if most else 0,
            "bm25-of-largest x length": largest * length,
            "cosine x length": own * length,
            "cosine-standard x length": standard * length,
            "bm25-of-largest x best-cosine": largest * best_cosine,
            "cosine-standard x best-cosine": standard * best_cosine,
        }
    return found


def fuse(bundle, manifest, query, lists):
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


def main(folder, mode, query):
    bundle = pathlib.Path(folder)
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert (manifest["lexical"]["k1"], manifest["lexical"]["b"]) == (1.2, 0.75), "the parameters of tantivy"
    assert manifest["bundle_format"] == 4, "this reader supports format 4"
    query = parsed(manifest, query)
    if mode == "bm25":
        ranked = lexical(bundle, manifest, query)
    elif mode == "vector":
        ranked = vector(bundle, manifest, query)
    else:
        ranked = fuse(bundle, manifest, query, [lexical(bundle, manifest, query), vector(bundle, manifest, query)])
    docs = pyarrow.parquet.read_table(bundle / "docs.parquet", columns=["id", "func_name"]).to_pylist()
    hits = [{"row": row, "score": score, **docs[row]} for row, score in ranked[:10]]
    print(json.dumps(hits))


if __name__ == "__main__":
    main(*sys.argv[1:])

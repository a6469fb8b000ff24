"""Reads a codenets bundle without any codenets code: read_bundle.py BUNDLE MODE QUERY.

Written from the bundle's own `schema.md`. Prints the ten best functions as JSON.
"""

import json
import pathlib
import re
import sys

import numpy
import onnxruntime
import pyarrow.parquet
import tantivy
import tokenizers


def words(text):
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", text)]


def asked(manifest, query):
    """Words of a query, without the name of the only language that is searched."""
    all_words = words(query)
    languages = list(manifest["languages"])
    telling = [word for word in all_words if len(languages) > 1 or word != languages[0]]
    return telling or all_words


def terms(manifest, query):
    """What the fields' tokenizer makes of the words."""
    if manifest["lexical"]["tokenizer"] == "whitespace":
        return sorted(set(query))
    assert manifest["lexical"]["tokenizer"] == "en_stem"
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).filter(tantivy.Filter.remove_long(40))
    analyzer = builder.filter(tantivy.Filter.lowercase()).filter(tantivy.Filter.stemmer("english")).build()
    return sorted(set(analyzer.analyze(" ".join(query))))


def lexical(bundle, manifest, query):
    index = tantivy.Index.open(str(bundle / "tantivy"))
    fields = ["name", "code", "documentation"]
    clauses = []
    for field in fields:
        for word in terms(manifest, query):
            term = tantivy.Query.term_query(index.schema, field, word, index_option="freq")
            boosted = tantivy.Query.boost_query(term, manifest["lexical"]["boosts"][field])
            clauses.append((tantivy.Occur.Should, boosted))
    searcher = index.searcher()
    found = searcher.search(tantivy.Query.boolean_query(clauses), manifest["candidates"]).hits
    rows = [(searcher.doc(address)["row"][0], score) for score, address in found]
    return sorted(rows, key=lambda hit: (-hit[1], hit[0]))


def vector(bundle, manifest, query):
    encoder = manifest["encoder"]
    assert "graph" not in encoder, "this reader knows graphs that pool by themselves"
    tokenizer = tokenizers.Tokenizer.from_file(str(bundle / "encoder/tokenizer.json"))
    before, after = ([tokenizer.token_to_id(token) for token in encoder[key]] for key in ("query_prefix", "query_suffix"))
    room = encoder["query_tokens"] - len(before) - len(after)
    ids = before + tokenizer.encode(" ".join(query), add_special_tokens=False).ids[:room] + after
    session = onnxruntime.InferenceSession(str(bundle / "encoder" / encoder["query_graph"]), providers=["CPUExecutionProvider"])
    (embedding,) = session.run(
        ["embedding"],
        {"input_ids": numpy.array([ids], dtype=numpy.int64), "attention_mask": numpy.ones((1, len(ids)), dtype=numpy.int64)},
    )
    matrix = numpy.load(bundle / "vectors/embeddings.npy", mmap_mode="r")
    scores = matrix @ embedding[0]
    best = sorted(range(len(scores)), key=lambda row: (-scores[row], row))[: manifest["candidates"]]
    return [(row, float(scores[row])) for row in best]


def fuse(manifest, lists):
    fusion = manifest["fusion"]
    fused = {}
    if fusion["kind"] == "min-max":
        for hits, share in zip(lists, (1 - fusion["weight"], fusion["weight"])):
            scores = [score for _, score in hits]
            for row, score in hits:
                span = max(scores) - min(scores)
                fused[row] = fused.get(row, 0) + share * ((score - min(scores)) / span if span else 1.0)
    else:
        for hits in lists:
            for rank, (row, _) in enumerate(hits, 1):
                fused[row] = fused.get(row, 0) + 1 / (fusion["k"] + rank)
    return sorted(fused.items(), key=lambda hit: (-hit[1], hit[0]))


def main(folder, mode, query):
    bundle = pathlib.Path(folder)
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["bundle_format"] == 3, "this reader knows format 3"
    query = asked(manifest, query)
    if mode == "bm25":
        ranked = lexical(bundle, manifest, query)
    elif mode == "vector":
        ranked = vector(bundle, manifest, query)
    else:
        ranked = fuse(manifest, [lexical(bundle, manifest, query), vector(bundle, manifest, query)])
    docs = pyarrow.parquet.read_table(bundle / "docs.parquet", columns=["id", "func_name"]).to_pylist()
    hits = [{"row": row, "score": score, **docs[row]} for row, score in ranked[:10]]
    print(json.dumps(hits))


if __name__ == "__main__":
    main(*sys.argv[1:])

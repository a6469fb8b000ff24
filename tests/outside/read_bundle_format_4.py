"""Searches a codenets bundle of format 4 without any code of codenets: read_bundle_format_4.py BUNDLE MODE QUERY.

Prints the ten best functions as JSON. What differs from format 5 (read_bundle.py): the lexical score is a sum of BM25 by field, with the
parameters of tantivy; the features of a learned fusion are those of the sum; results are neither diversified nor ordered by exact names.
"""

import collections
import math
import sys

import tantivy

import read_bundle as reader

FIELDS = ["name", "signature", "file", "code", "documentation"]


def scored_fields(manifest):
    """Fields with a boost. A boost of 0 leaves a field out."""
    return [field for field in FIELDS if manifest["lexical"]["boosts"][field] > 0]


def bm25(bundle, manifest, query, fields):
    """BM25 of every row that has a term in one of the fields."""
    index = tantivy.Index.open(str(bundle / "tantivy"))
    clauses = []
    for field in fields:
        for word in reader.scored_terms(manifest, query)[0]:
            term = tantivy.Query.term_query(index.schema, field, word, index_option="freq")
            boosted = tantivy.Query.boost_query(term, manifest["lexical"]["boosts"][field])
            clauses.append((tantivy.Occur.Should, boosted))
    searcher = index.searcher()
    found = searcher.search(tantivy.Query.boolean_query(clauses), manifest["rows"]).hits
    return {searcher.doc(address)["row"][0]: score for score, address in found}


def coverage(bundle, manifest, query):
    """Largest possible score, and idf by word: that of the field where most rows have the word. Then the sum of idf by row."""
    index, rows, fields = tantivy.Index.open(str(bundle / "tantivy")), manifest["rows"], scored_fields(manifest)
    searcher, settings = index.searcher(), manifest["lexical"]

    def idf(having):
        return math.log(1 + (rows - having + 0.5) / (having + 0.5))

    most, by_word, covered = 0.0, {}, collections.Counter()
    for word in reader.scored_terms(manifest, query)[0]:
        having = {field: searcher.doc_freq(field, word) for field in fields}
        weights = [settings["boosts"][field] * idf(n) * (settings["k1"] + 1) for field, n in having.items() if n]
        most += max(weights, default=0)
        by_word[word] = idf(max(having.values()))
        either = [(tantivy.Occur.Should, tantivy.Query.term_query(index.schema, field, word)) for field in fields]
        for _, address in searcher.search(tantivy.Query.boolean_query(either), rows).hits:
            covered[searcher.doc(address)["row"][0]] += by_word[word]
    return most, by_word, covered


def features(bundle, manifest, query, lists):
    """Features of a learned fusion, of every row of either list."""
    most, by_word, covered = coverage(bundle, manifest, query)
    names = bm25(bundle, manifest, query, ["name"])
    scores = bm25(bundle, manifest, query, scored_fields(manifest))

    def own(row):
        return {
            "covered": covered[row] / sum(by_word.values()) if by_word else 0,
            "name-of-most": names.get(row, 0) / most if most else 0,
        }

    return reader.features_of(bundle, manifest, query, lists, scores, most, own)


def lexical(bundle, manifest, query):
    return reader.best(bundle, manifest, bm25(bundle, manifest, query, scored_fields(manifest)))


def as_ranked(bundle, manifest, text, mode, ranked):
    """Format 4 does not change the order of the fused list."""
    return ranked


if __name__ == "__main__":
    reader.search(*sys.argv[1:], (4,), lexical, features, as_ranked)

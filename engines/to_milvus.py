"""Hand a published bundle over to Milvus.

Reads a bundle. Writes one of two collections of the bundle's encoder, `codenets_v1_<encoder>_a` and `_b`: the one that is not
published. Only rows that differ from this collection are sent. Each collection has a dense index of the vectors (HNSW, inner product)
and a BM25 index of the text, for hybrid search. Counts and 20 queries are compared with the bundle. Then the alias `codenets` is
switched to the collection: readers search the alias.

The address is in the environment variable CODENETS_MILVUS, and a token (user:password) in CODENETS_MILVUS_TOKEN; or both are lines of a file
(--connection-file). A path that ends with .db is a database of the package milvus-lite. It emulates Milvus in one process: it is for
tests and has no stemmer.

example:
  export CODENETS_MILVUS=https://milvus.example.org:19530
  python engines/to_milvus.py --bundle /srv/codenets/serve/current

exit status: 0 handed over, 1 error, 3 a check refused; after 1 and 3 the alias is where it was
"""

import collections
import logging
import os
import re
import sys

from pymilvus import AnnSearchRequest, DataType, Function, FunctionType, MilvusClient, RRFRanker

import bundle as bundles

ALIAS = "codenets"
# `v1` is the version of the fields. Another version has other collections.
OWN = re.compile(r"codenets_v[0-9]+_[0-9a-f]{12}_[ab]")
# Milvus limits a text to 65535 bytes, and a message to 64 MiB.
MOST_BYTES = 65535
MESSAGE_BYTES = 8 << 20
# Reciprocal rank fusion, as in the bundle's fusion `rrf`.
RRF = 60
STRONG = {"consistency_level": "Strong"}


def cut(text):
    """The longest part of a text that Milvus takes."""
    if not isinstance(text, str) or len(text) * 4 <= MOST_BYTES:
        return text
    return text.encode()[:MOST_BYTES].decode(errors="ignore")


def sent(values):
    return {name: cut(value) for name, value in values.items()}


def text_of(values):
    """The text that BM25 reads. `connectMySQL` and `parse_date` are several words, as in the bundle."""
    text = " ".join(values[name] for name in ("func_name", "path", "summary", "docstring", "code"))
    return cut(re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", text).replace("_", " "))


def create(client, name, dimension):
    """An empty collection with its indexes."""
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=32)
    for column in bundles.COLUMNS[1:]:
        if column in bundles.NUMBERS:
            schema.add_field(column, DataType.INT64, nullable=True)
        else:
            schema.add_field(column, DataType.VARCHAR, max_length=MOST_BYTES, nullable=column in bundles.NULLABLE_TEXTS)
    schema.add_field("digest", DataType.VARCHAR, max_length=32)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=dimension)
    stemmed = {"tokenizer": "standard", "filter": ["lowercase", {"type": "stemmer", "language": "english"}]}
    schema.add_field("text", DataType.VARCHAR, max_length=MOST_BYTES, enable_analyzer=True, analyzer_params=stemmed)
    schema.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(Function(name="bm25", function_type=FunctionType.BM25, input_field_names=["text"], output_field_names=["words"]))
    indexes = client.prepare_index_params()
    indexes.add_index(field_name="embedding", index_type="HNSW", metric_type="IP", params={"M": 16, "efConstruction": 200})
    indexes.add_index(field_name="words", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
    client.create_collection(name, schema=schema, index_params=indexes, **STRONG)


def scan(client, name):
    """Digests by id and the number of rows by language, of a collection."""
    digests, languages = {}, collections.Counter()
    rows = client.query_iterator(name, filter="", output_fields=["id", "digest", "language"], batch_size=5000, **STRONG)
    while batch := rows.next():
        digests |= {row["id"]: bytes.fromhex(row["digest"]) for row in batch}
        languages.update(row["language"] for row in batch)
    rows.close()
    return digests, dict(languages)


def send(client, name, changes):
    """Upserts the rows that differ, and deletes the rows that are gone."""
    for rows in changes.batches():
        message, size = [], 0
        for row in rows:
            text = text_of(row.values)
            changes.bytes += len(text.encode())
            message.append(sent(row.values) | {"digest": row.digest.hex(), "embedding": row.vector, "text": text})
            size += row.size + 4 * len(text)
            if size > MESSAGE_BYTES:
                client.upsert(name, message)
                message, size = [], 0
        if message:
            client.upsert(name, message)
    gone = list(changes.gone)
    for start in range(0, len(gone), 1000):
        client.delete(name, ids=gone[start : start + 1000])
    client.flush(name)
    client.load_collection(name)


def ids_of(results):
    return [[hit["id"] for hit in hits] for hits in results]


def check(client, name, bundle, queries, least):
    """Compares a collection with the bundle. Raises Refused."""
    digests, languages = scan(client, name)
    bundles.check_counts(bundle, len(digests), languages)
    rows = client.get(name, ids=[query.id for query in queries], output_fields=[*bundles.COLUMNS, "embedding"], **STRONG)
    bundles.check_rows(queries, {row["id"]: ({column: row[column] for column in bundles.COLUMNS}, row["embedding"]) for row in rows}, sent)
    dense = {"metric_type": "IP", "params": {"ef": 64}}
    vectors = [query.vector.tolist() for query in queries]
    fields = {"limit": queries.limit, "output_fields": ["id"], **STRONG}
    recall = queries.recall(ids_of(client.search(name, data=vectors, anns_field="embedding", search_params=dense, **fields)))
    bundles.check_recall("the HNSW index", recall, least)
    found, hybrid = set(), 0
    for query, vector in zip(queries, vectors):
        words = query.words or "function"
        # Ids are 32 hexadecimal digits, as `Bundle` has checked.
        hits = client.search(name, data=[words], anns_field="words", filter=f'id == "{query.id}"', **fields)
        found.update(*ids_of(hits))
        both = [
            AnnSearchRequest(data=[vector], anns_field="embedding", param=dense, limit=queries.limit),
            AnnSearchRequest(data=[words], anns_field="words", param={"metric_type": "BM25"}, limit=queries.limit),
        ]
        hybrid += bool(query.same & set(*ids_of(client.hybrid_search(name, both, RRFRanker(RRF), **fields))))
    bundles.check_words(queries, found)
    bundles.check_recall("hybrid search for the row of the query", hybrid / len(queries), least)
    print(f"checked: {bundle.rows} rows, {len(languages)} languages, {len(queries)} queries: recall HNSW {recall:.3f}, hybrid {hybrid}/{len(queries)}")


def prepare(client, name, bundle, every):
    """The collection to write, with its digests by id. It is made anew if it is not complete, or if `every` row is to be sent."""
    if client.has_collection(name):
        if not every and set(client.list_indexes(name)) == {"embedding", "words"}:
            client.load_collection(name)
            return scan(client, name)[0]
        client.drop_collection(name)
    create(client, name, bundle.dimension)
    return {}


def hand_over(client, bundle, queries, options):
    own = sorted(name for name in client.list_collections() if OWN.fullmatch(name))
    published = next((name for name in own if ALIAS in client.list_aliases(name)["aliases"]), None)
    pair = [f"codenets_v1_{bundle.encoder[:12]}_{letter}" for letter in "ab"]
    if published in pair and not options.all:
        client.load_collection(published)
        changes = bundles.Changes(bundle, scan(client, published)[0])
        for _ in changes.batches():
            pass
        if changes.none:
            print(changes)
            check(client, published, bundle, queries, options.min_recall)
            return published
    target = pair[1] if published == pair[0] else pair[0]
    changes = bundles.Changes(bundle, prepare(client, target, bundle, options.all))
    send(client, target, changes)
    print(changes)
    check(client, target, bundle, queries, options.min_recall)
    (client.alter_alias if published else client.create_alias)(target, ALIAS)
    # The collection that was published before stays, for searches that still run in it and as the next one to write.
    for name in set(own) - {target, published, *pair}:
        client.drop_collection(name)
    return target


def main(arguments, secrets):
    parser = bundles.parser_of(__doc__)
    parser.add_argument("--connection-file", metavar="FILE", help="file with the address and, in a second line, the token")
    parser.add_argument("--min-recall", type=bundles.recall_of, default=0.9, metavar="R", help="least recall of the HNSW index (default: %(default)s)")
    options = parser.parse_args(arguments)
    lines = bundles.secret_from(os.environ, options.connection_file, ["CODENETS_MILVUS"], "https://host:19530").splitlines() or [""]
    uri, token = lines[0], lines[1] if len(lines) > 1 else os.environ.get("CODENETS_MILVUS_TOKEN", "")
    secrets += [uri, token, token.partition(":")[2], uri.rpartition("@")[0].rpartition(":")[2]]
    bundles.check_address("CODENETS_MILVUS", uri)
    # The client logs each error with its own text, before this script can remove the address.
    logging.disable(logging.CRITICAL)
    bundle = bundles.Bundle(options.bundle)
    queries = bundles.Queries(bundle)
    client = MilvusClient(uri, token=token)
    try:
        published = hand_over(client, bundle, queries, options)
    finally:
        client.close()
    print(f"published: the alias {ALIAS} is {published}, bundle {bundle.id}")


if __name__ == "__main__":
    sys.exit(bundles.run(main))

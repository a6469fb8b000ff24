"""The files of a hand-over to OpenSearch or Elasticsearch, and the check of their format.

```
OUT/state.json                 digests by id of the rows of the last index that passed its check
OUT/<index>/mapping.json       body of  PUT /<index>
OUT/<index>/reindex.json       body of  POST /_reindex; only if the server has rows that did not change
OUT/<index>/bulk-00001.ndjson  body of  POST /_bulk, and so on
OUT/<index>/queries.ndjson     body of  POST /<index>/_msearch: one search for counts, then two for each query
OUT/<index>/aliases.json       body of  POST /_aliases: the switch
OUT/<index>/expected.json      what the answer to queries.ndjson must have
OUT/<index>/next-state.json    becomes state.json when the check has passed
```
"""

import json
import os

import bundle as bundles
from bundle import HandOverError

ALIAS = "codenets"
# Version of the mapping. With another version no row of the old index is used.
LAYOUT = 1
ENGINES = ("opensearch", "elasticsearch")
# Both projects advise 5 to 15 MB a request; http.max_content_length is 100 MB by default.
FILE_BYTES = 10_000_000
MOST_BYTES = 100_000_000
KEYWORDS = ["split", "language", "repo", "path", "licence", "duplicate_of", "alias_of", "content"]
WORDS = ["func_name", "summary", "docstring", "code"]


def write_json(path, value):
    """Writes a file in one step, so that a reader sees the old or the new one."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(new, path)


def mapping(engine, dimension):
    """Settings and fields of an index."""
    # Words are split at marks, camelCase and digits, as in the bundle.
    words = {"type": "custom", "tokenizer": "whitespace", "filter": ["parts", "lowercase", "stems"]}
    filters = {"parts": {"type": "word_delimiter_graph"}, "stems": {"type": "stemmer", "language": "english"}}
    settings = {"index": {"number_of_shards": 1}, "analysis": {"analyzer": {"words": words}, "filter": filters}}
    # The type `hnsw` is named: the default of either engine may quantise the vectors.
    if engine == "opensearch":
        settings["index"]["knn"] = True
        method = {"name": "hnsw", "engine": "lucene", "space_type": "innerproduct", "parameters": {"m": 16, "ef_construction": 200}}
        vector = {"type": "knn_vector", "dimension": dimension, "method": method}
    else:
        graph = {"type": "hnsw", "m": 16, "ef_construction": 200}
        vector = {"type": "dense_vector", "dims": dimension, "index": True, "similarity": "dot_product", "index_options": graph}
    fields = {name: {"type": "keyword", "ignore_above": 8191} for name in KEYWORDS}
    fields |= {name: {"type": "text", "analyzer": "words"} for name in WORDS}
    fields |= {name: {"type": "long"} for name in bundles.NUMBERS}
    fields |= {"url": {"type": "keyword", "index": False, "doc_values": False}, "embedding": vector}
    return {"settings": settings, "mappings": {"dynamic": "strict", "properties": fields}}


def nearest(engine, vector, limit):
    numbers = vector.tolist()
    if engine == "opensearch":
        return {"size": limit, "_source": False, "query": {"knn": {"embedding": {"vector": numbers, "k": limit}}}}
    return {"size": limit, "_source": False, "knn": {"field": "embedding", "query_vector": numbers, "k": limit, "num_candidates": 100}}


def searches(engine, queries):
    """Search for the counts, then for each query one by its vector and one by its words among its own row."""
    yield {"size": 0, "track_total_hits": True, "aggs": {"languages": {"terms": {"field": "language", "size": 10000}}}}
    for query in queries:
        yield nearest(engine, query.vector, queries.limit)
        words = {"multi_match": {"query": query.words, "fields": WORDS}} if query.words else {"match_all": {}}
        both = {"bool": {"must": [words], "filter": [{"ids": {"values": [query.id]}}]}}
        yield {"size": 1, "_source": {"excludes": ["embedding"]}, "query": both}


class BulkFiles:
    """Writes actions to bulk-00001.ndjson and so on, each of at most `FILE_BYTES` unless one row is larger."""

    def __init__(self, folder, index):
        self.folder, self.index, self.file, self.paths, self.bytes = folder, index, None, [], 0

    def write(self, action, name, source=None):
        lines = json.dumps({action: {"_index": self.index, "_id": name}}) + "\n" + (source + "\n" if source else "")
        data = lines.encode()
        if len(data) > MOST_BYTES:
            raise HandOverError(f"row {name}: {len(data)} bytes, a request has at most {MOST_BYTES}; leave its file out of the harvest")
        if self.file is None or self.file.tell() + len(data) > FILE_BYTES:
            self.close()
            self.paths.append(self.folder / f"bulk-{len(self.paths) + 1:05}.ndjson")
            self.file = open(self.paths[-1], "wb")
        self.file.write(data)
        self.bytes += len(data)

    def close(self):
        if self.file:
            self.file.close()


def source_of(row):
    """The document of a row. Nine digits are enough for an f32; null fields are left out."""
    values = {name: value for name, value in row.values.items() if value is not None and name != "id"}
    numbers = ",".join("%.9g" % number for number in row.vector.tolist())
    return json.dumps(values, ensure_ascii=False)[:-1] + f', "embedding": [{numbers}]}}'


def write(folder, engine, bundle, queries, changes, base):
    """Writes the files of a hand-over to `folder`, whose name is the new index. `base`: the index that the server has, or None."""
    index, digests = folder.name, {name: digest.hex() for name, digest in changes.gone.items()}
    write_json(folder / "mapping.json", mapping(engine, bundle.dimension))
    files = BulkFiles(folder, index)
    for rows in changes.batches():
        for row in rows:
            digests[row.values["id"]] = row.digest.hex()
            files.write("index", row.values["id"], source_of(row))
    for name in changes.gone:
        del digests[name]
        # Without rows to copy the new index is empty, and there is nothing to delete.
        if changes.unchanged:
            files.write("delete", name)
    files.close()
    changes.bytes, changes.verb = files.bytes, "written"
    if changes.unchanged:
        write_json(folder / "reindex.json", {"source": {"index": base}, "dest": {"index": index}})
    with open(folder / "queries.ndjson", "w", encoding="utf-8") as file:
        file.writelines("{}\n" + json.dumps(search) + "\n" for search in searches(engine, queries))
    # A wildcard: the alias may be on another index than `base` if a hand-over was interrupted.
    actions = [{"remove": {"index": f"{ALIAS}-*", "alias": ALIAS, "must_exist": False}}, {"add": {"index": index, "alias": ALIAS}}]
    write_json(folder / "aliases.json", {"actions": actions})
    exact = [{"id": query.id, "best": sorted(query.best), "values": query.values} for query in queries]
    write_json(folder / "expected.json", {"rows": bundle.rows, "languages": bundle.languages, "limit": queries.limit, "queries": exact})
    write_json(folder / "next-state.json", {"index": index, "engine": engine, "layout": LAYOUT, "bundle": bundle.id, "rows": digests})
    return files.paths


def check_bulk(path, index, dimension):
    """Checks a file against the documented format of POST /_bulk. Returns the number of index and of delete actions.

    One action on a line; `index` has a source on the next line, `delete` has none; UTF-8 JSON objects; a newline after the last line;
    at most `FILE_BYTES` unless the file has one action. Raises HandOverError.
    """
    counts, size = {"index": 0, "delete": 0}, path.stat().st_size
    expected = None
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            place = f"{path}: line {number}"
            value = json.loads(line)
            if not line.endswith(b"\n") or not isinstance(value, dict):
                raise HandOverError(f"{place}: not a JSON object with a newline at its end; write the files again")
            if expected is None:
                ((action, target),) = value.items()
                if action not in counts or target.get("_index") != index or not bundles.ROW_ID.fullmatch(target.get("_id", "")):
                    raise HandOverError(f"{place}: not an action of the index {index}; write the files again")
                counts[action] += 1
                expected = target["_id"] if action == "index" else None
            else:
                vector = value.get("embedding")
                if not isinstance(vector, list) or len(vector) != dimension or not all(isinstance(number, (int, float)) for number in vector):
                    raise HandOverError(f"{place}: the vector has not {dimension} numbers; write the files again")
                expected = None
    if expected is not None or size == 0 or (size > FILE_BYTES and sum(counts.values()) > 1):
        raise HandOverError(f"{path}: the last action has no source, or the file has {size} bytes; write the files again")
    return counts

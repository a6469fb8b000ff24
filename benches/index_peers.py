"""Runs one of the other tools of benches/index.py and prints one JSON object.

    index_peers.py lexical tantivy|bm25s --syntax DIR --rows N --threads T [--tokenizer en_stem]
    index_peers.py vectors faiss|hnswlib --matrix FILE.npy --queries FILE.npy --threads T
    index_peers.py embed onnxruntime|sentence-transformers --encoder DIR --syntax DIR --rows N --threads T [--embeddings DIR]

The fields are those of `codenets-bench measure`. The libraries are used as their manuals show. The clock favours them: rows are in
memory, libraries are imported, models are loaded and warm.

lexical: from rows to an index on disk. `tantivy` is tantivy-py with our schema (no `lines`; `summary` holds the documentation's
words). Signatures and paths are split into words before the clock starts; the time includes merges. `bm25s` indexes the words of name,
code and documentation with its defaults: one thread, no stems, no positions, no filters, no stored text.

vectors: from the matrix to the saved graph, with M 16, efConstruction 128, inner product, f32, T threads. A Python loop sends one query
after the other on one thread, which costs some microseconds per query. `query_busy` is CPU time divided by wall time: 1 for one thread.
Recall@10 compares row numbers with NumPy's product. `exact` is IndexFlatIP of faiss. `open_ms` is the median of three, with the file in
the page cache.

embed: from texts to vectors. `onnxruntime` is a plain loop: one session, batches of 32 in the order of the rows, padded to the longest.
`sentence-transformers` is its encode() with backend="onnx" on the same graph; the output is renamed to the name that optimum requires. It
sorts, tokenises, pads and batches by itself. `agreement` is the smallest cosine between the vectors of 64 rows and those of --embeddings.
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import re
import resource
import statistics
import sys
import tempfile
import time

NEAREST, LINKS, CONSTRUCTION, BATCH, COMPARED = 10, 16, 128, 32, 64
EXPANSIONS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
TEXTS = {"words": "code_words", "tokens": "code_tokens", "subtokens": "subtokens", "ast": "ast_tokens", "structure": "structure"}


def shards(folder):
    """The tables of a folder, in the tool's order."""
    return [path for split in ("train", "valid", "test") for path in sorted((folder / split).glob("*.parquet"))]


def read(folder, columns, rows):
    """The first rows of a table: a list of Python's values a column, and the split of each row."""
    import pyarrow.parquet

    table, splits = {column: [] for column in columns}, []
    for path in shards(folder):
        if len(splits) < rows:
            part = pyarrow.parquet.read_table(path, columns=columns).slice(0, rows - len(splits))
            splits += [path.parent.name] * part.num_rows
            for column in columns:
                table[column] += [value or "" for value in part[column].to_pylist()]
    return table, splits


def timed(work):
    """Seconds and CPU seconds of all threads that a call takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def with_tantivy(table, splits, options, folder):
    import tantivy

    cut = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
    words = {"name": table["name_words"], "code": table["code_words"], "documentation": table["doc_words"]}
    for field, column in (("signature", "signature"), ("file", "path")):
        words[field] = [" ".join(cut.findall(text)).lower() for text in table[column]]
    exact = {field: table[field] for field in ("id", "repo", "path", "language")} | {"split": splits}
    # Text fields are always indexed: what is only shown is stored as bytes.
    shown = {"func_name": "func_name", "url": "url", "summary": "doc_words", "source": "code"}
    shown = {field: [text.encode() for text in table[column]] for field, column in shown.items()}
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("row", stored=True, indexed=True, fast=True)
    for field in exact:
        builder.add_text_field(field, stored=field != "split", tokenizer_name="raw", index_option="basic")
    for field in shown:
        builder.add_bytes_field(field, stored=True)
    for field in words:
        builder.add_text_field(field, tokenizer_name=options.tokenizer, index_option="position")
    texts, schema = list((words | exact).items()), builder.build()

    def build():
        writer = tantivy.Index(schema, path=folder).writer(heap_size=200_000_000, num_threads=options.threads)
        for row in range(len(splits)):
            document = tantivy.Document()
            document.add_unsigned("row", row)
            for field, column in texts:
                document.add_text(field, column[row])
            for field, column in shown.items():
                document.add_bytes(field, column[row])
            writer.add_document(document)
        writer.commit()
        writer.wait_merging_threads()

    return timed(build)


def with_bm25s(table, _splits, _options, folder):
    import bm25s

    texts = [" ".join(row) for row in zip(table["name_words"], table["code_words"], table["doc_words"])]

    def build():
        index = bm25s.BM25()
        index.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
        index.save(folder, show_progress=False)

    return timed(build)


def lexical(options):
    columns = ["name_words", "code_words", "doc_words"]
    if options.engine == "tantivy":
        columns += ["id", "repo", "path", "language", "func_name", "url", "signature", "code"]
    table, splits = read(options.syntax, columns, options.rows)
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        seconds, cpu = {"tantivy": with_tantivy, "bm25s": with_bm25s}[options.engine](table, splits, options, folder)
        size = sum(file.stat().st_size for file in pathlib.Path(folder).rglob("*") if file.is_file())
    return {"rows": len(splits), "seconds": seconds, "cpu_seconds": cpu, "bytes": size}


class Faiss:
    def __init__(self, matrix, threads, path, exact=False):
        import faiss

        self.faiss, self.path, self.threads, wide = faiss, path, threads, matrix.shape[1]
        self.index = faiss.IndexFlatIP(wide) if exact else faiss.IndexHNSWFlat(wide, LINKS, faiss.METRIC_INNER_PRODUCT)
        if not exact:
            self.index.hnsw.efConstruction = CONSTRUCTION

    def build(self, matrix):
        self.faiss.omp_set_num_threads(self.threads)
        self.index.add(matrix)
        self.faiss.write_index(self.index, self.path)

    def open(self):
        self.index = self.faiss.read_index(self.path)

    def one_thread(self, ef):
        self.faiss.omp_set_num_threads(1)
        if ef:
            self.index.hnsw.efSearch = ef

    def search(self, query):
        return self.index.search(query, NEAREST)[1][0]


class Hnswlib:
    def __init__(self, matrix, threads, path):
        import hnswlib

        self.make, self.path, self.threads = lambda: hnswlib.Index(space="ip", dim=matrix.shape[1]), path, threads
        self.index = self.make()
        self.index.init_index(max_elements=len(matrix), ef_construction=CONSTRUCTION, M=LINKS)

    def build(self, matrix):
        self.index.add_items(matrix, num_threads=self.threads)
        self.index.save_index(self.path)

    def open(self):
        self.index = self.make()
        self.index.load_index(self.path)

    def one_thread(self, ef):
        self.index.set_num_threads(1)
        self.index.set_ef(ef)

    def search(self, query):
        return self.index.knn_query(query, NEAREST, num_threads=1)[0][0]


def nearest(matrix, queries):
    """The rows of the largest products, a set a query; few queries at a time, as the products fill memory."""
    import numpy

    scores = (queries[start : start + 32] @ matrix.T for start in range(0, len(queries), 32))
    return [set(row.tolist()) for some in scores for row in numpy.argpartition(some, -NEAREST, axis=1)[:, -NEAREST:]]


def asked(engine, queries, truth, ef=None):
    """Recall, queries a second and CPU by wall: all queries once, then as often as half a second holds."""
    engine.one_thread(ef)
    ask = lambda: [engine.search(queries[row : row + 1]).tolist() for row in range(len(queries))]  # noqa: E731
    recall = sum(len(own.intersection(rows)) for own, rows in zip(truth, ask())) / sum(map(len, truth))
    times = math.ceil(0.5 / timed(ask)[0])
    seconds, cpu = timed(lambda: [ask() for _ in range(times)])
    return {"recall": recall, "qps": times * len(queries) / seconds, "query_busy": cpu / seconds}


def made(engine, matrix):
    """Builds and saves an index and opens it three times: what that costs."""
    seconds, cpu = timed(lambda: engine.build(matrix))
    opened = statistics.median(timed(engine.open)[0] * 1e3 for _ in range(3))
    return {"build_seconds": seconds, "build_cpu_seconds": cpu, "bytes": os.stat(engine.path).st_size, "open_ms": opened}


def vectors(options):
    import numpy

    matrix, queries = numpy.load(options.matrix), numpy.load(options.queries)
    truth = nearest(matrix, queries)
    result = {"rows": len(matrix), "dimension": matrix.shape[1]}
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        engine = {"faiss": Faiss, "hnswlib": Hnswlib}[options.engine](matrix, options.threads, f"{folder}/graph")
        result["hnsw"] = made(engine, matrix)
        result["hnsw"]["points"] = [{"ef": ef, **asked(engine, queries, truth, ef)} for ef in EXPANSIONS]
        if options.engine == "faiss":
            engine = Faiss(matrix, options.threads, f"{folder}/exact", exact=True)
            result["exact"] = made(engine, matrix) | asked(engine, queries, truth)
    return result


def with_onnxruntime(spec, folder, tokenizer, session):
    """A plain loop around a session."""
    import numpy
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / spec["code_graph"]), session, providers=["CPUExecutionProvider"])
    form, pad = spec["graph"], tokenizer.token_to_id(spec["pad_token"])
    after = [tokenizer.token_to_id(token) for token in spec["code_suffix"]]

    def encode(prefixes, texts):
        vectors = []
        for start in range(0, len(texts), BATCH):
            rows = []
            encoded = tokenizer.encode_batch_fast(texts[start : start + BATCH], add_special_tokens=False)
            for prefix, encoding in zip(prefixes[start : start + BATCH], encoded):
                before = [tokenizer.token_to_id(token) for token in prefix]
                rows.append(before + encoding.ids[: spec["code_tokens"] - len(before) - len(after)] + after)
            ids = numpy.full((len(rows), max(map(len, rows))), pad, dtype=numpy.int64)
            mask = numpy.zeros_like(ids)
            for at, row in enumerate(rows):
                ids[at, : len(row)], mask[at, : len(row)] = row, 1
            inputs = {"input_ids": ids, "attention_mask": mask} | ({"token_type_ids": 0 * ids} if form["token_types"] else {})
            (output,) = session.run([form["output"]], inputs)
            if form["pooling"]:
                output = output[:, 0] if form["pooling"] == "cls" else (output * mask[:, :, None].astype(numpy.float32)).sum(1)
                output = output / numpy.linalg.norm(output, axis=1, keepdims=True)
            vectors.append(output)
        return numpy.concatenate(vectors)

    return encode


def with_sentence_transformers(spec, folder, tokenizer, session):
    """The prefix, which may name the language, stands in the text; the suffix is the tokenizer's doing."""
    import onnx
    import tokenizers
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    torch.set_num_threads(session.intra_op_num_threads)
    form, longest = spec["graph"], spec["code_tokens"]
    after = [(token, tokenizer.token_to_id(token)) for token in dict.fromkeys(spec["code_suffix"])]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single=["$A", *spec["code_suffix"]], special_tokens=after)
    # transformers sets this to false where nobody says otherwise.
    space = (json.loads(tokenizer.to_str())["pre_tokenizer"] or {}).get("add_prefix_space", False)
    named = {"pad_token": spec["pad_token"], "model_max_length": longest, "add_prefix_space": space}
    graph = onnx.load(folder / spec["code_graph"])
    if form["output"] != "last_hidden_state":
        graph.graph.node.append(onnx.helper.make_node("Identity", [form["output"]], ["last_hidden_state"]))
        next(output for output in graph.graph.output if output.name == form["output"]).name = "last_hidden_state"
    # Where the graph pools, what it gives is the vector; where it does not, sentence-transformers does.
    text = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
    pooled = {} if form["pooling"] else {"modality_config": text, "module_output_name": "sentence_embedding"}
    arguments = {"file_name": "model.onnx", "provider": "CPUExecutionProvider", "session_options": session}
    with tempfile.TemporaryDirectory() as model:
        transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(model)
        transformers.BertConfig(hidden_size=spec["dimension"], num_attention_heads=1).save_pretrained(model)
        onnx.save(graph, f"{model}/model.onnx")
        modules = [Transformer(model, backend="onnx", model_kwargs=arguments, max_seq_length=longest, **pooled)]
    if form["pooling"]:
        modules += [Pooling(spec["dimension"], form["pooling"]), Normalize()]
    encoder = SentenceTransformer(modules=modules, device="cpu", backend="onnx")

    def encode(prefixes, texts):
        joined = ["".join(prefix) + text for prefix, text in zip(prefixes, texts)]
        return encoder.encode(joined, batch_size=BATCH, show_progress_bar=False)

    return encode


def embed(options):
    import onnxruntime
    import tokenizers

    spec = {"code_graph": "encoder.onnx", "code_suffix": []} | json.loads((options.encoder / "encoder.json").read_text())
    spec["graph"] = {"output": "embedding", "token_types": False, "pooling": None} | spec.get("graph", {})
    if "{language}" in spec["code_graph"]:
        sys.exit("the peers read one graph: this encoder has one for each language")
    code = TEXTS[spec["code_text"]]
    table, _ = read(options.syntax, ["language", "name_words", "doc_words", code], options.rows)
    names, codes = table["name_words"], table[code]
    if spec["code_text"] != "words":
        names, codes = [""] * len(codes), [" ".join(tokens) for tokens in codes]
    prefixes = [[token.replace("{language}", language) for token in spec["code_prefix"]] for language in table["language"]]
    texts = [f"{name} {text}".strip() for name, text in zip(names, codes)]
    session = onnxruntime.SessionOptions()
    session.intra_op_num_threads, session.log_severity_level = options.threads, 3
    tokenizer = tokenizers.Tokenizer.from_file(str(options.encoder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    make = {"onnxruntime": with_onnxruntime, "sentence-transformers": with_sentence_transformers}[options.engine]
    encode = make(spec, options.encoder, tokenizer, session)
    encode(prefixes[:BATCH], texts[:BATCH])
    seconds, cpu = timed(lambda: encode(prefixes, texts))
    result = {"rows": len(texts), "seconds": seconds, "cpu_seconds": cpu, "functions_per_second": len(texts) / seconds}
    result["busy"] = cpu / (seconds * options.threads)
    if options.embeddings:
        ours, _ = read(options.embeddings, ["embedding"], min(COMPARED, len(texts)))
        report = json.loads((options.embeddings / "manifest.json").read_text())["report"]
        docs = table["doc_words"] if report.get("documentation") else [""] * len(texts)
        whole = [" ".join(filter(None, row)) for row in zip(names, docs, codes)][:COMPARED]
        both = zip(encode(prefixes[:COMPARED], whole), ours["embedding"])
        result["agreement"] = min(float(sum(a * b for a, b in zip(one, other))) for one, other in both)
    return result


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("part", choices=["lexical", "vectors", "embed"])
    options.add_argument("engine")
    for name in ("syntax", "matrix", "queries", "encoder", "embeddings", "scratch"):
        options.add_argument(f"--{name}", type=pathlib.Path)
    options.add_argument("--rows", type=int)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--tokenizer", choices=["en_stem", "whitespace"], default="en_stem")
    options = options.parse_args()
    # Read when the libraries are imported, which is below.
    threads = {f"{library}_NUM_THREADS": str(options.threads) for library in ("OMP", "OPENBLAS", "MKL", "RAYON")}
    os.environ.update(threads, TOKENIZERS_PARALLELISM="true", HF_HUB_OFFLINE="1")
    with contextlib.redirect_stdout(sys.stderr):
        result = {"lexical": lexical, "vectors": vectors, "embed": embed}[options.part](options)
    result["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result))


if __name__ == "__main__":
    main()

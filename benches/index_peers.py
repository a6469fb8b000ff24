"""Runs one peer of benches/index.py in a process of its own and prints one JSON object.

    index_peers.py lexical tantivy|bm25s --syntax DIR --rows N --threads T [--tokenizer en_stem]
    index_peers.py vectors faiss|hnswlib --matrix FILE.npy --queries FILE.npy --threads T
    index_peers.py embed onnxruntime|sentence-transformers --encoder DIR --syntax DIR --rows N --threads T [--embeddings DIR]
    index_peers.py matrix --embeddings DIR --rows N --queries Q --out DIR [--mix]
    index_peers.py rows --syntax DIR

The fields are those of `indexer measure`. Peers use their libraries as their manuals show it, and the clock is kind to
them: rows lie in memory as Python's strings or one float matrix, libraries are imported, models loaded and warm.

lexical: from rows in memory to an index on disk. `tantivy` is tantivy-py with our schema (`lines` left out, `summary` the
documentation's words), words cut before the clock starts; merges are waited for. `bm25s` counts words of name, code and documentation, by its defaults
(no stems, no positions, no filters), and keeps no text to show.

vectors: `build` from the matrix to the saved graph, M 16, efConstruction 128, inner product, f32, T threads. Queries one by one on
one thread, by Python's loop (some microseconds a query); `query_busy` is CPU by wall, 1.0 if it was one thread. Recall@10 by row
numbers, against NumPy's product. `exact` is faiss' IndexFlatIP; hnswlib's own is left out. `open_ms` is the median of three,
the file in the page cache.

embed: from texts in memory to vectors. `onnxruntime` is a plain loop: batches of 32 as rows come, padded to the longest. `sentence-transformers`
is its encode() with backend="onnx" on the same graph, its output renamed to the one that optimum asks for: it sorts by length, pads and batches by
itself. `agreement` is the smallest cosine of 64 rows with those of DATA/embeddings.

matrix: unit vectors of the embeddings for `vectors`, equal ones once; every n-th row is taken out as a query. With --mix, rows beyond those
there are become x_i + x_j / 2 of pairs drawn with a seed: near their parents, as copies of code are, so not what a real corpus of that size is.
"""

import argparse
import contextlib
import json
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


def shards(folder):
    """The tables of a folder in the tool's order."""
    return [path for split in ("train", "valid", "test") for path in sorted((folder / split).glob("*.parquet"))]


def read(folder, columns, rows):
    """The first rows of a table, a list of Python's values a column; and the split of each."""
    import pyarrow.parquet

    table, splits = {column: [] for column in columns}, []
    for path in shards(folder):
        if len(splits) < rows:
            part = pyarrow.parquet.read_table(path, columns=columns).slice(0, rows - len(splits))
            splits += [path.parent.name] * part.num_rows
            for column in columns:
                table[column] += part[column].to_pylist()
    return table, splits


def clock():
    return time.perf_counter(), time.process_time()


def since(start):
    return time.perf_counter() - start[0], time.process_time() - start[1]


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def size(path):
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


# ------------------------------------------------------------------------------------------------- lexical


def with_tantivy(table, splits, options, folder):
    import tantivy

    texts = {"name": table["name_words"], "code": table["code_words"], "documentation": table["doc_words"]}
    cut = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
    for field, column in (("signature", "signature"), ("file", "path")):
        texts[field] = [" ".join(cut.findall(text)).lower() for text in table[column]]
    texts |= {field: table[field] for field in ("id", "repo", "path", "language")} | {"split": splits}
    # A text field is always indexed: what is only shown is stored as bytes.
    shown = {"func_name": "func_name", "url": "url", "summary": "doc_words", "source": "code"}
    shown = {field: [text.encode() for text in table[column]] for field, column in shown.items()}
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("row", stored=True, indexed=True, fast=True)
    for field in ("id", "repo", "path", "language", "split"):
        builder.add_text_field(field, stored=field != "split", tokenizer_name="raw", index_option="basic")
    for field in shown:
        builder.add_bytes_field(field, stored=True)
    for field in ("name", "signature", "file", "code", "documentation"):
        builder.add_text_field(field, tokenizer_name=options.tokenizer, index_option="position")
    schema = builder.build()
    start = clock()
    writer = tantivy.Index(schema, path=str(folder)).writer(heap_size=200_000_000, num_threads=options.threads)
    for row in range(len(splits)):
        document = tantivy.Document()
        document.add_unsigned("row", row)
        for field, column in texts.items():
            document.add_text(field, column[row])
        for field, column in shown.items():
            document.add_bytes(field, column[row])
        writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()
    return since(start)


def with_bm25s(table, _splits, _options, folder):
    import bm25s

    texts = [" ".join(row) for row in zip(table["name_words"], table["code_words"], table["doc_words"])]
    start = clock()
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
    index.save(str(folder), show_progress=False)
    return since(start)


def lexical(options):
    columns = ["name_words", "code_words", "doc_words"]
    if options.engine == "tantivy":
        columns += ["id", "repo", "path", "language", "func_name", "url", "signature", "code"]
    table, splits = read(options.syntax, columns, options.rows)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        seconds, cpu = {"tantivy": with_tantivy, "bm25s": with_bm25s}[options.engine](table, splits, options, folder)
        return {"rows": len(splits), "seconds": seconds, "cpu_seconds": cpu, "bytes": size(folder), "peak_mib": peak()}


# ------------------------------------------------------------------------------------------------- vectors


class Faiss:
    def __init__(self, matrix, threads, path):
        import faiss

        self.faiss, self.path, self.threads = faiss, str(path), threads
        self.index = faiss.IndexHNSWFlat(matrix.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = CONSTRUCTION

    def build(self, matrix):
        self.faiss.omp_set_num_threads(self.threads)
        self.index.add(matrix)
        self.faiss.write_index(self.index, self.path)

    def open(self):
        self.index = self.faiss.read_index(self.path)

    def one_thread(self, ef=None):
        self.faiss.omp_set_num_threads(1)
        if ef:
            self.index.hnsw.efSearch = ef

    def search(self, query):
        return self.index.search(query, NEAREST)[1][0]


class FaissExact(Faiss):
    def __init__(self, matrix, threads, path):
        super().__init__(matrix, threads, path)
        self.index = self.faiss.IndexFlatIP(matrix.shape[1])


class Hnswlib:
    def __init__(self, matrix, threads, path):
        import hnswlib

        self.make, self.path, self.threads = lambda: hnswlib.Index(space="ip", dim=matrix.shape[1]), str(path), threads
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
    """The rows of the greatest products, a set a query; a few queries at a time, as the products fill memory."""
    import numpy

    found = []
    for start in range(0, len(queries), 32):
        scores = queries[start : start + 32] @ matrix.T
        found += [set(row.tolist()) for row in numpy.argpartition(-scores, NEAREST - 1, axis=1)[:, :NEAREST]]
    return found


def asked(engine, queries, truth):
    """Recall, queries a second and CPU by wall of queries asked one by one, for at least half a second."""
    found = [engine.search(queries[row : row + 1]) for row in range(len(queries))]
    recall = sum(len(own.intersection(rows.tolist())) for own, rows in zip(truth, found)) / sum(map(len, truth))
    start, done = clock(), 0
    while not done or time.perf_counter() - start[0] < 0.5:
        for row in range(len(queries)):
            engine.search(queries[row : row + 1])
        done += len(queries)
    seconds, cpu = since(start)
    return {"recall": recall, "qps": done / seconds, "query_busy": cpu / seconds}


def made(engine, matrix):
    """Builds and saves an index, opens it three times; what it costs."""
    start = clock()
    engine.build(matrix)
    seconds, cpu = since(start)
    opened = []
    for _ in range(3):
        start = clock()
        engine.open()
        opened.append(since(start)[0] * 1e3)
    return {"build_seconds": seconds, "build_cpu_seconds": cpu, "bytes": size(pathlib.Path(engine.path)), "open_ms": statistics.median(opened)}


def vectors(options):
    import numpy

    matrix, queries = numpy.load(options.matrix), numpy.load(options.queries)
    truth = nearest(matrix, queries)
    result = {"rows": len(matrix), "dimension": matrix.shape[1], "exact": None}
    with tempfile.TemporaryDirectory(dir=options.matrix.parent) as folder:
        folder = pathlib.Path(folder)
        engine = {"faiss": Faiss, "hnswlib": Hnswlib}[options.engine](matrix, options.threads, folder / "graph")
        result["hnsw"] = made(engine, matrix) | {"points": []}
        for ef in EXPANSIONS:
            engine.one_thread(ef)
            result["hnsw"]["points"].append({"ef": ef, **asked(engine, queries, truth)})
        if options.engine == "faiss":
            engine = FaissExact(matrix, options.threads, folder / "exact")
            result["exact"] = made(engine, matrix)
            engine.one_thread()
            result["exact"] |= asked(engine, queries, truth)
    return result | {"peak_mib": peak()}


def matrix(options):
    import numpy
    import pyarrow.parquet

    parts, seen, have = [], set(), 0
    wanted = options.rows + options.queries if options.rows else sys.maxsize
    for path in shards(options.embeddings):
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(columns=["embedding"]):
            if have < wanted:
                column = batch.column(0)
                part = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1).astype(numpy.float32)
                keys = [hash(row.tobytes()) for row in part]
                new = [at for at, key in enumerate(keys) if key not in seen and not seen.add(key)]
                parts.append(part[new][: wanted - have])
                have += len(parts[-1])
    real = numpy.concatenate(parts)
    real /= numpy.linalg.norm(real, axis=1, keepdims=True)
    count = min(options.queries, len(real) // 10)
    held = numpy.arange(count) * (len(real) // count)
    numpy.save(options.out / "queries.npy", numpy.ascontiguousarray(real[held]))
    real = numpy.delete(real, held, axis=0)
    rows = options.rows if options.mix else min(len(real), options.rows or len(real))
    target = numpy.lib.format.open_memmap(options.out / "matrix.npy", mode="w+", dtype=numpy.float32, shape=(rows, real.shape[1]))
    target[: len(real)] = real[:rows]
    draw = numpy.random.default_rng(0)
    for start in range(len(real), rows, 1 << 16):
        length = min(1 << 16, rows - start)
        first = draw.integers(len(real), size=length)
        second = (first + draw.integers(1, len(real), size=length)) % len(real)
        mixed = real[first] + 0.5 * real[second]
        target[start : start + length] = mixed / numpy.linalg.norm(mixed, axis=1, keepdims=True)
    target.flush()
    return {"rows": rows, "real": min(rows, len(real)), "queries": count, "dimension": real.shape[1]}


# ------------------------------------------------------------------------------------------------- embed


def framed(spec, table, documentation):
    """The prefix and the text of each row, as encoder.json asks for them."""
    parts = [table["name_words"]] if spec["code_text"] == "words" else []
    parts += [table["doc_words"]] if documentation else []
    parts += [table["code_words"] if spec["code_text"] == "words" else map(" ".join, table[TOKENS[spec["code_text"]]])]
    texts = [" ".join(part for part in row if part) for row in zip(*parts)]
    return [[token.replace("{language}", language) for token in spec["code_prefix"]] for language in table["language"]], texts


TOKENS = {"words": "code_words", "tokens": "code_tokens", "subtokens": "subtokens", "ast": "ast_tokens", "structure": "structure"}


def with_onnxruntime(spec, folder, threads):
    """A plain loop around a session."""
    import numpy
    import onnxruntime
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(folder / spec["code_graph"]), settings, providers=["CPUExecutionProvider"])
    form, pad = spec["graph"], tokenizer.token_to_id(spec["pad_token"])
    after = [tokenizer.token_to_id(token) for token in spec["code_suffix"]]

    def encode(prefixes, texts):
        vectors = []
        for start in range(0, len(texts), BATCH):
            encoded = tokenizer.encode_batch_fast(texts[start : start + BATCH], add_special_tokens=False)
            rows = []
            for prefix, encoding in zip(prefixes[start : start + BATCH], encoded):
                before = [tokenizer.token_to_id(token) for token in prefix]
                rows.append(before + encoding.ids[: spec["code_tokens"] - len(before) - len(after)] + after)
            ids = numpy.full((len(rows), max(map(len, rows))), pad, dtype=numpy.int64)
            mask = numpy.zeros_like(ids)
            for at, row in enumerate(rows):
                ids[at, : len(row)], mask[at, : len(row)] = row, 1
            inputs = {"input_ids": ids, "attention_mask": mask} | ({"token_type_ids": numpy.zeros_like(ids)} if form["token_types"] else {})
            (output,) = session.run([form["output"]], inputs)
            if form["pooling"]:
                output = output[:, 0] if form["pooling"] == "cls" else (output * mask[:, :, None]).sum(1)
                output = output / numpy.linalg.norm(output, axis=1, keepdims=True)
            vectors.append(output.astype(numpy.float32))
        return numpy.concatenate(vectors)

    return encode


def with_sentence_transformers(spec, folder, threads):
    """A folder as sentence-transformers keeps one; the prefix stands in the text, the suffix is the tokenizer's."""
    import onnx
    import onnxruntime
    import tokenizers
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    form, model = spec["graph"], pathlib.Path(tempfile.mkdtemp(prefix="sentence-transformers-"))
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    after = [(token, tokenizer.token_to_id(token)) for token in dict.fromkeys(spec["code_suffix"])]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single=["$A", *spec["code_suffix"]], special_tokens=after)
    # Without a word of it, transformers takes the space before the first word away.
    space = (json.loads(tokenizer.to_str())["pre_tokenizer"] or {}).get("add_prefix_space", False)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=spec["pad_token"], model_max_length=spec["code_tokens"], add_prefix_space=space
    )
    fast.save_pretrained(model)
    transformers.BertConfig(hidden_size=spec["dimension"], num_attention_heads=1, vocab_size=len(fast)).save_pretrained(model)
    graph = onnx.load(folder / spec["code_graph"])
    if form["output"] != "last_hidden_state":
        graph.graph.node.append(onnx.helper.make_node("Identity", [form["output"]], ["last_hidden_state"]))
        next(output for output in graph.graph.output if output.name == form["output"]).name = "last_hidden_state"
    onnx.save(graph, model / "model.onnx")
    settings = {"max_seq_length": spec["code_tokens"]}
    kinds = ["Transformer", "Pooling", "Normalize"] if form["pooling"] else ["Transformer"]
    if not form["pooling"]:
        text = {"method": "forward", "method_output_name": "last_hidden_state"}
        settings |= {"modality_config": {"text": text}, "module_output_name": "sentence_embedding"}
    names = [{"idx": at, "name": str(at), "path": f"{at}_{kind}" if at else "", "type": f"sentence_transformers.models.{kind}"} for at, kind in enumerate(kinds)]
    for kind in names[1:]:
        (model / kind["path"]).mkdir()
        pooling = {"word_embedding_dimension": spec["dimension"], "pooling_mode_mean_tokens": form["pooling"] == "mean"}
        (model / kind["path"] / "config.json").write_text(json.dumps(pooling | {"pooling_mode_cls_token": form["pooling"] == "cls"}))
    (model / "modules.json").write_text(json.dumps(names))
    (model / "sentence_bert_config.json").write_text(json.dumps(settings))
    session = onnxruntime.SessionOptions()
    session.intra_op_num_threads, session.log_severity_level = threads, 3
    arguments = {"file_name": "model.onnx", "provider": "CPUExecutionProvider", "session_options": session}
    encoder = SentenceTransformer(str(model), backend="onnx", device="cpu", model_kwargs=arguments)

    def encode(prefixes, texts):
        joined = ["".join(prefix) + text for prefix, text in zip(prefixes, texts)]
        return encoder.encode(joined, batch_size=BATCH, show_progress_bar=False)

    return encode

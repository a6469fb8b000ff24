"""Runs one of the other tools of benches/corpus.py and prints one JSON line.

    corpus_peers.py ingest-pandas|ingest-polars|ingest-datasets --raw DIR --out DIR --threads N
    corpus_peers.py ast-python|ast-bare --syntax DIR --out DIR --threads N [--check FILE.jsonl]
    corpus_peers.py tokenize-bare --tokenizer tokenizer.json --text FILE --out DIR --threads N

The tool runs in a child process. The numbers of threads are in its environment before anything is imported. The parent measures the
whole process, with the start of the interpreter and the imports (`cpu_s`), and the child its work after them (`work_cpu_s`). It counts input bytes and output rows after the clock has stopped. The
libraries are used as their manuals show. They trust their input: a line that is not a record is an error.

`bytes`: uncompressed jsonl, code or text, as UTF-8. `rows`: rows that were kept, parsed or encoded. `peak_rss_mib` of several processes:
the sampled peak of their sum, with shared pages counted once.
"""

import argparse
import gzip
import json
import os
import pathlib
import resource
import subprocess
import sys
import threading
import time
from collections import deque
from hashlib import blake2b

TEXTS = ["repo", "path", "func_name", "language", "code", "docstring", "url", "partition"]
LISTS = ["code_tokens", "docstring_tokens"]
COLUMNS = [
    *("repo", "path", "func_name", "language", "code", "code_tokens"),
    *("docstring", "docstring_tokens", "url", "partition"),
]
KEY = ["language", "repo", "path", "code"]
SKIPPED = {"php": {"ERROR", "php_tag", "php_end_tag"}, "java": {"ERROR"}}


def raw_files(raw):
    """CodeSearchNet's files, `<lang>/final/jsonl/<split>/*.jsonl[.gz]` somewhere below `raw`, in order."""
    files = [*raw.rglob("final/jsonl/*/*.jsonl"), *raw.rglob("final/jsonl/*/*.jsonl.gz")]
    return sorted(file for file in files if file.is_file())


def target(file):
    """The Parquet file of an input file: `<split>/<stem>.parquet`; CodeSearchNet's stems name the language."""
    return pathlib.Path(file.parent.name, file.name.split(".jsonl")[0] + ".parquet")


def imported():
    """Remembers the CPU time of the process when its imports have ended."""
    STARTED.append(time.process_time())


STARTED = []


def first(seen, *key):
    """Is this key new? Only digests are kept: the code of a whole corpus does not fit into memory."""
    digest = blake2b("\0".join(key).encode(), digest_size=16).digest()
    if digest in seen:
        return False
    seen.add(digest)
    return True


# ------------------------------------------------------------------------------------------------- ingest


def ingest_pandas(args):
    """One file after the other, in chunks; a set of keys holds what was seen. pandas itself has one thread."""
    import pandas
    import pyarrow
    import pyarrow.parquet

    imported()
    pyarrow.set_cpu_count(args.threads)
    pyarrow.set_io_thread_count(args.threads)
    types = dict.fromkeys(TEXTS, pyarrow.string()) | dict.fromkeys(LISTS, pyarrow.list_(pyarrow.string()))
    schema = pyarrow.schema([(column, types[column]) for column in COLUMNS])
    seen = set()
    for file in raw_files(args.raw):
        path = args.out / target(file)
        path.parent.mkdir(exist_ok=True)
        writer = pyarrow.parquet.ParquetWriter(path, schema, compression="zstd", compression_level=1)
        # Without type inference: a function may be called "2019" and stays text.
        chunks = pandas.read_json(file, lines=True, chunksize=10_000, dtype=False)
        with writer, chunks:
            for chunk in chunks:
                chunk = chunk[COLUMNS]
                chunk = chunk[chunk["code"].str.strip() != ""]
                chunk = chunk[[first(seen, *key) for key in zip(*(chunk[column] for column in KEY))]]
                writer.write_table(pyarrow.Table.from_pandas(chunk, schema=schema, preserve_index=False))


def ingest_polars(args):
    """One lazy query over all files on the streaming engine; a partition of the sink is an input file."""
    import polars

    imported()
    assert polars.thread_pool_size() == args.threads
    files = raw_files(args.raw)
    types = dict.fromkeys(TEXTS, polars.String) | dict.fromkeys(LISTS, polars.List(polars.String))
    targets = {str(file): target(file) for file in files}
    (
        polars.scan_ndjson(files, schema={column: types[column] for column in COLUMNS}, include_file_paths="file")
        .filter(polars.col("code").str.strip_chars() != "")
        .unique(KEY, keep="first", maintain_order=True)
        .sink_parquet(
            polars.PartitionBy(
                args.out,
                key="file",
                include_key=False,
                file_path_provider=lambda part: targets[part.partition_keys["file"].item()],
            ),
            compression="zstd",
            compression_level=1,
            engine="streaming",
        )
    )


def ingest_datasets(args):
    """`load_dataset`, two filters and `to_parquet`. The set of keys is one process's, so is the second filter.

    A dataset forgets which file a row is from: a split is written as as many shards as it had files. Its
    `to_parquet` has a fixed compression, snappy.
    """
    from functools import partial

    from datasets import load_dataset

    imported()

    splits = {}
    for file in raw_files(args.raw):
        splits.setdefault(file.parent.name, []).append(file)

    def workers(tasks):
        return min(args.threads, tasks) if min(args.threads, tasks) > 1 else None

    seen = set()

    # Split by split, so that each has as many workers as it has files.
    for split, files in sorted(splits.items()):
        names = [str(file) for file in files]
        cache = str(args.out / "cache")
        rows = load_dataset(
            "json", data_files={split: names}, split=split, cache_dir=cache, num_proc=workers(len(files))
        )
        rows = rows.select_columns(COLUMNS)
        (args.out / split).mkdir(exist_ok=True)
        rows = rows.filter(lambda code: code.strip() != "", input_columns="code", num_proc=workers(args.threads))
        # A fingerprint of its own: `datasets` would pickle the whole set for one.
        rows = rows.filter(partial(first, seen), input_columns=KEY, new_fingerprint=f"first-{split}")
        for number, file in enumerate(files):
            shard = rows.shard(len(files), number, contiguous=True)
            shard.to_parquet(args.out / target(file))


# -------------------------------------------------------------------------------------------- syntax trees

PARSERS = {}


def parser_of(grammar):
    """One parser a process and grammar."""
    if grammar not in PARSERS:
        from importlib import import_module

        from tree_sitter import Language, Parser

        module = import_module("tree_sitter_" + grammar.split("_")[0])
        function = "language_" + grammar if grammar.startswith("php") else "language"
        PARSERS[grammar] = Parser(Language(getattr(module, function)()))
    return PARSERS[grammar]


def parse(language, code):
    """The tree of a function. Java code is put into a class; PHP code without `<?php` is parsed as such."""
    grammar = language
    if language == "java":
        code = "class Toto { " + code + " }"
    elif language == "php" and not code.lstrip().startswith("<?"):
        grammar = "php_only"
    return parser_of(grammar).parse(code.encode())


def linearise(language, tree, max_tokens):
    """The tree breadth first, as `parse` of this project writes it into `ast_tokens`."""
    skipped = SKIPPED.get(language, ())
    tokens = [f"<{language}>"]
    groups = deque([[(None, tree.root_node)]])
    while groups:
        for field, node in groups.popleft():
            named = node.is_named
            if node.type in skipped and node.parent is not None and not (named and node.child_count == 0):
                continue
            if field is not None:
                tokens += ["<field>", field]
            if named:
                tokens.append(f"<{node.type}>")
            if node.child_count == 0:
                if not (named and node.type in skipped):
                    text = node.text.decode("utf-8", errors="replace")
                    if text:
                        tokens.append(text)
                tokens.append("<nosub>")
            else:
                tokens.append("<sub>")
                children = []
                cursor = node.walk()
                more = cursor.goto_first_child()
                while more:
                    children.append((cursor.field_name, cursor.node))
                    more = cursor.goto_next_sibling()
                groups.append(children)
            if len(tokens) >= max_tokens:
                return close(tokens, max_tokens)
        tokens.append("<lvl>")
        if len(tokens) >= max_tokens:
            break
    return close(tokens, max_tokens)


def close(tokens, max_tokens):
    return tokens[: max_tokens - 1] + ["<end>"]


def ast_file(task):
    """Rows, bytes of code and, to check the tokens, the lines of one file."""
    import pyarrow.parquet

    file, linearised, check, max_tokens = task
    rows = size = 0
    lines = []
    columns = ["language", "code"] + ["id"] * check
    for batch in pyarrow.parquet.ParquetFile(file).iter_batches(1024, columns=columns, use_threads=False):
        for row in batch.to_pylist():
            tree = parse(row["language"], row["code"])
            rows += 1
            size += len(row["code"].encode())
            if linearised:
                tokens = linearise(row["language"], tree, max_tokens)
                if check:
                    lines.append(json.dumps({"id": row["id"], "ast_tokens": tokens}, ensure_ascii=False))
    return rows, size, lines


def ast(args, linearised):
    """Every function of `<split>/*.parquet`, the files dealt out to the processes. Tokens are not stored."""
    check = args.check is not None
    tasks = [(str(file), linearised, check, args.max_tokens) for file in sorted(args.syntax.glob("*/*.parquet"))]
    rows = size = 0
    with open(args.check or os.devnull, "w", encoding="utf-8") as out:
        for more_rows, more_size, lines in over_processes(ast_file, tasks, args.threads):
            rows += more_rows
            size += more_size
            out.writelines(line + "\n" for line in lines)
    return rows, size


def over_processes(function, tasks, processes):
    """`map` in order, one task at a time to each process."""
    processes = min(processes, len(tasks))
    if processes <= 1:
        yield from map(function, tasks)
        return
    import multiprocessing

    pool = multiprocessing.Pool(processes)
    yield from pool.imap(function, tasks, chunksize=1)
    pool.close()
    pool.join()


# ------------------------------------------------------------------------------------------------ tokenize


def tokenize_bare(args):
    """The tokenizers library alone: lines in batches of 1,000, no Parquet on either side."""
    from itertools import islice

    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    encode = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
    rows = size = 0
    with open(args.text, encoding="utf-8", newline="\n") as lines:
        while batch := [line.rstrip("\n") for line in islice(lines, 1000)]:
            encode(batch)
            rows += len(batch)
            size += sum(len(text.encode()) for text in batch)
    return rows, size


PEERS = {
    "ingest-pandas": ingest_pandas,
    "ingest-polars": ingest_polars,
    "ingest-datasets": ingest_datasets,
    "ast-python": lambda args: ast(args, linearised=True),
    "ast-bare": lambda args: ast(args, linearised=False),
    "tokenize-bare": tokenize_bare,
}


# --------------------------------------------------------------------------------------------- measurement


def environment(args):
    """Thread counts and, for `datasets`, no network and no cache but its own."""
    threads = arrow = args.threads
    if args.peer == "ingest-datasets":
        # Its workers are processes; Arrow's threads in each share what is left.
        arrow = max(1, threads // max(1, min(threads, len(raw_files(args.raw)))))
    counts = {
        "POLARS_MAX_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
        "OMP_NUM_THREADS": str(arrow),
        "ARROW_IO_THREADS": str(arrow),
    }
    alone = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(args.out / "cache"), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    return os.environ | counts | alone


def family(pid):
    """A process and those below it."""
    below = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            below.setdefault(int(parent), []).append(int(entry.name))
    pids = [pid]
    for pid in pids:
        pids += below.get(pid, [])
    return pids


def resident(pid):
    """Memory of a process in KiB; a shared page is divided by the number of its users."""
    try:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def watch(pid, ended, peak):
    """Samples the memory of several processes: the kernel knows only the peak of the largest one."""
    while not ended.wait(0.25):
        pids = family(pid)
        if len(pids) > 1:
            peak[0] = max(peak[0], sum(map(resident, pids)))


def measure(args):
    """Runs the tool as a child process and reports time and memory."""
    if args.out.exists() and any(args.out.iterdir()):
        sys.exit(f"{args.out} is not empty")
    args.out.mkdir(parents=True, exist_ok=True)
    ended, peak = threading.Event(), [0]
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *sys.argv, "--inside"], env=environment(args), stdout=subprocess.PIPE, text=True
    )
    watcher = threading.Thread(target=watch, args=(child.pid, ended, peak))
    watcher.start()
    answer, _ = child.communicate()
    wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended.set()
    watcher.join()
    if child.returncode != 0:
        sys.exit(f"{args.peer} failed with status {child.returncode}")
    found, work = json.loads(answer.splitlines()[-1])
    rows, size = written(args) if args.peer.startswith("ingest") else found
    report = {
        "peer": args.peer,
        "rows": rows,
        "bytes": size,
        "wall_s": round(wall, 3),
        "cpu_s": round(used.ru_utime + used.ru_stime, 3),
        "work_cpu_s": round(work, 3),
        "peak_rss_mib": round(max(used.ru_maxrss, peak[0]) / 1024, 1),
        "threads": args.threads,
    }
    print(json.dumps(report))


def written(args):
    """Rows that were kept, from the Parquet footers, and bytes of jsonl that were read."""
    import pyarrow.parquet

    rows = sum(pyarrow.parquet.read_metadata(file).num_rows for file in args.out.glob("*/*.parquet"))
    size = 0
    for file in raw_files(args.raw):
        with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as source:
            while block := source.read(1 << 20):
                size += len(block)
    return rows, size


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("peer", choices=PEERS)
    arguments.add_argument("--raw", type=pathlib.Path, help="CodeSearchNet's tree of jsonl files")
    arguments.add_argument("--syntax", type=pathlib.Path, help="<split>/*.parquet with the columns language and code")
    arguments.add_argument("--tokenizer", type=pathlib.Path, help="a tokenizer.json")
    arguments.add_argument("--text", type=pathlib.Path, help="one text a line")
    arguments.add_argument("--out", type=pathlib.Path, required=True, help="an empty folder")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--max-tokens", type=int, default=400, help="length of an AST path, <end> included")
    arguments.add_argument("--check", type=pathlib.Path, help='ast-python: write {"id", "ast_tokens"} lines there')
    arguments.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = arguments.parse_args()
    needed = {"ingest": ["raw"], "ast": ["syntax"], "tokenize": ["tokenizer", "text"]}[args.peer.split("-")[0]]
    for name in needed:
        if getattr(args, name) is None:
            arguments.error(f"{args.peer} needs --{name}")
    if not args.inside:
        measure(args)
    else:
        answer = PEERS[args.peer](args)
        # Worker processes of `datasets` are children: their imports count as work.
        work = time.process_time() - (STARTED or [0])[0] + sum(os.times()[2:4])
        print(json.dumps([answer, work]))


if __name__ == "__main__":
    main()

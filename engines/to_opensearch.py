"""Hand a published bundle over to OpenSearch or Elasticsearch, as bulk files.

Reads a bundle, and the state of the last hand-over in the folder --out. Writes the requests of a new index into a folder below --out:
mapping, bulk files, queries, switch of the alias `codenets`. The bulk files have only rows that differ from the last index; the server
copies the others from it (_reindex). With --send the requests are sent in their order, and the answers are compared with the bundle
before the alias is switched. Without --send you send them yourself, and give the answer of _msearch to --check.

The address is in the environment variable CODENETS_OPENSEARCH, or in a file (--connection-file). It may have a user and a password.

No server was at hand when this script was written: the bulk files are checked against the documented format, and --send is tested with
an emulation of the API (test_engines.py).

example:
  export CODENETS_OPENSEARCH=https://writer:password@search.example.org:9200
  python engines/to_opensearch.py --bundle /srv/codenets/serve/current --out /srv/opensearch --send

exit status: 0 handed over (or files written), 1 error, 3 a check refused; after 1 and 3 the alias is where it was
"""

import base64
import datetime
import json
import os
import pathlib
import sys
import types
import urllib.error
import urllib.parse
import urllib.request

import bundle as bundles
import opensearch_files as files
from bundle import HandOverError, Refused


class Server:
    """Sends requests. User and password of the address go into a header, and to `secrets`."""

    def __init__(self, address, secrets):
        secrets.append(address)
        bundles.check_address("CODENETS_OPENSEARCH", address)
        try:
            parts = urllib.parse.urlsplit(address)
            valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise HandOverError("CODENETS_OPENSEARCH: not an address; use https://user:password@host:9200")
        user, password = (urllib.parse.unquote(text or "") for text in (parts.username, parts.password))
        secrets += [password, parts.password]
        self.address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self.headers = {}
        if user:
            self.headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def send(self, method, path, body=b""):
        kind = "application/x-ndjson" if path.endswith(("_bulk", "_msearch")) else "application/json"
        request = urllib.request.Request(self.address + path, body or None, self.headers | {"Content-Type": kind}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=3600) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise HandOverError(f"{method} {path}: status {error.code}: {error.read(500).decode(errors='replace')}") from None
        except urllib.error.URLError as error:
            raise HandOverError(f"{method} {path}: {error.reason}; is CODENETS_OPENSEARCH the address of a running server?") from None


def is_failed(answer):
    return bool(answer.get("errors") or answer.get("failures") or answer.get("timed_out"))


def transfer(server, folder):
    """Makes the new index and fills it. Returns the answer to the queries."""
    index = folder.name
    server.send("PUT", f"/{index}", (folder / "mapping.json").read_bytes())
    steps = [("/_reindex?wait_for_completion=true", folder / "reindex.json")] if (folder / "reindex.json").exists() else []
    steps += [("/_bulk", path) for path in sorted(folder.glob("bulk-*.ndjson"))]
    for path, body in steps:
        # The copied rows must be visible before rows are deleted from them.
        server.send("POST", f"/{index}/_refresh")
        answer = server.send("POST", path, body.read_bytes())
        if is_failed(answer):
            failed = [item for entry in answer.get("items", []) for item in entry.values() if item.get("error")] or answer.get("failures")
            raise HandOverError(f"POST {path} with {body.name}: {json.dumps(failed)[:500]}; delete the index {index} and start again")
    server.send("POST", f"/{index}/_refresh")
    return server.send("POST", f"/{index}/_msearch", (folder / "queries.ndjson").read_bytes())


def hits_of(response):
    if response.get("error") or response.get("timed_out"):
        raise HandOverError(f"_msearch: {json.dumps(response)[:500]}")
    return response["hits"]["hits"]


def check(folder, answer, least):
    """Compares the answer to queries.ndjson with expected.json. Raises Refused."""
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    counts, *responses = answer["responses"]
    hits_of(counts)
    rows = counts["hits"]["total"]["value"]
    languages = {bucket["key"]: bucket["doc_count"] for bucket in counts["aggregations"]["languages"]["buckets"]}
    bundles.check_counts(types.SimpleNamespace(**expected), rows, languages)
    shares = []
    for query, vector, words in zip(expected["queries"], responses[::2], responses[1::2], strict=True):
        shares.append(len(set(query["best"]) & {hit["_id"] for hit in hits_of(vector)}) / expected["limit"])
        found = {hit["_id"]: hit["_source"] for hit in hits_of(words)}
        values = {name: value for name, value in query["values"].items() if value is not None and name != "id"}
        if found.get(query["id"]) != values:
            raise Refused(f"20 queries: the row {query['id']} of the engine is missing or differs from the bundle; send all rows with --all")
    recall = sum(shares) / len(shares)
    bundles.check_recall("the HNSW index", recall, least)
    print(f"checked: {rows} rows, {len(languages)} languages, {len(shares)} queries: recall HNSW {recall:.3f}")


def keep_state(folder):
    """The server has this index: the next files have what differs from its rows."""
    os.replace(folder / "next-state.json", folder.parent / "state.json")


def state_of(options):
    """The index that the server has, and its digests by id."""
    path = options.out / "state.json"
    if not path.exists():
        return None, {}
    state = json.loads(path.read_text(encoding="utf-8"))
    same = (state["engine"], state["layout"]) == (options.engine, files.LAYOUT) and not options.all
    return state["index"], {name: bytes.fromhex(digest) for name, digest in state["rows"].items()} if same else {}


def write(options):
    """Writes the files of a new index. Returns their folder, or None if nothing changed."""
    bundle = bundles.Bundle(options.bundle)
    base, known = state_of(options)
    now = datetime.datetime.now(datetime.timezone.utc)
    folder = options.out / f"{files.ALIAS}-{now:%Y%m%dt%H%M%S%f}z-{bundle.id[-12:]}"
    folder.mkdir(parents=True)
    changes = bundles.Changes(bundle, known)
    paths = files.write(folder, options.engine, bundle, bundles.Queries(bundle), changes, base)
    found = [files.check_bulk(path, folder.name, bundle.dimension) for path in paths]
    written = [sum(counts[action] for counts in found) for action in ("index", "delete")]
    if written != [changes.added + changes.changed, changes.deleted if changes.unchanged else 0]:
        raise HandOverError(f"{folder}: the files have {written} actions, which is not what changed; write the files again")
    print(changes)
    if changes.none:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        return None
    print(f"written: {folder}: {len(paths)} bulk files, format checked")
    return folder


def main(arguments, secrets):
    parser = bundles.parser_of(__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FOLDER", help="folder for the state and the files; keep it from night to night")
    parser.add_argument("--engine", choices=files.ENGINES, default=files.ENGINES[0], help="whose mapping and queries to write (default: %(default)s)")
    parser.add_argument("--send", action="store_true", help="send the files, compare 20 queries, switch the alias")
    parser.add_argument("--check", nargs=2, type=pathlib.Path, metavar=("INDEX", "ANSWER"), help="only compare a saved answer of _msearch with the files of INDEX")
    parser.add_argument("--connection-file", metavar="FILE", help="file with the address, instead of CODENETS_OPENSEARCH")
    parser.add_argument("--min-recall", type=bundles.recall_of, default=0.9, metavar="R", help="least recall of the HNSW index (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.check:
        index, answer = options.check
        check(options.out / index.name, json.loads(answer.read_text(encoding="utf-8")), options.min_recall)
        return keep_state(options.out / index.name)
    server = None
    if options.send:
        server = Server(bundles.secret_from(os.environ, options.connection_file, ["CODENETS_OPENSEARCH"], "https://host:9200"), secrets)
    folder = write(options)
    if folder and server:
        check(folder, transfer(server, folder), options.min_recall)
        server.send("POST", "/_aliases", (folder / "aliases.json").read_bytes())
        keep_state(folder)
        print(f"published: the alias {files.ALIAS} is {folder.name}")


if __name__ == "__main__":
    sys.exit(bundles.run(main))

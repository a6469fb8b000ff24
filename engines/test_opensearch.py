"""Tests of to_opensearch.py: the format of its files, and --send with an emulation of the API. No server of OpenSearch or Elasticsearch
is used. Run by scripts/test-engines.
"""

import json
import pathlib
import tempfile
import unittest

import bundle as bundles
import opensearch_files
import testing
import to_opensearch
from testing import Case, call, turned

NIGHTS = testing.Nights()
FIRST, SECOND, make = NIGHTS.first, NIGHTS.second, NIGHTS.make


class OpenSearchTests(Case):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.out = pathlib.Path(self.folder.name)
        self.server = testing.OpenSearch()
        self.addCleanup(self.server.stop)

    def hand_over(self, folder, *arguments, address=None):
        address = address or self.server.address
        return call(to_opensearch.main, "--bundle", folder, "--out", self.out, *arguments, CODENETS_OPENSEARCH=address)

    def alias(self):
        (name,) = self.server.state["aliases"]["codenets"]
        return name

    def actions(self):
        """The actions of the newest files, as the documented format says: read without the code of the scripts."""
        newest = max(path for path in self.out.iterdir() if path.is_dir())
        found = []
        for path in sorted(newest.glob("bulk-*.ndjson")):
            data = path.read_bytes()
            self.assertTrue(data.endswith(b"\n"))
            lines = iter([json.loads(line) for line in data.decode().split("\n")[:-1]])
            for line in lines:
                ((action, target),) = line.items()
                self.assertEqual(target["_index"], newest.name)
                found.append((action, target["_id"], next(lines) if action == "index" else None))
        return found

    def test_only_changed_rows_are_sent(self):
        for engine in opensearch_files.ENGINES:
            with self.subTest(engine):
                options = ("--engine", engine, "--send")
                self.passes(self.hand_over(FIRST, *options), "35 added", "recall HNSW 1.000", "published:")
                first = self.alias()
                self.passes(self.hand_over(FIRST, *options), "35 unchanged; 0 bytes written")
                self.assertEqual(self.alias(), first)
                self.passes(self.hand_over(SECOND, *options), "35 rows: 1 added, 1 changed, 1 deleted, 33 unchanged")
                self.assertEqual(sorted(action for action, _, _ in self.actions()), ["delete", "index", "index"])
                bundle, rows = bundles.Bundle(SECOND), self.server.state["indices"][self.alias()]
                for batch in bundle.batches():
                    for _, values, vector in batch:
                        self.assertEqual(rows[values["id"]]["code"], values["code"])
                        self.assertTrue((testing.numpy.float32(rows[values["id"]]["embedding"]) == vector).all())
                self.assertEqual(len(rows), 35)
                (self.out / "state.json").unlink()

    def test_files_are_limited(self):
        with testing.unittest.mock.patch.object(opensearch_files, "FILE_BYTES", 8000):
            self.passes(self.hand_over(FIRST), "format checked")
        sizes = [path.stat().st_size for path in self.out.glob("*/bulk-*.ndjson")]
        self.assertGreater(len(sizes), 4)
        self.assertLessEqual(max(sizes), 8000)
        self.assertEqual(len(self.actions()), 35)

    def test_format_is_checked(self):
        self.passes(self.hand_over(FIRST))
        (path,) = self.out.glob("*/bulk-00001.ndjson")
        data = path.read_bytes()
        lines = data.splitlines(keepends=True)
        wrong = {
            "no newline": data[:-1],
            "no source": b"".join(lines[:-1]),
            "two actions": b"".join([lines[0], *lines]),
            "other index": data.replace(b'"_index": "codenets', b'"_index": "other', 1),
            "short vector": data.replace(b'"embedding": [', b'"embedding": [], "x": [', 1),
            "empty": b"",
            "not JSON": b"{\n" + data,
        }
        for name, text in wrong.items():
            path.write_bytes(text)
            with self.subTest(name), self.assertRaises((bundles.HandOverError, ValueError)):
                opensearch_files.check_bulk(path, path.parent.name, 32)

    def test_wrong_answers_are_refused(self):
        self.passes(self.hand_over(FIRST, "--send"))
        first = self.alias()
        rows = self.server.state["indices"][first]
        for row in rows.values():
            row["embedding"] = rows["31ca8cc0becf06165241ad8ef7343bfd"]["embedding"]
        self.fails(self.hand_over(SECOND, "--send"), 3, "recall of the HNSW index")
        del rows[max(rows)]
        self.fails(self.hand_over(SECOND, "--send"), 3, "rows differ")
        self.server.state["fail_bulk"] = True
        self.fails(self.hand_over(SECOND, "--send"), 1, "the reason")
        self.assertEqual(self.alias(), first)
        self.server.state["fail_bulk"] = False
        self.passes(self.hand_over(SECOND, "--send", "--all"), "35 added")
        self.assertNotEqual(self.alias(), first)

    def test_saved_answer(self):
        self.passes(self.hand_over(FIRST))
        (folder,) = (path for path in self.out.iterdir() if path.is_dir())
        server = to_opensearch.Server(self.server.address, [])
        answer = self.out / "answer.json"
        answer.write_text(json.dumps(to_opensearch.transfer(server, folder)))
        self.passes(self.hand_over(FIRST, "--check", folder.name, answer), "checked: 35 rows, 6 languages, 20 queries")
        self.passes(self.hand_over(FIRST), "35 unchanged")

    def test_new_encoder_sends_all(self):
        self.passes(self.hand_over(FIRST, "--send"))
        self.passes(self.hand_over(make("encoder", 4, turned, encoder="e"), "--send"), "35 changed")
        self.assertFalse((self.out / self.alias() / "reindex.json").exists())

    def test_passwords_are_not_shown(self):
        for address in (
            self.server.address.replace("top-secret", "Hidden7"),
            "http://writer:Hidden7@127.0.0.1:1",
            "http://writer:a/Hidden7@127.0.0.1:1",
            "http://writer:a@Hidden7@127.0.0.1:1",
            "http://writer:Hidden7:9200",
            "Hidden7",
        ):
            result = self.hand_over(FIRST, "--send", address=address)
            self.fails(result, 1, "error: ")
            self.assertNotIn("Hidden7", result[1])


if __name__ == "__main__":
    unittest.main()

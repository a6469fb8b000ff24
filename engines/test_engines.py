"""Tests of the hand-over scripts with PostgreSQL and pgvector (a real server) and with Milvus Lite (an emulation of Milvus).

Run by scripts/test-engines.
"""

import json
import pathlib
import subprocess
import sys
import threading
import time
import unittest

import psycopg
from pymilvus import MilvusClient

import bundle as bundles
import testing
import to_milvus
import to_opensearch
import to_pgvector
from testing import Case, call, one_of_each, turned

HERE = pathlib.Path(__file__).parent


NIGHTS = testing.Nights()
FIRST, SECOND, make = NIGHTS.first, NIGHTS.second, NIGHTS.make


def with_licence(letter):
    def edit(rows, vectors):
        for row in rows:
            row["licence"] = letter

    return edit


class BundleTests(Case):
    def test_link_is_resolved_once(self):
        link = NIGHTS.folder / "current"
        link.symlink_to(FIRST)
        bundle = bundles.Bundle(link)
        link.unlink()
        link.symlink_to(SECOND)
        self.assertEqual(sum(len(batch) for batch in bundle.batches()), 35)
        self.assertEqual(bundle.id, "20261101T010203Z-000000000001")

    def test_refuses_what_it_does_not_know(self):
        for name, change in {"bundle_format": 3, "published": {"id": "x'; DROP"}, "rows": 34}.items():
            copy = make(f"broken-{name}", 3)
            manifest = json.loads((copy / "manifest.json").read_text()) | {name: change}
            (copy / "manifest.json").write_text(json.dumps(manifest))
            with self.subTest(name), self.assertRaises(bundles.HandOverError):
                bundles.Bundle(copy)

    def test_refuses_ids_that_are_not_hexadecimal(self):
        def edit(rows, vectors):
            rows[4]["id"] = '" or true'

        with self.assertRaisesRegex(bundles.HandOverError, "row 4: the id"):
            bundles.Bundle(make("ids", 3, edit))

    def test_queries_are_the_same_each_time_and_answers_are_exact(self):
        bundle = bundles.Bundle(FIRST)
        first, second = bundles.Queries(bundle), bundles.Queries(bundle)
        self.assertEqual([query.id for query in first], [query.id for query in second])
        self.assertEqual(len({query.id for query in first}), 20)
        ids = [values["id"] for batch in bundle.batches() for _, values, _ in batch]
        for query in first:
            scores = bundle.vectors @ query.vector
            tenth = sorted(scores)[-10]
            self.assertEqual(query.best, {name for name, score in zip(ids, scores) if score >= tenth - 1e-5})

    def test_missing_bundle(self):
        self.fails(call(to_opensearch.main, "--bundle", "/nowhere", "--out", NIGHTS.folder), 1, "codenets run --only publish")


class PostgresTests(Case):
    @classmethod
    def setUpClass(cls):
        cls.server = testing.Postgres()
        cls.addClassCleanup(cls.server.stop)

    def setUp(self):
        with self.server.connect() as connection:
            connection.execute("DROP SCHEMA IF EXISTS codenets CASCADE; DROP SCHEMA IF EXISTS outside CASCADE")

    def hand_over(self, folder, *arguments, uri=None):
        return call(to_pgvector.main, "--bundle", folder, *arguments, CODENETS_POSTGRES=uri or self.server.uri)

    def ask(self, query):
        with self.server.connect() as connection:
            return connection.execute(query).fetchall()

    def published(self):
        return self.ask("SELECT id FROM codenets.bundle")[0][0]

    def test_only_changed_rows_are_sent(self):
        self.passes(self.hand_over(FIRST), "35 rows: 35 added, 0 changed, 0 deleted, 0 unchanged", "recall exact 1.000")
        before = self.ask("SELECT oid FROM pg_class WHERE oid = 'codenets.functions'::regclass")
        result = self.hand_over(FIRST)
        self.passes(result, "35 rows: 0 added, 0 changed, 0 deleted, 35 unchanged; 0 bytes sent")
        self.assertEqual(before, self.ask("SELECT oid FROM pg_class WHERE oid = 'codenets.functions'::regclass"))
        result = self.hand_over(SECOND)
        self.passes(result, "35 rows: 1 added, 1 changed, 1 deleted, 33 unchanged")
        self.assertLess(int(result[1].partition("; ")[2].split()[0]), 4000)
        found = dict(self.ask("SELECT id, docstring FROM codenets.functions"))
        expected = {values["id"]: values["docstring"] for batch in bundles.Bundle(SECOND).batches() for _, values, _ in batch}
        self.assertEqual(found, expected)
        self.assertEqual(self.ask("SELECT func_name FROM codenets.functions WHERE words @@ plainto_tsquery('english', 'walnuts')"), [("brand_new",)])
        self.assertEqual(self.ask("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'codenets%'"), [("codenets",)])

    def test_deleted_row(self):
        self.passes(self.hand_over(FIRST))
        row = next(bundles.Bundle(FIRST).batches())[7][1]["id"]
        retracted = make("retracted", 1)
        tombstones = testing.pyarrow.table({"id": testing.pyarrow.array([row], testing.pyarrow.string())})
        testing.pyarrow.parquet.write_table(tombstones, retracted / "tombstones.parquet")
        self.passes(self.hand_over(retracted), "34 rows: 0 added, 0 changed, 1 deleted, 34 unchanged; 0 bytes")
        self.assertNotIn((row,), self.ask("SELECT id FROM codenets.functions"))

    def test_new_encoder_and_new_dimension_send_all(self):
        self.passes(self.hand_over(FIRST))
        self.passes(self.hand_over(make("encoder", 4, turned, encoder="e")), "35 rows: 0 added, 35 changed")

        def half(rows, vectors):
            vectors[:] = [vector[:16] / numpy_length(vector[:16]) for vector in vectors]

        self.passes(self.hand_over(make("half", 5, half, encoder="d")), "35 rows: 35 added")

    def test_format_5(self):
        self.passes(self.hand_over(make("format-5", 6, form=5)), "35 added")
        self.assertEqual(self.ask("SELECT count(DISTINCT content), count(alias_of), count(duplicate_of) FROM codenets.functions"), [(35, 35, 0)])

    def test_texts_that_postgresql_cannot_take(self):
        def edit(rows, vectors):
            rows[0]["code"] = "a\0b"
            rows[1]["code"] = " ".join(f"word{number}" for number in range(200_000))
            rows[2]["func_name"] = "it's $$ '; DROP SCHEMA codenets CASCADE; --"

        self.passes(self.hand_over(make("texts", 9, edit)), "35 added")
        found = self.ask("SELECT code FROM codenets.functions WHERE code LIKE 'a_b' OR func_name LIKE 'it''s $$%' ORDER BY length(code)")
        self.assertEqual((found[0][0], len(found)), ("a\ufffdb", 2))

    def test_changed_rows_of_the_engine_are_refused(self):
        self.passes(self.hand_over(FIRST))
        with self.server.connect() as connection:
            connection.execute("UPDATE codenets.functions SET embedding = (SELECT embedding FROM codenets.functions LIMIT 1)")
        self.fails(self.hand_over(SECOND), 3, "send all rows with --all")
        self.assertEqual(self.published(), bundles.Bundle(FIRST).id)
        self.assertEqual(self.ask("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'codenets%'"), [("codenets",)])
        self.passes(self.hand_over(SECOND, "--all"), "35 added")

    def test_lost_rows_are_refused(self):
        self.passes(self.hand_over(FIRST))
        with self.server.connect() as connection:
            connection.execute("""CREATE SCHEMA outside;
                CREATE FUNCTION outside.lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
                CREATE FUNCTION outside.install() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
                  IF to_regclass('codenets_next.functions') IS NOT NULL THEN
                    CREATE OR REPLACE TRIGGER lose BEFORE INSERT ON codenets_next.functions
                    FOR EACH ROW WHEN (NEW.func_name = 'brand_new') EXECUTE FUNCTION outside.lose();
                  END IF; END $$;
                CREATE EVENT TRIGGER install ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION outside.install()""")
        self.addCleanup(self.ask_nothing, "DROP EVENT TRIGGER install")
        self.fails(self.hand_over(SECOND), 3, "rows differ: the bundle has 35")
        self.assertEqual(self.published(), bundles.Bundle(FIRST).id)

    def ask_nothing(self, command):
        with self.server.connect() as connection:
            connection.execute(command)

    def test_view_of_others_is_not_dropped(self):
        self.passes(self.hand_over(FIRST))
        self.ask_nothing("CREATE SCHEMA outside; CREATE VIEW outside.names AS SELECT func_name FROM codenets.functions")
        self.fails(self.hand_over(SECOND), 1, "view outside.names depends on table codenets.functions")
        self.assertEqual(self.published(), bundles.Bundle(FIRST).id)

    def test_grants_are_kept(self):
        self.passes(self.hand_over(FIRST))
        self.ask_nothing("""CREATE ROLE "a reader" LOGIN; GRANT USAGE ON SCHEMA codenets TO "a reader";
            GRANT SELECT ON codenets.functions, codenets.bundle TO "a reader" """)
        self.passes(self.hand_over(SECOND))
        with psycopg.connect(self.server.uri.replace("postgres@", "a%20reader@")) as reader:
            self.assertEqual(reader.execute("SELECT count(*), (SELECT rows FROM codenets.bundle) FROM codenets.functions").fetchone(), (35, 35))

    def test_two_hand_overs_at_once(self):
        with self.server.connect() as other:
            other.execute("SELECT pg_advisory_lock(%s)", [to_pgvector.LOCK])
            self.fails(self.hand_over(FIRST), 1, "another hand-over to this database is running")

    def test_reader_that_does_not_end(self):
        self.passes(self.hand_over(FIRST))
        with psycopg.connect(self.server.uri) as reader:
            reader.execute("SELECT count(*) FROM codenets.functions")
            self.fails(self.hand_over(SECOND, "--wait", "1"), 1, "have read the schema codenets without a gap for 1.0 s")
        self.assertEqual(self.published(), bundles.Bundle(FIRST).id)

    def test_readers_see_one_state(self):
        nights = {letter: make(f"licence-{letter}", number, with_licence(letter)) for number, letter in ((7, "A"), (8, "B"))}
        ids = {bundles.Bundle(folder).id: letter for letter, folder in nights.items()}
        self.passes(self.hand_over(nights["A"]))
        end, seen, wrong = threading.Event(), [], []

        def read(autocommit, prepare, lock):
            with psycopg.connect(self.server.uri, autocommit=autocommit) as connection:
                if lock:
                    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                while not end.is_set():
                    with connection.transaction():
                        if lock:
                            connection.execute("LOCK TABLE codenets.bundle, codenets.functions IN ACCESS SHARE MODE")
                        (name,) = connection.execute("SELECT id FROM codenets.bundle", prepare=prepare).fetchone()
                        time.sleep(0.002)
                        rows = connection.execute("SELECT count(*), array_agg(DISTINCT licence) FROM codenets.functions", prepare=prepare).fetchone()
                    connection.commit()
                    (wrong if rows != (35, [ids[name]]) else seen).append((name, rows))
                    time.sleep(0.02)

        def one_statement():
            with psycopg.connect(self.server.uri, autocommit=True) as connection:
                while not end.is_set():
                    both = "SELECT (SELECT id FROM codenets.bundle), count(*), array_agg(DISTINCT licence) FROM codenets.functions"
                    name, *rows = connection.execute(both).fetchone()
                    (wrong if rows != [35, [ids[name]]] else seen).append((name, rows))
                    time.sleep(0.02)

        threads = [threading.Thread(target=read, args=each) for each in ((True, True, False), (False, False, True))]
        threads.append(threading.Thread(target=one_statement))
        for thread in threads:
            thread.start()
        results = [self.hand_over(nights[letter]) for letter in "BABA"]
        time.sleep(0.2)
        alive = [thread.is_alive() for thread in threads]
        end.set()
        for thread in threads:
            thread.join()
        for result in results:
            self.passes(result, "published:")
        self.assertEqual((wrong, alive), ([], [True] * 3))
        self.assertEqual({name for name, _ in seen}, set(ids))

    def test_passwords_are_not_shown(self):
        self.ask_nothing("CREATE ROLE with_password LOGIN PASSWORD 'right'")
        uri = self.server.uri.replace("postgres@", "with_password:Hidden7@")
        for text in (
            uri,
            uri.replace("Hidden7", "Hid@Hidden7"),
            uri.replace("Hidden7", "Hid/Hidden7"),
            "postgresql://someone:Hidden7@127.0.0.1:1/none",
            "host=127.0.0.1 port=1 password=Hidden7",
            "Hidden7",
            "postgresql://someone:Hidden7@[/x",
        ):
            with self.subTest(text):
                result = self.hand_over(FIRST, uri=text)
                self.fails(result, 1, "error: ")
                self.assertNotIn("Hidden7", result[1])
        self.assertIn("password authentication failed", self.hand_over(FIRST, uri=uri)[1])

    def test_connection_file(self):
        file = NIGHTS.folder / "connection"
        file.write_text(self.server.uri + "\n")
        self.passes(call(to_pgvector.main, "--bundle", FIRST, "--connection-file", file))
        self.fails(call(to_pgvector.main, "--bundle", FIRST, CODENETS_POSTGRES=""), 1, "CODENETS_POSTGRES is not set")


class MilvusTests(Case):
    @classmethod
    def setUpClass(cls):
        cls.server = testing.MilvusLite()
        cls.addClassCleanup(cls.server.stop)
        cls.client = MilvusClient(cls.server.uri)
        cls.addClassCleanup(cls.client.close)

    def setUp(self):
        for name in self.client.list_collections():
            for alias in self.client.list_aliases(name)["aliases"]:
                self.client.drop_alias(alias)
            self.client.drop_collection(name)

    def hand_over(self, folder, *arguments):
        return call(to_milvus.main, "--bundle", folder, *arguments, CODENETS_MILVUS=self.server.uri)

    def published(self):
        return self.client.describe_alias("codenets")["collection_name"]

    def rows(self, *fields):
        rows = self.client.query("codenets", filter="", limit=1000, output_fields=["id", *fields])
        return {row["id"]: tuple(row[name] for name in fields) for row in rows}

    def test_only_changed_rows_are_sent(self):
        self.passes(self.hand_over(FIRST), "35 added", "hybrid 20/20")
        first = self.published()
        self.passes(self.hand_over(FIRST), "0 added, 0 changed, 0 deleted, 35 unchanged; 0 bytes sent")
        self.assertEqual(self.published(), first)
        self.passes(self.hand_over(SECOND), "35 added")
        second = self.published()
        self.assertEqual({first[-1], second[-1]}, {"a", "b"})
        self.passes(self.hand_over(make("third", 3, self.third)), "35 rows: 1 added, 2 changed, 1 deleted, 32 unchanged")
        self.assertEqual(self.published(), first)
        expected = {values["id"]: (values["docstring"], values["licence"]) for batch in bundles.Bundle(make("third", 3)).batches() for _, values, _ in batch}
        self.assertEqual(self.rows("docstring", "licence"), expected)

    @staticmethod
    def third(rows, vectors):
        one_of_each(rows, vectors)
        rows[3]["licence"] = None

    def test_new_encoder_has_new_collections(self):
        for folder in (FIRST, SECOND):
            self.passes(self.hand_over(folder))
        old = self.published()
        self.passes(self.hand_over(make("encoder", 4, turned, encoder="e")), "35 rows: 35 added")
        self.assertEqual(set(self.client.list_collections()), {old, self.published()})

    def test_changed_rows_of_the_engine_are_refused(self):
        for folder in (FIRST, SECOND):
            self.passes(self.hand_over(folder))
        published, unused = self.published(), self.published().removesuffix("b") + "a"
        rows = self.client.query(unused, filter="", limit=1000, output_fields=[*bundles.COLUMNS, "digest", "embedding", "text"])
        self.client.upsert(unused, [row | {"embedding": rows[0]["embedding"]} for row in rows])
        third = make("third", 3, self.third)
        self.fails(self.hand_over(third), 3, "send all rows with --all")
        self.assertEqual(self.published(), published)
        self.passes(self.hand_over(third, "--all"), "35 added")

    def test_readers_of_the_alias_see_one_state(self):
        nights = [make(f"licence-{letter}", number, with_licence(letter)) for number, letter in ((7, "A"), (8, "B"))]
        self.passes(self.hand_over(nights[0]))
        end, seen, wrong = threading.Event(), [], []

        def read():
            client = MilvusClient(self.server.uri)
            while not end.is_set():
                rows = client.query("codenets", filter="", limit=1000, output_fields=["licence"])
                letters = {row["licence"] for row in rows}
                (seen if len(rows) == 35 and len(letters) == 1 else wrong).append((len(rows), letters))
            client.close()

        thread = threading.Thread(target=read)
        thread.start()
        results = [self.hand_over(nights[number]) for number in (1, 0, 1)]
        time.sleep(0.2)
        alive = thread.is_alive()
        end.set()
        thread.join()
        for result in results:
            self.passes(result)
        self.assertEqual((wrong, alive), ([], True))
        self.assertEqual(set().union(*(letters for _, letters in seen)), {"A", "B"})

    def test_tokens_are_not_shown(self):
        for uri in ("http://127.0.0.1:1", "http://someone:Hidden7@127.0.0.1:1", "http://x:a/Hidden7@127.0.0.1:1", "Hidden7"):
            result = call(to_milvus.main, "--bundle", FIRST, CODENETS_MILVUS=uri, CODENETS_MILVUS_TOKEN="writer:Hidden7")
            self.fails(result, 1, "error: ")
            self.assertNotIn("Hidden7", result[1])

    def test_texts_are_cut_at_the_limit(self):
        def edit(rows, vectors):
            rows[0]["code"] = "ä" * 40000

        self.passes(self.hand_over(make("long", 9, edit)), "35 added")
        self.assertEqual(max(len(code.encode()) for (code,) in self.rows("code").values()), 65534)


class ProgramTests(Case):
    def test_help_and_exit_status(self):
        for name in ("to_pgvector", "to_milvus", "to_opensearch"):
            command = [sys.executable, "-B", HERE / f"{name}.py"]
            help_text = subprocess.run([*command, "--help"], check=True, capture_output=True, text=True).stdout
            for word in ("Reads", "Writes", "example:", "exit status: 0", "--bundle", "--all"):
                self.assertIn(word, help_text)
            out = ["--out", NIGHTS.folder] if name == "to_opensearch" else []
            failed = subprocess.run([*command, *out, "--bundle", "/nowhere"], capture_output=True, text=True, env={"CODENETS_POSTGRES": "x", "CODENETS_MILVUS": "x"})
            self.assertEqual((failed.returncode, failed.stdout), (1, ""))
            self.assertIn("error: no published bundle", failed.stderr)


def numpy_length(vector):
    return float((vector**2).sum() ** 0.5)


if __name__ == "__main__":
    unittest.main()

"""Hand a published bundle over to PostgreSQL with pgvector.

Reads a bundle. Writes the schema `codenets` of a database: the tables `functions` (a row for each function, with its vector and a
tsvector) and `bundle` (one row: which bundle this is). Everything happens in one transaction. Only rows that differ are sent; the
server copies the others from the published schema. Counts and 20 queries are compared with the bundle before the new schema takes
the name `codenets`. Readers see the old or the new schema.

The connection is a URI or a conninfo string in the environment variable CODENETS_POSTGRES, or in a file (--connection-file).

example:
  export CODENETS_POSTGRES=postgresql://writer@db.example.org/search
  python engines/to_pgvector.py --bundle /srv/codenets/serve/current

exit status: 0 handed over, 1 error, 3 a check refused; after 1 and 3 the old schema is still published
"""

import os
import random
import string
import sys
import time

import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql

import bundle as bundles
from bundle import HandOverError

# One number for all hand-overs of a database: two at once would drop each other's schema.
LOCK = 0x636F64656E657473
MOST_DIMENSIONS = 2000
# Version of the tables. With another version no row of the published schema is copied.
LAYOUT = 1
TEXTS = ", ".join(f"{name} text NOT NULL" for name in bundles.TEXTS if name != "id")
NULLABLE = ", ".join(f"{name} text" for name in bundles.NULLABLE_TEXTS)
NUMBERS = ", ".join(f"{name} bigint" for name in bundles.NUMBERS)
SENT = ", ".join([*bundles.COLUMNS, "digest", "embedding"])


def words_of(column, weight, most):
    """SQL of the words of a column. `connectMySQL` and `parse_date.py` are several words, as in the bundle. A tsvector has at most 1 MiB."""
    marks = string.punctuation.replace("'", "''")
    split = f"translate(left({column}, {most}), '{marks}', '{' ' * len(string.punctuation)}')"
    return f"setweight(to_tsvector('english', regexp_replace({split}, '([a-z0-9])([A-Z])', '\\1 \\2', 'g')), '{weight}')"


WORDS = " || ".join(
    words_of(column, weight, most)
    for column, weight, most in [("func_name", "A", 1000), ("path", "A", 1000), ("summary", "B", 10000), ("docstring", "C", 50000), ("code", "D", 100000)]
)


def connect(uri, secrets):
    """A connection. The URI and its password go to `secrets`, so that no message has them."""
    secrets.append(uri)
    bundles.check_address("CODENETS_POSTGRES", uri)
    try:
        secrets.append(psycopg.conninfo.conninfo_to_dict(uri).get("password"))
    except psycopg.Error:
        # The message of libpq has the text that it cannot read.
        raise HandOverError("CODENETS_POSTGRES: not a connection string of PostgreSQL; use postgresql://user@host/database") from None
    secrets.append(os.environ.get("PGPASSWORD"))
    return psycopg.connect(uri, autocommit=False, application_name="codenets to_pgvector")


def prepare(connection):
    """Takes the lock of hand-overs and finds the extension."""
    connection.execute("SET LOCAL client_min_messages = warning")
    if not connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK]).fetchone()[0]:
        raise HandOverError("another hand-over to this database is running; start this one again when it has ended")
    found = "SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'vector'"
    schema = connection.execute(found).fetchone()
    if schema is None:
        try:
            connection.execute("CREATE EXTENSION vector")
        except psycopg.Error as error:
            raise HandOverError(f"extension vector: {error.diag.message_primary}; install pgvector, then CREATE EXTENSION vector as administrator") from None
        schema = connection.execute(found).fetchone()
    # Names without a schema mean PostgreSQL's own and pgvector's, whatever the user's search_path is.
    connection.execute(sql.SQL("SET LOCAL search_path = pg_catalog, {}").format(sql.Identifier(schema[0])))
    register_vector(connection)


def is_published(connection):
    return connection.execute("SELECT to_regclass('codenets.functions') IS NOT NULL AND to_regclass('codenets.bundle') IS NOT NULL").fetchone()[0]


def known_rows(connection, dimension):
    """Digests by id of the published rows; none if their vectors or their tables are of another kind."""
    if not is_published(connection):
        return {}
    if connection.execute("SELECT dimension, layout FROM codenets.bundle").fetchone() != (dimension, LAYOUT):
        return {}
    with connection.cursor(name="known") as cursor:
        cursor.itersize = 10_000
        return dict(cursor.execute("SELECT id, digest FROM codenets.functions"))


def create_next(connection, dimension):
    """The schema `codenets_next`, empty. Nobody else sees it before the transaction ends."""
    connection.execute("DROP SCHEMA IF EXISTS codenets_next CASCADE")
    connection.execute("CREATE SCHEMA codenets_next")
    columns = f"id text NOT NULL, {TEXTS}, {NULLABLE}, {NUMBERS}, digest bytea NOT NULL, embedding vector({int(dimension)}) NOT NULL"
    connection.execute(f"CREATE TABLE codenets_next.functions ({columns}, words tsvector NOT NULL)")
    connection.execute(f"CREATE TEMPORARY TABLE sent ({columns}) ON COMMIT DROP")
    connection.execute("CREATE TEMPORARY TABLE gone (id text PRIMARY KEY) ON COMMIT DROP")
    columns = "id text NOT NULL, encoder text NOT NULL, dimension int NOT NULL, layout int NOT NULL, rows bigint NOT NULL"
    connection.execute(f"CREATE TABLE codenets_next.bundle ({columns}, handed_over timestamptz NOT NULL)")


def send(connection, changes):
    """Sends the rows that differ by COPY, and the ids of the rows that are gone."""
    cursor = connection.cursor()
    with cursor.copy(f"COPY sent ({SENT}) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["text"] * len(bundles.TEXTS + bundles.NULLABLE_TEXTS) + ["bigint"] * len(bundles.NUMBERS) + ["bytea", "vector"])
        for rows in changes.batches():
            for row in rows:
                copy.write_row([*(row.values[name] for name in bundles.COLUMNS), row.digest, row.vector])
    with cursor.copy("COPY gone FROM STDIN") as copy:
        for name in changes.gone:
            copy.write_row([name])


def fill(connection, changes):
    """The rows of the next schema: those that were sent, and those of the published schema that did not change."""
    connection.execute(f"INSERT INTO codenets_next.functions ({SENT}, words) SELECT {SENT}, {WORDS} FROM sent")
    connection.execute("ALTER TABLE codenets_next.functions ADD PRIMARY KEY (id)")
    if changes.unchanged:
        same = "NOT EXISTS (SELECT FROM gone WHERE gone.id = o.id) AND NOT EXISTS (SELECT FROM codenets_next.functions n WHERE n.id = o.id)"
        select = f"SELECT {SENT}, words FROM codenets.functions o WHERE {same}"
        connection.execute(f"INSERT INTO codenets_next.functions ({SENT}, words) {select}")


def index(connection, memory):
    """Indexes are built after the rows are in, which is faster. With pgvector's default ef_construction (64) a few queries of code lose
    their neighbours: recall of ten was 0.98 instead of 0.99 (docs/engines.md)."""
    connection.execute("SELECT set_config('maintenance_work_mem', %s, true)", [memory])
    connection.execute("CREATE INDEX functions_embedding ON codenets_next.functions USING hnsw (embedding vector_ip_ops) WITH (m = 16, ef_construction = 128)")
    connection.execute("CREATE INDEX functions_words ON codenets_next.functions USING gin (words)")
    connection.execute("CREATE INDEX functions_place ON codenets_next.functions (language, repo, path)")
    connection.execute("ANALYZE codenets_next.functions")


def nearest(connection, schema, queries, exact):
    """Ids of the nearest rows of each query: of all rows compared, or of the HNSW index with the settings of the server."""
    for setting in ("indexscan", "seqscan", "sort"):
        value = "off" if (setting == "indexscan") == exact else "on"
        connection.execute("SELECT set_config(%s, %s, true)", [f"enable_{setting}", value])
    search = f"SELECT id FROM {schema}.functions ORDER BY embedding <#> %s LIMIT %s"
    return [[name for (name,) in connection.execute(search, [query.vector, queries.limit])] for query in queries]


def check(connection, schema, bundle, queries, least):
    """Compares the schema with the bundle. Raises Refused."""
    languages = dict(connection.execute(f"SELECT language, count(*) FROM {schema}.functions GROUP BY language").fetchall())
    bundles.check_counts(bundle, sum(languages.values()), languages)
    select = f"SELECT {', '.join(bundles.COLUMNS)}, embedding FROM {schema}.functions WHERE id = ANY(%s)"
    rows = connection.execute(select, [[query.id for query in queries]]).fetchall()
    bundles.check_rows(queries, {row[0]: (dict(zip(bundles.COLUMNS, row)), row[-1].to_numpy()) for row in rows})
    exact = queries.recall(nearest(connection, schema, queries, True))
    bundles.check_recall("exact search", exact, 1)
    approximate = queries.recall(nearest(connection, schema, queries, False))
    bundles.check_recall("the HNSW index", approximate, least)
    match = f"SELECT id FROM {schema}.functions, plainto_tsquery('english', %s) q WHERE id = %s AND (numnode(q) = 0 OR words @@ q)"
    found = [connection.execute(match, [query.words, query.id]).fetchone() for query in queries]
    bundles.check_words(queries, {name for (name,) in filter(None, found)})
    print(f"checked: {bundle.rows} rows, {len(languages)} languages, {len(queries)} queries: recall exact {exact:.3f}, HNSW {approximate:.3f}")


def copy_grants(connection):
    """Gives the roles that can read the published schema the same rights to the next one."""
    of_schema = "SELECT 'SCHEMA', 'codenets_next', a.* FROM pg_namespace, aclexplode(nspacl) a WHERE nspname = 'codenets'"
    of_tables = """SELECT 'TABLE', 'codenets_next.' || relname, a.* FROM pg_class, aclexplode(relacl) a
        WHERE oid IN ('codenets.functions'::regclass, 'codenets.bundle'::regclass)"""
    fields = "kind, target, privilege_type, CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END"
    named = f"SELECT {fields} FROM ({of_schema} UNION ALL {of_tables}) t(kind, target, grantor, grantee, privilege_type, is_grantable)"
    for kind, target, privilege, role in connection.execute(named).fetchall():
        # All four are names from the catalog; regrole quotes the role.
        connection.execute(f"GRANT {privilege} ON {kind} {target} TO {role}")


def lock_readers_out(connection, wait):
    """Waits until no transaction reads the published tables, so that each transaction sees one schema.

    While it waits for a lock, new readers wait too: so it waits half a second at most, and then lets them pass. A reader may lock the
    tables in either order, so both orders are tried in turn, and the second lock is given up at once.
    """
    end = time.monotonic() + wait
    tables = ["codenets.functions", "codenets.bundle"]
    while True:
        try:
            with connection.transaction():
                for table, most in zip(tables, (500, 20)):
                    connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{most}ms"])
                    connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            connection.execute("SET LOCAL lock_timeout = 0")
            return
        except psycopg.errors.LockNotAvailable:
            if time.monotonic() > end:
                raise HandOverError(f"transactions have read the schema codenets without a gap for {wait} s; end them, or use --wait with more seconds") from None
            tables.reverse()
            # A pause of random length, so that the tries do not keep step with a reader that repeats itself.
            time.sleep(random.uniform(0.01, 0.1))


def swap(connection, bundle, wait):
    """The next schema becomes the published one. Nothing that depends on the old tables is dropped: then this fails."""
    record = [bundle.id, bundle.encoder, bundle.dimension, LAYOUT, bundle.rows]
    connection.execute("INSERT INTO codenets_next.bundle VALUES (%s, %s, %s, %s, %s, now())", record)
    if is_published(connection):
        copy_grants(connection)
        lock_readers_out(connection, wait)
        try:
            connection.execute("DROP TABLE codenets.functions, codenets.bundle")
            connection.execute("DROP SCHEMA codenets")
        except psycopg.errors.DependentObjectsStillExist as error:
            detail = error.diag.message_detail
            raise HandOverError(f"schema codenets: other objects use it: {detail}; move them to a schema of their own that queries codenets by name") from None
    connection.execute("ALTER SCHEMA codenets_next RENAME TO codenets")


def hand_over(connection, bundle, queries, options):
    prepare(connection)
    known = {} if options.all else known_rows(connection, bundle.dimension)
    create_next(connection, bundle.dimension)
    changes = bundles.Changes(bundle, known)
    send(connection, changes)
    if changes.none:
        connection.execute("DROP SCHEMA codenets_next CASCADE")
        print(changes)
        check(connection, "codenets", bundle, queries, options.min_recall)
        connection.execute("UPDATE codenets.bundle SET id = %s, handed_over = now()", [bundle.id])
    else:
        fill(connection, changes)
        index(connection, options.memory)
        print(changes)
        check(connection, "codenets_next", bundle, queries, options.min_recall)
        swap(connection, bundle, options.wait)


def main(arguments, secrets):
    parser = bundles.parser_of(__doc__)
    parser.add_argument("--connection-file", metavar="FILE", help="file with the connection string, instead of CODENETS_POSTGRES")
    parser.add_argument("--min-recall", type=bundles.recall_of, default=0.9, metavar="R", help="least recall of the HNSW index (default: %(default)s)")
    parser.add_argument("--wait", type=float, default=60, metavar="S", help="seconds to wait for readers before the swap (default: %(default)s)")
    parser.add_argument("--memory", default="256MB", metavar="SIZE", help="memory of the server to build the index (default: %(default)s)")
    options = parser.parse_args(arguments)
    uri = bundles.secret_from(os.environ, options.connection_file, ["CODENETS_POSTGRES"], "postgresql://user@host/database")
    bundle = bundles.Bundle(options.bundle)
    if bundle.dimension > MOST_DIMENSIONS:
        raise HandOverError(f"the vectors have {bundle.dimension} dimensions: an HNSW index of pgvector takes at most {MOST_DIMENSIONS}")
    queries = bundles.Queries(bundle)
    # The block commits, or rolls back if anything fails: then the old schema is still published.
    with connect(uri, secrets) as connection:
        hand_over(connection, bundle, queries, options)
    print(f"published: schema codenets has the bundle {bundle.id}")


if __name__ == "__main__":
    sys.exit(bundles.run(main))

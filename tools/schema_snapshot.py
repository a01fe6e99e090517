"""Writes the schema that a fresh install makes, as its catalog tells it, to `tests/sql/schema.snapshot.txt`.

Bodies of functions are left out: they are in git already. With --check it writes nothing, and fails when the file has
drifted from the schema.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from earmark.access import grant
from earmark.local_postgres import LocalPostgres
from earmark.migrate import migrate

SNAPSHOT = Path(__file__).parents[1] / "tests/sql/schema.snapshot.txt"
REGENERATE = "python tools/schema_snapshot.py"
ROLES = {"service": "snapshot_service", "user": "snapshot_user"}

_SECTIONS: dict[str, LiteralString] = {
    "Tables and views": """
        SELECT format('%s %s%s', CASE c.relkind WHEN 'v' THEN 'view' ELSE 'table' END, c.relname,
            coalesce(' with ' || array_to_string(ARRAY(SELECT unnest(c.reloptions) ORDER BY 1), ', '), ''))
        FROM pg_class c WHERE c.relnamespace = 'earmark'::regnamespace AND c.relkind IN ('r', 'p', 'v')""",
    "Columns": """
        SELECT format('%s.%s %s%s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
            CASE WHEN a.attnotnull THEN ' not null' ELSE '' END,
            coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), ''))
        FROM pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
        WHERE c.relnamespace = 'earmark'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'c')""",
    "Constraints": """
        SELECT format('%s: %s %s', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid))
        FROM pg_constraint k
        WHERE k.connamespace = 'earmark'::regnamespace AND k.contype NOT IN ('n', 't')""",
    "Indexes": """
        SELECT i.indexdef FROM pg_indexes i WHERE i.schemaname = 'earmark'""",
    "Triggers": """
        SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = 'earmark'::regnamespace AND NOT t.tgisinternal""",
    "Views": """
        SELECT format('%s: %s', c.relname, regexp_replace(pg_get_viewdef(c.oid), '\\s+', ' ', 'g'))
        FROM pg_class c WHERE c.relnamespace = 'earmark'::regnamespace AND c.relkind = 'v'""",
    "Functions": """
        SELECT format('%s(%s) returns %s %s %s%s%s', f.proname, pg_get_function_arguments(f.oid),
            coalesce(pg_get_function_result(f.oid), 'nothing'), l.lanname,
            CASE f.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
            CASE WHEN f.prosecdef THEN ' security definer' ELSE '' END,
            coalesce(' set ' || array_to_string(f.proconfig, '; '), ''))
        FROM pg_proc f JOIN pg_language l ON l.oid = f.prolang
        WHERE f.pronamespace = 'earmark'::regnamespace""",
    "Privileges": """
        SELECT format('%s: %s %s', o.name, coalesce(g.rolname, 'PUBLIC'), string_agg(a.privilege_type, ', '
            ORDER BY a.privilege_type))
        FROM (
            SELECT 'function ' || f.proname, coalesce(f.proacl, acldefault('f', f.proowner)), f.proowner
            FROM pg_proc f WHERE f.pronamespace = 'earmark'::regnamespace
            UNION ALL
            SELECT 'relation ' || c.relname, c.relacl, c.relowner
            FROM pg_class c WHERE c.relnamespace = 'earmark'::regnamespace
            UNION ALL
            SELECT 'schema ' || n.nspname, n.nspacl, n.nspowner FROM pg_namespace n WHERE n.nspname = 'earmark'
        ) o (name, acl, owner)
        CROSS JOIN LATERAL aclexplode(o.acl) a
        LEFT JOIN pg_roles g ON g.oid = a.grantee
        WHERE a.grantee <> o.owner
        GROUP BY o.name, g.rolname""",
}
"""What is written down, a line per row; privileges are those that `earmark migrate --grant` gives, and no others."""


def snapshot(connection: psycopg.Connection[Any]) -> str:
    """The schema of this database as text, sorted, without ids and owners.

    The roles of ROLES, which it makes and forgets again, are granted what a service and a user get.
    """
    with connection.transaction(force_rollback=True):
        for role in ROLES.values():
            connection.execute(f"CREATE ROLE {role}".encode())
        grant(connection, service=[ROLES["service"]], user=[ROLES["user"]])
        connection.execute("SET LOCAL search_path = earmark, pg_temp")
        lines = ["# The schema that a fresh install makes. Written by `python tools/schema_snapshot.py`; do not edit."]
        for title, query in _SECTIONS.items():
            found = sorted(row[0] for row in connection.execute(query).fetchall())
            lines += ["", f"## {title}", *found]
    return "\n".join(lines) + "\n"


def fresh() -> str:
    """The snapshot of a fresh install on a server of its own."""
    with (
        tempfile.TemporaryDirectory() as home,
        LocalPostgres(Path(home)) as server,
        psycopg.connect(server.url, autocommit=True) as connection,
    ):
        migrate(connection)
        return snapshot(connection)


if __name__ == "__main__":
    if "--check" not in sys.argv:
        SNAPSHOT.write_text(fresh(), encoding="utf-8")
    elif SNAPSHOT.read_text(encoding="utf-8") != fresh():
        sys.exit(f"{SNAPSHOT.name} is not the schema of a fresh install: run {REGENERATE}")

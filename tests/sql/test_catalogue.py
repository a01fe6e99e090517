"""Every object of the schema obeys the same rules."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

FUNCTIONS = "FROM pg_proc f WHERE f.pronamespace = 'earmark'::regnamespace AND f.prokind = 'f'"


@pytest.fixture
def plain_role(scratch: psycopg.Connection) -> Iterator[str]:
    """A role that was granted nothing; the session acts as it until the test ends."""
    name = f"plain_{scratch.info.dbname}"
    role = sql.Identifier(name)
    scratch.execute(sql.SQL("CREATE ROLE {}").format(role))
    scratch.execute(sql.SQL("SET ROLE {}").format(role))
    yield name
    scratch.execute("RESET ROLE")
    scratch.execute(sql.SQL("DROP OWNED BY {}").format(role))
    scratch.execute(sql.SQL("DROP ROLE {}").format(role))


def names(scratch: psycopg.Connection, query: str) -> list[str]:
    return [row[0] for row in scratch.execute(query).fetchall()]  # type: ignore[arg-type]


def test_every_function_pins_its_search_path(scratch: psycopg.Connection) -> None:
    unpinned = names(
        scratch,
        f"SELECT proname {FUNCTIONS} AND NOT coalesce('search_path=earmark, pg_temp' = ANY (proconfig), false)",
    )
    assert unpinned == []


def test_plans_are_kept(scratch: psycopg.Connection) -> None:
    """Before PostgreSQL 18 a function in SQL was planned anew by each call that is not at the top."""
    in_sql = "prolang = (SELECT oid FROM pg_language WHERE lanname = 'sql')"
    assert names(scratch, f"SELECT proname {FUNCTIONS} AND proname LIKE '\\_private\\_%' AND {in_sql}") == []


def test_what_pins_its_plans_is_not_compiled(scratch: psycopg.Connection) -> None:
    """Before PostgreSQL 18 a plan that it is told not to make costs so much that each call of it would be compiled."""
    compiled = names(
        scratch,
        f"SELECT proname {FUNCTIONS} AND 'enable_seqscan=off' = ANY (proconfig) AND 'jit=off' <> ALL (proconfig)",
    )
    assert compiled == []


def test_the_busiest_tables_are_checked_by_compiled_functions(scratch: psycopg.Connection) -> None:
    """The text of a CHECK is read and planned anew by each statement that writes to its table."""
    checks = scratch.execute(
        "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' "
        "AND conrelid IN ('earmark._private_hold'::regclass, 'earmark._private_image'::regclass, "
        "'earmark._private_subject'::regclass) ORDER BY 1"
    ).fetchall()
    assert checks == [
        (f"earmark._private_{table}", f"CHECK (earmark._private_{table}_is_sound(_private_{table}.*))")
        for table in ("hold", "image", "subject")
    ]


def test_no_function_is_overloaded(scratch: psycopg.Connection) -> None:
    assert names(scratch, f"SELECT proname {FUNCTIONS} GROUP BY proname HAVING count(*) > 1") == []


def test_every_function_has_a_comment(scratch: psycopg.Connection) -> None:
    silent = names(
        scratch,
        f"SELECT proname {FUNCTIONS} AND coalesce(obj_description(f.oid, 'pg_proc'), '') = '' "
        "AND proname <> '_private_refuse_change'",
    )
    assert silent == []


def test_exactly_the_public_functions_are_security_definer(scratch: psycopg.Connection) -> None:
    assert names(scratch, f"SELECT proname {FUNCTIONS} AND prosecdef = (proname LIKE '\\_private\\_%')") == []


def test_the_public_functions_are_the_known_ones(scratch: psycopg.Connection) -> None:
    """A new public function is a decision, not an accident."""
    assert set(names(scratch, f"SELECT proname {FUNCTIONS} AND prosecdef")) >= {
        "reserve", "commit", "rollback", "rollback_newest", "refund", "extend", "expire", "usage", "reservation",
        "history", "verify", "plans", "configure_plan", "configure_subject", "check_and_reserve_slots",
        "decrement_user_image_count", "get_user_quota",
    }  # fmt: skip


def test_every_relation_is_private(scratch: psycopg.Connection) -> None:
    exposed = names(
        scratch,
        "SELECT relname FROM pg_class WHERE relnamespace = 'earmark'::regnamespace AND relkind IN ('r', 'p', 'S') "
        "AND relname NOT LIKE '\\_private\\_%'",
    )
    assert exposed == []


def test_a_plain_role_reaches_no_relation(scratch: psycopg.Connection, plain_role: str) -> None:
    reachable = scratch.execute(
        "SELECT c.relname, p.privilege FROM pg_class c "
        "CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p (privilege) "
        "WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'earmark') "
        "AND c.relkind IN ('r', 'p', 'v') AND has_table_privilege(%s, c.oid, p.privilege)",
        (plain_role,),
    ).fetchall()
    assert reachable == []


def test_a_plain_role_may_execute_no_function(scratch: psycopg.Connection, plain_role: str) -> None:
    callable_ = scratch.execute(
        "SELECT f.proname FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace "
        "WHERE n.nspname = 'earmark' AND has_function_privilege(%s, f.oid, 'EXECUTE')",
        (plain_role,),
    ).fetchall()
    assert callable_ == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM earmark._private_balance",
        "SELECT * FROM earmark.usage('a')",
        "SELECT * FROM earmark.reserve('[]')",
        "SELECT * FROM earmark.get_user_quota('00000000-0000-0000-0000-000000000001')",
    ],
)
def test_a_plain_role_is_refused(scratch: psycopg.Connection, plain_role: str, statement: str) -> None:
    assert plain_role
    with pytest.raises(psycopg.errors.InsufficientPrivilege), scratch.transaction():
        scratch.execute(statement)  # type: ignore[arg-type]


def test_granted_one_function_a_role_still_reaches_no_table(scratch: psycopg.Connection, plain_role: str) -> None:
    role = sql.Identifier(plain_role)
    scratch.execute("RESET ROLE")
    scratch.execute(sql.SQL("GRANT USAGE ON SCHEMA earmark TO {}").format(role))
    scratch.execute(sql.SQL("GRANT EXECUTE ON FUNCTION earmark.usage TO {}").format(role))
    scratch.execute(sql.SQL("SET ROLE {}").format(role))
    with pytest.raises(psycopg.Error, match="name yourself"), scratch.transaction():
        scratch.execute("SELECT * FROM earmark.usage('a')")  # no claims, no service: nobody
    scratch.execute("SELECT set_config('request.jwt.claims', %s, true)", ('{"sub": "a"}',))
    assert scratch.execute("SELECT count(*) FROM earmark.usage('a')").fetchone() == (2,)
    for statement in ("SELECT * FROM earmark._private_subject", "SELECT earmark._private_now()"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), scratch.transaction():
            scratch.execute(statement)

"""Owner, service and user as real roles: over connections of their own, and through a gateway as PostgREST is one."""

# ruff: noqa: S608 - the names in these queries are the test's own

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from earmark import Forbidden, InvalidRequest, Ledger, UnknownSubject
from earmark.access import USER_FUNCTIONS, grant, granted
from earmark.errors import from_database
from earmark.migrate import check_schema, migrate

ME, OTHER = UUID(int=1), UUID(int=2)
MINE = {"sub": str(ME), "role": "authenticated"}
SERVICE = {"role": "service_role"}
PUBLIC_FUNCTIONS = (
    "SELECT proname FROM pg_proc WHERE pronamespace = 'earmark'::regnamespace AND proname NOT LIKE '\\_private\\_%'"
)
EXECUTABLE = (
    "SELECT f.proname FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace "
    "WHERE n.nspname = 'earmark' AND has_function_privilege(%s, f.oid, 'EXECUTE')"
)
OWN = [
    "SELECT * FROM earmark.usage('{}')",
    "SELECT * FROM earmark.history('{}')",
    "SELECT * FROM earmark.images('{}')",
    "SELECT * FROM earmark.image(gen_random_uuid(), '{}')",
    "SELECT * FROM earmark.reservation(gen_random_uuid(), '{}')",
    "SELECT * FROM earmark.rollback_newest('{}', 'images', 1)",
    "SELECT * FROM earmark.get_user_quota('{}')",
    "SELECT * FROM earmark.check_and_reserve_slots('{}')",
    "SELECT * FROM earmark.decrement_user_image_count('{}')",
    'SELECT * FROM earmark.rollback(\'[{{"reservation": "'
    + str(OTHER)
    + '", "subject": "{}", "cause": "cancelled"}}]\')',
    'SELECT * FROM earmark.extend(\'[{{"reservation": "' + str(OTHER) + '", "subject": "{}", "ttl_seconds": 9}}]\')',
]


@dataclass(frozen=True, slots=True)
class Roles:
    """Names of roles, and how each connects."""

    database: str
    service: str
    user: str
    gateway: str
    worker: str

    def connect(self, role: str) -> psycopg.Connection:
        return psycopg.connect(make_conninfo(self.database, user=role, password="secret"), autocommit=True)

    @contextmanager
    def request(self, role: str, claims: dict[str, str] | None) -> Iterator[psycopg.Connection]:
        """A transaction as PostgREST opens one for a request."""
        with self.connect(self.gateway) as connection, connection.transaction():
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
            if claims is not None:
                connection.execute("SELECT set_config('request.jwt.claims', %s, true)", (json.dumps(claims),))
            yield connection


@pytest.fixture
def roles(database: str, connection: psycopg.Connection) -> Iterator[Roles]:
    """A service and a user who may connect, a gateway who may become either, a worker who belongs to the service."""
    prefix = connection.info.dbname
    names = [f"{prefix} {what}" for what in ("service", "user", "gateway", "worker")]
    service, user, gateway, worker = map(sql.Identifier, names)
    for name in (service, user, worker):
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(name))
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN NOINHERIT PASSWORD 'secret'").format(gateway))
    connection.execute(sql.SQL("GRANT {}, {} TO {}").format(service, user, gateway))
    connection.execute(sql.SQL("GRANT {} TO {}").format(service, worker))
    grant(connection, service=[names[0]], user=[names[1]])
    yield Roles(database, *names)
    for name in (gateway, worker, service, user):
        connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
        connection.execute(sql.SQL("DROP ROLE {}").format(name))


@pytest.fixture
def holdings(ledger: Ledger) -> dict[UUID, UUID]:
    """An open reservation of each."""
    return {who: ledger.reserve(str(who), {"images": 1}).id for who in (ME, OTHER)}


def refusal(connection: psycopg.Connection, statement: str, *parameters: object) -> Exception:
    with pytest.raises(psycopg.Error) as caught, connection.transaction():
        connection.execute(statement, parameters)  # type: ignore[arg-type]
    return from_database(caught.value)


def rows(connection: psycopg.Connection, statement: str) -> list[tuple[Any, ...]]:
    return connection.execute(statement).fetchall()  # type: ignore[arg-type]


def test_a_user_reaches_himself_and_nobody_else(roles: Roles, holdings: dict[UUID, UUID]) -> None:
    with roles.request(roles.user, MINE) as connection:
        for statement in OWN:
            assert isinstance(refusal(connection, statement.format(OTHER)), Forbidden), statement
            connection.execute(statement.format(ME))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "claims", [None, {}, {"role": "authenticated"}, SERVICE], ids=["none", "empty", "anon", "service"]
)
def test_a_users_role_without_a_subject_reaches_nobody(
    roles: Roles, holdings: dict[UUID, UUID], claims: dict[str, str] | None
) -> None:
    """Nor when its claims say that it is a service: the role of the database has to be one."""
    with roles.request(roles.user, claims) as connection:
        for statement in OWN:
            assert isinstance(refusal(connection, statement.format(ME)), Forbidden), statement
        for view in ("my_usage", "my_history", "my_images"):
            assert rows(connection, f"SELECT * FROM earmark.{view}") == []


def test_a_users_own_connection_without_claims_reaches_nobody(roles: Roles, holdings: dict[UUID, UUID]) -> None:
    with roles.connect(roles.user) as connection:
        assert rows(connection, "SELECT subject, service FROM earmark.caller()") == [(None, False)]
        for statement in OWN:
            assert isinstance(refusal(connection, statement.format(ME)), Forbidden), statement


def test_a_user_may_call_what_is_listed_and_nothing_else(connection: psycopg.Connection, roles: Roles) -> None:
    public = {row[0] for row in rows(connection, PUBLIC_FUNCTIONS)}
    executable = {row[0] for row in connection.execute(EXECUTABLE, (roles.user,)).fetchall()}
    assert executable == USER_FUNCTIONS & public
    assert not executable & {
        "commit", "configure_plan", "configure_subject", "expire", "refund", "reserve", "images_reserve", "verify",
        "image_complete", "image_delete", "image_roll_back", "image_start", "images_due",
    }  # fmt: skip
    with roles.request(roles.user, MINE) as user:
        for call in ("commit('[]')", "expire()", "configure_subject('a', 'pro')", "verify('a')", "_private_now()"):
            assert isinstance(refusal(user, f"SELECT earmark.{call}"), psycopg.errors.InsufficientPrivilege), call


def test_a_service_may_call_every_public_function(connection: psycopg.Connection, roles: Roles) -> None:
    public = {row[0] for row in rows(connection, PUBLIC_FUNCTIONS)}
    for role in (roles.service, roles.worker):
        assert {row[0] for row in connection.execute(EXECUTABLE, (role,)).fetchall()} == public


def test_the_gateway_itself_may_do_nothing(roles: Roles) -> None:
    with roles.connect(roles.gateway) as connection:
        assert isinstance(refusal(connection, "SELECT earmark.usage('a')"), psycopg.errors.InsufficientPrivilege)


def test_no_role_but_the_owner_reaches_a_table(connection: psycopg.Connection, roles: Roles) -> None:
    reachable = connection.execute(
        "SELECT r.role, c.relname, p.privilege FROM pg_class c, unnest(%s::text[]) r (role), "
        "unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p (privilege) "
        "WHERE c.relnamespace = 'earmark'::regnamespace AND c.relkind IN ('r', 'p', 'v') "
        "AND has_table_privilege(r.role, c.oid, p.privilege)",
        ([roles.service, roles.user, roles.worker, roles.gateway],),
    ).fetchall()
    views = {"my_usage", "my_history", "my_images"}
    assert set(reachable) == {
        (role, view, "SELECT") for role in (roles.service, roles.user, roles.worker) for view in views
    }
    with roles.connect(roles.service) as service:
        for table in ("_private_balance", "_private_migration"):
            refused = refusal(service, f"SELECT * FROM earmark.{table}")
            assert isinstance(refused, psycopg.errors.InsufficientPrivilege), table


@pytest.mark.parametrize("who", ["service", "worker"])
def test_a_services_connection_does_everything_without_claims(
    roles: Roles, ledger: Ledger, holdings: dict[UUID, UUID], who: str
) -> None:
    with roles.connect(getattr(roles, who)) as connection:
        assert rows(connection, "SELECT subject, service FROM earmark.caller()") == [(None, True)]
        check_schema(connection)
        taken = ledger.reserve("third", {"images": 1, "storage_bytes": 5}, connection=connection)
        assert taken.commit().outcome == "committed"
        assert ledger.refund(taken.id, connection=connection).outcome == "refunded"
        assert ledger.usage(str(OTHER), connection=connection).resources["images"].held == 1
        assert ledger.verify(connection=connection) == ()
        assert ledger.sweep(connection=connection) == ()
        ledger.configure_subject("third", plan="free", connection=connection)
        for statement in OWN:
            connection.execute(statement.format(ME))  # type: ignore[arg-type]


@pytest.mark.parametrize("claims", [SERVICE, None])
def test_a_service_behind_the_gateway(roles: Roles, holdings: dict[UUID, UUID], claims: dict[str, str] | None) -> None:
    commit = json.dumps([{"reservation": str(holdings[OTHER])}])
    with roles.request(roles.service, claims) as connection:
        assert connection.execute("SELECT outcome FROM earmark.commit(%s)", (commit,)).fetchone() == ("committed",)


def test_a_services_own_role_name_in_the_claims_is_a_service(roles: Roles) -> None:
    with roles.request(roles.service, {"role": roles.service, "sub": "machine"}) as connection:
        assert rows(connection, "SELECT subject, service FROM earmark.caller()") == [("machine", True)]
    with roles.request(roles.user, {"role": roles.user, "sub": "a"}) as connection:
        assert rows(connection, "SELECT subject, service FROM earmark.caller()") == [("a", False)]


def test_a_service_acting_under_a_users_claims_is_that_user(roles: Roles, holdings: dict[UUID, UUID]) -> None:
    with roles.request(roles.service, MINE) as connection:
        assert isinstance(refusal(connection, f"SELECT * FROM earmark.usage('{OTHER}')"), Forbidden)
        assert isinstance(refusal(connection, "SELECT * FROM earmark.commit('[]')"), Forbidden)


def test_claims_end_with_the_request(roles: Roles, holdings: dict[UUID, UUID]) -> None:
    """A pooled connection does not carry one user's claims into the next request."""
    with roles.connect(roles.gateway) as connection:
        for claims, expected in ((MINE, (str(ME), False)), (None, (None, False))):
            with connection.transaction():
                connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(roles.user)))
                if claims:
                    connection.execute("SELECT set_config('request.jwt.claims', %s, true)", (json.dumps(claims),))
                assert rows(connection, "SELECT subject, service FROM earmark.caller()") == [expected]


def test_a_user_acts_in_nobody_elses_name(roles: Roles, holdings: dict[UUID, UUID]) -> None:
    with roles.request(roles.user, MINE) as connection:
        call = "SELECT item FROM earmark.rollback_newest(%s, 'images', 1, 'cancelled', %s)"
        assert isinstance(refusal(connection, call, str(ME), "support"), Forbidden)
        assert connection.execute(call, (str(ME), str(ME))).fetchall() == [("1",)]


def test_the_views_show_a_user_himself(roles: Roles, ledger: Ledger, holdings: dict[UUID, UUID]) -> None:
    for who in (ME, ME, OTHER):
        open_image(ledger, str(who))
    delete_oldest_image(ledger, str(ME))
    with roles.request(roles.user, MINE) as connection:
        for view in ("my_usage", "my_history", "my_images"):
            assert {row[0] for row in rows(connection, f"SELECT subject FROM earmark.{view}")} == {str(ME)}, view
            assert rows(connection, f"SELECT * FROM earmark.{view} WHERE subject = '{OTHER}'") == [], view
        seen = rows(connection, "SELECT resource, held FROM earmark.my_usage ORDER BY 1")
        assert seen == [("images", 3), ("storage_bytes", 14)]
        called = rows(connection, f"SELECT resource, held, period_end FROM earmark.usage('{ME}')")
        assert rows(connection, "SELECT resource, held, period_end FROM earmark.my_usage") == called
        journal = rows(connection, f"SELECT * FROM earmark.history('{ME}')")
        assert [row[1:] for row in rows(connection, "SELECT * FROM earmark.my_history ORDER BY seq DESC")] == journal
        assert rows(connection, "SELECT filename, state FROM earmark.my_images") == [("a.png", "reserved")]


def test_the_views_show_a_service_everybody_once(roles: Roles, ledger: Ledger, holdings: dict[UUID, UUID]) -> None:
    for who in (ME, ME, OTHER):
        open_image(ledger, str(who))
    delete_oldest_image(ledger, str(ME))
    named = SERVICE | {"sub": str(ME)}
    with roles.connect(roles.service) as direct, roles.request(roles.service, named) as behind:
        for connection in (direct, behind):
            for view in ("my_usage", "my_history", "my_images"):
                found = rows(
                    connection, f"SELECT subject, count(*) - count(DISTINCT v::text) FROM earmark.{view} v GROUP BY 1"
                )
                assert dict(found) == {str(ME): 0, str(OTHER): 0}, view
            assert rows(connection, "SELECT state FROM earmark.my_images") == [("reserved",)] * 2


def test_the_views_show_a_newcomer_the_default_plan(roles: Roles, connection: psycopg.Connection) -> None:
    with roles.request(roles.user, {"sub": "newcomer"}) as user:
        assert rows(user, "SELECT plan, used FROM earmark.my_usage WHERE resource = 'images'") == [("pro", 0)]
    connection.execute("DELETE FROM earmark._private_setting")
    with roles.request(roles.user, {"sub": "newcomer"}) as user:
        assert isinstance(refusal(user, "SELECT * FROM earmark.my_usage"), UnknownSubject)


def test_a_users_own_function_in_a_query_sees_no_row_but_his(
    connection: psycopg.Connection, roles: Roles, ledger: Ledger, holdings: dict[UUID, UUID]
) -> None:
    """A cheap function in WHERE would be called on every row first, were the views no barriers.

    How the tables are read is the user's to say, too.
    """
    for who in (ME, OTHER):
        open_image(ledger, str(who))
    connection.execute(
        "CREATE FUNCTION public.peek(subject text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 "
        "AS $$ BEGIN RAISE NOTICE '%', subject; RETURN true; END $$"
    )
    with roles.request(roles.user, MINE) as user:
        peeked: list[str | None] = []
        user.add_notice_handler(lambda notice: peeked.append(notice.message_primary))
        for way in ("indexscan", "indexonlyscan", "bitmapscan", "nestloop"):
            user.execute(f"SET LOCAL enable_{way} = off")  # type: ignore[arg-type]
        for view in ("my_usage", "my_history", "my_images"):
            user.execute(f"SELECT * FROM earmark.{view} WHERE public.peek(subject)")  # type: ignore[arg-type]
    assert set(peeked) == {str(ME)}


def test_granting_again_changes_nothing(connection: psycopg.Connection, roles: Roles) -> None:
    before = privileges(connection)
    for _ in range(2):
        grant(connection, service=[roles.service], user=[roles.user])
        assert privileges(connection) == before
    assert granted(connection) == ([roles.service], [roles.user])


def test_a_role_that_changes_sides_keeps_nothing_of_before(connection: psycopg.Connection, roles: Roles) -> None:
    grant(connection, user=[roles.service])
    assert granted(connection) == ([], sorted([roles.service, roles.user]))
    executable = {row[0] for row in connection.execute(EXECUTABLE, (roles.service,)).fetchall()}
    assert "commit" not in executable
    with roles.connect(roles.service) as service:
        assert isinstance(refusal(service, "SELECT * FROM earmark.usage('a')"), Forbidden)


@pytest.mark.parametrize("who", ["service", "user"])
def test_a_role_that_is_not_there_is_named(connection: psycopg.Connection, roles: Roles, who: str) -> None:
    before = privileges(connection)
    for name in ("nobody here", "public", '"; DROP SCHEMA earmark'):
        with pytest.raises(InvalidRequest, match="no role") as caught:
            grant(connection, **{who: [roles.service, name]})
        assert caught.value.detail == {"role": name}
    with pytest.raises(InvalidRequest, match="both"):
        grant(connection, service=[roles.user], user=[roles.user])
    assert privileges(connection) == before


def test_what_a_later_migration_brings_is_the_services_and_nobody_elses(
    connection: psycopg.Connection, roles: Roles
) -> None:
    """A function that is new, one that was dropped and made again, and one of the user's made again."""
    by_hand = sql.Identifier(f"{connection.info.dbname} by hand")
    connection.execute(sql.SQL("CREATE ROLE {}").format(by_hand))
    connection.execute(sql.SQL("GRANT EXECUTE ON FUNCTION earmark.usage, earmark.commit TO {}").format(by_hand))
    for name in ("refund", "plans"):
        connection.execute(f"DROP FUNCTION earmark.{name}")  # type: ignore[arg-type]
        connection.execute("DELETE FROM earmark._private_migration WHERE file = %s", (f"functions/{name}.sql",))
    assert set(migrate(connection)) == {"functions/refund.sql", "functions/plans.sql"}
    service, user, hand, everybody = (
        {row[0] for row in connection.execute(EXECUTABLE, (role,)).fetchall()}
        for role in (roles.service, roles.user, by_hand.as_string().strip('"'), "public")
    )
    connection.execute(sql.SQL("DROP OWNED BY {}").format(by_hand))
    connection.execute(sql.SQL("DROP ROLE {}").format(by_hand))
    assert {"refund", "plans"} <= service
    assert "plans" in user
    assert "refund" not in user
    assert hand == {"usage", "commit"}
    assert everybody == set()


def privileges(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT proname, ARRAY(SELECT a::text FROM unnest(proacl) a ORDER BY 1) FROM pg_proc "
        "WHERE pronamespace = 'earmark'::regnamespace UNION ALL "
        "SELECT relname, ARRAY(SELECT a::text FROM unnest(relacl) a ORDER BY 1) FROM pg_class "
        "WHERE relnamespace = 'earmark'::regnamespace UNION ALL "
        "SELECT nspname, ARRAY(SELECT a::text FROM unnest(nspacl) a ORDER BY 1) FROM pg_namespace "
        "WHERE nspname = 'earmark' ORDER BY 1"
    ).fetchall()


def open_image(ledger: Ledger, subject: str) -> None:
    """One image of 7 bytes."""
    with ledger._pool.connection() as connection:
        connection.execute(
            "SELECT * FROM earmark.images_reserve(%s, %s, 60, 60)",
            (subject, json.dumps([{"filename": "a.png", "content_type": "image/png", "size": 7}])),
        )


def delete_oldest_image(ledger: Ledger, subject: str) -> None:
    with ledger._pool.connection() as connection:
        connection.execute(
            "UPDATE earmark._private_image SET state = 'deleted', due_at = NULL WHERE image = "
            "(SELECT image FROM earmark._private_image WHERE subject = %s ORDER BY image LIMIT 1)",
            (subject,),
        )


def test_a_user_settles_in_nobody_elses_name(roles: Roles, holdings: dict[UUID, UUID]) -> None:
    request = {"reservation": str(holdings[ME]), "subject": str(ME), "cause": "cancelled"}
    with roles.request(roles.user, MINE) as connection:
        call = "SELECT outcome FROM earmark.rollback(%s)"
        assert isinstance(refusal(connection, call, json.dumps([{**request, "actor": "support"}])), Forbidden)
        assert connection.execute(call, (json.dumps([request]),)).fetchall() == [("rolled_back",)]

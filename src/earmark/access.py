"""What the database's roles may do: the owner everything, a service every public function, a user what is his own.

A role is a service, to the functions too, where it may execute `earmark.commit`; see `earmark.caller`. Tables are
nobody's but the owner's.
"""

from collections.abc import Sequence
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from earmark.errors import InvalidRequest

USER_FUNCTIONS = frozenset(
    {
        "caller",
        "check_and_reserve_slots",
        "decrement_user_image_count",
        "explain",
        "extend",
        "get_user_quota",
        "history",
        "image",
        "images",
        "plans",
        "reservation",
        "rollback",
        "rollback_newest",
        "story",
        "subject",
        "usage",
        "usage_levels",
    }
)
"""What a user's role may call; each of them lets him reach only himself."""

_PUBLIC_FUNCTIONS = """
SELECT proname FROM pg_proc
WHERE pronamespace = 'earmark'::regnamespace AND proname NOT LIKE '\\_private\\_%' ORDER BY 1
"""
_VIEWS = """
SELECT relname FROM pg_class
WHERE relnamespace = 'earmark'::regnamespace AND relkind = 'v' AND relname NOT LIKE '\\_private\\_%' ORDER BY 1
"""
_HELD = """
SELECT r.rolname, array_agg(f.proname::text)
FROM pg_proc f
CROSS JOIN LATERAL aclexplode(f.proacl) a
JOIN pg_roles r ON r.oid = a.grantee
WHERE f.pronamespace = 'earmark'::regnamespace AND a.grantee <> f.proowner
GROUP BY r.rolname ORDER BY r.rolname
"""


def grant(connection: psycopg.Connection[Any], *, service: Sequence[str] = (), user: Sequence[str] = ()) -> None:
    """Gives roles exactly what services and users need, in place of what they had before. Safe to repeat.

    Args:
        connection: Of the schema's owner.
        service: Roles that act for every subject, such as `service_role`.
        user: Roles that act for the subject of their JWT claims, such as `authenticated`.

    Raises:
        InvalidRequest: There is no such role, or it is named as both.
    """
    _check_roles(connection, service, user)
    with connection.transaction():
        public, views = _names(connection, _PUBLIC_FUNCTIONS), _names(connection, _VIEWS)
        for role in service:
            _grant(connection, role, public, views)
        for role in user:
            _grant(connection, role, [name for name in public if name in USER_FUNCTIONS], views)


def granted(connection: psycopg.Connection[Any]) -> tuple[list[str], list[str]]:
    """The roles that `grant` made services and users, by what they may execute now.

    Returns:
        The services, and the users. A role that was given less, by hand, is neither.
    """
    public = set(_names(connection, _PUBLIC_FUNCTIONS))
    held = connection.execute(_HELD).fetchall()
    service = [role for role, functions in held if public <= set(functions)]
    user = [role for role, functions in held if role not in service and public & USER_FUNCTIONS <= set(functions)]
    return service, user


def _check_roles(connection: psycopg.Connection[Any], service: Sequence[str], user: Sequence[str]) -> None:
    known = _names(connection, "SELECT rolname FROM pg_roles")
    for role in (*service, *user):
        if role not in known:
            raise InvalidRequest(f"There is no role {role!r} in the database; create it first.", {"role": role})
        if role in service and role in user:
            raise InvalidRequest(f"The role {role!r} cannot be both a service and a user.", {"role": role})


def _grant(connection: psycopg.Connection[Any], role: str, functions: Sequence[str], views: Sequence[str]) -> None:
    to = sql.Identifier(role)
    names = [sql.Identifier("earmark", name) for name in functions]
    for statement in (
        sql.SQL("REVOKE ALL ON ALL ROUTINES IN SCHEMA earmark FROM {role}").format(role=to),
        sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA earmark FROM {role}").format(role=to),
        sql.SQL("REVOKE ALL ON SCHEMA earmark FROM {role}").format(role=to),
        sql.SQL("GRANT USAGE ON SCHEMA earmark TO {role}").format(role=to),
        sql.SQL("GRANT EXECUTE ON FUNCTION {names} TO {role}").format(names=sql.SQL(", ").join(names), role=to),
        sql.SQL("GRANT SELECT ON {views} TO {role}").format(
            views=sql.SQL(", ").join(sql.Identifier("earmark", view) for view in views), role=to
        ),
    ):
        connection.execute(statement)


def _names(connection: psycopg.Connection[Any], query: LiteralString) -> list[str]:
    return [row[0] for row in connection.execute(query).fetchall()]

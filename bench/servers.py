"""Databases of the benchmarks' server."""

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo


def database(server: str, name: str, *, template: str = "template1") -> str:
    """Makes a database; its connection string."""
    with psycopg.connect(server, autocommit=True) as connection:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    return make_conninfo(server, dbname=name)

"""SQLSTATEs and error classes are one table."""

import json
import re
from importlib.resources import files

import psycopg
import pytest

from earmark import EarmarkError, errors
from earmark.errors import ALL_ERRORS, from_database, translated

QT = re.compile(r"'(QT\w+)'")


def raised_in_sql() -> set[str]:
    folder = files("earmark") / "sql"
    return {
        state
        for part in folder.iterdir()
        if part.is_dir()
        for file in part.iterdir()
        for state in QT.findall(file.read_text(encoding="utf-8"))
    }


def test_every_sqlstate_has_a_class_and_every_class_its_sqlstate() -> None:
    assert raised_in_sql() | {errors.SchemaMismatch.sqlstate} == {
        error.sqlstate for error in ALL_ERRORS if error.sqlstate
    }


def test_every_class_is_in_the_table_with_names_of_its_own() -> None:
    defined = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, EarmarkError) and value is not EarmarkError
    }
    assert defined == set(ALL_ERRORS)
    assert len({error.slug for error in ALL_ERRORS}) == len(ALL_ERRORS)
    states = [error.sqlstate for error in ALL_ERRORS if error.sqlstate]
    assert len(set(states)) == len(states)
    assert all(400 <= error.status < 600 for error in ALL_ERRORS)


@pytest.mark.parametrize("kind", [error for error in ALL_ERRORS if error.sqlstate])
def test_a_class_is_raised_for_its_sqlstate(scratch: psycopg.Connection, kind: type[EarmarkError]) -> None:
    with pytest.raises(kind, match="said so") as caught, translated(), scratch.transaction():
        scratch.execute(
            "SELECT earmark._private_raise(%s, 'said so', %s::jsonb)", (kind.sqlstate, json.dumps({"field": "x"}))
        )
    assert caught.value.detail == {"field": "x"}
    assert isinstance(caught.value.__cause__, psycopg.Error)


def test_other_errors_of_the_database_pass_through(scratch: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero) as caught, translated(), scratch.transaction():
        scratch.execute("SELECT 1/0")
    assert from_database(caught.value) is caught.value

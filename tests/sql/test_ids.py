"""Reservation ids: UUIDs of version 8 that are in the order of their making and carry what routes them."""

from hashlib import sha256
from typing import Any
from uuid import RFC_4122, UUID

import psycopg


def route(identifier: UUID) -> int:
    return (identifier.int >> 64) & 0xFFF


def test_version_and_routing_bits(books: Any) -> None:
    for subject in ("a", "b", "Zoë"):
        digest = sha256(subject.encode()).digest()
        for _ in range(5):
            identifier = books.reserve(subject, {"images": 1}).id
            assert (identifier.version, identifier.variant) == (8, RFC_4122)
            assert route(identifier) == (digest[0] & 0xF) << 8 | digest[1]


def test_an_id_begins_with_its_milliseconds(scratch: psycopg.Connection, books: Any) -> None:
    clock = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    before = scratch.execute(clock).fetchone()
    identifier = books.reserve("a", {"images": 1}).id
    after = scratch.execute(clock).fetchone()
    assert before is not None
    assert after is not None
    assert before[0] <= identifier.int >> 80 <= after[0]


def test_ids_do_not_repeat(scratch: psycopg.Connection) -> None:
    row = scratch.execute(
        "SELECT count(DISTINCT earmark._private_new_id('a')) FROM generate_series(1, 10000)"
    ).fetchone()
    assert row == (10000,)

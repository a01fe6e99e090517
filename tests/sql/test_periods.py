"""The arithmetic of periods: counted from the anchor, in UTC, start inclusive, end exclusive."""

import psycopg
import pytest

SQL = "SELECT period_start, period_end FROM earmark._private_period(%s, %s, %s)"

CASES = [
    # anchor, period, moment, start, end
    ("2026-01-31 10:00Z", "P1M", "2026-01-31 10:00Z", "2026-01-31 10:00Z", "2026-02-28 10:00Z"),
    ("2026-01-31 10:00Z", "P1M", "2026-02-28 09:59:59.999999Z", "2026-01-31 10:00Z", "2026-02-28 10:00Z"),
    ("2026-01-31 10:00Z", "P1M", "2026-02-28 10:00Z", "2026-02-28 10:00Z", "2026-03-31 10:00Z"),
    ("2026-01-31 10:00Z", "P1M", "2026-03-28 10:00Z", "2026-02-28 10:00Z", "2026-03-31 10:00Z"),
    ("2026-01-31 10:00Z", "P1M", "2026-03-31 10:00Z", "2026-03-31 10:00Z", "2026-04-30 10:00Z"),
    ("2026-01-31 10:00Z", "P1M", "2026-04-30 10:00Z", "2026-04-30 10:00Z", "2026-05-31 10:00Z"),
    ("2024-01-31 00:00Z", "P1M", "2024-02-29 00:00Z", "2024-02-29 00:00Z", "2024-03-31 00:00Z"),
    ("2026-01-31 00:00Z", "P1M", "2027-12-30 23:59Z", "2027-11-30 00:00Z", "2027-12-31 00:00Z"),
    ("2026-01-01 00:00Z", "P1M", "2026-12-31 23:59:59Z", "2026-12-01 00:00Z", "2027-01-01 00:00Z"),
    ("2026-01-01 00:00Z", "P3M", "2026-06-30 23:59Z", "2026-04-01 00:00Z", "2026-07-01 00:00Z"),
    ("2026-01-31 00:00Z", "P3M", "2026-04-30 00:00Z", "2026-04-30 00:00Z", "2026-07-31 00:00Z"),
    ("2026-03-10 12:00Z", "P1D", "2026-03-11 11:59:59Z", "2026-03-10 12:00Z", "2026-03-11 12:00Z"),
    ("2026-03-10 12:00Z", "P1D", "2026-03-11 12:00Z", "2026-03-11 12:00Z", "2026-03-12 12:00Z"),
    ("2026-03-02 00:00Z", "P7D", "2026-03-08 23:59Z", "2026-03-02 00:00Z", "2026-03-09 00:00Z"),
    ("2026-03-02 00:00Z", "P1W", "2026-03-09 00:00Z", "2026-03-09 00:00Z", "2026-03-16 00:00Z"),
    ("2026-03-02 00:00Z", "P1Y", "2027-03-01 23:59Z", "2026-03-02 00:00Z", "2027-03-02 00:00Z"),
    ("2024-02-29 00:00Z", "P1Y", "2025-02-28 00:00Z", "2025-02-28 00:00Z", "2026-02-28 00:00Z"),
    ("2024-02-29 00:00Z", "P1Y", "2028-02-28 23:59Z", "2027-02-28 00:00Z", "2028-02-29 00:00Z"),
    ("2024-02-29 00:00Z", "P1Y", "2028-02-29 00:00Z", "2028-02-29 00:00Z", "2029-02-28 00:00Z"),
    # Before the anchor periods run backwards from it.
    ("2026-01-31 10:00Z", "P1M", "2026-01-31 09:59Z", "2025-12-31 10:00Z", "2026-01-31 10:00Z"),
    ("2026-01-31 10:00Z", "P1M", "2025-12-31 09:59Z", "2025-11-30 10:00Z", "2025-12-31 10:00Z"),
    ("2026-03-02 00:00Z", "P7D", "2026-03-01 23:59Z", "2026-02-23 00:00Z", "2026-03-02 00:00Z"),
    ("2026-03-02 00:00Z", "P1Y", "2026-03-01 00:00Z", "2025-03-02 00:00Z", "2026-03-02 00:00Z"),
    # Neither daylight saving nor the session's zone moves a boundary.
    ("2026-03-01 00:00+05:30", "P1M", "2026-04-01 00:00Z", "2026-03-28 18:30Z", "2026-04-28 18:30Z"),
]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize(("anchor", "period", "moment", "start", "end"), CASES)
def test_period(
    scratch: psycopg.Connection, anchor: str, period: str, moment: str, start: str, end: str, zone: str
) -> None:
    scratch.execute("SELECT set_config('TimeZone', %s, false)", (zone,))
    found = scratch.execute(SQL, (anchor, period, moment)).fetchone()
    assert found == scratch.execute("SELECT %s::timestamptz, %s::timestamptz", (start, end)).fetchone()


def test_a_lifetime_never_ends(scratch: psycopg.Connection) -> None:
    row = scratch.execute(
        "SELECT p.period_start = '-infinity', p.period_end = 'infinity' "
        "FROM earmark._private_period(now(), 'lifetime', now()) p"
    ).fetchone()
    assert row == (True, True)


def test_periods_tile_the_time_line(scratch: psycopg.Connection) -> None:
    """Each period begins where the one before it ended, and holds every moment asked about."""
    gaps = scratch.execute(
        """
        SELECT a.anchor, p.period, t.moment
        FROM (VALUES ('2026-01-31 10:00Z'::timestamptz), ('2024-02-29 00:00Z'), ('2026-06-15 23:59:59Z')) a (anchor)
        CROSS JOIN (VALUES ('P1D'), ('P7D'), ('P1W'), ('P1M'), ('P5M'), ('P1Y')) p (period)
        CROSS JOIN generate_series('2023-01-01Z'::timestamptz, '2029-01-01Z', '31 hours') t (moment)
        CROSS JOIN LATERAL earmark._private_period(a.anchor, p.period, t.moment) w
        CROSS JOIN LATERAL earmark._private_period(a.anchor, p.period, w.period_end) n
        WHERE NOT (w.period_start <= t.moment AND t.moment < w.period_end AND n.period_start = w.period_end)
        """
    ).fetchall()
    assert gaps == []

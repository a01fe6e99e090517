"""Ledger and client without asyncio are what their generator makes of those with it."""

import importlib.util
import inspect
from pathlib import Path

from earmark import AsyncLedger, AsyncReservation, Ledger, Reservation, client
from earmark.client._async_images import AsyncImages
from earmark.client._sync_images import Images

TOOL = Path(__file__).parents[2] / "tools/generate_sync.py"


def test_the_twin_is_what_the_generator_writes() -> None:
    spec = importlib.util.spec_from_file_location("generate_sync", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for twin, wanted in tool.generate().items():
        assert twin.read_text(encoding="utf-8") == wanted


def test_both_have_the_same_methods_with_the_same_parameters() -> None:
    pairs = (
        (AsyncLedger, Ledger),
        (AsyncReservation, Reservation),
        (client.AsyncClient, client.Client),
        (client.AsyncReservation, client.Reservation),
        (AsyncImages, Images),
    )
    for one, other in pairs:
        public = {name: value for name, value in inspect.getmembers(one) if not name.startswith("_")}
        twin = {name: value for name, value in inspect.getmembers(other) if not name.startswith("_")}
        assert public.keys() == twin.keys()
        for name, value in public.items():
            if callable(value):
                assert list(inspect.signature(value).parameters) == list(inspect.signature(twin[name]).parameters)
                assert not inspect.iscoroutinefunction(twin[name])


def test_every_method_of_the_ledger_takes_the_callers_connection() -> None:
    for name, method in inspect.getmembers(Ledger, inspect.isfunction):
        if not name.startswith("_") and name not in {"open", "close"}:
            assert "connection" in inspect.signature(method).parameters, name

from earmark import Ledger


def test_reserve(ledger: Ledger) -> None:
    with ledger.reserve("a", {"images": 2}):
        assert ledger.usage("a").resources["images"].held == 2
    assert ledger.usage("a").resources["images"].committed == 2

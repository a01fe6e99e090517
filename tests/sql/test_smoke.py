def test_reserve(ledger):
    with ledger.reserve("a", {"images": 2}):
        assert ledger.usage("a").resources["images"].held == 2
    assert ledger.usage("a").resources["images"].committed == 2

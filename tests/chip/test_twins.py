"""What is right for every part a chip may be."""

from __future__ import annotations

from hwflash.chip import catalog
from hwflash.chip.twins import cautious


def test_the_erase_of_a_die_goes_where_the_dies_may_be_larger() -> None:
    parts = catalog.load()
    small, large = (parts.by_name(name).chip for name in ("N25Q00AA", "MT25QL01GBBB"))
    assert small.die_size < large.die_size
    for chip, twin in ((small, large), (large, small)):
        found = cautious(chip, [twin], geometry_known=False)
        assert found.dies.erase is None
        assert found.die_size == small.die_size
    assert cautious(small, [], geometry_known=False).dies == small.dies

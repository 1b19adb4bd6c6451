"""What a placement says about blocks, and which of them stay."""

from itertools import pairwise

import pytest

from jax_interp.errors import UsageError
from jax_interp.runtime.placement import RESIDENT, Placement, spread


@pytest.mark.parametrize("num_blocks", range(1, 41))
def test_blocks_that_stay_are_spread_evenly(num_blocks):
    for count in range(num_blocks + 1):
        stay = spread(count, num_blocks)
        assert len(stay) == count
        assert stay <= set(range(num_blocks))
        streamed = [gap - 1 for gap in gaps(stay, num_blocks)]
        assert max(streamed) - min(streamed) <= 1 or count == 0


def gaps(stay, num_blocks):
    """Distances between neighbours, the last one and the first one of the next pass included."""
    first = min(stay, default=0)
    return [after - here for here, after in pairwise([*sorted(stay), first + num_blocks])] or [num_blocks]


def test_blocks_by_hand():
    assert spread(0, 28) == frozenset()
    assert spread(1, 5) == {2}
    assert spread(2, 8) == {2, 6}
    assert spread(3, 3) == {0, 1, 2}


def test_a_heap_at_the_start_is_not_even():
    assert max(gaps({0, 1, 2}, 12)) - min(gaps({0, 1, 2}, 12)) > 1


@pytest.mark.parametrize(
    ("placement", "on_device"),
    [
        (RESIDENT, 28),
        (Placement("sharded"), 28),
        (Placement("offloaded"), 28),
        (Placement("streamed"), 0),
        (Placement("streamed", 5), 5),
        (Placement("streamed", 99), 28),
    ],
    ids=str,
)
def test_blocks_on_the_device(placement, on_device):
    assert placement.blocks_on_device(28) == on_device
    assert placement.stays is (placement.kind in ("resident", "sharded"))
    assert placement.is_sharded is (placement.kind in ("sharded", "streamed"))


@pytest.mark.parametrize("kind", ["", "pinned", "Resident", None, 3])
def test_a_kind_that_does_not_exist(kind):
    with pytest.raises(UsageError, match="expected one of resident, sharded, offloaded, streamed"):
        Placement(kind)


def test_fewer_blocks_than_none():
    with pytest.raises(UsageError, match=r"\(--resident-blocks\) is -1: expected 0 or more"):
        Placement("streamed", -1)


@pytest.mark.parametrize("kind", ["resident", "sharded", "offloaded"])
def test_only_a_streamed_network_has_resident_blocks(kind):
    with pytest.raises(UsageError, match=f"resident_blocks is 4: only for streamed networks, not {kind}"):
        Placement(kind, 4)

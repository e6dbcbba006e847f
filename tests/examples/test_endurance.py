"""Cut the power of a board while its firmware writes variables, again and again.

The first boot of OVMF on a new store writes some twenty variables. Wherever it is cut, the next
boot must come up, and leave a store in which nothing is wrong.
"""

import random
import time

import pytest

CUTS = 2


@pytest.mark.hwflash_destructive
def test_store_survives_power_cuts(provisioned, power, variables):
    chance = random.Random(1)
    for _ in range(CUTS):
        power.on()
        wait(power, chance.uniform(0.5, 3.0))
        power.off()
    power.boot("Press ESC in|Shell>")
    power.off()
    variables.check()
    assert variables.get("BootOrder")


def wait(power, seconds):
    """Let the board run for some seconds of its own clock."""
    end = power.seconds() + seconds
    while power.seconds() < end:
        time.sleep(0.05)

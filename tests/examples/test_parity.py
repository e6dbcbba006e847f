"""Hold the variables of a board against OVMF: both boot once, then they must agree.

A board that fails is told apart variable by variable, not byte by byte; the reference may be
another build than the board has.
"""

from hwflash.testing import assert_same_variables

#: What this board may have otherwise: every variable of iSCSI.
IGNORE = ("Attempt*", "InitialAttemptOrder")


def test_board_boots_as_the_reference_does(provisioned, power, board, ovmf):
    power.boot("Press ESC in|Shell>")
    power.off()
    assert_same_variables(board, ovmf, ignore=IGNORE)

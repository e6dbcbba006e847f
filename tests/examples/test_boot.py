"""Program the board, switch it on, read its console until it is up, switch it off, look again."""

from hwflash.testing import assert_same


def test_board_comes_up(provisioned, power, console, board, image, variables):
    power.on()
    found = console.expect(["Press ESC in|Shell> ", "ASSERT|Exception Type"])
    assert found.index == 0, console.lines
    assert "EFI Internal Shell" in "\n".join(console.lines)
    power.off()

    variables.check()
    assert variables.get("BootOrder"), "the firmware found nothing to boot"
    assert_same(board, image, regions="code")

"""Program the board, switch it on, read its console until it is up, switch it off, look again."""

from hwflash.testing import assert_same


def test_board_comes_up(provisioned, power, console, board, image, variables):
    seen = power.boot("EFI Internal Shell", "Press ESC in|Shell>", timeout=60)
    assert seen.heard[-1].seconds > 0
    console.send("\r")  # do not wait for startup.nsh
    console.expect("Shell> ")
    console.send("ver\r")
    assert "UEFI" in console.expect(r"UEFI v\d+\.\d+.*").match[0]
    power.off()

    variables.check()
    assert variables.get("BootOrder"), "the firmware found nothing to boot"
    assert_same(board, image, regions="code")

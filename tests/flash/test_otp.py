"""Areas beside the memory that can be programmed once: three families, by their own commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import DieBus, Notes, session_over, small_chip

from hwflash.bus.spi import Transfer
from hwflash.chip import catalog
from hwflash.errors import ChipProtected, ChipStateUnknown, HwflashError, UsageError
from hwflash.jobs.otp import OtpOptions, lock_register, read_registers, write_register
from hwflash.units import KIB

#: Part, areas, bytes of one, which is used, and how a data sheet reads and locks that.
FAMILIES = {
    "MX25L12835F": (1, 512, 1, "03000000", None),
    "N25Q128A": (1, 64, 1, "4b00000000", "4b00004000"),
    "S25FL128S": (31, 32, 9, "4b00012000", "4b00001100"),
}


def bench(part: str) -> DieBus:
    chip = catalog.load().by_name(part).chip
    small = small_chip(
        128 * KIB, part=part, jedec_id=chip.jedec_id, status=chip.status, otp=chip.otp,
        otp_access=chip.otp_access, fail_flags=chip.fail_flags, protection=chip.protection,
    )  # fmt: skip
    return DieBus(small)


def by_data_sheet(bus: DieBus, part: str, command: str, length: int) -> bytes:
    macronix = part.startswith("MX")
    if macronix:
        bus.execute([Transfer(b"\xb1")])
    data = bus.execute([Transfer(bytes.fromhex(command), length)])[0]
    if macronix:
        bus.execute([Transfer(b"\xc1")])
    return data


@pytest.mark.parametrize("part", FAMILIES)
def test_read_write_lock(tmp_path: Path, part: str) -> None:
    count, size, number, reads, lock_byte = FAMILIES[part]
    bus, options = bench(part), OtpOptions(tmp_path)
    memory = bytes(bus.die.content)
    found = read_registers(session_over(bus))
    assert [(len(item.data), item.locked) for item in found] == [(size, False)] * count
    done = write_register(session_over(bus), number, 4, b"SN-0042", options, Notes())
    assert done.executed
    assert done.backup is not None
    assert done.backup.read_bytes() == b"\xff" * size
    expected = (b"\xff" * 4 + b"SN-0042").ljust(size, b"\xff")
    assert by_data_sheet(bus, part, reads, size) == expected
    # More bits may be cleared, none set.
    write_register(session_over(bus), number, 16, b"more", options, Notes())
    with pytest.raises(ChipProtected) as caught:
        write_register(session_over(bus), number, 4, b"SN-0043", options, Notes())
    assert caught.value.code == "otp.one-time"
    with pytest.raises(UsageError):
        write_register(session_over(bus), number, size - 1, b"xx", options, Notes())

    dry = OtpOptions(tmp_path, dry_run=True)
    assert not lock_register(session_over(bus), number, dry, Notes()).executed
    assert lock_register(session_over(bus), number, options, Notes()).executed
    if lock_byte is not None:  # that bit and no other
        expected_lock = {"N25Q128A": 0xFE, "S25FL128S": 0xFD}[part]
        assert by_data_sheet(bus, part, lock_byte, 1)[0] == expected_lock
    else:
        assert bus.execute([Transfer(b"\x2b", 1)])[0][0] & 0x02
    assert [item.locked for item in read_registers(session_over(bus))] == [
        at == number for at in range(1, count + 1)
    ]
    with pytest.raises(ChipProtected) as caught:
        write_register(session_over(bus), number, 20, b"\0", options, Notes())
    assert caught.value.code == "otp.locked"
    assert not lock_register(session_over(bus), number, options, Notes()).executed
    if count > 1:
        assert write_register(session_over(bus), number + 1, 0, b"free", options, Notes()).executed
    assert bytes(bus.die.content) == memory, "the memory itself is as it was"
    assert not bus.die.otp.entered


@pytest.mark.parametrize("part", FAMILIES)
def test_a_lock_that_nobody_asked_about_is_told_by_the_chip(tmp_path: Path, part: str) -> None:
    """The die is locked behind our back: the program fails with the family's own flag."""
    _, _, number, _, _ = FAMILIES[part]
    bus = bench(part)
    lock = {"MX25L12835F": "2f", "N25Q128A": "42000040fe", "S25FL128S": "42000011fd"}[part]

    def confirm(_words: str) -> bool:
        bus.execute([Transfer(b"\x06"), Transfer(bytes.fromhex(lock))])
        bus.clock.sleep(0.1)
        return True

    options = OtpOptions(tmp_path, confirm=confirm)
    with pytest.raises(ChipStateUnknown) as caught:
        write_register(session_over(bus), number, 0, b"late", options, Notes())
    assert caught.value.context.get("cause") in ("chip.program-failed", "chip.write-enable")
    assert not bus.die.otp.entered, "the memory answers again"
    assert read_registers(session_over(bus))[number - 1].locked


@pytest.mark.parametrize("part", FAMILIES)
def test_a_lock_that_is_not_taken(tmp_path: Path, part: str) -> None:
    bus = bench(part)
    bus.override = lambda op: b"" if op.write[:1] in (b"\x2f", b"\x42") else None
    with pytest.raises(HwflashError) as caught:
        lock_register(session_over(bus), FAMILIES[part][2], OtpOptions(tmp_path), Notes())
    assert caught.value.code == "protection.refused"

"""QEMU's own flash device as a flash device; its backing file and real firmware are witnesses."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from conftest import require, require_qemu_arm

from hwflash.bus.qtest import QemuProcess, find_program
from hwflash.chip.strict import SetBits
from hwflash.errors import ChipAbsent, ChipProtected, ImageError, ProgrammerError, UsageError
from hwflash.flash.image import ImageFlash
from hwflash.flash.pflash import PflashFlash, open_pflash
from hwflash.qemu.boot import Guest
from hwflash.qemu.machine import make_machine
from hwflash.uefi.find import find_stores
from hwflash.uefi.flashops import Erase, Flash, Operation, Program
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.rewrite import reclaim
from hwflash.uefi.services import VariableServices
from hwflash.uefi.window import Window
from hwflash.units import KIB, MIB

pytestmark = [pytest.mark.foreign, pytest.mark.slow]

GUID = UUID("8e3b7b34-5b1f-4e0a-9d0e-3f1a2b4c5d6e")
FOUR_GIB = 1 << 32


@pytest.fixture
def store(tmp_path: Path, ovmf: tuple[Path, Path], qemu: str) -> Path:
    """A copy of OVMF's variable store, 528 KiB."""
    assert qemu
    copy = tmp_path / "vars.fd"
    shutil.copyfile(ovmf[0], copy)
    return copy


def exercise(flash: PflashFlash, model: bytearray, block: int, rounds: int) -> None:
    """Random programs and erases, on the device and on what NOR flash would hold."""
    random = Random(len(model))
    for _ in range(rounds):
        if random.random() < 0.2:
            at = random.randrange(len(model) // block) * block
            flash.erase(at, block)
            model[at : at + block] = b"\xff" * block
        length = random.choice([1, 2, 3, 4, 5, 7, 60, 255, 256, 257, 2000])
        at = random.randrange(len(model) - length)
        data = random.randbytes(length)
        flash.program(at, data)
        old = int.from_bytes(model[at : at + length], "big")
        model[at : at + length] = (old & int.from_bytes(data, "big")).to_bytes(length, "big")
    flash.sync()
    assert flash.read(0, len(model)) == model


def test_the_flash_of_a_pc(store: Path) -> None:
    with open_pflash(store) as flash:
        assert flash.geometry.size == store.stat().st_size == 528 * KIB
        assert flash.geometry.page_size == 256
        assert [kind.size for kind in flash.geometry.regions[0].types] == [4 * KIB]
        model = bytearray(store.read_bytes())
        assert flash.read(0, len(model)) == model
        exercise(flash, model, 4 * KIB, 150)
        assert store.read_bytes() == model, "each change is in the file at once"
        assert flash.impossible, "random data asks for bits that are cleared"
    assert store.read_bytes() == model


def test_the_two_chips_of_virt(tmp_path: Path) -> None:
    require_qemu_arm()
    program = shutil.which("qemu-system-aarch64")
    require(program, "package qemu-system-arm")
    image, code = tmp_path / "vars.fd", tmp_path / "code.fd"
    for file in (image, code):
        with file.open("wb") as stream:
            stream.truncate(64 * MIB)
    words = ["-machine", "virt"]
    words += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"]
    words += ["-drive", f"if=pflash,unit=1,format=raw,file={image}"]
    machine = QemuProcess(str(program), words)
    try:
        flash = PflashFlash(machine, 64 * MIB)
        assert flash.geometry.size == 64 * MIB
        assert flash.geometry.page_size == 4 * KIB
        assert [kind.size for kind in flash.geometry.regions[0].types] == [256 * KIB]
        flash.erase(0, 256 * KIB)
        flash.erase(256 * KIB, 256 * KIB)
        model = bytearray(b"\xff" * 512 * KIB)
        exercise(flash, model, 256 * KIB, 60)
        with image.open("rb") as stream:
            assert stream.read(len(model)) == model

        # A read-only unit says so, and can be read afterwards.
        locked = PflashFlash(machine, 0)
        for attempt in (lambda: locked.erase(0, 256 * KIB), lambda: locked.store(0, b"\x01")):
            with pytest.raises(ChipProtected) as caught:
                attempt()
            assert caught.value.code.startswith("pflash.")
            assert locked.read(0, 8) == bytes(8)
        with pytest.raises(ChipAbsent):
            PflashFlash(machine, 1 << 30)  # RAM
    finally:
        machine.close()


def test_it_sets_bits_and_we_say_so(store: Path) -> None:
    with open_pflash(store) as flash:
        flash.erase(0, 4 * KIB)
        flash.store(5, b"\x12\x34")
        assert flash.impossible == []
        flash.store(5, b"\xed")  # QEMU: ED; a chip: 00
        assert flash.read(5, 2) == b"\xed\x34"
        assert flash.impossible == [SetBits(5, b"\x12", b"\xed")]
        flash.program(6, b"\xcb")  # as a flash device: what a chip would do
        assert flash.read(5, 2) == b"\xed\x00"
        assert flash.impossible[1:] == [SetBits(6, b"\x34", b"\xcb")]


def test_what_is_no_erase_block_or_address_is_refused(store: Path) -> None:
    with open_pflash(store) as flash:
        before = store.read_bytes()
        for address, length in ((1, 4096), (0, 4095), (0, 8192), (528 * KIB, 4096), (-4096, 4096)):
            with pytest.raises(UsageError):
                flash.erase(address, length)
        for address, length in ((-1, 1), (528 * KIB, 1), (528 * KIB - 1, 2)):
            with pytest.raises(UsageError):
                flash.program(address, bytes(length))
        assert flash.read(528 * KIB, 0) == b""
        assert store.read_bytes() == before
        flash.erase(0, 528 * KIB)
        assert store.read_bytes() == b"\xff" * 528 * KIB


def test_writes_from_outside_smm_are_ignored(store: Path) -> None:
    before = store.read_bytes()
    with pytest.raises(ChipAbsent) as caught, open_pflash(store, secure=True):
        pytest.fail("a secure unit does not listen to us")
    assert caught.value.code == "pflash.no-query"
    # The same by hand: erase, program, and reading goes on as if nothing had been.
    base = FOUR_GIB - len(before)
    for secure, changed in (("on", False), ("off", True)):
        words = ["-machine", "q35", "-drive", f"if=pflash,unit=0,format=raw,file={store}"]
        words += ["-global", f"driver=cfi.pflash01,property=secure,value={secure}"]
        machine = QemuProcess(find_program("qemu-system-x86_64"), words)
        try:
            steps = [(0x20, base), (0xD0, base), (0x40, base + 1), (0xAB, base + 1), (0xFF, base)]
            machine.execute([b"writeb %#x %#x" % (place, value) for value, place in steps])
            seen = base64.b64decode(machine.execute([b"b64read %#x 4" % base])[0])
        finally:
            machine.close()
        assert (seen == before[:4]) is not changed
        assert (store.read_bytes() == before) is not changed
    assert store.read_bytes()[:4] == b"\xff\xab\xff\xff"


def test_images_that_do_not_fit(tmp_path: Path, qemu: str) -> None:
    assert qemu
    with pytest.raises(ImageError), open_pflash(tmp_path / "none.fd"):
        pytest.fail("there is no file")
    odd = tmp_path / "odd.fd"
    odd.write_bytes(bytes(5000))
    with pytest.raises(ProgrammerError, match="multiple of 0x1000") as caught, open_pflash(odd):
        pytest.fail("5000 bytes are no flash")
    assert caught.value.code == "programmer.qemu-start"


def carry_out(operations: list[Operation], flash: Flash) -> None:
    for step in operations:
        if isinstance(step, Program):
            flash.program(step.address, step.data)
        elif isinstance(step, Erase):
            flash.erase(step.address, step.length)
        else:
            assert flash.read(step.address, len(step.data)) == step.data


def planned(image: bytes) -> Nvram:
    """Variables set and replaced, and two reclaims, one of them through FTW as edk2 does it."""
    (found,) = find_stores(image)
    nvram = Nvram(Window(image), found)
    services = VariableServices(nvram)
    for number in range(20):
        services.set_variable("Changing", GUID, 7, bytes([number]) * 100)
    services.set_variable("Kept", GUID, 7, b"kept")
    services.set_variable("Gone", GUID, 7, b"gone")
    reclaim(nvram, order="edk2")
    services.set_variable("Gone", GUID, 0, b"")
    reclaim(nvram)
    return nvram


def test_variable_services_and_ftw_run_on_it_and_ovmf_agrees(
    store: Path, tmp_path: Path, ovmf: tuple[Path, Path], qemu: str
) -> None:
    twin = tmp_path / "twin.fd"
    shutil.copyfile(store, twin)
    with open_pflash(store) as flash:
        nvram = planned(flash.read(0, flash.geometry.size))
        assert sum(isinstance(step, Erase) for step in nvram.operations) > 64
        carry_out(nvram.operations, flash)
        assert flash.impossible == []
        assert flash.read(0, flash.geometry.size) == nvram.flash.window().data
    image = ImageFlash(twin, writable=True)
    carry_out(nvram.operations, image)
    image.sync()
    image.close()
    assert twin.read_bytes() == store.read_bytes() == nvram.flash.window().data

    machine = make_machine(str(ovmf[1]), str(ovmf[0]), str(store))
    with Guest(machine, program=qemu) as guest:
        found = guest.wait_for_shell().variables()
    ours = {item.name: (item.data, item.attributes) for item in found if item.guid == GUID}
    assert ours == {"Changing": (b"\x13" * 100, 7), "Kept": (b"kept", 7)}

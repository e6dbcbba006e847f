"""The driver on chips that are not one die with pages: bytes, words, stacks, other kinds."""

import itertools
from dataclasses import replace

import pytest
from support import DieBus, Rig, large_chip, pattern, small_chip

from hwflash.bus.spi import Transfer, Wait
from hwflash.chip import catalog, dumps
from hwflash.chip.model import (
    Addressing,
    Chip,
    DieAccess,
    Dies,
    Duration,
    EnterFourByte,
    FailFlags,
    Programming,
)
from hwflash.errors import ChipAbsent, ChipError, ChipUnsupported, ProgrammerLost
from hwflash.flash.identify import identify, read_id
from hwflash.flash.nor import NorFlash
from hwflash.flash.plan import Window, make_plan
from hwflash.units import KIB, MIB, Range

BYTES = {"page_size": 1, "page_program": Duration(7e-6, 10e-6)}
STYLES = [Programming.BYTE, Programming.AAI_BYTE, Programming.AAI_WORD]


def byte_chip(how: Programming, **changes: object) -> Chip:
    return small_chip(programming=how, **BYTES, **changes)


# --- bytes and words ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", STYLES)
@pytest.mark.parametrize("timing", ["datasheet", "max"])
def test_bytes_and_words_at_odd_places(how: Programming, timing: str) -> None:
    chip = byte_chip(how)
    bus = DieBus(chip, timing=timing)
    flash = NorFlash(bus, chip)
    memory = bytearray(b"\xff" * chip.size)
    places = [(1, 3), (7, 1), (10, 700), (0x1001, 255), (chip.size - 5, 5), (0x2000, 256)]
    for address, length in places:
        data = pattern(length, address)
        flash.program(address, data)
        memory[address : address + length] = data
    assert bus.die.content == memory
    flash.program(10, bytes(300))  # over what stands there
    memory[10:310] = bytes(300)
    assert bus.die.content == memory
    assert flash.pages.retries == 0
    assert flash.read(0, chip.size) == memory


def test_words_go_by_auto_address_increment_in_one_batch() -> None:
    chip = byte_chip(Programming.AAI_WORD)
    bus = DieBus(chip)
    flash = NorFlash(bus, chip)
    batches: list[int] = []
    whole = bus.execute
    bus.execute = lambda ops: batches.append(len(ops)) or whole(ops)  # type: ignore[method-assign]
    flash.program(0, pattern(4096))
    assert len(batches) <= 3, "what was there, programs, status and proof"
    sent = [op.write for op in bus.sent if isinstance(op, Transfer)]
    assert sum(command[0] == 0xAD for command in sent) >= 2000
    assert sum(command[0] == 0x02 for command in sent) <= 16 * 2
    waits = [op.seconds for op in bus.sent if isinstance(op, Wait)]
    assert min(waits) >= chip.page_program.maximum, "never less than the chip may take"


@pytest.mark.parametrize("how", [Programming.BYTE, Programming.AAI_WORD])
def test_a_chip_slower_than_its_data_sheet(how: Programming) -> None:
    """Single bytes are sent again; a sequence that went astray is a failure, not a silence."""
    chip = byte_chip(how)
    slow = replace(chip, page_program=Duration(15e-6, 15e-6))
    bus = DieBus(slow)
    flash = NorFlash(bus, chip)
    if how is Programming.AAI_WORD:
        with pytest.raises(ChipError) as caught:
            flash.program(0, pattern(600))
        assert caught.value.code == "chip.program-failed"
        assert bus.die.aai is None, "it is not left in auto address increment"
        return
    flash.program(0, pattern(600))
    assert bus.die.content[:600] == pattern(600)
    assert flash.pages.retries > 0


def test_a_locked_chip_refuses_bytes() -> None:
    chip = catalog.load().by_name("SST25VF040B").chip
    flash = NorFlash(DieBus(chip), chip)
    with pytest.raises(ChipError) as caught:
        flash.program(0, b"\0\1")
    assert caught.value.code == "chip.program-refused"


def test_a_plan_counts_bytes() -> None:
    chip = byte_chip(Programming.AAI_WORD)
    flash = NorFlash(DieBus(chip), chip)
    window = Window(0, b"\xff" * 4096, pattern(4096))
    plan = make_plan(chip.part, flash.geometry, [window])
    assert [step.range for step in plan.steps] == [Range(0, 4096)]
    before = flash.bus.clock.now()
    flash.program(0, window.new)
    spent = flash.bus.clock.now() - before
    assert 0.5 * spent < plan.seconds < spent * 1.1


def test_words_through_a_programmer() -> None:
    chip = byte_chip(Programming.AAI_WORD)
    bench = Rig(chip)
    before, transfers = bench.sim.clock.now(), bench.sim.stats["usb_out"]
    bench.flash.program(3, pattern(16 * KIB))
    assert bench.sim.clock.now() - before < 8 * KIB * 15e-6, "hardly more than the chip takes"
    assert bench.sim.stats["usb_out"] - transfers < 10
    assert bench.content[3 : 3 + 16 * KIB] == pattern(16 * KIB)
    bench.close()


# --- stacks -------------------------------------------------------------------------------------


def stack(access: DieAccess, **changes: object) -> Chip:
    erase = (0xC4, Duration(0.2, 0.5)) if access is DieAccess.ADDRESS else None
    chip = small_chip(256 * KIB, dies=Dies(4, access, erase), chip_erase=None)
    return replace(chip, **changes)


@pytest.mark.parametrize("access", DieAccess)
def test_across_the_dies_of_a_stack(access: DieAccess) -> None:
    chip = stack(access)
    bus = DieBus(chip)
    flash = NorFlash(bus, chip)
    bus.die.content[:] = bytes(chip.size)
    for address in (60 * KIB, 64 * KIB, 128 * KIB, 252 * KIB):
        flash.erase(address, 4 * KIB)
    memory = bytearray(chip.size)
    for address in (60 * KIB, 64 * KIB, 128 * KIB, 252 * KIB):
        memory[address : address + 4 * KIB] = b"\xff" * 4 * KIB
    assert bus.die.content == memory
    flash.program(60 * KIB, pattern(8 * KIB))
    memory[60 * KIB : 68 * KIB] = pattern(8 * KIB)
    assert bus.die.content == memory
    assert flash.read(0, chip.size) == memory
    assert flash.read_pieces([Range(64 * KIB - 8, 16), Range(0, 4)]) == [
        bytes(memory[64 * KIB - 8 : 64 * KIB + 8]), bytes(4),
    ]  # fmt: skip
    flash.erase(0, chip.size)
    assert bus.die.content.count(0xFF) == chip.size
    # Blocks, where C4h erases a die: the whole chip goes by dies.
    erased = dict(flash.erases)
    assert erased[64 * KIB] == 4
    if access is DieAccess.ADDRESS:
        assert sum(command.startswith("c4") for command in bus.commands()) == 4
    flash.close()
    assert bus.die.active == 0


def test_a_die_erase_among_4_byte_commands() -> None:
    """C4h has no 4-byte command: the mode is entered for it, and left."""
    dies = Dies(2, erase=(0xC4, Duration(10.0, 20.0)))
    chip = large_chip(
        Addressing(enter=EnterFourByte.WREN_B7, opcodes=True), dies=dies, chip_erase=None
    )
    bus = DieBus(chip)
    flash = NorFlash(bus, chip)
    bus.die.content[0] = bus.die.content[31 * MIB] = 0
    flash.erase(16 * MIB, 16 * MIB)
    assert (bus.die.content[0], bus.die.content[31 * MIB]) == (0, 0xFF)
    assert not bus.die.four_byte
    sent = [command for command in bus.commands() if command != "05"]
    assert sent == ["06", "b7", "04", "06", "c401000000", "06", "e9", "04"]
    bus.die.nonvolatile = 0xFFFE  # a chip that powers up in the mode stays in it
    bus.die.restart()
    bus.override = lambda op: b"\xfe\xff" if op.write == b"\xb5" else None
    other = NorFlash(bus, replace(chip, fail_flags=FailFlags.MICRON_FSR))
    bus.override = lambda op: b"\x80" if op.write == b"\x70" else None
    other.erase(16 * MIB, 16 * MIB)
    assert bus.die.four_byte


def test_the_planner_erases_a_die_where_that_is_cheaper() -> None:
    chip = small_chip(
        512 * KIB, dies=Dies(4, erase=(0xC4, Duration(0.2, 0.5))), chip_erase=None
    )  # fmt: skip
    flash = NorFlash(DieBus(chip), chip)
    die = 128 * KIB
    window = Window(die, bytes(die), pattern(die))
    steps = make_plan(chip.part, flash.geometry, [window]).steps
    assert [step.range for step in steps if step.kind == "erase"] == [Range(die, die)]
    # A block that stays: the other is erased alone, and nothing of the die is lost.
    kept = Window(die, bytes(die), bytes(64 * KIB) + pattern(64 * KIB))
    steps = make_plan(chip.part, flash.geometry, [kept]).steps
    assert [step.range for step in steps if step.kind == "erase"] == [
        Range(die + 64 * KIB, 64 * KIB)
    ]


def test_every_die_enters_the_4_byte_mode_and_leaves_it() -> None:
    chip = large_chip(
        Addressing(enter=EnterFourByte.B7), dies=Dies(2, DieAccess.SELECT), chip_erase=None
    )
    chip = replace(chip, size=64 * MIB, erase=(replace(chip.erase[0], length=64 * MIB),))
    bus = DieBus(chip)
    flash = NorFlash(bus, chip)
    assert bus.die.four_byte
    assert bus.die.parked[1]["four_byte"]
    flash.program(48 * MIB, b"\1\2")
    assert bus.die.content[48 * MIB : 48 * MIB + 2] == b"\1\2"
    flash.close()
    assert not bus.die.four_byte
    assert not bus.die.parked[1]["four_byte"]


def test_a_die_selected_by_somebody_else_is_not_believed() -> None:
    chip = stack(DieAccess.SELECT)
    bus = DieBus(chip)
    bus.die.content[0], bus.die.content[128 * KIB] = 1, 2
    bus.execute([Transfer(b"\xc2\x02")])
    assert NorFlash(bus, chip).read(0, 1) == b"\1"


def test_the_status_of_the_die_that_works_is_asked() -> None:
    """Nobody selected it: the register says ready while the erase goes on."""
    chip = stack(DieAccess.STATUS)
    bus = DieBus(chip)
    flash = NorFlash(bus, chip)
    flash.erase(128 * KIB, 4 * KIB)
    assert bus.clock.now() >= 0.045
    assert bus.die.operation is None


def test_a_mode_the_chip_powers_up_in_is_left_as_it_is() -> None:
    chip = large_chip(Addressing(enter=EnterFourByte.WREN_B7), fail_flags=FailFlags.MICRON_FSR)
    for nonvolatile, wide in ((0xFFFF, False), (0xFFFE, True)):
        bus = DieBus(chip)
        bus.die.nonvolatile = nonvolatile
        bus.die.restart()
        flash = NorFlash(bus, chip)
        flash.program(20 * MIB, b"\7")
        assert bus.die.content[20 * MIB] == 7
        flash.close()
        assert bus.die.four_byte == wide


# --- who answers --------------------------------------------------------------------------------


def test_a_chip_left_in_auto_address_increment_is_heard_again() -> None:
    chip = replace(catalog.load().by_name("SST25VF016B").chip)
    bus = DieBus(chip)
    bus.die.status.live[1] = 0
    for command in ("06", "ad0000001122"):
        bus.execute([Transfer(bytes.fromhex(command)), Wait(1e-4)])
    assert bus.die.aai is not None
    assert read_id(bus)[:3].hex() == "bf2541"
    assert bus.die.aai is None


@pytest.mark.slow
def test_the_cable_is_pulled_in_auto_address_increment() -> None:
    """The chip keeps its supply, and hears nothing but data until write disable."""
    chip = catalog.load().by_name("SST25VF040B").chip
    caught_in_it = 0
    for transfers in (3, 4):
        bench = Rig(chip)
        bench.sim.die.status.live[1] = 0
        deliver = bench.sim.backend.bulk_write
        sent = itertools.count(1)

        def pull(*words: object, bench=bench, deliver=deliver, sent=sent, last=transfers) -> int:
            written = deliver(*words)
            if next(sent) == last:
                bench.sim.unplug()
            return written

        bench.sim.backend.bulk_write = pull
        with pytest.raises(ProgrammerLost):
            bench.flash.program(0, pattern(32 * KIB))
        bench.sim.backend.bulk_write = deliver
        caught_in_it += bench.sim.die.aai is not None
        bench.bus.close()
        bench.sim.plug()
        bench.open()
        assert identify(bench.bus, lambda _: [chip]).jedec_id.hex() == "bf258d"
        bench.flash.program(0, pattern(32 * KIB))
        assert bench.content[: 32 * KIB] == pattern(32 * KIB)
        bench.close()
    assert caught_in_it


def test_parts_that_know_90h_only() -> None:
    chip = catalog.load().by_name("SST25VF512A").chip
    found = identify(DieBus(chip), lambda _: [chip])
    assert found.jedec_id.hex() == "bf48bf"
    assert found.chip.size == 64 * KIB
    silent = DieBus(chip, override=lambda op: b"\xff" * op.read)
    with pytest.raises(ChipAbsent):
        read_id(silent)


def candidates(jedec_id: bytes) -> list[Chip]:
    return [part.chip for part in catalog.load().by_jedec_id(jedec_id)]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("00efaa21", "chip.nand"), ("ffefaa21", "chip.nand"), ("efab21", "chip.nand"),
        ("00c212c2", "chip.nand"), ("c8d1c8d1", "chip.nand"), ("002c24", "chip.nand"),
        ("1f2600", "chip.dataflash"), ("1f240001", "chip.dataflash"),
    ],
)  # fmt: skip
def test_other_kinds_are_refused_whatever_is_insisted_on(answer: str, code: str) -> None:
    said = bytes.fromhex(answer)

    def speak(op: Transfer) -> bytes:
        return (said * 4)[: op.read] if op.write[0] == 0x9F else b"\xff" * op.read

    chip = small_chip()
    for insist in (None, chip):
        with pytest.raises(ChipUnsupported) as caught:
            identify(DieBus(chip, override=speak), candidates, override=insist)
        assert caught.value.code == code


def test_an_erased_value_of_00_is_refused_whatever_is_insisted_on() -> None:
    dump = dumps.load("CYRS17B512")
    chip = large_chip(Addressing(enter=EnterFourByte.B7), jedec_id=dump.jedec_id)
    for insist in (None, chip):
        with pytest.raises(ChipUnsupported) as caught:
            identify(DieBus(chip, sfdp=dump.sfdp), lambda _: [], override=insist)
        assert caught.value.code == "chip.erased-value"
        assert caught.value.context["erased_value"] == 0


def test_tables_of_one_die_describe_the_stack() -> None:
    part = catalog.load().by_name("W25M512JV").chip
    tables = dumps.load("W25Q256JV").sfdp
    found = identify(DieBus(part, sfdp=tables), lambda _: [part])
    assert found.chip.size == 64 * MIB
    assert found.chip.dies == part.dies
    assert found.resolved.conflicts == ()
    assert found.chip.erase[-1].start + found.chip.erase[-1].length == 64 * MIB


def test_pages_of_2_kib() -> None:
    chip = small_chip(page_size=2048)
    bus = DieBus(chip)
    flash = NorFlash(bus, chip)
    flash.program(100, pattern(9000))
    assert bus.die.content[100:9100] == pattern(9000)
    assert flash.pages.programs == 5


def test_parameter_sectors_where_the_chip_is_set_to_have_them() -> None:
    """TBPARM: the 4 KiB sectors of an S25FL128S are at its top."""
    chip = catalog.load().by_name("S25FL128S").chip
    for register, end in ((0x00, 0), (0x04, chip.size - 128 * KIB)):
        bus = DieBus(chip)
        bus.die.status.stored[2] = register
        bus.die.restart()
        found = identify(bus, lambda _: [chip]).chip
        small = [region.start for region in found.erase if region.types[0].size == 4 * KIB]
        assert small == [end]
        bus.die.content[end : end + 8 * KIB] = bytes(8 * KIB)
        flash = NorFlash(bus, found)
        flash.erase(end, 4 * KIB)
        assert bus.die.content[end : end + 8 * KIB] == b"\xff" * 4 * KIB + bytes(4 * KIB)
        other = chip.size - 64 * KIB if end == 0 else 0
        bus.die.content[other] = 0
        bus.execute([Transfer(b"\x06"), Transfer(b"\x20" + other.to_bytes(3, "big"))])
        assert bus.die.content[other] == 0, "20h works among the 4 KiB sectors alone"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "third", "small"),
    [(0x00, 0, [(0, 128)]), (0x04, 0, [(-128, 128)]), (0x40, 0, [(0, 64), (-64, 64)]), (0, 8, [])],
)
def test_parameter_sectors_at_either_end_or_both(
    first: int, third: int, small: list[tuple[int, int]]
) -> None:
    """SEMPER: the map is asked for, and the die erases by the bits, not by the map."""
    part = catalog.load().by_name("S25HS01GT")
    bus = DieBus(part.chip, sfdp=dumps.load("S25HS01GT-model").sfdp)
    bus.die.configuration.any_registers.update({0x800002: first, 0x800004: third})
    found = identify(bus, lambda _: [part.chip]).chip
    size = found.size
    assert [
        (region.start, region.length) for region in found.erase if region.types[0].size == 4 * KIB
    ] == [(place * KIB % size, length * KIB) for place, length in small]
    flash = NorFlash(bus, found)
    # The last bytes of the low region and the first of the one behind it, and at the top alike.
    for address in (0, 60 * KIB, 64 * KIB, 128 * KIB, size - 130 * KIB, size - 60 * KIB):
        block = flash.geometry.blocks_at(address)[0].range
        around = Range(max(block.address - 16, 0), block.length + 32)
        around = Range(around.address, min(around.end, size) - around.address)
        bus.die.content[around.address : around.end] = bytes(around.length)
        flash.erase(block.address, block.length)
        inside = bus.die.content[block.address : block.end]
        assert inside.count(0xFF) == block.length, block
        outside = around.length - block.length
        assert bus.die.content[around.address : around.end].count(0) == outside, block
        bus.die.content[around.address : around.end] = b"\xff" * around.length

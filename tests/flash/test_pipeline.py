import pytest
from support import DieBus, RigFactory, failure, pattern, small_chip

from hwflash.bus.spi import Transfer
from hwflash.chip.commands import CommandSet
from hwflash.chip.model import Duration, FailFlags, ProtectionLayout, ProtectionStyle, RegisterBit
from hwflash.errors import ChipError, ChipProtected, ChipTimeout
from hwflash.flash.nor import NorFlash
from hwflash.flash.pipeline import (
    ATTEMPTS,
    MAXIMUM_MARGIN,
    AdaptiveWait,
    Page,
    PageProgrammer,
    StatusPoller,
)
from hwflash.sim.faults import Faults
from hwflash.units import KIB

SIZE = 128 * KIB
DATA = pattern(SIZE)


def programmer(bus: DieBus, chip) -> PageProgrammer:
    return PageProgrammer(bus, CommandSet.choose(chip, bus.frequency))


@pytest.mark.parametrize(
    ("timing", "faults", "wait"),
    [
        ("datasheet", "", "clock"), ("typical", "", "clock"), ("max", "", "clock"),
        ("typical", "slow=0.2", "clock"), ("typical", "slow=1", "clock"),
        ("typical", "slow=0.2", "timer"), ("max", "", "timer"),
    ],
)  # fmt: skip
def test_every_page_arrives_whatever_it_takes(rig: RigFactory, timing, faults, wait) -> None:
    bench = rig(timing=timing, faults=faults, bus={"timer_waits": wait == "timer"})
    bench.flash.program(0, DATA)
    assert bench.content == DATA
    pages = bench.flash.pages
    assert pages.programs >= SIZE // 256
    assert pages.programs == SIZE // 256 + pages.retries
    if timing == "datasheet":
        assert pages.retries == 0
    if "slow" in faults or timing == "max":
        assert pages.retries > 0
    # Every page was programmed once: the die counts what it took, not what was sent.
    assert bench.sim.die.primitives == SIZE // 256


def test_done_tells_every_page_once(rig: RigFactory) -> None:
    bench = rig(timing="typical", faults="slow=0.3")
    pages = bench.flash.split(0, DATA)
    told: list[Page] = []
    bench.flash.program_pages(pages, told.extend)
    assert sorted(told, key=lambda page: page.address) == pages
    assert bench.content == DATA


def test_blank_chip_programming_keeps_the_speed_bar(rig: RigFactory) -> None:
    """At most 1.20 x (wire + typical page-program time), and few round trips."""
    bench = rig(small_chip(1024 * KIB), timing="typical")
    data = pattern(1024 * KIB)
    start, trips = bench.sim.clock.now(), bench.bus.stats.usb_out
    bench.flash.program(0, data)
    pages = len(data) // 256
    assert bench.sim.clock.now() - start <= 1.20 * pages * (260 * 8 / 30e6 + 0.0004)
    assert bench.bus.stats.usb_out - trips <= 2100 * len(data) // (16 << 20) + 20


@pytest.mark.parametrize("primitive", [1, 2, 7, 300])
def test_a_chip_that_never_gets_ready(rig: RigFactory, primitive: int) -> None:
    bench = rig(faults=f"never_ready={primitive}")
    start = bench.sim.clock.now()
    with pytest.raises(ChipTimeout) as caught:
        bench.flash.program(0, DATA)
    assert failure(caught.value) == ("chip.timeout", 4)
    assert caught.value.context["address"] == (primitive - 1) * 256, "the page that hangs"
    assert caught.value.context["limit"] == MAXIMUM_MARGIN * 0.003
    # All pages of the batch have passed before anyone looks, then the limit counts.
    assert bench.sim.clock.now() - start < 2 * 256 * 0.0006 + MAXIMUM_MARGIN * 0.003 + 0.1


def test_an_erase_that_never_ends(rig: RigFactory) -> None:
    bench = rig(faults="never_ready=1")
    start = bench.sim.clock.now()
    with pytest.raises(ChipTimeout, match="4096-byte erase at 0x003000") as caught:
        bench.flash.erase(0x3000, 0x1000)
    assert caught.value.context["address"] == 0x3000
    assert 0.8 < bench.sim.clock.now() - start < 1.0


def test_a_computer_that_sleeps_does_not_make_a_chip_late() -> None:
    """The chip was asked before a long pause; it must be asked again before it is blamed."""
    chip = small_chip()
    answers = [b"\x03", b"\x00"]

    def busy_once(op: Transfer) -> bytes | None:
        if op.write != b"\x05":
            return None
        bus.clock.sleep(3600)
        return answers.pop(0)

    bus = DieBus(chip, override=busy_once)
    StatusPoller(bus, chip).wait_ready(0.003, 0.0, "page program", 0)
    assert answers == []


@pytest.mark.parametrize("stuck", [b"\xff", b"\x00"])
def test_a_chip_that_dies_in_the_middle(stuck: bytes) -> None:
    chip, seen = small_chip(), [0]

    def dead(op: Transfer) -> bytes | None:
        seen[0] += op.write[:1] == b"\x02"
        return stuck * op.read if seen[0] > 40 else None

    bus = DieBus(chip, override=dead)
    with pytest.raises(ChipError) as caught:
        programmer(bus, chip).program(NorFlash(bus, chip).split(0, DATA))
    code = "chip.timeout" if stuck == b"\xff" else "chip.program-refused"
    assert failure(caught.value) == (code, 4)
    assert bus.clock.now() < 60
    # the 40 pages before are there
    assert bus.die.content[: 40 * 256] == DATA[: 40 * 256]


class EarlyReady(DieBus):
    """WIP is cleared a moment before WEL, and what is sent in between is lost."""

    GAP = 50e-6

    def __init__(self, chip) -> None:
        super().__init__(chip, override=self._gap)
        self.ended = -1.0
        self.skipped = 0

    def _gap(self, op: Transfer) -> bytes | None:
        die = self.die
        running = die.operation
        if running is not None and self.clock.now() >= running.end:
            self.ended = running.end
            die.busy()
        if running is None and not 0 <= self.clock.now() - self.ended < self.GAP:
            return None
        if self.clock.now() - self.ended >= self.GAP or die.operation is not None:
            return None
        if op.write[:1] == b"\x05":
            return b"\x02" * op.read  # ready, and a WEL that is about to go
        if op.write[:1] == b"\x02":
            self.skipped += 1
        return b"\xff" * op.read


def test_a_stale_write_enable_latch_proves_nothing() -> None:
    chip = small_chip()
    bus = EarlyReady(chip)
    target = programmer(bus, chip)
    # The status after the wait falls into the moment in which only WIP is gone.
    target.wait.seconds = 0.0004 + 1e-6
    target.program(NorFlash(bus, chip).split(0, DATA[: 32 * KIB]))
    assert bus.skipped > 0, "the case did happen"
    assert bus.die.content[: 32 * KIB] == DATA[: 32 * KIB]


def test_write_enable_that_is_never_taken() -> None:
    chip = small_chip()
    bus = DieBus(chip, override=lambda op: b"" if op.write == b"\x06" else None)
    target = programmer(bus, chip)
    with pytest.raises(ChipError, match=f"ready {ATTEMPTS} times") as caught:
        target.program([Page(0x200, b"\x12\x34"), Page(0x300, b"\x56")])
    assert failure(caught.value) == ("chip.program-refused", 4)
    assert caught.value.context["address"] == 0x200
    assert bus.die.primitives == 0
    with pytest.raises(ChipProtected) as refused:
        NorFlash(bus, chip).erase(0, 4096)
    assert refused.value.code == "chip.write-enable"
    assert refused.value.exit_code == 5


def test_a_page_that_is_there_already_is_not_programmed_again() -> None:
    """A lost status byte: the page is read back and found right."""
    chip = small_chip()
    asked = [0]

    def blurred(op: Transfer) -> bytes | None:
        if op.write != b"\x05":
            return None
        asked[0] += 1
        return b"\x00" if asked[0] == 3 else None  # the status before page 2

    bus = DieBus(chip, override=blurred)
    target = programmer(bus, chip)
    target.program([Page(n * 256, b"\x11") for n in range(4)])
    assert bus.die.primitives == 4
    assert target.retries == 0
    assert [bus.die.content[n * 256] for n in range(4)] == [0x11] * 4


# --- fail flags -------------------------------------------------------------------------------

FLAGS = [
    (FailFlags.SPANSION_SR1, b"\x30"), (FailFlags.MICRON_FSR, b"\x50"),
    (FailFlags.MACRONIX_SCUR, None),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "clear"), FLAGS)
def test_a_failed_erase_is_reported_and_cleared(flags: FailFlags, clear: bytes | None) -> None:
    chip = small_chip(fail_flags=flags)
    bus = DieBus(chip, faults=Faults(fail=1))
    flash = NorFlash(bus, chip)
    with pytest.raises(ChipError) as caught:
        flash.erase(0x2000, 0x1000)
    assert failure(caught.value) == ("chip.erase-failed", 4)
    assert caught.value.context["address"] == 0x2000
    sent = [op.write for op in bus.sent if isinstance(op, Transfer)]
    assert (clear in sent) == (clear is not None)
    flash.erase(0x2000, 0x1000)  # the flags are gone: the next one is not blamed


@pytest.mark.parametrize(("flags", "clear"), FLAGS)
@pytest.mark.parametrize("number", [1, 5, 16])
def test_a_failed_page_is_reported_with_its_address(flags, clear, number: int) -> None:
    chip = small_chip(fail_flags=flags)
    bus = DieBus(chip, faults=Faults(fail=number))
    flash = NorFlash(bus, chip)
    if flags is FailFlags.MACRONIX_SCUR and number < 16:
        # Cleared by the next page that goes well: left to verification.
        flash.program(0, DATA[: 16 * 256])
        assert bus.die.content[: 16 * 256] != DATA[: 16 * 256]
        return
    with pytest.raises(ChipError) as caught:
        flash.program(0, DATA[: 16 * 256])
    assert failure(caught.value) == ("chip.program-failed", 4)
    assert caught.value.context["address"] == (number - 1) * 256
    sent = [op.write for op in bus.sent if isinstance(op, Transfer)]
    assert (clear in sent) == (clear is not None)
    flash.program(0, DATA[: 16 * 256])
    assert bus.die.content[: 16 * 256] == DATA[: 16 * 256]


def test_without_fail_flags_nothing_is_asked(rig: RigFactory) -> None:
    chip = small_chip()
    bus = DieBus(chip, faults=Faults(fail=1))
    NorFlash(bus, chip).program(0, b"\x55" * 256)
    assert not {"70", "2b", "50", "30"} & {command[:2] for command in bus.commands()}


def test_a_dead_bus_is_no_spansion_failure() -> None:
    chip = small_chip(fail_flags=FailFlags.SPANSION_SR1)
    bus = DieBus(chip, override=lambda op: b"\xff" * op.read)
    with pytest.raises(ChipTimeout):
        StatusPoller(bus, chip).wait_ready(0.003, 0.0, "x", 0)


@pytest.mark.parametrize("flags", [FailFlags.SPANSION_SR1, FailFlags.MICRON_FSR])
def test_protected_pages_raise_the_fail_flag(flags: FailFlags) -> None:
    protection = ProtectionLayout(
        style=ProtectionStyle.BP, bp=(RegisterBit(1, 2), RegisterBit(1, 3)), unit=64 * KIB
    )
    chip = small_chip(fail_flags=flags, protection=protection)
    bus = DieBus(chip)
    bus.die.status.live[1] = bus.die.status.stored[1] = 0x04  # the upper 64 KiB
    flash = NorFlash(bus, chip)
    with pytest.raises(ChipError) as caught:
        flash.program(64 * KIB - 512, DATA[:1024])
    assert failure(caught.value) == ("chip.program-failed", 4)
    assert caught.value.context["address"] == 64 * KIB


# --- the wait ---------------------------------------------------------------------------------


def converge(cost, windows: int = 400) -> AdaptiveWait:
    """``cost``: seconds a proven page takes at a wait."""
    wait = AdaptiveWait(0.0004, 0.003)
    for _ in range(windows):
        wait.observe(256, 256 * cost(wait.seconds))
        wait.observe(256, 256 * cost(wait.seconds))
    return wait


@pytest.mark.parametrize("best", [0.00025, 0.0004, 0.0006, 0.0015])
def test_the_wait_settles_near_the_cheapest(best: float) -> None:
    """Below the best wait pages are skipped and cost more, above it they wait too long."""
    found = converge(lambda wait: wait if wait >= best else best * (best / wait) ** 2)
    assert found.seconds == pytest.approx(best, rel=0.11)


def test_the_wait_goes_on_trying_after_a_step_that_did_not_pay() -> None:
    wait = AdaptiveWait(0.0004, 0.003)
    tried = set()
    for _ in range(200):
        tried.add(round(wait.seconds, 7))
        wait.observe(
            AdaptiveWait.WINDOW, AdaptiveWait.WINDOW * (1 + abs(wait.seconds - 0.00042) * 1e3)
        )
    assert len(tried) == 3, "the best, one step up, one step down"


def test_the_wait_follows_a_chip_that_changes() -> None:
    wait = AdaptiveWait(0.0004, 0.003)
    for best in (0.0006, 0.0003):
        for _ in range(600):
            cost = wait.seconds if wait.seconds >= best else best * (best / wait.seconds) ** 2
            wait.observe(512, 512 * cost)
        assert wait.seconds == pytest.approx(best, rel=0.11)


def test_the_wait_keeps_within_its_limits() -> None:
    assert converge(lambda wait: 1 / wait).seconds == pytest.approx(0.003, rel=0.06)
    assert converge(lambda wait: wait).seconds == pytest.approx(0.0002, rel=0.06)
    for cost in (lambda wait: 1 / wait, lambda wait: wait):
        wait = AdaptiveWait(0.0004, 0.003)
        for _ in range(300):
            wait.observe(512, 512 * cost(wait.seconds))
            assert 0.0002 <= wait.seconds <= 0.003
    assert AdaptiveWait(0.002, 0.001).seconds == pytest.approx(0.0021)


def test_a_short_batch_teaches_nothing() -> None:
    wait = AdaptiveWait(0.0004, 0.003)
    wait.observe(AdaptiveWait.WINDOW - 1, 1.0)
    assert wait.seconds == 0.0004 * AdaptiveWait.START


def test_the_wait_learns_on_a_quick_chip(rig: RigFactory) -> None:
    """A chip twice as quick as its data sheet is programmed in less than its typical time."""
    bench = rig(small_chip(page_program=Duration(0.00025, 0.003)))
    flash = NorFlash(bench.bus, small_chip())  # what is known: 0.4 ms
    start, seconds = flash.pages.wait.seconds, []
    for _ in range(16):
        bench.content[:] = b"\xff" * SIZE
        before = bench.sim.clock.now()
        flash.program(0, DATA)
        seconds.append(bench.sim.clock.now() - before)
        assert bench.content == DATA
    assert flash.pages.wait.seconds < 0.8 * start
    assert seconds[-1] < 0.85 * seconds[0]

"""What a user is told when something goes wrong, and with which exit code.

An error carries facts; this module turns its code into whose fault it probably is and the
command that helps, and says whether the chip was changed.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from hwflash.errors import ChipStateUnknown, HwflashError, Interrupted

INTERNAL: Final = 70
INTERRUPTED: Final = 130
#: Exit codes that promise that nothing was changed.
UNCHANGED: Final = frozenset({2, 3, 4, 5, 7, INTERRUPTED})


@dataclass(frozen=True, slots=True)
class Advice:
    """Whose fault it probably is, and what helps."""

    blame: str
    hint: str


_WIRING: Final = "wiring or supply"
_UNSTEADY: Final = (
    "slower clocks were tried already: shorten the wires, check ground and supply, and that the "
    "board does not drive the bus; then `hwflash probe`"
)

#: By error code, or by its part before the last dot.
ADVICE: Final[Mapping[str, Advice]] = {
    "programmer.absent": Advice(
        "the programmer is not connected",
        "`hwflash list` shows what is attached; `-p sim://w25q128jv` works without hardware",
    ),
    "programmer.inaccessible": Advice(
        "permissions", "`sudo hwflash doctor --install-udev`, then plug the programmer in again"
    ),
    "programmer.busy": Advice(
        "another process or driver", "`hwflash doctor` names what holds it; end that and try again"
    ),
    "programmer.ambiguous": Advice("the command", "choose one with -p: `hwflash list`"),
    "programmer.lost": Advice(
        "cable, hub or supply", "check the cable, plug the programmer in again: `hwflash list`"
    ),
    "programmer.timeout": Advice("cable or hub", "plug the programmer in again: `hwflash list`"),
    "programmer.serprog-unreachable": Advice(
        "the address, or nobody serves there",
        "start `hwflash serve serprog` there; from another computer through a tunnel: "
        "`ssh -L 6475:127.0.0.1:6475 HOST`",
    ),
    "programmer.serprog-busy": Advice(
        "another client", "a server has one client at a time: wait for the other, or end it"
    ),
    "programmer.serprog-closed": Advice(
        "the server, the cable or the network", "look at the server's own messages; try again"
    ),
    "programmer.serprog-timeout": Advice(
        "cable, network or the device's firmware",
        "try again; for a serial port check the baud rate: `?baud=115200`",
    ),
    "programmer.serprog-sync": Advice(
        "the wrong port or baud rate, or a device that is no serprog programmer",
        "check the node and `?baud=`; reset the device and try again",
    ),
    "programmer.serprog-garbage": Advice(
        "the cable, the baud rate or the device's firmware",
        "shorten the cable or lower the rate: `?baud=115200`",
    ),
    "programmer.serprog-version": Advice("the device's firmware", "update the device's firmware"),
    "programmer.serprog-no-spi": Advice(
        "the device", "take a programmer for SPI chips; this one is for parallel, LPC or FWH"
    ),
    "programmer.serprog-nak": Advice(
        "the device's firmware", "it may promise longer operations than it can do; update it"
    ),
    "programmer.serprog-pins": Advice("the device, or the supply of the board", "check its wiring"),
    "programmer.serprog": Advice("the device's firmware", "update it, or take another device"),
    "trace.mismatch": Advice(
        "a change in what reaches the chip, or another image or chip",
        "look at both operations; if the change is meant, record the trace again with record+URL",
    ),
    "trace.ended": Advice(
        "a change in what reaches the chip", "if it is meant, record the trace again: record+URL"
    ),
    "trace.unfinished": Advice(
        "a change in what reaches the chip", "if it is meant, record the trace again: record+URL"
    ),
    "trace.unwritable": Advice("this computer", "name a file you can write with ?trace="),
    "trace": Advice("the trace file", "record it again: `-p record+URL?trace=FILE`"),
    "programmer.qemu-lost": Advice(
        "QEMU, or whatever ended it",
        "look at what it said; the image may be incomplete: `hwflash verify`",
    ),
    "programmer.qemu-timeout": Advice(
        "a QEMU that hangs, or was stopped", "try again; `hwflash doctor` checks this computer"
    ),
    "programmer.qemu-start": Advice("QEMU or the image file", "look at what QEMU said"),
    "programmer.qtest": Advice("the version of QEMU", "QEMU 7.2 is known to work"),
    "programmer": Advice("the programmer", "`hwflash doctor` checks programmer and computer"),
    "environment.libusb": Advice(
        "this computer", "install libusb: `apt-get install libusb-1.0-0`; `hwflash doctor`"
    ),
    "environment.port-in-use": Advice(
        "another program", "end it, or choose another port; `--listen 127.0.0.1:0` finds a free one"
    ),
    "environment.address": Advice(
        "the command", "listen at an address of this computer, such as --listen 127.0.0.1:0"
    ),
    "environment.qemu-missing": Advice(
        "this computer", "install QEMU for Arm: `apt-get install qemu-system-arm`"
    ),
    "environment.qemu-version": Advice(
        "the version of QEMU", "qemu:// needs qemu-system-arm; version 7.2 is known to work"
    ),
    "environment": Advice("this computer", "`hwflash doctor` checks it"),
    "doctor.permission": Advice("permissions", "run it with sudo"),
    "state": Advice(
        "this computer", "set HWFLASH_STATE_DIR to a folder you can write: `hwflash doctor`"
    ),
    "backup": Advice("this computer", "name a folder you can write with --backup-dir"),
    "backup.damaged": Advice("the backup file", "restore from another backup"),
    "backup.unreadable": Advice("the file name", "name the .bin file of a backup"),
    "backup.other-chip": Advice("the wrong board", "connect the chip the backup was made from"),
    "journal.unwritable": Advice(
        "this computer", "make room or set HWFLASH_STATE_DIR: `hwflash doctor`"
    ),
    "journal.other-chip": Advice("the wrong board", "connect the chip the write began on"),
    "chip.absent": Advice(
        _WIRING,
        "check VCC, GND, CS# and MISO, and that HOLD# and WP# are high; the board itself must "
        "not drive the bus. `hwflash probe --frequency 1M`",
    ),
    "chip.unstable": Advice(_WIRING, _UNSTEADY),
    "chip.unstable-read": Advice(_WIRING, _UNSTEADY),
    "chip.unknown": Advice(
        "a part hwflash does not know",
        "name it with --chip (`hwflash chips list`) or describe it with --chip-file",
    ),
    "chip.unsupported": Advice("the part", "this part cannot be treated as ordinary NOR flash"),
    "chip.addressing": Advice("the part", "describe its 4-byte addressing with --chip-file"),
    "chip.conflict": Advice(
        "SFDP or the catalog", "decide with --chip NAME (`hwflash chips list`) or --size"
    ),
    "chip.stacked": Advice(
        "the part", "if you know that it works on this part, insist on it with --chip NAME"
    ),
    "chip.voltage": Advice(
        "the wrong adapter",
        "use a level shifter, and say so with --allow-voltage; 3.3 V can destroy the chip",
    ),
    "chip.timeout": Advice("the chip, its supply or its HOLD# pin", "`hwflash probe`"),
    "chip.protected": Advice(
        "the chip's protection bits",
        "`hwflash probe` shows what is protected and by which bits",
    ),
    "chip.write-enable": Advice("the chip's protection, or WP#", "`hwflash probe`"),
    "chip": Advice("the chip or its wiring", "`hwflash probe`"),
    "board.other-chip": Advice("the wrong board", "check the board, or leave out --board"),
    "board.other-size": Advice("the wrong board", "check the board, or leave out --board"),
    "board": Advice("the board file", "`hwflash boards check FILE` lists every fault"),
    "chip-file": Advice("the chip file", "see docs/chips.md for the form of chip files"),
    "image.smaller-than-chip": Advice(
        "the image", "say where it belongs with --at, --range or --region"
    ),
    "image.larger-than-chip": Advice(
        "the image, or the wrong chip", "`hwflash probe` shows the chip's size"
    ),
    "image": Advice("the image file", "check the file"),
    "uefi.no-store": Advice(
        "the image, or firmware that is not EDK2",
        "give a dump of the whole flash; `--full` searches every byte of a chip",
    ),
    "uefi": Advice("the image", "check the file, or the board's [nvram]"),
    "sfdp": Advice("the file", "give raw SFDP bytes, beginning with 'SFDP'"),
    "layout": Advice("the layout", "`hwflash boards check FILE`"),
    "qemu.image-size": Advice(
        "the image file", "name a file that does not exist, and it is made; or another model"
    ),
    "qemu": Advice("the image file or its folder", "name a file you can write with image="),
    "sim": Advice("the simulated chip's files", "remove the image and its .state.json"),
    "chips.unknown-part": Advice("the command", "`hwflash chips list`"),
    "usage.qemu-model": Advice(
        "the command", "`qemu-system-arm -machine none -device help` lists the models, on bus SSI"
    ),
    "usage.region": Advice("the command", "`hwflash boards show BOARD` lists its regions"),
    "usage.region-board": Advice("the command", "name the board with --board"),
    "usage.shared-block": Advice(
        "the layout",
        "name the protected region too (--region), or change nothing in the block it shares",
    ),
    "usage.protected-region": Advice("the command", "name it with --region if you mean it"),
    "usage.confirm": Advice("the command", "look at it with --dry-run, then say --yes"),
    "usage.resume": Advice("the command", "name one of them: `hwflash write --resume NAME`"),
    "usage.erase-alignment": Advice("the command", "`hwflash probe` shows the erase blocks"),
    "usage.variable-ambiguous": Advice("the command", "say which with --guid, or with --store"),
    "usage.variable": Advice("the command", "`hwflash vars list SOURCE` shows all of them"),
    "usage.store": Advice("the command", "`hwflash vars list SOURCE` shows all of them"),
    "usage.usbip-programmer": Advice(
        "the command",
        "name one with -p sim://PART; Linux exports real programmers itself, with usbipd",
    ),
    "usage": Advice("the command", "`hwflash --help`, `hwflash COMMAND --help`"),
    "interrupted": Advice("you", "start it again when you like"),
}  # fmt: skip


def advice_for(code: str) -> Advice:
    """The advice for a code, or for the nearest group it belongs to."""
    while True:
        if code in ADVICE:
            return ADVICE[code]
        if "." not in code:
            return Advice("hwflash", "please report this, with the command and what it printed")
        code = code.rpartition(".")[0]


def chip_state(error: HwflashError) -> str:
    """What the chip is known to be after an error: one of the two, never silence."""
    if error.exit_code == ChipStateUnknown.exit_code:
        return "the chip is in an unknown state"
    if error.exit_code in UNCHANGED:
        return "nothing was changed"
    return "the chip was not being written"


def commands_for(error: HwflashError) -> dict[str, str]:
    """The commands that recover, resume and restore, where there are any."""
    found: dict[str, str] = {}
    if not error.context.get("resume"):
        return found
    programmer = error.context.get("programmer")
    words = ["hwflash", "write", *(["-p", str(programmer)] if programmer else [])]
    words += cast("list[str]", error.context.get("options", []))
    for name, key in (("resume", "resume"), ("restore", "backup")):
        if error.context.get(key):
            found[name] = shlex.join([*words, f"--{name}", str(error.context[key])])
    if error.context.get("store"):
        store = [str(error.context["store"]), *cast("list[str]", error.context.get("options", []))]
        found["recover"] = shlex.join(["hwflash", "ftw", "recover", *store])
    return found


def as_dict(error: HwflashError) -> dict[str, Any]:
    """The ``error`` object of a JSON result."""
    cause = error.context.get("cause")
    advice = advice_for(cause if isinstance(cause, str) else error.code)
    return {
        "code": error.code,
        "message": error.message,
        "context": {key: _plain(value) for key, value in error.context.items()},
        "hint": advice.hint,
        "blame": advice.blame,
        "chip": chip_state(error),
        **commands_for(error),
    }


def as_lines(error: HwflashError, *, about_chip: bool = True) -> list[str]:
    """The same for people.

    Args:
        error: what went wrong.
        about_chip: the command had to do with a chip, so its state is said.
    """
    facts = as_dict(error)
    lines = [f"error: {error.message} [{error.code}]"]
    details = _details(error.context)
    if details:
        lines.append(f"  where: {details}")
    if near := cast("list[str]", error.context.get("near")):
        lines.append(f"  did you mean: {', '.join(near)}")
    if not isinstance(error, Interrupted):
        lines.append(f"  probably: {facts['blame']}")
    if about_chip:
        lines.append(f"  chip: {facts['chip']}")
    if error.context.get("unfinished"):
        lines.append(f"  still half written: {error.context['unfinished']}")
    lines += [
        f"  {name}: {facts[name]}" for name in ("recover", "resume", "restore") if name in facts
    ]
    lines.append(f"hint: {facts['hint']}")
    return lines


_HIDDEN: Final = frozenset(
    {
        "resume",
        "backup",
        "programmer",
        "cause",
        "facts",
        "known",
        "summary",
        "options",
        "store",
        "near",
        "unfinished",
    }
)


def _details(context: Mapping[str, object]) -> str:
    shown: list[str] = []
    faults: list[str] = []
    for key, value in context.items():
        if key in _HIDDEN or value is None or value == []:
            continue
        items = cast("list[Any]", value) if isinstance(value, list) else None
        if items is not None and key == "faults":
            faults = ["\n    " + _fault(fault) for fault in items]
        elif items is not None and len(items) > 5:
            shown.append(f"{key}={len(items)} items")
        elif key in ("address", "offset") and isinstance(value, int):
            shown.append(f"{key}=0x{value:06X}")
        else:
            shown.append(f"{key}={_plain(value)}")
    return ", ".join(shown) + "".join(faults)


def _fault(fault: Any) -> str:
    """A fault of a file: a (place, message) pair or a sentence."""
    pair = cast("tuple[Any, ...]", fault) if isinstance(fault, tuple) else (fault,)
    return ": ".join(map(str, pair))


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value)
        return {str(key): _plain(item) for key, item in pairs.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in cast("Iterable[Any]", value)]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)

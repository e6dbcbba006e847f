"""What QEMU's chip models do unlike hardware: the one table the tests take exclusions from.

Each entry is told in words in ``docs/qemu-chips.md`` under the same name, and comes with a
question to the model that shows it: an exclusion whose reason has gone is a fault of this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: QEMU the table was made with; later ones may differ less.
VERSION = "7.2."

#: Sends bytes in one chip-select window, returns what comes back.
Ask = Callable[[str, int], str]


@dataclass(frozen=True)
class Difference:
    """A difference.

    Attributes:
        name: as in the document.
        models: the models that show it in our tests; empty for all of them.
        shown: whether a fresh, erased model shows it.
    """

    name: str
    shown: Callable[[Ask], bool]
    models: frozenset[str] = frozenset()


def _after(ask: Ask, *sent: str) -> None:
    for item in sent:
        ask(item, 0)


def _never_busy(ask: Ask) -> bool:
    _after(ask, "06", "c7")
    return not int(ask("05", 1), 16) & 1


def _wel_kept(ask: Ask) -> bool:
    _after(ask, "06", "0200000000")
    return bool(int(ask("05", 1), 16) & 2)


def _no_page_wrap(ask: Ask) -> bool:
    _after(ask, "06", "020000ff0000")
    return ask("03000000", 1) == "ff" and ask("03000100", 1) == "00"


def _erase_not_aligned(ask: Ask) -> bool:
    _after(ask, "06", "02000000" + "00" * 4, "20000002")
    return ask("03000000", 4) == "0000ffff"


def _erase_ignores_protection(ask: Ask) -> bool:
    _after(ask, "06", "0200000000", "06", "011c", "06", "20000000")
    return ask("03000000", 1) == "ff"


def _no_registers(ask: Ask) -> bool:
    _after(ask, "06", "3140", "06", "1120")
    return ask("35", 1) == "00" and not int(ask("15", 1), 16) & 0x20


def _one_byte_status(ask: Ask) -> bool:
    """The second byte, 06h, is carried out as write enable."""
    _after(ask, "06", "010006")
    return ask("05", 1) == "02"


def _miso_low(ask: Ask) -> bool:
    return ask("06", 2) == "0000"


def _register_once(ask: Ask) -> bool:
    """The register answers once; what is clocked on is a new command."""
    _after(ask, "06", "c501")
    return ask("c8", 3) == "010000"


def _id_padded(ask: Ask) -> bool:
    return ask("9f", 8)[6:] in ("0" * 10, "c2201900" + "00")


def _no_power_down(ask: Ask) -> bool:
    _after(ask, "b9")
    return ask("9f", 3) != "ffffff"


def _no_identity(ask: Ask) -> bool:
    return all(int(ask(command, 4), 16) == 0 for command in ("90000000", "ab000000", "4b00000000"))


def _four_byte_without_enable(ask: Ask) -> bool:
    _after(ask, "b7")
    return ask("70", 1) == "81"


def _any_opcode(ask: Ask) -> bool:
    """A chip without 4-byte commands takes them all the same."""
    _after(ask, "06", "120000000055")
    return ask("1300000000", 1) == "55"


def _fast_read_shifted(ask: Ask) -> bool:
    _after(ask, "06", "02000010" + bytes(range(16)).hex())
    return ask("0b00001000", 4) != "00010203"


def _fail_flags(ask: Ask) -> bool:
    _after(ask, "06", "017c", "06", "0200000000")
    return ask("70", 1) == "80"


def _register_survives(ask: Ask) -> bool:
    _after(ask, "06", "c501", "66", "99")
    return ask("c8", 1) == "00"


def _bank_needs_enable(ask: Ask) -> bool:
    _after(ask, "1701")
    return ask("16", 1) == "00"


def _spansion_status(ask: Ask) -> bool:
    _after(ask, "06", "0100")
    return ask("05", 1) == "02"


def _sfdp_repeats(ask: Ask) -> bool:
    return ask("5a00010000", 4) == "53464450"


def _quad_bit(ask: Ask) -> bool:
    _after(ask, "35")
    return ask("05", 1) == "40" and ask("9f", 3).startswith("c2")


def _unlocked(ask: Ask) -> bool:
    return ask("05", 1) == "00"


WINBOND = frozenset({"w25q64", "w25q256", "w25q512jv", "w25q01jvq"})
MICRON = frozenset({"n25q128", "n25q256a", "mt25ql512ab", "mt25ql01g"})
MACRONIX = frozenset(
    {"mx25l12805d", "mx25l25635e", "mx25l25635f", "mx66l51235f", "mx66l1g45g"}
)  # fmt: skip
ISSI = frozenset({"is25lp128", "is25lp256"})
SPANSION = frozenset({"s25fl256s1", "s25fl512s"})
SST = frozenset({"sst25vf016b"})
OTHERS = SPANSION | SST | {"gd25q64", "en25q64"}
LARGE = frozenset(
    {"w25q256", "w25q512jv", "w25q01jvq", "n25q256a", "mt25ql512ab", "mt25ql01g"}
)  # fmt: skip
SFDP = frozenset(
    {"w25q256", "w25q512jv", "w25q01jvq", "n25q256a", "mx25l25635e", "mx25l25635f", "mx66l1g45g"}
)
LONG_ID = frozenset({"mt25ql512ab", "mt25ql01g"})
SMALL = frozenset({"w25q64", "n25q128", "mx25l12805d", "is25lp128", "gd25q64", "en25q64"}) | SST
TESTED = WINBOND | MICRON | MACRONIX | ISSI | OTHERS

DIFFERENCES = {
    item.name: item
    for item in (
        Difference("never-busy", _never_busy),
        Difference("wel-kept", _wel_kept),
        Difference("no-page-wrap", _no_page_wrap),
        Difference("erase-not-aligned", _erase_not_aligned),
        Difference("erase-ignores-protection", _erase_ignores_protection, TESTED - SPANSION),
        Difference("no-status-registers-2-3", _no_registers, WINBOND | {"gd25q64"}),
        Difference("status-write-one-byte", _one_byte_status, WINBOND | MICRON | {"gd25q64"}),
        Difference("status-write-two-bytes", _spansion_status, SPANSION),
        Difference("miso-low-when-idle", _miso_low),
        Difference("registers-answer-once", _register_once, TESTED - SMALL),
        Difference("id-padded-with-00", _id_padded, TESTED - SPANSION - LONG_ID),
        Difference("no-deep-power-down", _no_power_down),
        Difference("no-rems-res-unique-id", _no_identity, TESTED - SST),
        Difference("b7-without-write-enable", _four_byte_without_enable, MICRON),
        Difference("every-opcode-everywhere", _any_opcode, SMALL),
        Difference("fast-read-shifted", _fast_read_shifted, ISSI | SST | {"gd25q64", "en25q64"}),
        Difference("no-fail-flags", _fail_flags, MICRON),
        Difference("reset-clears-address-register", _register_survives, LARGE),
        Difference("bank-register-needs-write-enable", _bank_needs_enable, SPANSION),
        Difference("sfdp-area-repeats", _sfdp_repeats, SFDP - {"mx25l25635f", "mx66l1g45g"}),
        Difference("35h-sets-quad-enable", _quad_bit, MACRONIX),
        Difference("unlocked-at-power-up", _unlocked, SST),
    )
}  # fmt: skip


def differs(name: str, model: str) -> bool:
    """Whether a model has a difference of the table."""
    item = DIFFERENCES[name]
    return not item.models or model in item.models

r"""Variables as files that people keep and exchange: our own JSON, and virt-firmware's.

Ours, one entry for each variable, sorted by name and GUID::

    {"format": "hwflash-variables", "version": 1, "variables": [
      {"name": "Timeout", "guid": "8be4df61-93ca-11d2-aa0d-00e098032b8c",
       "attributes": ["NON_VOLATILE", "BOOTSERVICE_ACCESS", "RUNTIME_ACCESS"],
       "timestamp": null, "data": "0500"}]}

Attribute bits without a name are one number such as ``"0x80000000"``. A time stamp is null
(all zero), ``2025-03-10T02:53:39Z``, or the 32 hexadecimal digits of the EFI_TIME where that
says more than the text. Lone surrogates in names are ``\udXXX`` escapes.

virt-firmware's (``virt-fw-vars --output-json``, version 26.10) has ``version`` 2, and in each
entry ``name``, ``guid``, ``attr`` (a number), ``data``, and where there is one ``time`` (the
hexadecimal digits of the EFI_TIME). Keys beyond these are left out of account.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast
from uuid import UUID

from hwflash.errors import ImageError
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.records import Attribute, Record, attribute_names
from hwflash.uefi.store import RECORD_LIMIT, VariableStore
from hwflash.uefi.window import printable

FORMAT: Final = "hwflash-variables"
VERSION: Final = 1
#: What virt-firmware writes.
FOREIGN_VERSION: Final = 2
#: Bytes of a file at most; a store of 256 KiB makes half a MiB of hexadecimal digits.
SIZE_LIMIT: Final = 32 << 20

#: No authenticated write has been made.
NO_TIME: Final = EfiTime()

_KEYS: Final = ("name", "guid", "attributes", "timestamp", "data")
_FOREIGN_KEYS: Final = ("name", "guid", "attr", "data")
_BITS: Final = {str(bit.name): int(bit) for bit in Attribute}
_GUID: Final = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_DIGITS: Final = re.compile(r"[0-9A-Fa-f]*")
_NUMBER: Final = re.compile(r"0x[0-9A-Fa-f]{1,8}")
_TIME: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable by itself, wherever it may be stored.

    Attributes:
        name: without a terminator; it may hold lone surrogates.
        guid: of its vendor.
        attributes: 32 bits, see `hwflash.uefi.records.Attribute`.
        data: the value.
        timestamp: of the last authenticated write; zeros where there was none.
    """

    name: str
    guid: UUID
    attributes: int
    data: bytes
    timestamp: EfiTime = NO_TIME

    @classmethod
    def of(cls, record: Record) -> Variable:
        """What a record says."""
        return cls(record.name, record.guid, record.attributes, record.data, record.time)

    @property
    def key(self) -> tuple[str, UUID]:
        """What makes a variable the same variable: name and GUID."""
        return self.name, self.guid


#: Where variables come from: a store (its live ones), records, or variables.
Variables = VariableStore | Iterable[Record | Variable]


def variables_of(source: Variables) -> list[Variable]:
    """Variables of a store (the live ones), or of records or variables, in their order."""
    items = source.live if isinstance(source, VariableStore) else source
    return [item if isinstance(item, Variable) else Variable.of(item) for item in items]


# --- export --------------------------------------------------------------------------------


def export_json(source: Variables) -> str:
    """Our own form."""
    entries = [
        {
            "name": item.name,
            "guid": str(item.guid),
            "attributes": attribute_names(item.attributes),
            "timestamp": _time_text(item.timestamp),
            "data": item.data.hex(),
        }
        for item in _sorted(source)
    ]
    return _written({"format": FORMAT, "version": VERSION, "variables": entries})


def export_virt_firmware(source: Variables) -> str:
    """The form of ``virt-fw-vars --set-json``; `virt_firmware_losses` says what it cannot do."""
    entries = [
        {
            "name": item.name,
            "guid": str(item.guid),
            "attr": item.attributes,
            "data": item.data.hex(),
        }
        | ({} if item.timestamp.is_zero else {"time": item.timestamp.build().hex()})
        for item in _sorted(source)
    ]
    return _written({"version": FOREIGN_VERSION, "variables": entries})


def virt_firmware_losses(source: Variables) -> tuple[str, ...]:
    """Sentences on variables that virt-firmware would lose or refuse.

    It knows a variable by its name alone, takes no name with a lone surrogate, no time stamp
    that is no date, and keeps date and time of day of the others (seen with version 26.10).
    """
    found: list[str] = []
    seen: dict[str, UUID] = {}
    for item in _sorted(source):
        name = printable(item.name)
        if any(0xD800 <= ord(char) < 0xE000 for char in item.name):
            found.append(f"virt-firmware refuses the name {name}: it has a lone surrogate")
        if item.name in seen:
            found.append(
                f"virt-firmware keeps one variable {name} of {seen[item.name]} and {item.guid}"
            )
        seen[item.name] = item.guid
        time = item.timestamp
        if not (time.is_zero or time.is_date):
            found.append(f"virt-firmware refuses the time stamp of {name}: it is no date")
        elif time != EfiTime(*time.order):
            found.append(
                f"virt-firmware does not keep the time stamp of {name}: it has more than a date "
                "and a time of day"
            )
    return tuple(found)


def _sorted(source: Variables) -> list[Variable]:
    return sorted(variables_of(source), key=lambda item: (item.name, str(item.guid)))


def _written(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"


def _time_text(time: EfiTime) -> str | None:
    if time.is_zero:
        return None
    text = str(time)
    return text if _time_of(text) == time else time.build().hex()


def _time_of(text: str) -> EfiTime | None:
    """A time stamp from its text, or None."""
    if found := _TIME.fullmatch(text):
        return EfiTime(*(int(part) for part in found.groups()))
    if len(text) == 32 and _DIGITS.fullmatch(text):
        return EfiTime.parse(bytes.fromhex(text))
    return None


# --- import --------------------------------------------------------------------------------


def import_json(text: str | bytes) -> list[Variable]:
    """Read variables of either form; which one it is, is seen from the file.

    Args:
        text: the file; bytes are taken as UTF-8.

    Raises:
        ImageError: it is neither (``uefi.exchange``); ``context["path"]`` says where, such as
            ``variables[3].data``.
    """
    if len(text) > SIZE_LIMIT:
        raise _bad("", f"the file has more than {SIZE_LIMIT >> 20} MiB")
    content = _loaded(text)
    if not isinstance(content, dict):
        raise _bad("", f"the file holds {_kind(content)}, not an object")
    top = cast(dict[str, Any], content)
    foreign = "format" not in top
    if not foreign and top["format"] != FORMAT:
        raise _bad("format", f"is {_short(top['format'])}, not {FORMAT!r}")
    _check_version(top, FOREIGN_VERSION if foreign else VERSION)
    entries = _get(top, "variables", list, "")
    if len(entries) > RECORD_LIMIT:
        raise _bad("variables", f"has {len(entries)} entries, more than {RECORD_LIMIT}")
    found: list[Variable] = []
    places: dict[tuple[str, UUID], int] = {}
    for index, entry in enumerate(entries):
        path = f"variables[{index}]"
        if not isinstance(entry, dict):
            raise _bad(path, f"is {_kind(entry)}, not an object")
        item = (_foreign_entry if foreign else _own_entry)(cast(dict[str, Any], entry), path)
        if item.key in places:
            raise _bad(
                path, f"is {printable(item.name)} {item.guid}, as variables[{places[item.key]}]"
            )
        places[item.key] = index
        found.append(item)
    return found


def _own_entry(entry: dict[str, Any], path: str) -> Variable:
    for key in entry:
        if key not in _KEYS:
            raise _bad(f"{path}.{_short(key, quote=False)}", "is no key of a variable")
    attributes = 0
    for at, word in enumerate(_get(entry, "attributes", list, path)):
        attributes |= _attribute(word, f"{path}.attributes[{at}]")
    if "timestamp" not in entry:
        raise _bad(f"{path}.timestamp", "is missing")
    stamp = entry["timestamp"]
    time = NO_TIME if stamp is None else _time(_get(entry, "timestamp", str, path), path)
    return _variable(entry, attributes, time, path)


def _attribute(word: Any, path: str) -> int:
    if isinstance(word, str):
        if word in _BITS:
            return _BITS[word]
        if _NUMBER.fullmatch(word):
            return int(word, 16)
    raise _bad(
        path, f"is {_short(word)}, no name of an attribute and no number such as '0x00000100'"
    )


def _time(text: str, path: str) -> EfiTime:
    time = _time_of(text)
    if time is None:
        raise _bad(
            f"{path}.timestamp",
            f"is {_short(text)}, neither of the form '2025-03-10T02:53:39Z' nor 32 hexadecimal "
            "digits",
        )
    return time


def _foreign_entry(entry: dict[str, Any], path: str) -> Variable:
    for key in _FOREIGN_KEYS:
        if key not in entry:
            raise _bad(f"{path}.{key}", "is missing")
    attributes = _get(entry, "attr", int, path)
    if not 0 <= attributes < 1 << 32:
        raise _bad(f"{path}.attr", f"is {_short(attributes)}, not a number of 32 bits")
    stamp = _bytes(entry, "time", path) if entry.get("time") is not None else bytes(16)
    if len(stamp) != 16:
        raise _bad(f"{path}.time", f"has {len(stamp)} bytes, an EFI_TIME has 16")
    return _variable(entry, attributes, EfiTime.parse(stamp), path)


def _variable(entry: dict[str, Any], attributes: int, time: EfiTime, path: str) -> Variable:
    name = _get(entry, "name", str, path)
    if "\0" in name:
        raise _bad(f"{path}.name", f"has a NUL at character {name.index(chr(0)) + 1}")
    guid = _get(entry, "guid", str, path)
    if not _GUID.fullmatch(guid):
        raise _bad(f"{path}.guid", f"is {_short(guid)}, not a GUID")
    return Variable(name, UUID(guid), attributes, _bytes(entry, "data", path), time)


def _bytes(entry: dict[str, Any], key: str, path: str) -> bytes:
    text = _get(entry, key, str, path)
    found = _DIGITS.match(text)
    digits = found.end() if found is not None else 0
    if digits < len(text):
        what = f"has {_short(text[digits])} at character {digits + 1}, no hexadecimal digit"
        raise _bad(f"{path}.{key}", what)
    if digits % 2:
        raise _bad(f"{path}.{key}", f"has {digits} hexadecimal digits, an odd number")
    return bytes.fromhex(text)


def _check_version(top: dict[str, Any], newest: int) -> None:
    version = _get(top, "version", int, "")
    if not 1 <= version <= newest:
        raise _bad("version", f"is {_short(version)}, known are versions up to {newest}")


def _get(entry: dict[str, Any], key: str, kind: type[Any], path: str) -> Any:
    """A value of a given type; booleans are no numbers."""
    place = f"{path}.{key}" if path else key
    if key not in entry:
        raise _bad(place, "is missing")
    value = entry[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _bad(place, f"is {_kind(value)}, not {_KINDS[kind]}")
    return value


_KINDS: Final[dict[type[Any], str]] = {
    dict: "an object", list: "a list", str: "a string", int: "a number", float: "a fraction",
    bool: "a truth value", type(None): "null",
}  # fmt: skip


def _kind(value: Any) -> str:
    return _KINDS[cast(type[Any], type(value))]


def _short(value: Any, *, quote: bool = True) -> str:
    """A value as it can stand in a message, whatever its size."""
    if isinstance(value, (dict, list)):
        return _kind(value)
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length()} bits"
    text = printable(value) if isinstance(value, str) else json.dumps(value)
    text = text if len(text) <= 40 else text[:37] + "..."
    return f"'{text}'" if quote and isinstance(value, str) else text


def _loaded(text: str | bytes) -> Any:
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        what = f"byte {error.start} is 0x{error.object[error.start]:02X}"
        raise _bad("", f"the file is no UTF-8 text: {what}") from None
    except json.JSONDecodeError as error:
        what = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise _bad("", f"the file is no JSON: {what}") from None
    except RecursionError:
        raise _bad("", "the file is nested too deeply") from None
    except ValueError:  # int() takes 4300 digits at most
        raise _bad("", "the file has a number of too many digits") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _bad("", f"the file has the key {_short(key)} twice in one object")
        found[key] = value
    return found


def _no_constant(text: str) -> NoReturn:
    raise _bad("", f"the file has {text}, which is no JSON")


def _bad(path: str, text: str) -> ImageError:
    return ImageError(f"{path} {text}" if path else text, code="uefi.exchange", path=path)

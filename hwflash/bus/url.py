"""Programmer URLs: which programmer, and how to set it up.

See ``docs/programmers.md`` for the forms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from hwflash.errors import UsageError
from hwflash.units import parse_frequency

_FTDI_KEYS = frozenset({"frequency", "cs", "latency", "power", "reset", "wp", "hold", "wait"})
_SIM_KEYS = frozenset({"image", "seed", "timing", "power_cut", "faults", "wp"})
_ACCIDENTS = frozenset({"power_cut", "faults"})
#: Driver settings a simulated programmer takes too. Its ``wp`` is the level of the pin.
_SHARED_KEYS = frozenset({"frequency", "latency", "cs", "wait"})
_SERPROG_KEYS = frozenset({"baud", "frequency"})
_QEMU_KEYS = frozenset({"image", "frequency"})
RECORD = "record+"


@dataclass(frozen=True, slots=True)
class FtdiSelector:
    """Which FT232H: every given attribute must match; none means the only one.

    Attributes:
        serial: USB serial string.
        index: 1-based position among the matching devices, by bus and port path.
        bus: USB bus number.
        address: USB device address.
        path: USB port path, such as (1, 2) for ``1.2``.
    """

    serial: str | None = None
    index: int | None = None
    bus: int | None = None
    address: int | None = None
    path: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class ProgrammerUrl:
    """A parsed programmer URL.

    Attributes:
        text: as given.
        scheme: ``ftdi``, ``sim``, ``qemu``, ``serprog``, ``replay`` or ``record``.
        target: the part for ``sim``, the model for ``qemu``, device node or ``host:port``
            for ``serprog``, the file for ``replay`` and ``record``; empty for ``ftdi``.
        selector: which FT232H.
        options: the query, unparsed values by key; only keys the scheme knows.
        inner: what is recorded, for ``record``.
    """

    text: str
    scheme: str
    target: str = ""
    selector: FtdiSelector = FtdiSelector()
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    inner: ProgrammerUrl | None = None

    @property
    def lasting(self) -> str:
        """The URL for later use, without the accidents of one run of a simulated programmer."""
        if self.inner is not None:  # recording again would replace the trace
            return self.inner.lasting
        if self.scheme != "sim":
            return self.text
        kept = {key: value for key, value in self.options.items() if key not in _ACCIDENTS}
        if kept.get("image"):  # it may be resumed from another folder
            kept["image"] = str(Path(kept["image"]).absolute())
        query = urlencode(kept, safe="/:,=@", quote_via=quote)
        return f"sim://{self.target}" + (f"?{query}" if query else "")

    @property
    def endpoint(self) -> tuple[str, int] | None:
        """Host and port of a ``serprog`` URL; None when it names a device node."""
        if self.target.startswith("/"):
            return None
        parts = urlsplit(f"//{self.target}")
        return parts.hostname or "", parts.port or 0

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """An option that is a number from ``low`` to ``high``."""
        text = self.options.get(key)
        if text is None:
            return default
        try:
            value = int(text, 0)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise self._bad(key, f"a number from {low} to {high}")
        return value

    def frequency(self, default: float) -> float:
        """The ``frequency`` option in hertz."""
        text = self.options.get("frequency")
        return default if text is None else parse_frequency(text)

    def choice(self, key: str, default: str, allowed: tuple[str, ...]) -> str:
        """An option that is one of some words."""
        text = self.options.get(key, default)
        if text not in allowed:
            raise self._bad(key, " or ".join(allowed))
        return text

    def _bad(self, key: str, wanted: str) -> UsageError:
        return UsageError(
            f"{key}={self.options[key]} in {self.text!r} is not {wanted}",
            code="usage.url-option",
            url=self.text,
            option=key,
        )


def parse_url(text: str) -> ProgrammerUrl:
    """Read a programmer URL.

    Raises:
        UsageError: unknown scheme (``usage.url-scheme``), bad form (``usage.url``), unknown
            query key (``usage.url-option``).
    """
    if text.startswith(RECORD):
        return _record(text)
    scheme = text.partition(":")[0]
    if scheme not in _PARSERS:
        raise UsageError(
            f"{text!r} is not a programmer URL",
            code="usage.url-scheme",
            url=text,
            known=list(SCHEMES),
        )
    return _PARSERS[scheme](text)


def _ftdi(text: str) -> ProgrammerUrl:
    if not text.startswith("ftdi://"):
        where, _, query = text.removeprefix("ftdi:").partition("?")
        return ProgrammerUrl(
            text, "ftdi", "", _port_path(text, where), _query(text, query, _FTDI_KEYS)
        )
    try:
        parts = urlsplit(text)
    except ValueError as exc:
        raise _malformed(text) from exc
    if parts.path.strip("/") not in ("", "1"):
        raise UsageError(
            f"{text!r} names interface {parts.path.strip('/')!r}; an FT232H has only 1",
            code="usage.url",
            url=text,
        )
    vendor, *rest = parts.netloc.split(":")
    product, *which = rest or [""]
    if vendor not in ("", "ftdi", "0x403", "0x0403") or product not in (
        "", "232h", "ft232h", "0x6014"
    ):  # fmt: skip
        raise UsageError(f"{text!r} does not name an FT232H", code="usage.url", url=text)
    options = _query(text, parts.query, _FTDI_KEYS)
    return ProgrammerUrl(text, "ftdi", "", _which(text, which), options)


def _which(text: str, which: list[str]) -> FtdiSelector:
    """``SERIAL``, ``INDEX`` or ``BUS:ADDR``, in pyftdi's notation."""
    if not which or which == [""]:
        return FtdiSelector()
    try:
        if len(which) == 2:
            if not which[0] and not which[1]:
                return FtdiSelector()
            # pyftdi prints bus and address in hexadecimal
            return FtdiSelector(bus=int(which[0], 16), address=int(which[1], 16))
        if len(which) == 1:
            number = which[0]
            if number.isdigit() and len(number) < 3:
                return FtdiSelector(index=int(number))
            return FtdiSelector(serial=number)
    except ValueError:
        pass
    raise _malformed(text)


def _port_path(text: str, where: str) -> FtdiSelector:
    found: dict[str, str] = {}
    for item in where.split(","):
        key, equals, value = item.partition("=")
        if key not in ("bus", "path", "serial") or not equals or not value or key in found:
            raise _malformed(text)
        found[key] = value
    try:
        return FtdiSelector(
            serial=found.get("serial"),
            bus=int(found["bus"]) if "bus" in found else None,
            path=tuple(int(part) for part in found["path"].split(".")) if "path" in found else None,
        )
    except ValueError as exc:
        raise _malformed(text) from exc


def _sim(text: str) -> ProgrammerUrl:
    part, _, query = text.removeprefix("sim:").removeprefix("//").partition("?")
    part = part.strip("/")
    if not part:
        raise UsageError(f"{text!r} names no part to simulate", code="usage.url", url=text)
    return ProgrammerUrl(text, "sim", part, options=_query(text, query, _SIM_KEYS | _SHARED_KEYS))


def _qemu(text: str) -> ProgrammerUrl:
    model, _, query = text.removeprefix("qemu:").removeprefix("//").partition("?")
    model = model.strip("/")
    if not model:
        raise UsageError(f"{text!r} names no flash model", code="usage.url", url=text)
    return ProgrammerUrl(text, "qemu", model, options=_query(text, query, _QEMU_KEYS))


def _serprog(text: str) -> ProgrammerUrl:
    parts = _split(text)
    options = _query(text, parts.query, _SERPROG_KEYS)
    try:
        node = not parts.netloc and len(parts.path) > 1
        box = parts.hostname and parts.port and parts.path in ("", "/") and not parts.username
    except ValueError as exc:  # a port that is no number
        raise _malformed(text) from exc
    if not node and not box:
        raise UsageError(
            f"{text!r} is neither serprog:///dev/NODE nor serprog://HOST:PORT",
            code="usage.url",
            url=text,
        )
    if box and "baud" in options:
        raise UsageError(
            f"{text!r} has a baud rate, which a network does not",
            code="usage.url-option",
            url=text,
            option="baud",
        )
    target = parts.path if node else parts.netloc
    return ProgrammerUrl(text, "serprog", target, options=options)


def _replay(text: str) -> ProgrammerUrl:
    file, _, query = text.removeprefix("replay:").removeprefix("//").partition("?")
    if not file:
        raise UsageError(f"{text!r} names no trace", code="usage.url", url=text)
    return ProgrammerUrl(text, "replay", file, options=_query(text, query, frozenset()))


def _record(text: str) -> ProgrammerUrl:
    """``record+URL?trace=FILE``: any other URL, with one option more."""
    where, _, query = text.removeprefix(RECORD).partition("?")
    pairs = query.split("&") if query else []
    own = [pair.removeprefix("trace=") for pair in pairs if pair.startswith("trace=")]
    if len(own) != 1 or not own[0] or where.startswith(RECORD):
        raise UsageError(
            f"{text!r} must name one file: record+URL?trace=FILE", code="usage.url", url=text
        )
    rest = "&".join(pair for pair in pairs if not pair.startswith("trace="))
    inner = parse_url(where + (f"?{rest}" if rest else ""))
    return ProgrammerUrl(text, "record", unquote(own[0]), inner=inner)


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError as exc:
        raise _malformed(text) from exc


_PARSERS: dict[str, Callable[[str], ProgrammerUrl]] = {
    "ftdi": _ftdi,
    "sim": _sim,
    "qemu": _qemu,
    "serprog": _serprog,
    "replay": _replay,
}
SCHEMES = (*_PARSERS, "record+URL")


def _query(text: str, query: str, known: frozenset[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    # A plus sign stands for itself, as in file names, not for a space as in web forms.
    for key, value in parse_qsl(query.replace("+", "%2B"), keep_blank_values=True):
        if key not in known or key in options:
            what = "more than one" if key in options else "an unknown option"
            raise UsageError(
                f"{text!r} has {what} {key!r}",
                code="usage.url-option",
                url=text,
                option=key,
                known=sorted(known),
            )
        options[key] = value
    return options


def _malformed(text: str) -> UsageError:
    return UsageError(f"{text!r} is not a programmer URL", code="usage.url", url=text)

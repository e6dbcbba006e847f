"""Which programmers make up a gang: URLs as they were given, numbered, none of them twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hwflash.bus.discovery import FoundProgrammer, find_all, select
from hwflash.bus.url import ProgrammerUrl, parse_url
from hwflash.errors import HwflashError, ProgrammerAbsent, UsageError

#: Programmers of one gang; a guard against slips such as ``--count 1000``.
LIMIT: Final = 128
#: In a URL: the number of the programmer in the gang, from 1.
NUMBER: Final = "{n}"
_NAME: Final = 34


@dataclass(frozen=True, slots=True)
class Device:
    """A programmer of a gang.

    Attributes:
        number: in the gang, from 1.
        url: that opens it.
    """

    number: int
    url: str

    @property
    def name(self) -> str:
        """A short name for tables: what tells it from others comes last in a URL."""
        text = self.url
        if text.startswith("sim:") and "image=" in text:
            scheme = text.partition("?")[0]
            text = f"{scheme} {Path(text.partition('image=')[2].partition('&')[0]).name}"
        text = text.removeprefix("ftdi://ftdi:232h:").removesuffix("/1")
        return text if len(text) <= _NAME else f"…{text[1 - _NAME :]}"

    def __str__(self) -> str:
        """As lines about it begin."""
        return f"{self.number} {self.name}"


def attached() -> list[str]:
    """URLs of all programmers on the USB, by bus and port.

    Raises:
        ProgrammerAbsent: there is none.
        EnvironmentFault: the USB devices cannot be listed.
    """
    found = find_all()
    if not found:
        raise ProgrammerAbsent("no programmer is attached", attached=[])
    return [item.url for item in found]


def devices(urls: Sequence[str], count: int | None = None) -> list[Device]:
    """The programmers of a gang.

    Args:
        urls: as they were given.
        count: makes so many of one URL with `NUMBER` in it.

    Raises:
        UsageError: a bad URL; one programmer twice (``usage.gang-twice``); a count without
            `NUMBER`, or `NUMBER` without a count (``usage.gang``); too many.
    """
    if count is not None:
        if len(urls) != 1 or NUMBER not in urls[0]:
            raise UsageError(
                f"a count makes several programmers of one URL with {NUMBER} in it, such as "
                f"sim://w25q80?image=chip-{NUMBER}.bin&seed={NUMBER}",
                code="usage.gang",
                urls=list(urls),
            )
        urls = [urls[0].replace(NUMBER, str(number)) for number in range(1, count + 1)]
    if len(urls) > LIMIT:
        raise UsageError(
            f"{len(urls)} programmers are too many, {LIMIT} is the limit", code="usage.gang"
        )
    for url in urls:
        if NUMBER in url:
            raise UsageError(
                f"{url!r} has {NUMBER}, but no count says how many there are",
                code="usage.gang",
                url=url,
            )
    found = [Device(number, url) for number, url in enumerate(urls, 1)]
    _require_different(found, find_all)
    return found


def _require_different(
    found: Sequence[Device], search: Callable[[], list[FoundProgrammer]]
) -> None:
    parsed = [(device, parse_url(device.url)) for device in found]
    on_usb: list[FoundProgrammer] = []
    if any(url.scheme == "ftdi" for _, url in parsed):
        try:
            on_usb = search()
        except HwflashError:
            on_usb = []  # each says so itself when it is opened
    seen: dict[str, Device] = {}
    for device, url in parsed:
        key = _key(url, on_usb)
        first = seen.setdefault(key, device)
        if first is not device:
            same = "" if first.url == device.url else f" and {first.url!r}"
            raise UsageError(
                f"programmers {first.number} and {device.number} are the same one: "
                f"{device.url!r}{same}",
                code="usage.gang-twice",
                url=device.url,
            )


def _key(url: ProgrammerUrl, on_usb: list[FoundProgrammer]) -> str:
    """The same text for the same programmer, however it is named."""
    if url.inner is not None:
        return _key(url.inner, on_usb)
    if url.scheme == "ftdi":
        try:
            item = select(on_usb, url.selector, url.text)
        except HwflashError:
            return url.text  # absent or ambiguous: it says so itself when it is opened
        return f"usb {item.bus} {item.address} {item.path}"
    if image := url.options.get("image"):
        return f"{url.scheme} {_file(Path(image))}"
    if url.scheme == "serprog":
        return f"serprog {url.endpoint or _file(Path(url.target))}"
    return url.text


def _file(path: Path) -> str:
    """The same text for the same file: symbolic links and hard links are names of it, too."""
    try:
        found = path.stat()
    except OSError:  # it will be made, or is missed when it is opened
        return str(path.resolve())
    return f"{found.st_dev} {found.st_ino}"

"""What is left of a variable store, in place and in the spare area, and what to do about it.

Nothing is written here; `hwflash.uefi.rescue` says why each choice is what it is, and carries
it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from hwflash.errors import ImageError
from hwflash.uefi.find import Found
from hwflash.uefi.guids import AUTHENTICATED_STORE, PLAIN_STORE
from hwflash.uefi.headers import is_store, mended, volume_at
from hwflash.uefi.layouts import STORE_HEADER
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import Record, State, StoreFormat
from hwflash.uefi.recover import Recovery, recover, store_fault
from hwflash.uefi.salvage import Key, Scan, scan, unreached, value, winners
from hwflash.uefi.store import VariableStore, findable, parse_store
from hwflash.uefi.volume import USUAL_HEADER, FirmwareVolume, make_volume, volume_anomalies
from hwflash.uefi.window import Window, filled_with, printable

Choice = Literal["nothing", "recover", "keep", "spare", "headers", "salvage", "fresh", "lost"]

TEXTS: Final[dict[Choice, str]] = {
    "nothing": "the store is sound and nothing is pending",
    "recover": "a recovery leaves a sound store",
    "keep": "the variables in place are whole; what is around them is repaired",
    "spare": "the spare area holds the whole store and is copied over the variable area",
    "headers": "the records in place are whole; the headers in front of them are written anew",
    "salvage": "no copy is whole; the variables that can be proven are collected from both",
    "fresh": "an empty store is written",
    "lost": "no variable is left, in place or in the spare area",
}
#: Gaps and names told of one by one.
_TOLD: Final = 20


@dataclass(frozen=True, slots=True)
class CopyFacts:
    """What is known of one copy of the variables.

    Attributes:
        name: ``variables`` in place, ``spare`` in the spare area.
        base: image offset at which its volume header belongs.
        headers: volume header and store header are right.
        whole: the chain of records is unbroken, whatever the headers are.
        records: proven records, live or dead.
        live: variables.
        fault: what the firmware would stumble over first; empty in a sound copy.
    """

    name: Literal["variables", "spare"]
    base: int
    headers: bool
    whole: bool
    records: int
    live: int
    fault: str

    @property
    def text(self) -> str:
        """The facts in a sentence."""
        place = "in place" if self.name == "variables" else "in the spare area"
        heads = "right" if self.headers else "not right"
        chain = "whole" if self.whole else "broken"
        more = f" ({self.fault})" if self.fault else ""
        return (
            f"{place} at 0x{self.base:06X}: {self.live} variables in {self.records} records, "
            f"headers {heads}, chain {chain}{more}"
        )


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of the variables.

    Attributes:
        facts: what to tell of it.
        area: its bytes, moved to where the variable area lies.
        live: the variables, as the firmware finds them or as they were searched, at their
            true offsets.
        proven: those of them that a search proves, wherever they are.
        scan: what was found by searching.
    """

    facts: CopyFacts
    area: Window
    live: tuple[Record, ...]
    proven: tuple[Record, ...]
    scan: Scan

    def has(self, record: Record) -> bool:
        """Whether a search of this copy alone gives the same value of the variable."""
        same = next((item for item in self.proven if item.key == record.key), None)
        return same is not None and value(same) == value(record)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a rescue would do.

    Attributes:
        choice: what it does when it is not told.
        options: what it may be told.
        variables: the records it keeps.
        lost: what cannot be kept, in words.
        text: the choice in words.
        copies: both copies; the spare only where there is one.
        recovery: what the recovery does that comes first; None when it is refused.
        refused: why a recovery is refused; empty when it is not.
    """

    choice: Choice
    options: tuple[Choice, ...]
    variables: tuple[Record, ...]
    lost: tuple[str, ...]
    text: str
    copies: tuple[CopyFacts, ...]
    recovery: Recovery | None = None
    refused: str = ""


def diagnose(nvram: Nvram) -> Diagnosis:
    """Look at both copies and at the queue, and decide; nothing is recorded in ``nvram``."""
    trial = Nvram(nvram.flash.window(), nvram.found, nvram.flash.erase_size, nvram.flash.origin)
    recovery, refused = None, ""
    try:
        recovery = recover(trial)
    except ImageError as error:
        refused = error.message
        trial = Nvram(nvram.flash.window(), nvram.found, nvram.flash.erase_size, nvram.flash.origin)
    here, spare = read_copies(trial)
    if recovery is not None and not here.facts.fault:
        choice: Choice = "recover" if recovery.changed else "nothing"
        options: tuple[Choice, ...] = (choice, "fresh")
    else:
        choice = _choose(here, spare, doubtful=_doubtful(trial.found))
        options = _options(choice, here, spare)
    kept = kept_by(choice, here, spare)
    facts = (here.facts,) if spare is None else (here.facts, spare.facts)
    lost = tuple(_lost(choice, kept, here, spare))
    return Diagnosis(choice, options, kept, lost, TEXTS[choice], facts, recovery, refused)


def kept_by(choice: Choice, here: Copy, spare: Copy | None) -> tuple[Record, ...]:
    """The records that a choice keeps."""
    if choice == "spare" and spare is not None:
        return spare.live
    if choice == "salvage":
        return winners(here.proven, spare.proven if spare is not None else ())
    return () if choice in ("fresh", "lost") else here.live


def read_copies(nvram: Nvram) -> tuple[Copy, Copy | None]:
    """The copy in place, and that in the spare area where there is one."""
    found, window = nvram.found, nvram.flash.window()
    place = found.areas.variables
    kind = store_kind(found)
    here = _read("variables", found, window.within(place.address, place.length), kind, 0)
    spare = found.areas.spare
    if spare is None or not window.has(spare.address, spare.length):
        return here, None
    data = window.at(spare.address, min(spare.length, place.length))
    shift = spare.address - place.address
    return here, _read("spare", found, Window(data, place.address), kind, shift)


def _read(
    name: Literal["variables", "spare"], found: Found, area: Window, kind: StoreFormat, shift: int
) -> Copy:
    """One copy. It is read at the place of the variable area; ``shift`` is where it really is."""
    fault = store_fault(area, found, exact=name == "spare")
    headers = fault is None or _headers_right(found, area)
    overlaid = Window(_with_headers(found, area, kind), area.base)
    at = store_base(found)
    first, end = at + STORE_HEADER.size, area.end
    store = parse_store(overlaid, at, end)
    searched = scan(overlaid, first, end, kind, at)
    missed = unreached(overlaid, store.records, searched, end)
    if missed and fault is None:
        text = "live records cannot be reached by the chain, the first one at"
        fault = f"{len(missed)} {text} 0x{missed[0].offset + shift:06X}"
    broken = bool(missed) or any(
        item.severity == "error" and item.code != "record.duplicate" for item in store.anomalies
    )
    live = winners(searched.records) if broken else store.live
    facts = CopyFacts(
        name, area.base + shift, headers, not broken,
        len(searched.records), len(live), fault or "",
    )  # fmt: skip
    proven = winners(searched.records)
    return Copy(facts, area, _moved(live, shift), _moved(proven, shift), searched)


def _moved(records: Sequence[Record], shift: int) -> tuple[Record, ...]:
    inorder = sorted(records, key=lambda item: item.offset)
    return tuple(item.moved(item.offset + shift) if shift else item for item in inorder)


def _headers_right(found: Found, area: Window) -> bool:
    volume = volume_at(area, area.base)
    if volume is None or not is_store(area, area.base + volume.header_length):
        return False
    store = parse_store(area, area.base + volume.header_length, area.end)
    faults = volume_anomalies(volume, found.base + found.length, found.areas.known)
    faults += [item for item in store.anomalies if item.code.startswith("store.")]
    size_fits = found.areas.layout == "derived" or store.base + store.size == area.end
    return size_fits and not any(item.severity == "error" for item in faults)


def store_kind(found: Found) -> StoreFormat:
    """Form of the records: what a store header says that is left, or what the records say."""
    for store in (found.store, found.ftw.spare_store):
        if store is not None and store.kind is not None:
            return store.kind
    at, end = store_base(found), found.areas.variables.end
    kinds: tuple[StoreFormat, ...] = ("authenticated", "plain")
    proven = [len(scan(found.window, at + STORE_HEADER.size, end, kind, at).records)
              for kind in kinds]  # fmt: skip
    return kinds[proven.index(max(proven))]


def store_base(found: Found) -> int:
    """Image offset at which the store's header is, or belongs."""
    base = found.areas.variables.address
    if found.volume is None and found.store is not None and found.store.base == base:
        return base
    volume = good_volume(found)
    return base + (volume.header_length if volume is not None else USUAL_HEADER)


def good_volume(found: Found) -> FirmwareVolume | None:
    """A volume header without a fault, from its place or from the spare area.

    One with a fault that its checksum proves to be the only one is put right.
    """
    proven = mended(found.volume) if found.volume is not None else None
    for volume in (found.volume, proven, found.ftw.spare_volume):
        if volume is None:
            continue
        # A length of the header that is wrong under a right checksum leads past the records.
        if volume.header_length != USUAL_HEADER and not is_store(
            found.window, volume.base + volume.header_length
        ):
            continue
        moved = replace(volume, base=found.base)
        faults = volume_anomalies(moved, found.base + found.length, found.areas.known)
        if not any(item.severity == "error" for item in faults) and (
            volume is not found.ftw.spare_volume or volume.length == found.length
        ):
            return moved
    return None


def right_headers(found: Found, kind: StoreFormat, block: int) -> bytes:
    """Volume header and store header as they belong in front of the records."""
    at, end = store_base(found), found.areas.variables.end
    volume = good_volume(found)
    head = b""
    if at != found.areas.variables.address:
        made = volume or make_volume(found.length, block, base=found.base)
        head = made.build()
    signature = AUTHENTICATED_STORE if kind == "authenticated" else PLAIN_STORE
    return head + VariableStore(at, signature, end - at).header()


def _with_headers(found: Found, area: Window, kind: StoreFormat) -> bytes:
    head = right_headers(found, kind, 0x1000)
    return head + area.data[len(head) :]


def _choose(here: Copy, spare: Copy | None, *, doubtful: bool) -> Choice:
    """See the text of `hwflash.uefi.rescue`."""
    there = spare.live if spare is not None else ()
    sound = spare is not None and not spare.facts.fault
    mine = _values(here.live)
    others = _values(there)
    fewer = all(others.get(key) == item for key, item in mine.items()) and len(mine) < len(others)
    if here.facts.whole and (mine or here.facts.headers):
        if doubtful and fewer:
            return "spare" if sound else "salvage"
        return "keep" if here.facts.headers else "headers"
    if not mine and not others:
        return "lost"
    added = {item.key: value(item) for item in here.live if item.state == State.ADDED}
    if sound and all(others.get(key) == item for key, item in added.items()):
        return "spare"
    return "salvage"


def _doubtful(found: Found) -> bool:
    """Whether the store in place may be half copied: nobody knows, or a copy is under way."""
    space = found.ftw.work_space
    if found.areas.work is None:
        return False
    return space is None or not space.valid or found.ftw.verdict == "replay"


def _values(records: Sequence[Record]) -> dict[Key, tuple[int, bytes, bytes]]:
    return {record.key: value(record) for record in records}


def _options(choice: Choice, here: Copy, spare: Copy | None) -> tuple[Choice, ...]:
    found: list[Choice] = [choice]
    if here.facts.whole:
        found.append("keep" if here.facts.headers else "headers")
    if spare is not None and not spare.facts.fault:
        found.append("spare")
    if here.live or (spare is not None and spare.live):
        found.append("salvage")
    return tuple(dict.fromkeys([*found, "fresh"]))


def _lost(
    choice: Choice, kept: tuple[Record, ...], here: Copy, spare: Copy | None
) -> Iterator[str]:
    """What a choice does not keep."""
    have = _values(kept)
    if choice in ("lost", "fresh"):
        yield _why_lost(here, spare)
    if choice == "salvage":
        for first, end in here.scan.lost[:_TOLD]:
            place = f"0x{first:06X} to 0x{end:06X} in place"
            yield f"{place}: {end - first:,} bytes that no record is proven of"
        if len(here.scan.lost) > _TOLD:
            yield f"{len(here.scan.lost) - _TOLD} more places like these"
        gone = {item.key for item in here.scan.records if item.state == 0x3C} - set(have)
        for name, guid in sorted(gone, key=str)[:_TOLD]:
            yield f"{printable(name)} ({guid}): only a superseded record of it is left"
    odd: set[Key] = set()
    if spare is not None:
        odd = _values(spare.live).keys() - _values(spare.proven).keys()
    if choice == "salvage":
        for name, guid in sorted(odd - have.keys(), key=str)[:_TOLD]:
            yield f"{printable(name)} ({guid}): its record in the spare area cannot be proven"
    for record in here.live:
        if record.key not in have:
            yield f"{printable(record.name)} ({record.guid}): it is only in place, not kept"
        elif have[record.key] != value(record):
            yield f"{printable(record.name)} ({record.guid}): its value in place is not kept"
    yield from _duplicates(here, kept)


def _duplicates(here: Copy, kept: tuple[Record, ...]) -> Iterator[str]:
    """Other live records of a variable, with other values."""
    chosen = {record.key: record for record in kept}
    for record in here.scan.records:
        best = chosen.get(record.key)
        if best is None or record.state != State.ADDED or not findable(record):
            continue
        if value(record) != value(best):
            yield (
                f"{printable(record.name)} ({record.guid}): the value in its other live record "
                f"at 0x{record.offset:06X}"
            )


def _why_lost(here: Copy, spare: Copy | None) -> str:
    what = "no variable can be found in place"
    data = here.area.data
    for byte in (0xFF, 0):
        if filled_with(data, byte):
            what = f"the variable area is all {byte:02X}"
    header = volume_at(here.area, here.area.base) is not None
    if header and filled_with(data[USUAL_HEADER:], 0xFF):
        what = "a volume header stands before an erased area, as OVMF leaves a wiped volume"
    if spare is None:
        return what
    if filled_with(spare.area.data, 0xFF):
        return f"{what}, and the spare area is erased"
    return f"{what}, and none in the spare area"

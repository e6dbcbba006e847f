"""The UEFI variables of the board, changed as the commands change them: safe at a power cut."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from hwflash.testing.flash import BenchFlash

if TYPE_CHECKING:
    from hwflash.jobs.source import ChipSource
    from hwflash.jobs.uefi_variables import Changed
    from hwflash.progress import CancelToken
    from hwflash.uefi.exchange import Variable
    from hwflash.uefi.find import Found
    from hwflash.uefi.nvram import Nvram

T = TypeVar("T")


class BenchVariables:
    """The variable store on the chip; each call reads it anew.

    GUIDs are text, a well-known name such as ``EfiGlobalVariable``, or a `uuid.UUID`; they may
    be left out where the store or the UEFI specification leaves no doubt.

    Args:
        flash: the flash of the board.
        region: protected region of the board that holds the store, to allow its change.
    """

    def __init__(self, flash: BenchFlash, region: str | None = None) -> None:
        self._flash = flash
        self._region = region

    def all(self) -> list[Variable]:
        """Every live variable, in the order of the store.

        Raises:
            ImageError: there is no store (``uefi.no-store``), or it cannot be read
                (``uefi.unhealthy``).
        """
        from hwflash.jobs.uefi_export import store_of
        from hwflash.uefi.exchange import variables_of

        return variables_of(store_of(self._found()))

    def find(self, name: str, guid: str | UUID | None = None) -> Variable:
        """A variable with its GUID, attributes and time stamp.

        Raises:
            UsageError: none (``usage.variable``; ``context["near"]`` has similar names) or
                several of that name.
        """
        from hwflash.jobs.uefi_read import Reading, select
        from hwflash.uefi.exchange import Variable

        reading = Reading((self._found(),), (), "")
        return Variable.of(select(reading, name, _guid(guid)).record)

    def get(self, name: str, guid: str | UUID | None = None) -> bytes:
        """The value of a variable; raises as `find` does."""
        return self.find(name, guid).data

    def __contains__(self, name: str) -> bool:
        return any(item.name == name for item in self.all())

    def set(
        self,
        name: str,
        data: bytes,
        guid: str | UUID | None = None,
        *,
        attributes: int | None = None,
        force: bool = False,
    ) -> Changed:
        """Give a variable a value, as firmware would.

        Args:
            name: of the variable.
            data: the value.
            guid: of its vendor.
            attributes: default: those it has, else NV, BS and RT.
            force: change an authenticated variable without a signature.

        Raises:
            EfiError: what firmware would answer, such as ``efi.out-of-resources``.
            UsageError: nobody knows whose variable it is (``usage.guid``).
            ImageError: no store, or one that has to be repaired first (``uefi.unhealthy``).
        """
        from hwflash.jobs.uefi_variables import set_variable

        return self._edit(
            "vars set",
            lambda nvram: set_variable(nvram, name, _guid(guid), attributes, data, force=force),
        )

    def delete(self, name: str, guid: str | UUID | None = None, *, force: bool = False) -> Changed:
        """Delete a variable; raises as `set` does."""
        from hwflash.jobs.uefi_variables import delete_variable

        return self._edit(
            "vars delete", lambda nvram: delete_variable(nvram, name, _guid(guid), force=force)
        )

    def check(self) -> None:
        """Fail unless the store is sound and nothing is pending in it.

        Raises:
            AssertionError: names every inconsistency, and what firmware would do with it.
        """
        __tracebackhide__ = True
        from hwflash.jobs.uefi_ftw import check_keys

        found = check_keys(self._found())
        if found["ok"]:
            return
        lines = [f"the variable store at 0x{found['base']:06X} is not sound"]
        lines += [
            f"  {item['severity']:<8} 0x{item['offset']:06X}: {item['message']} [{item['code']}]"
            for item in found["problems"]
        ]
        lines += [f"  {item['firmware']}: {item['text']}" for item in found["outlook"]]
        raise AssertionError("\n".join(lines))

    # --- inside -------------------------------------------------------------------------

    def _found(self) -> Found:
        from hwflash.jobs.uefi_edit import one_store
        from hwflash.jobs.uefi_read import read_stores

        with self._source() as (source, cancel):
            return one_store(read_stores(source, self._flash.programmer.reporter, cancel), None)

    def _edit(self, kind: str, change: Callable[[Nvram], T]) -> T:
        from hwflash.jobs.uefi_edit import EditOptions, edit

        options = self._flash.options(kind)
        if self._region is not None:
            options = replace(options, named_regions=frozenset({self._region}))
        programmer = self._flash.programmer
        with self._source() as (source, cancel):
            edited = edit(source, EditOptions(options), change, programmer.reporter, cancel)
        if edited.executed:
            programmer.record.written.append(edited.plan.sha256)
            programmer.record.backups.append(str(edited.backup))
        return edited.value

    @contextmanager
    def _source(self) -> Generator[tuple[ChipSource, CancelToken]]:
        from hwflash.jobs.source import ChipSource
        from hwflash.units import Range

        with self._flash.programmer.working() as (session, cancel):
            span = (Range(0, session.chip.size),)
            yield ChipSource(session.programmer.name, session, session.board, span), cancel


def _guid(guid: str | UUID | None) -> UUID | None:
    from hwflash.uefi.guids import parse_guid

    return parse_guid(guid) if isinstance(guid, str) else guid

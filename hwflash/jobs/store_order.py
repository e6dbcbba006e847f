"""Orders on the UEFI variable store of a chip: looked at first, then carried out as shown.

`preview` makes the change in memory and returns the flash operations it takes; `run_store_order`
carries out exactly those, and declines when the chip would need others by then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from hwflash.boards import load_board
from hwflash.errors import Interrupted, UsageError
from hwflash.jobs.opening import Request
from hwflash.jobs.order import Hooks, Order, OrderResult, Plan
from hwflash.jobs.prepare import WriteOptions
from hwflash.jobs.session import Session, open_session
from hwflash.jobs.source import ChipSource
from hwflash.jobs.uefi_edit import Edited, EditOptions, edit, one_store
from hwflash.jobs.uefi_ftw import check_keys, ftw_keys
from hwflash.jobs.uefi_operations import operation_lines
from hwflash.jobs.uefi_read import read_stores, store_keys, variable_keys
from hwflash.jobs.uefi_variables import delete_variable, set_variable
from hwflash.progress import CancelToken
from hwflash.uefi import values
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.recover import recover
from hwflash.uefi.rescue import rescue
from hwflash.uefi.rewrite import reclaim
from hwflash.uefi.window import printable
from hwflash.units import Range

Verb = Literal["set", "delete", "reclaim", "recover", "rescue"]
#: How a value may be typed, as the options of ``vars set`` call it.
KINDS: Final = ("u8", "u16", "u32", "u64", "string", "utf16", "hex")


@dataclass(frozen=True, slots=True)
class StoreOrder(Order):
    """A change of a variable store.

    Attributes:
        verb: what to do.
        store: offset of the store, where there are several.
        name: of the variable.
        guid: of its vendor.
        kind: how the value is typed, one of `KINDS`.
        value: as typed.
    """

    verb: Verb = "set"
    store: int | None = None
    name: str = ""
    guid: str | None = None
    kind: str = "hex"
    value: str = ""

    def words(self) -> list[str]:
        """The command that does the same."""
        group = "ftw" if self.verb in ("recover", "rescue") else "vars"
        source = f"board:{self.board}" if self.programmer is None else self.programmer
        words = ["hwflash", group, self.verb, source]
        if self.verb in ("set", "delete"):
            words.append(self.name)
            words += ["--guid", self.guid] if self.guid is not None else []
        if self.verb == "set":
            words += [f"--{self.kind}", self.value]
        words += ["--store", f"0x{self.store:X}"] if self.store is not None else []
        return words + (["-b", self.board] if self.board and self.programmer else [])

    def data(self) -> bytes:
        """The bytes of the value.

        Raises:
            UsageError: it is no such value (``usage.value``).
        """
        if self.kind == "string":
            return values.from_string(self.value)
        if self.kind == "utf16":
            return values.from_utf16(self.value)
        if self.kind == "hex":
            return values.from_hex(self.value)
        if self.kind not in KINDS:
            raise UsageError(f"a value cannot be typed as {self.kind}", code="usage.value")
        return values.from_integer(self.value, int(self.kind[1:]))


@dataclass(frozen=True, slots=True)
class StoreSight:
    """What a variable store holds, as JSON-ready data.

    Attributes:
        store: see `hwflash.jobs.uefi_read.store_keys`.
        variables: live ones, see `hwflash.jobs.uefi_read.variable_keys`.
        ftw: see `hwflash.jobs.uefi_ftw.ftw_keys`.
        check: see `hwflash.jobs.uefi_ftw.check_keys`.
        stores: offsets of all stores.
    """

    store: dict[str, Any]
    variables: tuple[dict[str, Any], ...]
    ftw: dict[str, Any]
    check: dict[str, Any]
    stores: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change would do.

    Attributes:
        order: the change.
        plan: its operations as a plan.
        lines: the same for people, one an operation.
        notes: what else is to be said.
        part: name of the chip.
    """

    order: StoreOrder
    plan: Plan
    lines: tuple[str, ...]
    notes: tuple[str, ...]
    part: str


def read_store(order: StoreOrder, hooks: Hooks) -> StoreSight:
    """Read the store that an order is about; its verb does not matter.

    Raises:
        ImageError: there is none.
        UsageError: there are several, and none was chosen.
    """
    with _open(order, hooks) as session:
        hooks.opened(session)
        reading = read_stores(_source(session), hooks.reporter, hooks.cancel)
    found = one_store(reading, order.store)
    live = found.store.live if found.store is not None else ()
    return StoreSight(
        store_keys(found),
        tuple(variable_keys(found, record) for record in live),
        ftw_keys(found),
        check_keys(found),
        tuple(item.base for item in reading.found),
    )


def preview(order: StoreOrder, hooks: Hooks) -> Preview:
    """Make the change in memory; nothing is changed on the chip.

    Raises:
        HwflashError: see `run_store_order`.
    """
    with _open(order, hooks) as session:
        edited = _edit(order, session, hooks, lambda _plan: False, dry_run=True)
        return Preview(
            order, edited.plan, tuple(operation_lines(edited.operations)),
            (*(f"first: {item}" for item in edited.first), *edited.value), session.chip.part,
        )  # fmt: skip


def run_store_order(seen: Preview, hooks: Hooks) -> OrderResult:
    """Carry out what was shown.

    Raises:
        Interrupted: the chip would need other operations by now (``interrupted.other-plan``);
            nothing was changed.
        HwflashError: see `hwflash.jobs.uefi_edit.edit`.
    """
    order = seen.order

    def as_shown(plan: Plan) -> bool:
        if plan.steps != seen.plan.steps or plan.sha256 != seen.plan.sha256:
            raise Interrupted(
                "the chip has changed since the preview: look at it again",
                code="interrupted.other-plan",
            )
        return hooks.confirm(plan)

    with _open(order, hooks) as session:
        hooks.opened(session)
        edited = _edit(order, session, hooks, as_shown, dry_run=False)
    changed = tuple(edited.plan.changed) if edited.executed else ()
    return OrderResult(
        order, True, edited.executed, sum(item.length for item in changed), edited.plan.sha256,
        edited.seconds, changed, backup=edited.backup, entry=edited.entry,
    )  # fmt: skip


def _open(order: StoreOrder, hooks: Hooks) -> Session:
    board = load_board(order.board, hooks.environ) if order.board is not None else None
    request = Request(
        programmer=order.programmer,
        board=board,
        allow_voltage=order.allow_voltage,
        environ=hooks.environ,
    )
    return open_session(request, hooks.reporter)


def _source(session: Session) -> ChipSource:
    spans = (Range(0, session.chip.size),)
    return ChipSource(session.programmer.name, session, session.board, spans)


def _edit(
    order: StoreOrder,
    session: Session,
    hooks: Hooks,
    confirm: Callable[[Plan], bool],
    *,
    dry_run: bool,
) -> Edited[tuple[str, ...]]:
    group = "ftw" if order.verb in ("recover", "rescue") else "vars"
    write = WriteOptions(
        state=hooks.state, dry_run=dry_run, confirm=confirm, kind=f"{group} {order.verb}"
    )
    repair = "as-is" if order.verb in ("recover", "rescue") else "none"
    options = EditOptions(write, store=order.store, repair=repair)
    cancel: CancelToken = hooks.cancel
    return edit(_source(session), options, _change(order), hooks.reporter, cancel)


def _change(order: StoreOrder) -> Callable[[Nvram], tuple[str, ...]]:
    """The change itself; it returns what is to be said of it."""
    guid = UUID(order.guid) if order.guid is not None else None
    data = order.data() if order.verb == "set" else b""

    def change(nvram: Nvram) -> tuple[str, ...]:
        match order.verb:
            case "set":
                done = set_variable(nvram, order.name, guid, None, data)
                return (f"{printable(order.name)} {done.change}", *done.notes)
            case "delete":
                done = delete_variable(nvram, order.name, guid)
                return (f"{printable(order.name)} {done.change}", *done.notes)
            case "reclaim":
                reclaim(nvram)
                return ("the store is rewritten without its dead records",)
            case "recover":
                return recover(nvram).actions
            case _:
                saved = rescue(nvram)
                return (*saved.actions, *(f"LOST: {text}" for text in saved.lost))

    return change

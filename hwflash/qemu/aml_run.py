"""Carries out simple AML methods: constants, locals, packages, sums, conditions.

Enough for what QEMU generates for its VM Generation ID device, which an operating system calls
in the same way.

Ref: ACPI 6.5 §19.6 (operators), §5.5.2 (control methods). Integers have 64 bits.
Limits: no loops, no fields, no operation regions, no calls: hardware is never touched.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from hwflash.errors import ReferenceFailed
from hwflash.qemu.aml import Method, Namespace, Operation, Reference, Term, absolute, parse_body

_MASK: Final = (1 << 64) - 1
_PACKAGE: Final = 256

Value = int | str | list["Value"]


@dataclass(frozen=True, slots=True)
class Notification:
    """A ``Notify``: the absolute path of the device, and the value it is told."""

    device: str
    value: int


@dataclass(slots=True)
class Result:
    """What a method did.

    Attributes:
        value: what it returned; None if nothing.
        notifications: in order.
    """

    value: Value | None = None
    notifications: list[Notification] = field(default_factory=list[Notification])


@dataclass(frozen=True, slots=True)
class _Element:
    """An element of a package, to be written."""

    package: list[Value]
    index: int


def call(method: Method, namespace: Namespace) -> Result:
    """Carry out a method without arguments.

    Raises:
        ReferenceFailed: it does what this cannot do (``reference.aml-run``), or see `parse_body`.
    """
    run = _Run(method, namespace)
    run.block(parse_body(method, namespace))
    return run.result


class _Run:
    def __init__(self, method: Method, namespace: Namespace) -> None:
        self.result = Result()
        self._scope = method.path
        self._names = namespace
        self._locals: dict[str, Value] = {}

    def block(self, terms: tuple[Term, ...]) -> bool:
        """Carry out statements; whether one of them returned."""
        taken = False
        for term in terms:
            if not isinstance(term, Operation):
                raise _beyond(term)
            match term.name:
                case "Return":
                    self.result.value = self.value(term.operands[0])
                    return True
                case "If":
                    taken = bool(self._integer(term.operands[0]))
                    if taken and self.block(term.body):
                        return True
                    continue
                case "Else":
                    if not taken and self.block(term.body):
                        return True
                case "Notify":
                    self._notify(*term.operands)
                case "NoOp":
                    pass
                case _:
                    self.value(term)
            taken = False
        return False

    def value(self, term: Term) -> Value:
        """What an expression is worth."""
        if isinstance(term, (int, str)):
            return term
        if isinstance(term, bytes):
            raise _beyond(term)
        if isinstance(term, Reference):
            return self._named(term)
        match term.name, term.operands:
            case "Package", (int() as count, *items):
                if not len(items) <= count <= _PACKAGE:
                    raise _beyond(term)
                # What is not initialised reads as zero here.
                return [*map(self.value, items), *[0] * (count - len(items))]
            case "Store", (source, target):
                return self._store(self.value(source), target)
            case (("Add" | "Subtract" | "And" | "Or" | "ShiftLeft" | "ShiftRight"), (a, b, target)):
                found = _calculated(term.name, self._integer(a), self._integer(b))
                return found if target == 0 else self._store(found, target)
            case "LEqual", (a, b):
                return _MASK if self.value(a) == self.value(b) else 0
            case "LNot", (a,):
                return 0 if self._integer(a) else _MASK
            case _:
                raise _beyond(term)

    def _named(self, term: Reference) -> Value:
        if term.path in self._locals:
            return self._locals[term.path]
        found = self._names.search(term.path, self._scope)
        if found is None or isinstance(found, (Method, Reference, bytes)):
            raise _beyond(term)
        return self.value(found)

    def _integer(self, term: Term) -> int:
        found = self.value(term)
        if not isinstance(found, int):
            raise _beyond(term)
        return found

    def _store(self, value: Value, target: Term) -> Value:
        match target:
            case Reference(path) if path.startswith("Local"):
                self._locals[path] = value
            case Operation("Index", _):
                place = self._element(target)
                place.package[place.index] = value
            case _:
                raise _beyond(target)
        return value

    def _element(self, term: Operation) -> _Element:
        package, index, target = term.operands
        found, number = self.value(package), self._integer(index)
        if not isinstance(found, list) or number >= len(found) or target != 0:
            raise _beyond(term)
        return _Element(found, number)

    def _notify(self, device: Term, value: Term) -> None:
        if not isinstance(device, Reference):
            raise _beyond(device)
        path = absolute(device.path, self._scope)
        self.result.notifications.append(Notification(path, self._integer(value)))


def _calculated(name: str, a: int, b: int) -> int:
    match name:
        case "Add":
            return (a + b) & _MASK
        case "Subtract":
            return (a - b) & _MASK
        case "And":
            return a & b
        case "Or":
            return a | b
        case "ShiftLeft":
            return (a << b) & _MASK if b < 64 else 0
        case _:
            return a >> b if b < 64 else 0


def _beyond(term: Term) -> ReferenceFailed:
    what = term.name if isinstance(term, Operation) else repr(term)
    return ReferenceFailed(f"{what[:60]} in an AML method is not carried out here",
                           code="reference.aml-run")  # fmt: skip

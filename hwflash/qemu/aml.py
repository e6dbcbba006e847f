"""A small reader of AML: what a table declares, and the code of its methods.

Declarations are walked from the top: names with constant values, scopes, devices, methods. The
body of a method is left as bytes until `parse_body` is asked for it, so a table is not refused
for code that nobody looks at. `hwflash.qemu.aml_run` carries methods out.

Ref: ACPI 6.5 §20.2 (AML grammar), §5.3 (names and their search).
Limits: code outside of methods is stepped over only where it is an ``If``, ``Else`` or ``While``;
a call of a method that is declared elsewhere is taken for one without arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from hwflash.errors import ReferenceFailed
from hwflash.qemu.acpi import HEADER_BYTES, Table

_Item = TypeVar("_Item")

#: Deeper than this nests no table; a hostile one would.
DEPTH: Final = 64
#: Bytes of integers by their opcode.
_INTEGERS: Final = {0x0A: 1, 0x0B: 2, 0x0C: 4, 0x0E: 8}
_ONES: Final = (1 << 64) - 1

#: Operators of expressions: name and number of operands. Ref: §20.2.5.
_OPERATORS: Final[dict[int, tuple[str, int]]] = {
    0x70: ("Store", 2), 0x71: ("RefOf", 1), 0x72: ("Add", 3), 0x73: ("Concatenate", 3),
    0x74: ("Subtract", 3), 0x75: ("Increment", 1), 0x76: ("Decrement", 1), 0x77: ("Multiply", 3),
    0x78: ("Divide", 4), 0x79: ("ShiftLeft", 3), 0x7A: ("ShiftRight", 3), 0x7B: ("And", 3),
    0x7C: ("NAnd", 3), 0x7D: ("Or", 3), 0x7E: ("NOr", 3), 0x7F: ("XOr", 3), 0x80: ("Not", 2),
    0x81: ("FindSetLeftBit", 2), 0x82: ("FindSetRightBit", 2), 0x83: ("DerefOf", 1),
    0x84: ("ConcatenateResTemplate", 3), 0x85: ("Mod", 3), 0x86: ("Notify", 2), 0x87: ("SizeOf", 1),
    0x88: ("Index", 3), 0x89: ("Match", 6), 0x8A: ("CreateDWordField", 3),
    0x8B: ("CreateWordField", 3), 0x8C: ("CreateByteField", 3), 0x8D: ("CreateBitField", 3),
    0x8E: ("ObjectType", 1), 0x8F: ("CreateQWordField", 3), 0x90: ("LAnd", 2), 0x91: ("LOr", 2),
    0x92: ("LNot", 1), 0x93: ("LEqual", 2), 0x94: ("LGreater", 2), 0x95: ("LLess", 2),
    0x96: ("ToBuffer", 2), 0x97: ("ToDecimalString", 2), 0x98: ("ToHexString", 2),
    0x99: ("ToInteger", 2), 0x9C: ("ToString", 3), 0x9D: ("CopyObject", 2), 0x9E: ("Mid", 4),
    0x9F: ("Continue", 0), 0xA3: ("NoOp", 0), 0xA4: ("Return", 1), 0xA5: ("Break", 0),
    0x5B21: ("Stall", 1), 0x5B22: ("Sleep", 1), 0x5B27: ("Release", 1), 0x5B31: ("Debug", 0),
}  # fmt: skip
_BLOCKS: Final = {0xA0: "If", 0xA1: "Else", 0xA2: "While"}
#: Declarations with children, and the bytes between the name and the first of them.
_CONTAINERS: Final = {0x10: 0, 0x5B82: 0, 0x5B83: 6, 0x5B84: 3, 0x5B85: 0}
#: Declarations whose length is told and whose content is not looked at: fields of all kinds.
_SKIPPED: Final = (0x5B81, 0x5B86, 0x5B87)


@dataclass(frozen=True, slots=True)
class Reference:
    r"""A name in code, as it is written: ``\_SB_.VGEN``, ``^PCI0``, ``VGIA``."""

    path: str


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator, block or call with its operands.

    Attributes:
        name: such as ``Add``; of a call, ``Call``, with a `Reference` as first operand.
        operands: in order.
        body: of ``If``, ``Else`` and ``While``.
    """

    name: str
    operands: tuple[Term, ...] = ()
    body: tuple[Term, ...] = ()


Term = int | str | bytes | Reference | Operation


@dataclass(frozen=True, slots=True)
class Method:
    """A method.

    Attributes:
        path: absolute.
        arguments: how many it takes.
        code: its body.
    """

    path: str
    arguments: int
    code: bytes


@dataclass(slots=True)
class Namespace:
    """What a table declares, by absolute path.

    Attributes:
        values: named constants; a package is an `Operation` ``Package``.
        methods: methods.
        devices: paths of devices.
    """

    values: dict[str, Term] = field(default_factory=dict[str, Term])
    methods: dict[str, Method] = field(default_factory=dict[str, Method])
    devices: list[str] = field(default_factory=list[str])

    def value(self, segment: str) -> tuple[str, Term]:
        """Path and value of the one constant whose last segment is this.

        Raises:
            ReferenceFailed: there is none, or there are several (``reference.aml-name``).
        """
        return _only(self.values, segment)

    def method(self, segment: str) -> Method:
        """The one method whose last segment is this.

        Raises:
            ReferenceFailed: as `value`.
        """
        return _only(self.methods, segment)[1]

    def search(self, path: str, scope: str) -> Method | Term | None:
        """What a name in the code of a scope means; None: nothing of this table."""
        for candidate in _candidates(path, scope):
            if candidate in self.methods:
                return self.methods[candidate]
            if candidate in self.values:
                return self.values[candidate]
        return None


def _only(items: Mapping[str, _Item], segment: str) -> tuple[str, _Item]:
    found = [(path, item) for path, item in items.items() if path[-4:] == segment]
    if len(found) != 1:
        raise ReferenceFailed(
            f"the table declares {len(found)} names {segment}", code="reference.aml-name"
        )
    return found[0]


def _candidates(path: str, scope: str) -> Iterator[str]:
    """Where a name is looked for: a single segment also in every scope above."""
    yield absolute(path, scope)
    if len(path) == 4 and path[0] not in "\\^":
        while scope != "\\":
            scope = _parent(scope)
            yield absolute(path, scope)


def absolute(path: str, scope: str) -> str:
    """The absolute path of a name that is written in a scope."""
    if path.startswith("\\"):
        return path
    while path.startswith("^"):
        path, scope = path[1:], _parent(scope)
    if not path:
        return scope
    return f"\\{path}" if scope == "\\" else f"{scope}.{path}"


def _parent(scope: str) -> str:
    return scope.rpartition(".")[0] or "\\"


# --- reading ------------------------------------------------------------------------------------


def parse_table(table: Table) -> Namespace:
    """What a DSDT or SSDT declares.

    Raises:
        ReferenceFailed: it is no AML (``reference.aml``; ``context["offset"]`` counts from the
            begin of the table).
    """
    found = Namespace()
    _Reader(table.data, HEADER_BYTES, len(table.data), found).declarations("\\", 0)
    return found


def parse_body(method: Method, namespace: Namespace) -> tuple[Term, ...]:
    """The code of a method.

    Raises:
        ReferenceFailed: it has something this reader does not know (``reference.aml``).
    """
    reader = _Reader(method.code, 0, len(method.code), namespace)
    return reader.terms(method.path, 0)


class _Reader:
    """Reads from ``at`` to ``end`` of some bytes."""

    def __init__(self, data: bytes, at: int, end: int, namespace: Namespace) -> None:
        self._data = data
        self._at = at
        self._end = end
        self._names = namespace

    # bytes

    def _take(self, count: int) -> bytes:
        if count > self._end - self._at:
            raise self._wrong("it ends in the middle")
        self._at += count
        return self._data[self._at - count : self._at]

    def _byte(self) -> int:
        return self._take(1)[0]

    def _peek(self) -> int:
        return self._data[self._at] if self._at < self._end else -1

    def _opcode(self) -> int:
        first = self._byte()
        return first << 8 | self._byte() if first == 0x5B else first

    def _package(self) -> _Reader:
        """A reader of what a PkgLength covers; this one goes on behind it."""
        start, first = self._at, self._byte()
        more = first >> 6
        length = first & (0x0F if more else 0x3F)
        for place in range(more):
            length |= self._byte() << (4 + 8 * place)
        end = start + length
        if not self._at <= end <= self._end:
            raise self._wrong(f"a length of {length:,} bytes reaches beyond what holds it")
        inner = _Reader(self._data, self._at, end, self._names)
        self._at = end
        return inner

    def _name(self) -> str:
        prefix = ""
        while chr(self._peek() & 0xFF) in "\\^":
            prefix += chr(self._byte())
        if "\\" in prefix[1:] or ("\\" in prefix and "^" in prefix):
            raise self._wrong("a name begins with what no name does")
        first, count = self._peek(), 1
        if first == 0:
            self._byte()
            count = 0
        elif first in (0x2E, 0x2F):
            self._byte()
            count = 2 if first == 0x2E else self._byte()
        return prefix + ".".join(self._segment() for _ in range(count))

    def _segment(self) -> str:
        text = self._take(4).decode("latin-1")
        if not (text.isascii() and text.replace("_", "A").isalnum() and text.upper() == text) or (
            text[0].isdigit()
        ):
            raise self._wrong(f"{text!r} is no name", back=4)
        return text

    # declarations

    def declarations(self, scope: str, depth: int) -> None:
        """Everything up to the end, into the namespace."""
        self._require(depth)
        while self._at < self._end:
            self._declaration(scope, depth)

    def _declaration(self, scope: str, depth: int) -> None:
        opcode = self._opcode()
        if opcode in _CONTAINERS:
            inner = self._package()
            path = absolute(inner._name(), scope)
            inner._take(_CONTAINERS[opcode])
            if opcode == 0x5B82:
                self._names.devices.append(path)
            inner.declarations(path, depth + 1)
        elif opcode == 0x08:
            path = absolute(self._name(), scope)
            self._names.values[path] = self._term(scope, depth + 1)
        elif opcode == 0x14:
            inner = self._package()
            path = absolute(inner._name(), scope)
            count = inner._byte() & 7
            self._names.methods[path] = Method(path, count, inner._take(inner._end - inner._at))
        elif opcode in _SKIPPED or opcode in _BLOCKS:
            self._package()
        else:
            self._small(opcode, scope, depth)

    def _small(self, opcode: int, scope: str, depth: int) -> None:
        """Declarations that are not kept."""
        if opcode == 0x5B80:  # an operation region: name, space, offset, length
            self._name()
            self._byte()
            self._term(scope, depth + 1)
            self._term(scope, depth + 1)
        elif opcode == 0x5B01:  # a mutex
            self._name()
            self._byte()
        elif opcode == 0x5B02:  # an event
            self._name()
        elif opcode == 0x06:  # an alias
            self._name()
            self._name()
        elif opcode == 0x15:  # external: name, type, arguments
            self._name()
            self._take(2)
        elif opcode in (0x8A, 0x8B, 0x8C, 0x8D, 0x8F):
            for _ in range(2):
                self._term(scope, depth + 1)
            self._name()
        else:
            raise self._wrong(f"0x{opcode:02X} declares nothing", back=1 + (opcode > 0xFF))

    # code

    def terms(self, scope: str, depth: int) -> tuple[Term, ...]:
        """Everything up to the end, as code."""
        found: list[Term] = []
        while self._at < self._end:
            found.append(self._term(scope, depth + 1))
        return tuple(found)

    def _term(self, scope: str, depth: int) -> Term:
        self._require(depth)
        first = self._peek()
        if first in (0x2E, 0x2F, 0x5C, 0x5E, 0x5F) or 0x41 <= first <= 0x5A:
            return self._named(scope, depth)
        opcode = self._opcode()
        constant = self._constant(opcode)
        if constant is not None:
            return constant
        if 0x60 <= opcode <= 0x67:
            return Reference(f"Local{opcode - 0x60}")
        if 0x68 <= opcode <= 0x6E:
            return Reference(f"Arg{opcode - 0x68}")
        if opcode in (0x11, 0x12, 0x13):
            return self._collection(opcode, scope, depth)
        if opcode == 0x5B23:  # a mutex and a time
            mutex = self._term(scope, depth + 1)
            return Operation("Acquire", (mutex, int.from_bytes(self._take(2), "little")))
        if opcode == 0x08:  # a name that lives as long as the call
            return Operation("Name", (Reference(self._name()), self._term(scope, depth + 1)))
        if opcode in _BLOCKS:
            inner = self._package()
            condition = () if opcode == 0xA1 else (inner._term(scope, depth + 1),)
            return Operation(_BLOCKS[opcode], condition, inner.terms(scope, depth + 1))
        if opcode in _OPERATORS:
            name, count = _OPERATORS[opcode]
            return Operation(name, tuple(self._term(scope, depth + 1) for _ in range(count)))
        raise self._wrong(f"0x{opcode:02X} is not known here", back=1 + (opcode > 0xFF))

    def _named(self, scope: str, depth: int) -> Term:
        path = self._name()
        found = self._names.search(path, scope)
        if not isinstance(found, Method):
            return Reference(path)
        operands = tuple(self._term(scope, depth + 1) for _ in range(found.arguments))
        return Operation("Call", (Reference(path), *operands))

    def _constant(self, opcode: int) -> int | str | None:
        if opcode in (0, 1):
            return opcode
        if opcode == 0xFF:
            return _ONES
        if opcode in _INTEGERS:
            return int.from_bytes(self._take(_INTEGERS[opcode]), "little")
        if opcode != 0x0D:
            return None
        end = self._data.find(b"\0", self._at, self._end)
        if end < 0:
            raise self._wrong("a string has no end")
        return self._take(end + 1 - self._at)[:-1].decode("latin-1")

    def _collection(self, opcode: int, scope: str, depth: int) -> Term:
        inner = self._package()
        if opcode == 0x11:
            size = inner._term(scope, depth + 1)
            return Operation("Buffer", (size, inner._take(inner._end - inner._at)))
        count: Term = inner._byte() if opcode == 0x12 else inner._term(scope, depth + 1)
        return Operation("Package", (count, *inner.terms(scope, depth + 1)))

    def _require(self, depth: int) -> None:
        if depth > DEPTH:
            raise self._wrong(f"it nests deeper than {DEPTH}")

    def _wrong(self, what: str, *, back: int = 0) -> ReferenceFailed:
        at = self._at - back
        return ReferenceFailed(
            f"the AML cannot be read at 0x{at:X}: {what}", code="reference.aml", offset=at
        )

"""The form of job files: tables and types; what must hold beyond is in `jobfile_rules`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from hwflash.board_rules import to_size
from hwflash.errors import UsageError
from hwflash.uefi.guids import parse_guid
from hwflash.uefi.records import parse_attributes

#: Ways to say a value, as ``hwflash vars set`` has them.
FORMS: Final = ("string", "utf16", "hex", "u8", "u16", "u32", "u64", "file", "boot")
#: A counter's number in a format.
COUNTED: Final = re.compile(r"\{n(?::0([1-9][0-9]?)([dxX]?))?\}")
_MAC: Final = re.compile(r"[0-9A-Fa-f]{2}([:-]?)(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}")

_SIZE: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^(0[xX][0-9A-Fa-f]+|\d+) *([kKmMgG]([iI]?[bB])?|[bB])?$"},
    ],
    "examples": [4096, "0x1000", "64K"],
}
_NUMBERS: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "integer", "minimum": 0}},
    ],
}
_ATTRIBUTES: Final[dict[str, Any]] = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "minLength": 1}],
    "examples": ["NV+BS+RT"],
}
_MAC_SCHEMA: Final[dict[str, Any]] = {
    "type": "string", "pattern": "^[0-9A-Fa-f]{2}([:-]?[0-9A-Fa-f]{2}){5}$",
}  # fmt: skip


def to_mac(value: object) -> int:
    """Read a MAC address: 12 hexadecimal digits, with ``:`` or ``-`` between pairs or without.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, str) or not _MAC.fullmatch(value):
        raise ValueError('must be a MAC address such as "02:00:5e:10:00:01"')
    return int(value.replace(":", "").replace("-", ""), 16)


def _number_text(value: object) -> object:
    """A number, or several parted by commas, may be written as TOML has it."""
    if isinstance(value, list):
        items = cast("list[object]", value)
        if all(isinstance(item, int) and not isinstance(item, bool) for item in items):
            return ",".join(str(item) for item in items)
        return items
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("has a NUL")
    return value


def _guid(value: str) -> str:
    try:
        return str(parse_guid(value))
    except UsageError as error:
        raise ValueError("is no GUID and no well-known name of one") from error


def _attributes(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_attributes(value)
    except UsageError as error:
        raise ValueError(error.message) from error


def _format(value: str) -> str:
    if len(COUNTED.findall(value)) != 1 or set(COUNTED.sub("", value)) & set("{}"):
        raise ValueError('must have one {n}, {n:06} or {n:06X}, such as "SN{n:06}"')
    return value


Text = Annotated[str, Field(min_length=1), AfterValidator(_no_nul)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
Size = Annotated[int, BeforeValidator(to_size), WithJsonSchema(_SIZE)]
Length = Annotated[int, BeforeValidator(to_size), Field(gt=0), WithJsonSchema(_SIZE)]
Digest = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{64}$")]
Numbers = Annotated[str, BeforeValidator(_number_text), WithJsonSchema(_NUMBERS)]
MacAddress = Annotated[int, BeforeValidator(to_mac), WithJsonSchema(_MAC_SCHEMA)]
Attributes = Annotated[int, BeforeValidator(_attributes), WithJsonSchema(_ATTRIBUTES)]
Words = Annotated[list[Text], Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
ExitCode = Annotated[int, Field(ge=0, le=255)]
Position = Annotated[int, Field(ge=0, le=10**18)]
Kind = Literal["auto", "raw", "ihex", "srec"]
Source = Literal["counter", "csv", "command"]


class Table(BaseModel):
    """A table of a job file: unknown keys are faults, types are not guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class JobTable(Table):
    """What the job is, and where it is done."""

    name: Name
    description: str = ""
    board: Text | None = Field(default=None, description="name of a board, or a board file")
    programmer: Annotated[str, Field(pattern=r"^[a-z][a-z0-9+]*:\S")] | None = None
    verify: Literal["touched", "full"] = "touched"
    protected: list[Name | Literal["*"]] = Field(
        default=[], description="protected regions that may be written; *: all of them"
    )
    accept_other_board: bool = Field(
        default=False, description="chips and image need not be what the board file expects"
    )
    again: Literal["refuse", "same"] = Field(
        default="refuse", description="a chip that was done before: refused, or the same numbers"
    )
    on_failure: Literal["stop", "go-on"] = "stop"


class ImageTable(Table):
    """What the whole flash, or the named part of it, shall hold."""

    file: Text
    sha256: Digest | None = None
    format: Kind = "auto"
    at: Size | None = None
    regions: list[Name] = []


class RegionTable(Table):
    """A region of the board with a file of its own; lies over the image."""

    name: Name
    file: Text
    sha256: Digest | None = None
    format: Kind = "auto"


class Boot(Table):
    """A boot entry."""

    label: Text
    path: Text
    optional_data: Text | None = Field(default=None, description="file")


class Value(Table):
    """One of the ways to say a value."""

    string: Text | None = None
    utf16: Text | None = None
    hex: Text | None = None
    u8: Numbers | None = None
    u16: Numbers | None = None
    u32: Numbers | None = None
    u64: Numbers | None = None
    file: Text | None = None
    boot: Boot | None = None

    def given(self) -> list[str]:
        """The forms that are used."""
        return [form for form in FORMS if getattr(self, form) is not None]


class VariableTable(Value):
    """A UEFI variable."""

    name: Text
    guid: Annotated[str, AfterValidator(_guid)] | None = None
    attributes: Attributes | None = None
    delete: bool = Field(default=False, description="it shall not be there")
    force: bool = Field(default=False, description="change an authenticated one unsigned")


class BytesTable(Value):
    """Bytes at an offset of the flash; lie over image and regions."""

    at: Size
    length: Length | None = Field(default=None, description="filled up to this many bytes")
    fill: Annotated[int, Field(ge=0, le=255)] = 0xFF


class CsvTable(Table):
    """A CSV file with a line for each unit."""

    file: Text
    key: Text | None = Field(default=None, description="column that tells the lines apart")
    policy: Literal["reuse", "burn"] | None = None


class NumberTable(Table):
    """Where numbers come from."""

    source: Source
    series: Name | None = Field(default=None, description="jobs that share it share no number")
    column: Text | None = None
    command: Words | None = None
    timeout: Seconds = 10.0
    policy: Literal["reuse", "burn"] | None = Field(
        default=None, description="what becomes of the number of a failed unit"
    )


class SerialTable(NumberTable):
    """Serial numbers."""

    format: Annotated[str, AfterValidator(_format)] | None = None
    start: Position | None = None
    last: Position | None = None
    step: Annotated[int, Field(ge=1, le=10**9)] = 1


class MacTable(NumberTable):
    """MAC addresses."""

    start: MacAddress | None = None
    last: MacAddress | None = None
    increment: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1, description="addresses for each unit"
    )
    local: bool = Field(default=False, description="they are locally administered")


class AfterTable(Table):
    """A command that is run when a unit is programmed."""

    command: Words
    timeout: Seconds = 60.0
    ok: list[ExitCode] = [0]
    warning: list[ExitCode] = []
    meaning: dict[Annotated[str, Field(pattern=r"^[0-9]{1,3}$")], Text] = Field(
        default={}, description="what an exit code means, in words"
    )


class JobForm(Table):
    """A job file."""

    job: JobTable
    image: ImageTable | None = None
    region: list[RegionTable] = []
    variable: list[VariableTable] = []
    bytes: list[BytesTable] = []
    csv: CsvTable | None = None
    serial: SerialTable | None = None
    mac: MacTable | None = None
    after: list[AfterTable] = []

    @property
    def policy(self) -> Literal["reuse", "burn"]:
        """What becomes of a failed unit's numbers, which stay together; `burn` unless said."""
        for table in (self.serial, self.mac, self.csv):
            if table is not None and table.policy is not None:
                return table.policy
        return "burn"

"""Board files: what is known of a board, in TOML that people edit.

A board is looked up by name in ``$XDG_CONFIG_HOME/hwflash/boards`` and among the shipped
ones, in that order, or given as a path. `check_board` lists every fault with its place in
the file; `load_board` refuses a file with faults.

Limits: files up to 1 MiB. That a chip is fitted is checked on the bus, not here.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)

from hwflash.board_rules import Fault, rule_faults, to_frequency, to_pattern, to_size
from hwflash.errors import BoardError, UsageError
from hwflash.layout.regions import Region, RegionMap
from hwflash.resources import data_files
from hwflash.tomlfile import model_fault, read_toml
from hwflash.units import Range

_GUID = r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"
_SIZE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^(0[xX][0-9A-Fa-f]+|\d+) *([kKmMgG]([iI]?[bB])?|[bB])?$"},
    ],
    "examples": [4096, 0x1000, "64K", "16M"],
}
_FREQUENCY_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": r"^\d+(\.\d+)? *[kM]?(Hz)?$"},
    ],
    "examples": ["30M", "500k"],
}


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Size = Annotated[int, BeforeValidator(to_size), WithJsonSchema(_SIZE_SCHEMA)]
Length = Annotated[int, BeforeValidator(to_size), Field(gt=0), WithJsonSchema(_SIZE_SCHEMA)]
Frequency = Annotated[float, BeforeValidator(to_frequency), WithJsonSchema(_FREQUENCY_SCHEMA)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
Text = Annotated[str, Field(min_length=1)]
AreaName = Annotated[str, Field(min_length=1, max_length=32)]
Guid = Annotated[str, Field(pattern=_GUID)]
Gpio = Annotated[str, Field(pattern=r"^(ADBUS[4-7]|ACBUS[0-7])$")]
LogPattern = Annotated[str, BeforeValidator(to_pattern)]
Digest = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{64}$")]
Hex = Annotated[str, Field(pattern=r"^([0-9A-Fa-f]{2} ?){1,64}$")]
Baud = Annotated[int, Field(gt=0, le=12_000_000)]
Seconds = Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)]
Volts = Annotated[float, Field(ge=1.0, le=5.5, allow_inf_nan=False)]
PinName = Annotated[
    str,
    BeforeValidator(_text),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string", "minLength": 1}]}),
]
ChipNames = Annotated[
    list[Text],
    BeforeValidator(_one_or_many),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}},
            ]
        }
    ),
]


class _Table(BaseModel):
    # Strict, so that size = true or baud = "fast" is a fault and not a guess.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Pin(_Table):
    """One wire between the board and the programmer."""

    pin: PinName = Field(description="pin of the chip or header")
    signal: Text = Field(description="its signal, such as CS#")
    to: str = Field(default="", description="where it goes: a pin of the programmer, a supply")
    note: str = ""


class Wiring(_Table):
    """How the programmer is connected."""

    connector: str = Field(default="", description="what it is connected to, such as 'SOIC-8 clip'")
    notes: str = ""
    pin: list[Pin] = []


class Flash(_Table):
    """The flash chip."""

    chip: ChipNames = Field(default=[], description="parts that may be fitted; none: any")
    size: Length = Field(description="bytes, such as 16M")
    voltage: Volts | None = Field(
        default=None, description="supply of the chip on this board, volts"
    )
    jedec_id: Annotated[str, Field(pattern=r"^([0-9a-f]{2}){3,20}$")] | None = None


class Programmer(_Table):
    """The programmer of this board, and the pins it drives besides SPI."""

    url: Annotated[str, Field(pattern=r"^[a-z][a-z0-9+]*:\S+$")] | None = None
    frequency: Frequency | None = Field(default=None, description="highest SCK the wiring takes")
    power: Gpio | None = None
    reset: Gpio | None = None
    wp: Gpio | None = None
    hold: Gpio | None = None
    wait: Literal["clock", "timer"] = Field(
        default="clock",
        description="timer: no SCK edges while waiting, for a bus with other listeners",
    )


class Power(_Table):
    """How the board is switched on and off."""

    method: Literal["none", "gpio", "command", "relay", "qemu"] = "none"
    on: list[Text] = Field(default=[], description="program and arguments")
    off: list[Text] = []
    timeout: Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)] = Field(
        default=30, description="seconds that a command may take"
    )
    port: Text | None = Field(default=None, description="serial port of the relay card")
    baud: Baud = 9600
    channel: Annotated[int, Field(ge=1, le=255)] = Field(
        default=1, description="which relay of an LCUS card"
    )
    on_bytes: Hex | None = Field(
        default=None, description="what another card is sent to switch on, in hex"
    )
    off_bytes: Hex | None = None
    settle: Seconds = Field(default=0.5, description="seconds from power on to the first command")
    discharge: Seconds = Field(
        default=1.0, description="seconds from power off until the board is without supply"
    )


class Layout(_Table):
    """Where the regions are read from."""

    kind: Literal["ovmf", "ifd", "fmap", "regions"]


class BoardRegion(_Table):
    """One region of the flash."""

    name: Name
    start: Size
    length: Length
    protected: bool = Field(default=False, description="written only when named")
    description: str = ""


class Area(_Table):
    """A run of bytes of the flash."""

    start: Size
    length: Length


class Nvram(_Table):
    """Where the UEFI variable store is."""

    find: bool = Field(default=False, description="search the flash for it")
    variables: Area | None = None
    work: Area | None = Field(default=None, description="FTW work space")
    spare: Area | None = Field(default=None, description="FTW spare area")


class Reference(_Table):
    """The simulated reference the board is held against."""

    code: Text = Field(description="firmware code image")
    vars: Text | None = Field(default=None, description="template of the variable store")
    machine: Text = "q35"
    secure: bool = False
    descriptors: list[Text] = []


class Simulated(_Table):
    """The board as a machine in QEMU, on the content of the simulated chip."""

    machine: Text = "q35"
    code: Area = Field(description="the firmware's code in the flash")
    variables: Area = Field(description="the flash that the firmware writes to")
    memory: Annotated[int, Field(ge=64, le=65_536)] = Field(default=256, description="RAM in MiB")


class Console(_Table):
    """The board's serial console."""

    port: Text
    baud: Baud = 115_200


class ExpectedVariable(_Table):
    """A UEFI variable that a healthy board has."""

    name: Text
    guid: Guid | None = None


class ExpectedDescriptor(_Table):
    """The Intel flash descriptor of the board; without a key: that there is one."""

    sha256: Digest | None = Field(default=None, description="of its 4 KiB")
    straps_sha256: Digest | None = Field(default=None, description="of the chipset's straps")
    components: list[Length] = Field(default=[], description="bytes of each chip it tells of")
    regions: dict[Name, Area] = Field(default={}, description="where regions are, by name")


class ExpectedVolume(_Table):
    """A firmware volume at its place."""

    at: Size
    guid: Guid = Field(description="of its file system, or its name")


class Expect(_Table):
    """What a healthy board shows. What its chip holds is looked at before every write."""

    unique_id: Hex | None = Field(default=None, description="of the chip on this very board")
    descriptor: ExpectedDescriptor | None = None
    volume: list[ExpectedVolume] = []
    volumes: list[Guid] = Field(
        default=[], description="firmware volume GUIDs, each at some multiple of 4 KiB"
    )
    fmap: list[AreaName] = Field(default=[], description="areas that its FMAP has")
    variable: list[ExpectedVariable] = []
    log: list[LogPattern] = Field(default=[], description="regular expressions for console lines")


class Board(_Table):
    """A board file."""

    name: Name
    description: Text
    source: list[Text] = Field(default=[], description="where the facts are from")
    wiring: Wiring = Wiring()
    flash: Flash
    programmer: Programmer = Programmer()
    power: Power = Power()
    layout: Layout | None = None
    region: list[BoardRegion] = []
    nvram: Nvram | None = None
    reference: Reference | None = None
    simulated: Simulated | None = None
    console: Console | None = None
    expect: Expect = Expect()

    def region_map(self) -> RegionMap:
        """The regions the file itself gives; empty when the layout is read from the image."""
        regions = [
            Region(item.name, Range(item.start, item.length), item.protected, item.description)
            for item in self.region
        ]
        return RegionMap(regions, self.flash.size)


@dataclass(frozen=True, slots=True)
class BoardEntry:
    """A board file that was found.

    Attributes:
        name: what `load_board` takes.
        origin: ``user`` or ``shipped``.
        description: of the board, or "" when the file has faults.
        faults: what is wrong with the file.
        file: where it is.
    """

    name: str
    origin: Literal["user", "shipped"]
    description: str
    faults: tuple[Fault, ...]
    file: str


def load_board(name_or_path: str | Path, environ: Mapping[str, str] = os.environ) -> Board:
    """Read a board by its name, or from a file when given a path (``/`` or ``.toml`` in it).

    Raises:
        UsageError: ``usage.board``, no board of that name; ``context["near"]`` has similar
            ones.
        BoardError: ``board``; ``context["faults"]`` lists every `Fault`.
    """
    if isinstance(name_or_path, Path) or "/" in name_or_path or name_or_path.endswith(".toml"):
        file: Path | Traversable = Path(name_or_path)
    else:
        known = _board_files(environ)
        if name_or_path not in known:
            raise UsageError(
                f"there is no board {name_or_path!r}",
                code="usage.board",
                name=name_or_path,
                near=difflib.get_close_matches(name_or_path, known, n=3),
                known=list(known),
            )
        file = known[name_or_path][1]
    board, faults = _read(file)
    if board is None:
        lines = "; ".join(str(fault) for fault in faults)
        raise BoardError(f"{file}: {lines}", file=str(file), faults=faults)
    return board


def list_boards(environ: Mapping[str, str] = os.environ) -> list[BoardEntry]:
    """Every board file in the user's folder and among the shipped ones, sorted by name.

    A user's board hides a shipped one of the same name. Files with faults are listed too.
    """
    entries: list[BoardEntry] = []
    for name, (origin, file) in sorted(_board_files(environ).items()):
        board, faults = _read(file)
        description = board.description if board else ""
        entries.append(BoardEntry(name, origin, description, tuple(faults), str(file)))
    return entries


def check_board(path: Path | Traversable) -> list[Fault]:
    """Everything that is wrong with a board file; empty when it is good. Never raises."""
    return _read(path)[1]


def json_schema() -> dict[str, Any]:
    """The JSON Schema of board files, draft 2020-12."""
    schema = Board.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "hwflash board file",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def user_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a user's own boards are: ``$XDG_CONFIG_HOME/hwflash/boards``."""
    base = environ.get("XDG_CONFIG_HOME", "")
    # The XDG base directory specification tells to ignore relative paths.
    config = Path(base) if base.startswith("/") else Path(environ.get("HOME", "/")) / ".config"
    return config / "hwflash" / "boards"


def _board_files(
    environ: Mapping[str, str],
) -> dict[str, tuple[Literal["user", "shipped"], Path | Traversable]]:
    found: dict[str, tuple[Literal["user", "shipped"], Path | Traversable]] = {}
    for name, shipped in data_files("boards", ".toml").items():
        found[name.removesuffix(".toml")] = ("shipped", shipped)
    for own in user_dir(environ).glob("*.toml"):
        found[own.stem] = ("user", own)
    return found


def _read(file: Path | Traversable) -> tuple[Board | None, list[Fault]]:
    raw, unreadable = read_toml(file, "board file")
    if raw is None:
        return None, unreadable
    board: Board | None = None
    faults: list[Fault] = []
    try:
        board = Board.model_validate(raw)
    except ValidationError as error:
        faults = [model_fault(item, Board) for item in error.errors(include_url=False)]
    # A value that is wrong in itself needs no second fault for what follows from it.
    places = {fault.path for fault in faults}
    faults += [fault for fault in rule_faults(raw) if fault.path not in places]
    return (None if faults else board), faults

from __future__ import annotations

import json
import re
import struct
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwflash.board_rules import Fault
from hwflash.boards import Board, check_board, json_schema, list_boards, load_board
from hwflash.errors import BoardError, UsageError
from hwflash.resources import data_files
from hwflash.units import MIB, Range, format_size

HERE = Path(__file__).parent
SHIPPED = sorted(name.removesuffix(".toml") for name in data_files("boards", ".toml"))

GOOD = """
name = "bench"
description = "a board on the bench"
[flash]
chip = "W25Q128JV"
size = "16M"
voltage = 3.3
[programmer]
url = "ftdi:bus=3,path=1.2"
frequency = "12.5M"
power = "ACBUS0"
[power]
method = "gpio"
settle = 1
[layout]
kind = "regions"
[[region]]
name = "boot"
start = 0
length = "64K"
protected = true
[[region]]
name = "main"
start = 0x10000
length = "1M"
[console]
port = "/dev/ttyUSB0"
"""


@pytest.fixture
def board_file(tmp_path: Path) -> Path:
    path = tmp_path / "bench.toml"
    path.write_text(GOOD)
    return path


def faults_of(path: Path, content: str | bytes) -> list[tuple[str, str]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(fault.path, fault.message) for fault in check_board(path)]


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


class TestLoad:
    def test_every_value(self, board_file: Path) -> None:
        board = load_board(board_file)
        assert board.name == "bench"
        assert board.flash.chip == ["W25Q128JV"]
        assert board.flash.size == 16 * MIB
        assert board.programmer.frequency == 12.5e6
        assert board.programmer.power == "ACBUS0"
        assert board.programmer.wait == "clock"
        assert board.power.settle == 1.0
        assert board.console is not None
        assert board.console.baud == 115_200
        regions = board.region_map()
        assert regions["main"].range == Range(0x10000, MIB)
        assert regions["boot"].protected
        assert regions.holes() == [Range(0x110000, 0xEF0000)]

    def test_path_as_text(self, board_file: Path) -> None:
        assert load_board(str(board_file)) == load_board(board_file)

    def test_user_board_hides_the_shipped_one(self, tmp_path: Path) -> None:
        folder = tmp_path / "hwflash" / "boards"
        folder.mkdir(parents=True)
        (folder / "up-squared.toml").write_text(changed('"bench"', '"up-squared"'))
        (folder / "broken.toml").write_text("[\n")
        environ = {"XDG_CONFIG_HOME": str(tmp_path)}
        assert load_board("up-squared", environ).description == "a board on the bench"
        entries = {entry.name: entry for entry in list_boards(environ)}
        assert entries["up-squared"].origin == "user"
        assert entries["up-squared"].file == str(folder / "up-squared.toml")
        assert entries["ft232h-w25q128"].origin == "shipped"
        assert entries["broken"].faults[0].path == "line 1"
        assert entries["broken"].description == ""
        assert load_board("up-squared", {"XDG_CONFIG_HOME": "relative"}).flash.voltage == 1.8

    def test_unknown_name(self) -> None:
        with pytest.raises(UsageError) as caught:
            load_board("up-squard", {})
        assert caught.value.code == "usage.board"
        assert caught.value.context["near"] == ["up-squared"]

    def test_faulty_file_is_refused_with_all_faults(self, board_file: Path) -> None:
        board_file.write_text(changed('"16M"', "true").replace("settle", "setle"))
        with pytest.raises(BoardError) as caught:
            load_board(board_file)
        error = caught.value
        assert (error.code, error.exit_code) == ("board", 7)
        assert error.context["faults"] == [
            Fault("flash.size", 'must be a size such as 4096, 0x1000, "64K" or "16M"'),
            Fault("power.setle", "is not known; did you mean 'settle'?"),
        ]
        assert str(board_file) in error.message
        assert "power.setle" in error.message

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(BoardError, match="cannot be read: No such file"):
            load_board(tmp_path / "none.toml")


class TestFaults:
    def test_good(self, tmp_path: Path) -> None:
        assert faults_of(tmp_path / "a.toml", GOOD) == []

    @pytest.mark.parametrize(
        ("old", "new", "path", "text"),
        [
            ('name = "bench"\n', "", "name", "is missing"),
            ('"bench"', '"be nch"', "name", "string should match pattern"),
            ('"16M"', "-1", "flash.size", "between 0 and 4 GiB"),
            ('"16M"', "0", "flash.size", "greater than 0"),
            ('"16M"', '"16 potatoes"', "flash.size", "must be a size"),
            ('"16M"', f'"{"9" * 5000}"', "flash.size", "must be a size"),
            ('"16M"', "1.5", "flash.size", "must be a size"),
            ("voltage = 3.3", "voltage = nan", "flash.voltage", "finite"),
            ("voltage = 3.3", "voltage = 12", "flash.voltage", "less than or equal to 5.5"),
            ("voltage = 3.3", 'voltage = "3.3"', "flash.voltage", "valid number"),
            ("voltage = 3.3", "voltage = 1.8", "flash.voltage", "W25Q128JV takes 2.7 V to 3.6 V"),
            ('size = "16M"', 'size = "8M"', "flash.size", "W25Q128JV has 16 MiB"),
            ('"W25Q128JV"', '"W25Q128JW2"', "flash.chip", "not in the chip catalog"),
            ('"W25Q128JV"', "7", "flash.chip", "valid list"),
            ("voltage = 3.3", 'jedec_id = "ef4019"', "flash.jedec_id", "answers ef4018"),
            ('"12.5M"', '"fast"', "programmer.frequency", "must be a frequency"),
            ('"12.5M"', "inf", "programmer.frequency", "at most 1 GHz"),
            ('"12.5M"', '"200M"', "programmer.frequency", "takes at most"),
            ('"ACBUS0"', '"ADBUS0"', "programmer.power", "string should match pattern"),
            ('power = "ACBUS0"', "", "programmer.power", 'power.method is "gpio"'),
            (
                '"gpio"',
                '"magic"',
                "power.method",
                "input should be 'none', 'gpio', 'command', 'relay' or 'qemu'",
            ),
            ("settle = 1", 'on = ["relay"]', "power.on", "has no use"),
            ("settle = 1", "settle = -1", "power.settle", "greater than or equal to 0"),
            ('kind = "regions"', 'kind = "region"', "layout.kind", "'regions'"),
            ("start = 0x10000", "start = 0xFFFF", "region[1]", "overlaps 'boot'"),
            ('length = "1M"', 'length = "16M"', "region[1]", "beyond the flash of 16 MiB"),
            ('name = "main"', 'name = "boot"', "region[1]", "the name of another region"),
            ('length = "1M"', "length = 0", "region[1].length", "greater than 0"),
            ("protected = true", "protect = true", "region[0].protect", "mean 'protected'"),
            ("protected = true", "protected = 1", "region[0].protected", "valid boolean"),
            ("[console]", "[consol]", "consol", "did you mean 'console'?"),
            ("[console]", "[[console]]", "console", "valid dictionary"),
            ('port = "/dev/ttyUSB0"', "baud = 1e9", "console.port", "is missing"),
        ],
    )
    def test_one(self, tmp_path: Path, old: str, new: str, path: str, text: str) -> None:
        found = faults_of(tmp_path / "a.toml", changed(old, new))
        messages = [message for where, message in found if where == path]
        assert len(messages) == 1, found
        assert text in messages[0]

    @pytest.mark.parametrize(
        ("section", "faults"),
        [
            ("[nvram]\n", {"nvram.variables": "is missing (or set nvram.find = true)"}),
            ("[nvram]\nfind = true\n", {}),
            (
                "[nvram]\nfind = true\nvariables = {start = 0, length = 1}\n",
                {"nvram.variables": "is given, though nvram.find says to search for it"},
            ),
            (
                "[nvram]\nvariables = {start = 0, length = 8}\nwork = {start = 4, length = 8}\n",
                {
                    "nvram.spare": "is missing, though nvram.work is given",
                    "nvram.work": "overlaps nvram.variables (0x000000-0x000007)",
                },
            ),
            (
                '[nvram]\nvariables = {start = "15M", length = "2M"}\n',
                {"nvram.variables": "reaches beyond the flash of 16 MiB"},
            ),
            ("[expect]\nlog = ['(']\n", {"expect.log[0]": "must be a regular expression"}),
            ("[expect]\nvolumes = ['x']\n", {"expect.volumes[0]": "string should match"}),
            ("[expect]\nunique_id = 'xy'\n", {"expect.unique_id": "string should match"}),
            (
                (
                    "[expect.descriptor]\nsha256 = 'ab'\nsha = 1\ncomponents = [0]\n"
                    "regions = { nvram = { start = 0, length = 1 } }\n"
                ),
                {
                    "expect.descriptor.sha256": "string should match",
                    "expect.descriptor.sha": "is not known; did you mean 'sha256'?",
                    "expect.descriptor.components[0]": "input should be greater than 0",
                    "expect.descriptor.regions.nvram": "is no region of a descriptor",
                },
            ),
            (
                (
                    f"[[expect.volume]]\nat = 0xFFFFF0\nguid = '{'0' * 8}-{'-'.join(['0000'] * 3)}-"
                    f"{'0' * 12}'\n[[expect.volume]]\nat = -1\n"
                ),
                {
                    "expect.volume[0].at": "reaches beyond the flash of 16 MiB",
                    "expect.volume[1].at": "must be between 0 and 4 GiB",
                    "expect.volume[1].guid": "is missing",
                },
            ),
        ],
    )
    def test_sections(self, tmp_path: Path, section: str, faults: dict[str, str]) -> None:
        found = dict(faults_of(tmp_path / "a.toml", GOOD + section))
        assert found.keys() == faults.keys()
        for path, text in faults.items():
            assert found[path].startswith(text)

    def test_command_needs_both(self, tmp_path: Path) -> None:
        found = faults_of(tmp_path / "a.toml", changed('"gpio"', '"command"\non = ["uhubctl"]'))
        assert found == [("power.off", 'is missing, though power.method is "command"')]

    @pytest.mark.parametrize(
        ("power", "found"),
        [
            ('"relay"', {"power.port": "is missing"}),
            ('"relay"\nport = "/dev/x"', {}),
            ('"relay"\nport = "/dev/x"\non_bytes = "A0"', {"power.off_bytes": "is missing"}),
            (
                '"relay"\nport = "/dev/x"\non_bytes = "A"\noff_bytes = "A0"',
                {"power.on_bytes": "string should match"},
            ),
            (
                '"relay"\nport = "/dev/x"\non_bytes = "A0"\noff_bytes = "A1"\nchannel = 2',
                {"power.channel": "has no use beside power.on_bytes"},
            ),
            ('"relay"\nport = "/dev/x"\nchannel = 0', {"power.channel": "input should be greater"}),
            ('"relay"\nport = "/dev/x"\non = ["x"]', {"power.on": "has no use when"}),
            ('"gpio"\nport = "/dev/x"', {"power.port": 'has no use when power.method is "gpio"'}),
            ('"none"\ntimeout = 3', {"power.timeout": "has no use when"}),
            ('"command"\non = ["a"]\noff = ["b"]\ntimeout = 0', {"power.timeout": "input should"}),
            (
                '"qemu"',
                {"simulated": "is missing", "console": 'has no use when power.method is "qemu"'},
            ),
            (
                '"magic"\nport = "/dev/x"',
                {"power.method": "input should be", "power.port": "has no"},
            ),
        ],
    )
    def test_power(self, tmp_path: Path, power: str, found: dict[str, str]) -> None:
        faults = dict(faults_of(tmp_path / "a.toml", changed('"gpio"\nsettle = 1', power)))
        assert faults.keys() == found.keys()
        for path, text in found.items():
            assert faults[path].startswith(text)

    @pytest.mark.parametrize(
        ("old", "new", "path", "text"),
        [
            ("start = 0x20000", "start = 0x1F000", "simulated.variables", "overlaps"),
            ("length = 0x1E0000", "length = 0x1E0001", "simulated.code", "reaches beyond"),
            ('"qemu"', '"none"', "simulated", "has no use unless"),
            ("machine =", "memory = 1\nmachine =", "simulated.memory", "input should be greater"),
        ],
    )
    def test_simulated(self, tmp_path: Path, old: str, new: str, path: str, text: str) -> None:
        good = data_files("boards")["sim-ovmf-2m.toml"].read_text("utf-8")
        changed_text = good[: good.index("[layout]")].replace(old, new, 1)
        assert changed_text != good[: good.index("[layout]")]
        faults = dict(faults_of(tmp_path / "a.toml", changed_text))
        assert faults[path].startswith(text), faults

    def test_one_pin_twice(self, tmp_path: Path) -> None:
        found = faults_of(tmp_path / "a.toml", changed("[power]", 'wp = "ACBUS0"\n[power]'))
        assert found == [("programmer.wp", "is ACBUS0, which is programmer.power too")]

    def test_layout_without_regions(self, tmp_path: Path) -> None:
        text = 'name="a"\ndescription="b"\nflash.size=16\nlayout.kind="regions"'
        assert faults_of(tmp_path / "a.toml", text) == [
            ("region", 'is missing, though layout.kind is "regions"')
        ]

    def test_wrong_types_do_not_hide_other_faults(self, tmp_path: Path) -> None:
        text = changed('"16M"', "{}").replace("start = 0x10000", "start = 1").replace("1M", "x")
        text = text.replace('length = "x"', 'length = "1M"').replace('"bench"', "[]")
        assert [path for path, _ in faults_of(tmp_path / "a.toml", text)] == [
            "name",
            "flash.size",
            "region[1]",
        ]

    @pytest.mark.parametrize(
        ("content", "path", "text"),
        [
            (b"", "name", "is missing"),
            (b"name = \n", "line 1", "is no valid TOML"),
            (b'a = 1\nb = "\n', "line 2", "is no valid TOML"),
            (b"\x89PNG\r\n\x1a\n\xff\xfe" + bytes(range(256)), "", "is not UTF-8 text (byte 0)"),
            (b"\0" * 64, "line 1", "is no valid TOML"),
            (b"a = " + b"[" * 20_000, "", "nested too deeply"),
            (b"a = " + b"9" * 10_000, "", "is no valid TOML"),
        ],
    )
    def test_no_board_file_at_all(
        self, tmp_path: Path, content: bytes, path: str, text: str
    ) -> None:
        found = faults_of(tmp_path / "a.toml", content)
        assert found[0][0] == path
        assert text in found[0][1]

    def test_huge_file_is_not_read(self, tmp_path: Path) -> None:
        path = tmp_path / "huge.toml"
        with path.open("wb") as stream:
            stream.truncate(100 * MIB)
        assert check_board(path) == [Fault("", "is larger than 1 MiB, this is no board file")]

    def test_folder(self, tmp_path: Path) -> None:
        assert check_board(tmp_path) == [Fault("", "cannot be read: Is a directory")]


toml_values = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(list(Board.model_fields)),
        toml_values
        | st.dictionaries(
            st.sampled_from(
                ["size", "chip", "start", "work", "find", "on", "method", "wp", "kind"]
            ),
            toml_values,
        )
        | st.lists(
            st.fixed_dictionaries(
                {}, optional={"name": toml_values, "start": toml_values, "length": toml_values}
            ),
            max_size=3,
        ),
    )
)
def test_any_document_gives_faults_or_a_board(document: dict[str, Any]) -> None:
    """The model and the rules take whatever TOML can hold."""
    import hwflash.board_rules as rules
    from hwflash.tomlfile import model_fault

    faults = rules.rule_faults(document)
    assert all(fault.path and fault.message for fault in faults)
    try:
        Board.model_validate(document)
    except ValueError as error:
        for item in error.errors():  # type: ignore[attr-defined]
            assert model_fault(item, Board).message


class TestSchema:
    def test_published_schema_is_current(self) -> None:
        published = json.loads((HERE.parent / "docs" / "board.schema.json").read_text("utf-8"))
        assert published == json_schema(), (
            "write json.dumps(hwflash.boards.json_schema(), indent=2) to docs/board.schema.json"
        )

    def test_schema_is_valid_and_judges_like_the_model(self) -> None:
        schema = json_schema()
        jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(schema)
        assert list(validator.iter_errors(tomllib.loads(GOOD))) == []
        for old, new in [
            ('"16M"', '"16 potatoes"'),
            ('"16M"', "true"),
            ('"12.5M"', '"fast"'),
            ("[console]", "[consol]"),
            ('"ACBUS0"', '"ADBUS0"'),
        ]:
            assert not validator.is_valid(tomllib.loads(changed(old, new))), new

    @pytest.mark.parametrize("name", SHIPPED)
    def test_shipped_boards_fit_the_schema(self, name: str) -> None:
        document = tomllib.loads(data_files("boards")[f"{name}.toml"].read_text("utf-8"))
        jsonschema.validate(document, json_schema())


class TestShipped:
    @pytest.mark.parametrize("name", SHIPPED)
    def test_without_faults_and_with_sources(self, name: str) -> None:
        assert check_board(data_files("boards")[f"{name}.toml"]) == []
        board = load_board(name, {})
        assert board.name == name
        assert board.source
        assert board.wiring.notes

    def test_the_page_of_boards_has_each_with_its_chip(self) -> None:
        page = (HERE.parent / "docs" / "boards.md").read_text("utf-8")
        rows = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", page, re.MULTILINE))
        assert sorted(rows) == SHIPPED
        for name, flash in rows.items():
            board = load_board(name, {}).flash
            volts = f", {board.voltage:g} V" if board.voltage else ""
            chip = " or ".join(board.chip) or "any chip"
            assert flash == f"{chip}, {format_size(board.size)}{volts}"

    def test_breakout_names_every_pin_of_the_chip(self) -> None:
        board = load_board("ft232h-w25q128", {})
        assert [(pin.pin, pin.to.partition(" ")[0]) for pin in board.wiring.pin] == [
            ("1", "ADBUS3"),
            ("2", "ADBUS2"),
            ("3", board.programmer.wp),
            ("4", "GND"),
            ("5", "ADBUS1"),
            ("6", "ADBUS0"),
            ("7", board.programmer.hold),
            ("8", "3V3"),
        ]

    def test_two_chips_make_one_flash(self) -> None:
        """The layout of the source, 12 MiB, split at 8 MiB."""
        bottom, top = (load_board(f"lenovo-t440p-{name}", {}) for name in ("bottom", "top"))
        assert bottom.region_map().holes() == []
        assert top.region_map().holes() == []
        assert bottom.region_map()["me"].range == Range(0x3000, 0x500000 - 0x3000)
        low, high = bottom.region_map()["bios-low"].range, top.region_map()["bios-high"].range
        assert low.address == 0x500000
        assert low.length + high.length == 0xC00000 - 0x500000

    @pytest.mark.parametrize("name", ["qemu-q35-ovmf-2m", "qemu-q35-ovmf-4m"])
    def test_ovmf_regions_are_those_of_the_real_files(self, name: str) -> None:
        board = load_board(name, {})
        reference = board.reference
        assert reference is not None
        assert reference.vars is not None
        code, variables = Path(reference.code), Path(reference.vars)
        if not code.exists():
            pytest.skip("OVMF is not installed")
        content = variables.read_bytes() + code.read_bytes()
        assert len(content) == board.flash.size
        regions = board.region_map()
        assert regions.holes() == []

        def volume_length(address: int) -> int:
            assert content[address + 0x28 : address + 0x2C] == b"_FVH"
            return struct.unpack_from("<Q", content, address + 0x20)[0]

        for region in ("fvmain-compact", "seccode"):
            where = regions[region].range
            assert volume_length(where.address) == where.length
        assert volume_length(0) == variables.stat().st_size == regions["ftw-spare"].range.end
        # The store header says how large the variable area is, without the volume header.
        header, store_size = struct.unpack_from("<H", content, 0x30)[0], 16
        store_size = struct.unpack_from("<I", content, header + 16)[0]
        assert regions["vars"].range == Range(0, header + store_size)
        work = regions["ftw-work"].range
        assert content[work.address : work.address + 4] == bytes.fromhex("2b29589e")
        assert regions["ftw-spare"].range.length == regions["ftw-spare"].range.address
        assert board.nvram is not None
        assert board.nvram.work is not None
        assert board.nvram.spare is not None
        assert board.nvram.work.start == work.address
        assert board.nvram.spare.start == regions["ftw-spare"].range.address

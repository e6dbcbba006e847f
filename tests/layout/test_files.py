from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwflash.errors import EnvironmentFault, ImageError
from hwflash.layout import files
from hwflash.layout.files import Image, flatten, load_image, save_image
from hwflash.layout.records import Segment
from hwflash.units import Range

# Worked out by hand from the specification: 3 bytes at 0x10010 in two records.
IHEX = b":020000040001F9\r\n:020010001122BB\r\n:0100120033BA\r\n:00000001FF\r\n"
# The same in S-records.
SREC = b"S307000100101122B4\nS3060001001233B3\nS70500000000FA\n"


def error_of(path: Path, **options: str) -> ImageError:
    with pytest.raises(ImageError) as caught:
        load_image(path, **options)  # type: ignore[arg-type]
    return caught.value


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def ihex(*records: str) -> bytes:
    """Records given without colon and checksum."""
    lines: list[str] = []
    for record in records:
        total = sum(bytes.fromhex(record)) & 0xFF
        lines.append(f":{record}{-total & 0xFF:02X}\n")
    return "".join(lines).encode()


class TestLoad:
    def test_raw(self, tmp_path: Path) -> None:
        path = write(tmp_path, "image.bin", b"\x00\xff" * 100)
        image = load_image(path)
        assert image == Image(
            (Segment(0, b"\x00\xff" * 100),),
            False,
            "raw",
            str(path),
            hashlib.sha256(b"\x00\xff" * 100).hexdigest(),
        )
        assert image.size == 200
        assert image.range == Range(0, 200)

    @pytest.mark.parametrize(
        ("name", "content", "kind"),
        [
            ("a.hex", IHEX, "ihex"),
            ("a.bin", IHEX, "ihex"),
            ("a", SREC, "srec"),
            ("a.s37", SREC, "srec"),
        ],
    )
    def test_content_decides(self, tmp_path: Path, name: str, content: bytes, kind: str) -> None:
        image = load_image(write(tmp_path, name, content))
        assert image.format == kind
        assert image.absolute
        assert list(image) == [Segment(0x10010, b"\x11\x22\x33")]

    def test_byte_order_mark_and_blank_lines(self, tmp_path: Path) -> None:
        path = write(tmp_path, "a.hex", b"\xef\xbb\xbf\r\n" + IHEX + b"\r\n")
        assert load_image(path).segments == (Segment(0x10010, b"\x11\x22\x33"),)

    def test_format_given_wins_over_content(self, tmp_path: Path) -> None:
        image = load_image(write(tmp_path, "a.hex", IHEX), format="raw")
        assert image.segments == (Segment(0, IHEX),)
        assert not image.absolute

    def test_stream(self) -> None:
        image = load_image(io.BytesIO(b"abc"))
        assert (image.name, image.segments) == ("-", (Segment(0, b"abc"),))
        assert load_image(io.BytesIO(SREC)).segments[0].address == 0x10010

    def test_pipe_is_read_once(self, tmp_path: Path) -> None:
        path = tmp_path / "pipe"
        os.mkfifo(path)
        writer = threading.Thread(target=path.write_bytes, args=(b"through a pipe",))
        writer.start()
        assert load_image(path).segments == (Segment(0, b"through a pipe"),)
        writer.join()

    def test_gaps_and_order(self, tmp_path: Path) -> None:
        content = ihex("02010000AABB", "02000000CCDD", "010002 00EE".replace(" ", ""), "00000001")
        image = load_image(write(tmp_path, "a", content))
        assert image.segments == (Segment(0, b"\xcc\xdd\xee"), Segment(0x100, b"\xaa\xbb"))
        assert image.size == 5
        assert image.flat()[:4] == b"\xcc\xdd\xee\xff"
        assert len(image.flat()) == 0x102

    def test_segment_and_linear_bases_replace_each_other(self, tmp_path: Path) -> None:
        content = ihex("020000021000", "0100000011", "020000040002", "0100000022", "00000001")
        image = load_image(write(tmp_path, "a", content))
        assert image.segments == (Segment(0x10000, b"\x11"), Segment(0x20000, b"\x22"))

    def test_bincopy_is_loaded_only_for_records(self) -> None:
        code = (
            "import io, sys; from hwflash.layout.files import load_image;"
            "load_image(io.BytesIO(b'raw')); assert 'bincopy' not in sys.modules;"
            "load_image(io.BytesIO(b':00000001FF'), format='raw');"
            "assert 'bincopy' not in sys.modules"
        )
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class TestRefused:
    @pytest.mark.parametrize("content", [b"", b":00000001FF\n"])
    def test_empty(self, tmp_path: Path, content: bytes) -> None:
        error = error_of(write(tmp_path, "a.bin", content))
        assert (error.code, error.exit_code) == ("image.empty", 7)

    @pytest.mark.parametrize(
        ("content", "line", "text"),
        [
            (IHEX.replace(b"33BA", b"33BB"), 3, "crc"),
            (IHEX.replace(b":020010", b":030010"), 2, "size"),
            (IHEX.replace(b"1122BB", b"11G2BB"), 2, "hex digits"),
            (IHEX.replace(b"1122BB", b"11\xe42BB"), 2, "hex digits"),
            (IHEX[:-13], 3, "cut short"),
            (IHEX + ihex("0100000011"), 5, "behind the end"),
            (ihex("01000007AA", "00000001"), 1, "type 07"),
            (ihex("0100000401", "00000001"), 1, "address record"),
            (ihex("020000021000", "02FFFF001122", "00000001"), 2, "64 KiB segment"),
            (ihex("02000004FFFF", "02FFFF001122", "00000001"), 2, "32-bit"),
            (SREC.replace(b"33B3", b"33B4"), 2, "crc"),
            (SREC[: SREC.index(b"S7")], 2, "cut short"),
            (SREC.replace(b"S705", b"S5030001FB\nS705"), 3, "count record of 1"),
            (SREC + SREC, 4, "behind the end"),
            (b":00000001FE\n", 1, "crc"),
        ],
    )
    def test_bad_records(self, tmp_path: Path, content: bytes, line: int, text: str) -> None:
        path = write(tmp_path, "fw", content)
        error = error_of(path)
        assert error.code == "image.hex-syntax"
        assert error.context["line"] == line
        assert error.context["file"] == str(path)
        assert text in error.message
        assert f"{path}, line {line}" in error.message

    def test_named_hex_but_binary(self, tmp_path: Path) -> None:
        path = write(tmp_path, "fw.HEX", b"\x00\x01")
        assert error_of(path).code == "image.hex-syntax"
        assert load_image(path, format="raw").size == 2

    @pytest.mark.parametrize(
        ("content", "address", "line"),
        [
            (ihex("02000000AABB", "01000100BB", "00000001"), 1, 2),
            (ihex("0400000001020304", "0200020009 09".replace(" ", ""), "00000001"), 2, 2),
            (ihex("02000200AABB", "0500000001020304 05".replace(" ", ""), "00000001"), 2, 1),
        ],
    )
    def test_overlap(self, tmp_path: Path, content: bytes, address: int, line: int) -> None:
        error = error_of(write(tmp_path, "a.hex", content))
        assert error.code == "image.overlap"
        assert error.context["address"] == address
        assert error.context["line"] == line

    def test_unreadable(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none.bin", tmp_path):
            error = error_of(path)
            assert error.code == "image.unreadable"
            assert str(path) in error.message

    def test_too_large_without_reading_it(self, tmp_path: Path) -> None:
        path = tmp_path / "big.bin"
        with path.open("wb") as stream:
            stream.truncate(files.SIZE_LIMIT + 1)
        error = error_of(path)
        assert error.code == "image.too-large"
        assert error.context["size"] == files.SIZE_LIMIT + 1

    def test_too_large_stream(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "SIZE_LIMIT", 10)
        assert load_image(io.BytesIO(b"x" * 10)).size == 10
        with pytest.raises(ImageError) as caught:
            load_image(io.BytesIO(b"x" * 11))
        assert caught.value.code == "image.too-large"

    @pytest.mark.parametrize("keep_time", [False, True])
    def test_changed_while_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_time: bool
    ) -> None:
        path = write(tmp_path, "a.bin", b"before")
        read = files._read_stream
        stamp = path.stat().st_mtime_ns

        def read_then_change(stream: files.ByteSource, name: str) -> bytes:
            content = read(stream, name)
            path.write_bytes(b"after!")
            if keep_time:
                os.utime(path, ns=(stamp, stamp))
            return content

        monkeypatch.setattr(files, "_read_stream", read_then_change)
        error = error_of(path)
        assert (error.code, error.context["file"]) == ("image.changed", str(path))

    def test_replaced_while_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path, "a.bin", b"before")
        read = files._read_stream

        def read_then_replace(stream: files.ByteSource, name: str) -> bytes:
            content = read(stream, name)
            write(tmp_path, "b.bin", b"before").replace(path)
            return content

        monkeypatch.setattr(files, "_read_stream", read_then_replace)
        assert error_of(path).code == "image.changed"


segment_lists = st.lists(
    st.tuples(st.integers(1, 200_000), st.binary(min_size=1, max_size=300)), min_size=1, max_size=6
).map(
    lambda parts: [
        Segment(sum(gap + len(data) for gap, data in parts[:index]) + gap, data)
        for index, (gap, data) in enumerate(parts)
    ]
)


class TestSave:
    @given(segments=segment_lists)
    @pytest.mark.parametrize("kind", ["ihex", "srec"])
    def test_records_come_back(self, segments: list[Segment], kind: str) -> None:
        stream = io.BytesIO()
        written = save_image(stream, segments[::-1], kind)  # type: ignore[arg-type]
        assert written == len(stream.getvalue())
        image = load_image(io.BytesIO(stream.getvalue()))
        assert image.format == kind
        assert list(image.segments) == segments

    @given(segments=segment_lists)
    def test_raw_is_filled(self, segments: list[Segment]) -> None:
        stream = io.BytesIO()
        save_image(stream, segments)
        content = stream.getvalue()
        start = segments[0].address
        for item in segments:
            assert content[item.address - start : item.range.end - start] == item.data
        assert len(content) == segments[-1].range.end - start
        gaps = len(content) - sum(len(item.data) for item in segments)
        covered = flatten([Segment(item.address, b"\0" * len(item.data)) for item in segments])
        assert covered.count(0xFF) == gaps

    def test_suffix_decides(self, tmp_path: Path) -> None:
        for name, start in (("a.hex", b":"), ("a.mot", b"S"), ("a.bin", b"\x55")):
            save_image(tmp_path / name, [Segment(16, b"\x55\xaa")])
            assert (tmp_path / name).read_bytes().startswith(start)

    def test_replaces_the_target_of_a_link_and_keeps_its_mode(self, tmp_path: Path) -> None:
        real = write(tmp_path, "real.bin", b"old")
        real.chmod(0o640)
        link = tmp_path / "link.bin"
        link.symlink_to(real)
        save_image(link, [Segment(0, b"new")])
        assert link.is_symlink()
        assert real.read_bytes() == b"new"
        assert real.stat().st_mode & 0o777 == 0o640
        assert sorted(item.name for item in tmp_path.iterdir()) == ["link.bin", "real.bin"]

    def test_failure_leaves_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(tmp_path, "a.bin", b"old")

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(files.os, "fsync", full)
        with pytest.raises(EnvironmentFault) as caught:
            save_image(path, [Segment(0, b"new")])
        assert caught.value.code == "environment.unwritable"
        assert "No space left" in caught.value.message
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(EnvironmentFault, match="cannot be written"):
            save_image(tmp_path / "none" / "a.bin", [Segment(0, b"x")])

    @pytest.mark.parametrize(
        ("segments", "kind", "code"),
        [
            ([], "raw", "image.empty"),
            ([Segment(0, b"ab"), Segment(1, b"c")], "ihex", "image.overlap"),
            ([Segment(0, b"a"), Segment(files.SIZE_LIMIT, b"b")], "raw", "image.too-large"),
            ([Segment((1 << 32) - 1, b"ab")], "srec", "image.too-large"),
        ],
    )
    def test_refused(self, tmp_path: Path, segments: list[Segment], kind: str, code: str) -> None:
        with pytest.raises(ImageError) as caught:
            save_image(tmp_path / "a", segments, kind)  # type: ignore[arg-type]
        assert caught.value.code == code
        assert list(tmp_path.iterdir()) == []

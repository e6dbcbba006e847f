"""What a simulated chip keeps when it is put away: the image and a JSON file beside it.

``FILE`` is the raw content; it is made of FF when it does not exist. ``FILE.state.json`` holds
the non-volatile registers, wear counters, security registers and what a power cut left; absent
means factory state. Both are replaced as a whole, the content first: after a crash each is
either old or new.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from array import array
from pathlib import Path
from typing import Any, cast

from hwflash.chip.model import Chip
from hwflash.errors import EnvironmentFault, ImageError
from hwflash.sim.die import NorDie

_VERSION = 1


def state_path(image: Path) -> Path:
    """Where the state of an image is kept."""
    return image.with_name(image.name + ".state.json")


def load_content(image: Path, chip: Chip) -> bytearray:
    """The content of an image file, or an erased chip when there is none.

    Raises:
        ImageError: code ``sim.image-size``: the file is not as large as the chip.
        EnvironmentFault: the file cannot be read, or is no file but a device, a pipe or a folder.
    """
    try:
        if not stat.S_ISREG(image.stat().st_mode):  # a device may have no end, a pipe no beginning
            raise EnvironmentFault(
                f"{image} is not a regular file", code="sim.image-unreadable", path=image
            )
        content = bytearray(image.read_bytes())
    except FileNotFoundError:
        return bytearray(b"\xff") * chip.size
    except OSError as error:
        raise EnvironmentFault(
            f"{image} cannot be read: {error.strerror}", code="sim.image-unreadable", path=image
        ) from error
    if len(content) != chip.size:
        raise ImageError(
            f"{image} has {len(content):,} bytes, {chip.part} has {chip.size:,}",
            code="sim.image-size",
            path=image,
            found=len(content),
            expected=chip.size,
        )
    return content


def load_state(image: Path, die: NorDie) -> None:
    """Give a new die the state kept beside an image; nothing happens when there is none.

    Raises:
        ImageError: code ``sim.state``: the file is damaged or belongs to another chip.
    """
    path = state_path(image)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error)) from error
    try:
        _apply(json.loads(text), die)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise _damaged(path, str(error)) from error
    die.restart()


def save(image: Path, die: NorDie) -> None:
    """Write the image and its state.

    Raises:
        EnvironmentFault: the folder or disk does not take them.
    """
    state = {
        "v": _VERSION,
        "part": die.chip.part,
        "jedec_id": die.chip.jedec_id.hex(),
        "registers": {str(number): value for number, value in die.status.stored.items()},
        "wear_block": die.array.wear_block,
        "wear": die.wear,
        "otp": {str(address): cells.hex() for address, cells in die.otp.cells.items()},
        "configuration": die.nonvolatile,
        "power_cut": die.cut,
        "lock_bits": die.locks.bits.dump(),
        "otp_locked": die.otp.locked_down,
        "locked_down": f"{die.locks.locked_down:x}",
    }
    try:
        _replace(image, die.content)
        _replace(state_path(image), json.dumps(state).encode())
    except OSError as error:
        raise EnvironmentFault(
            f"{image} cannot be written: {error.strerror}", code="sim.image-unwritable", path=image
        ) from error


def _apply(state: Any, die: NorDie) -> None:
    if state["v"] != _VERSION:
        raise ValueError(f"version {state['v']!r} is not {_VERSION}")
    if state["jedec_id"] != die.chip.jedec_id.hex():
        raise ValueError(f"it belongs to a chip with the id {state['jedec_id']}")
    registers = {int(number): int(value) for number, value in state["registers"].items()}
    if set(registers) != set(die.status.numbers) or any(v >> 8 for v in registers.values()):
        raise ValueError("the registers are not those of the chip")
    wear = array("L", cast("list[int]", state["wear"]))
    if state["wear_block"] != die.array.wear_block or len(wear) != len(die.array.wear):
        raise ValueError("the wear counters are not those of the chip")
    die.otp.locked_down = bool(state.get("otp_locked", False))
    otp = {int(place): bytearray.fromhex(text) for place, text in state["otp"].items()}
    # Areas that an older version did not know are blank.
    if any(len(die.otp.cells.get(place, b"")) != len(cells) for place, cells in otp.items()):
        raise ValueError("the security registers are not those of the chip")
    configuration = state.get("configuration", 0xFFFF)  # not in states of older versions
    if not isinstance(configuration, int) or not 0 <= configuration <= 0xFFFF:
        raise ValueError("the configuration register is not described")
    cut = state["power_cut"]
    if cut is not None and not isinstance(cut, dict):
        raise ValueError("the power cut is not described")
    if "lock_bits" in state:  # absent where an older version kept it
        die.locks.bits.load(state["lock_bits"])
    die.locks.locked_down = int(state.get("locked_down", "0"), 16)
    die.nonvolatile = configuration
    die.status.stored = registers
    die.array.wear = wear
    die.otp.cells = die.otp.cells | otp
    die.cut = cast("dict[str, object] | None", cut)


def _damaged(path: Path, reason: str) -> ImageError:
    return ImageError(
        f"{path} is not a usable chip state: {reason}", code="sim.state", path=path, reason=reason
    )


def _replace(path: Path, data: bytes | bytearray) -> None:
    """Write a file so that it is never half there."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise

"""The driver: hwflash's command line, run where the programmer is, as labgrid methods."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import attr
from attr.validators import instance_of, optional
from labgrid.driver.common import Driver
from labgrid.factory import target_factory
from labgrid.protocol import BootstrapProtocol
from labgrid.step import step

from hwflash_labgrid import remote
from hwflash_labgrid.errors import UNCHANGED, UNKNOWN, HwflashError, from_result
from hwflash_labgrid.phases import Phases
from hwflash_labgrid.place import require_ours, session_of
from hwflash_labgrid.programmer import environment, programmer, wrapped

#: Commands that cannot change a chip. After all others, also those that a later hwflash will
#: have, a lost connection leaves it unknown.
_READING: Final = frozenset({
    "list", "probe", "read", "verify", "chips", "boards", "compare", "layout", "qemu", "console",
    "history", "doctor", "bench", "completion", "vars list", "vars get", "vars export",
    "vars diff", "vars check", "ftw status", "keys list", "job check",
})  # fmt: skip


@target_factory.reg_driver
@attr.s(eq=False)
class HwflashDriver(Driver, BootstrapProtocol):
    """Programs, reads and verifies the flash chip of a board with hwflash.

    hwflash runs on the computer with the programmer, over ssh for a network resource, and is
    stopped at a safe point when the caller is interrupted, killed, cut off or out of time.

    Args:
        image: key of ``images:`` in the environment file, for `load` without a file.
        board: name of a board, or path of a board file, where hwflash runs; comes before the
            resource's own.
        query: more of the programmer URL, such as ``cs=1`` or ``frequency=10M&wp=none``.
        options: more words for every command that touches the chip, such as
            ``["--chip", "W25Q128JV"]``.
        timeout: seconds after which a command is asked to stop.
        stop_timeout: seconds that hwflash has to stop in; it finishes the block it is at.
    """

    bindings = {  # noqa: RUF012 - labgrid's way
        "programmer": {
            "HwflashProgrammer",
            "NetworkHwflashProgrammer",
            "USBDebugger",
            "NetworkUSBDebugger",
        }
    }

    image: str | None = attr.ib(default=None, validator=optional(instance_of(str)))
    board: str | None = attr.ib(default=None, validator=optional(instance_of(str)))
    query: str = attr.ib(default="", validator=instance_of(str))
    options: list[str] = attr.ib(factory=list, validator=instance_of(list))
    timeout: float = attr.ib(default=3600.0, validator=instance_of((int, float)))
    stop_timeout: float = attr.ib(default=60.0, validator=instance_of((int, float)))

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        config = self._config
        self.tool = config.get_tool("hwflash") if config else "hwflash"

    # --- what a test calls ----------------------------------------------------------------

    @Driver.check_active
    @step()
    def probe(self) -> dict[str, Any]:
        """What chip it is: hwflash's result, with ``part``, ``jedec_id``, ``size`` and more."""
        return self._chip("probe")[0]

    @Driver.check_active
    @step(args=["filename"])
    def load(self, filename: str | None = None) -> dict[str, Any]:
        """Write an image into the chip, from its beginning, and verify it.

        Args:
            filename: image on this computer, raw, Intel HEX or S-record; None for the driver's
                ``image``.
        """
        if filename is None:
            if self.image is None or self._config is None:
                raise HwflashError("labgrid.image", "no image is named")
            filename = str(self._config.get_image_path(self.image))
        return self._chip("write", "--yes", image=filename)[0]

    @Driver.check_active
    @step(args=["filename", "words"])
    def write(self, filename: str, *words: str) -> dict[str, Any]:
        """Write a file with options of ``hwflash write``, such as ``"--at", "0x10000"``."""
        return self._chip("write", "--yes", *words, image=filename)[0]

    @Driver.check_active
    @step(args=["filename", "words"])
    def verify(self, filename: str, *words: str) -> dict[str, Any]:
        """Compare the chip with a file.

        Raises:
            HwflashError: ``differs``; ``result["mismatches"]`` says where.
        """
        return self._chip("verify", *words, image=filename)[0]

    @Driver.check_active
    @step(args=["filename", "words"])
    def read(self, filename: str, *words: str) -> dict[str, Any]:
        """Read the chip into a file here, with options such as ``"--range", "0:64K"``.

        The file is written when all of it is here, as hwflash hashed it.
        """
        told = any(word.partition("=")[0] == "--format" for word in words)
        raw = not told or "--format=raw" in words or ("--format", "raw") in pairwise(words)
        wanted = () if told else ("--format", "raw")
        result, data = self._chip("read", *wanted, *words, get=True)
        if raw and hashlib.sha256(data).hexdigest() != result["sha256"]:
            raise HwflashError("labgrid.bad-answer", f"{len(data)} bytes came with another hash")
        Path(filename).write_bytes(data)
        return result

    @Driver.check_active
    @step(args=["job"])
    def resume(self, job: str | None = None) -> dict[str, Any]:
        """Go on with a write that stopped half way.

        Args:
            job: its name in the journal (`HwflashError.job`); None for the only one there.
        """
        return self._chip("write", "--yes", "--resume", *([job] if job else []))[0]

    @Driver.check_active
    @step(args=["backup"])
    def restore(self, backup: str) -> dict[str, Any]:
        """Write a backup back: ``result["backup"]`` of a write, a path where hwflash runs."""
        return self._chip("write", "--yes", "--restore", backup)[0]

    @Driver.check_active
    @step()
    def vars_list(self) -> list[dict[str, Any]]:
        """The live UEFI variables: ``name``, ``guid``, ``attributes``, ``data`` (hex) and more."""
        return self._vars("list")["variables"]

    @Driver.check_active
    @step(args=["name", "guid"])
    def vars_get(self, name: str, guid: str | None = None) -> bytes:
        """The value of a UEFI variable."""
        words = ("--guid", guid) if guid else ()
        variable = self._vars("get", name, *words)["variable"]
        return bytes.fromhex(variable["data"])

    @Driver.check_active
    @step(args=["name", "value", "guid", "words"])
    def vars_set(
        self, name: str, value: bytes, guid: str | None = None, *words: str
    ) -> dict[str, Any]:
        """Give a UEFI variable a value, as firmware would.

        Args:
            name: of the variable.
            value: its bytes.
            guid: its vendor; None as ``hwflash vars set`` has it.
            words: more options, such as ``"--attributes", "NV+BS+RT"``.
        """
        words = (*words, "--guid", guid) if guid else words
        return self._vars("set", name, "--yes", "--hex", value.hex(), *words)

    @Driver.check_active
    @step(args=["command", "words"])
    def run(self, command: str, *words: str) -> dict[str, Any]:
        """Any command of hwflash with ``--json``; no programmer is added.

        Returns:
            Its result, with the keys that hwflash's documentation has.

        Raises:
            HwflashError: it failed, differed, or could not be run.
        """
        return self._run([command, *words])[0]

    @property
    def url(self) -> str:
        """The programmer URL, as hwflash is given it."""
        url = programmer(self._resource).url
        if not self.query:
            return url
        return f"{url}{'&' if '?' in url else '?'}{self.query}"

    # --- inside ---------------------------------------------------------------------------

    @property
    def _config(self) -> Any:
        """The environment file, if there is one."""
        env = getattr(self.target, "env", None)
        return env.config if env else None

    @property
    def _resource(self) -> Any:
        return self.programmer  # type: ignore[attr-defined] - set by the binding

    def _chip(
        self, *words: str, image: str | None = None, get: bool = False
    ) -> tuple[dict[str, Any], bytes]:
        return self._run([*words, "-p", self.url, *self._more()], image, get)

    def _vars(self, verb: str, *words: str) -> dict[str, Any]:
        return self._run(["vars", verb, self.url, *words, *self._more()])[0]

    def _more(self) -> list[str]:
        board = self.board or programmer(self._resource).board
        return [*(["-b", board] if board else []), *self.options]

    def _run(
        self, words: list[str], image: str | None = None, get: bool = False
    ) -> tuple[dict[str, Any], bytes]:
        """The result of a command, and the file that it wrote if we are to ``get`` one."""
        require_ours(self._resource)
        found = programmer(self._resource)
        data = _content(image)
        command = remote.guarded(
            [*environment(found, session_of(self._resource)), self.tool, *words, "--json"],
            put=None if data is None else len(data),
            get=get,
            name=Path(image or "file").name,
        )
        if found.remote:
            command = wrapped(self._resource, command)
        with Phases(self) as phases:
            run = remote.Run(command, data or b"", phases.heard)
            answer = run.finish(self.timeout, self.stop_timeout)
        with _interrupted(self.logger, answer.stopped):
            result = self._judge(words, answer)
            if get:
                _require_whole(answer)
            return result, answer.data

    def _judge(self, words: list[str], answer: remote.Answer) -> dict[str, Any]:
        """The result of a run, or what it means that there is none."""
        reading = words[0] in _READING or " ".join(words[:2]) in _READING
        chip = UNCHANGED if reading else UNKNOWN
        name = f"hwflash {words[0]}"
        if answer.result is not None:
            if answer.result["ok"]:
                return dict(answer.result)
            raise from_result(answer.result)
        if answer.code is None:
            code, message = "labgrid.still-running", f"{name} did not stop when it was asked to"
        elif answer.code == remote.SSH_FAILED:
            code, message = "labgrid.connection-lost", f"the connection was lost during {name}"
        elif answer.begun:
            code, message = "labgrid.bad-answer", f"{name} ended with {answer.code}, and no result"
        else:
            chip = UNCHANGED  # it says what it begins with before it touches anything
            code, message = _never_began(self.tool, answer)
        raise HwflashError(code, message, chip=chip, stderr=answer.stderr)


def _never_began(tool: str, answer: remote.Answer) -> tuple[str, str]:
    if answer.code in remote.NOT_FOUND:
        return "labgrid.no-hwflash", f"there is no program {tool} where the programmer is"
    if answer.code == remote.NO_ROOM:
        return "labgrid.exporter-disk", "the image cannot be stored where the programmer is"
    if answer.stopped or answer.code == remote.TERMINATED:
        return "labgrid.stopped", "stopped before hwflash had begun"
    return "labgrid.bad-answer", f"{tool} ended with {answer.code}, and said nothing"


def _require_whole(answer: remote.Answer) -> None:
    """See that the file behind a result came to its end."""
    if answer.code in (0, 1):
        return
    code = "labgrid.stopped" if answer.stopped else "labgrid.bad-answer"
    if answer.code == remote.SSH_FAILED:
        code = "labgrid.connection-lost"
    raise HwflashError(code, "not all of the file came", stderr=answer.stderr)


@contextmanager
def _interrupted(logger: Any, stopped: str) -> Generator[None]:
    """Ctrl-C stays Ctrl-C, but not without what became of the chip."""
    try:
        yield
    except HwflashError as exc:
        if stopped != "interrupt":
            raise
        logger.error("%s", exc)
        raise KeyboardInterrupt from exc
    if stopped == "interrupt":  # it was done before it could stop
        raise KeyboardInterrupt


def _content(image: str | None) -> bytes | None:
    if image is None:
        return None
    try:
        return Path(image).read_bytes()
    except OSError as exc:
        raise HwflashError(
            "labgrid.image", f"{image} cannot be read: {exc.strerror or exc}"
        ) from exc


@target_factory.reg_driver
@attr.s(eq=False)
class HwflashSerprogDriver(HwflashDriver):
    """The same for a serprog box behind a serial port.

    A class of its own, because nearly every place has a serial port, its console, and labgrid
    asks for a name whenever two resources fit one binding. A raw TCP port is spoken from here. A
    port of ser2net is telnet, which serprog cannot pass; hwflash then runs on the exporter, with
    the device itself.
    """

    bindings = {"programmer": "NetworkSerialPort"}  # noqa: RUF012 - labgrid's way

"""What goes wrong, as labgrid's own kind of exception.

An error of hwflash keeps its code, message, hint and what is known of the chip. Errors between
labgrid and hwflash have codes of their own, which begin with ``labgrid.``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from labgrid.driver.exception import ExecutionError

UNCHANGED: Final = "nothing was changed"
UNKNOWN: Final = "the chip is in an unknown state"

#: What helps, by code.
HINTS: Final = {
    "labgrid.coordinator-gone": "start the coordinator, then acquire the place again: a "
    "coordinator forgets who had which place",
    "labgrid.exporter-gone": "start the exporter on the computer with the programmer; the "
    "coordinator gives the resource back to the place within 15 seconds",
    "labgrid.not-acquired": "labgrid-client -p PLACE acquire",
    "labgrid.unreachable": "ssh to that computer must work without a password: keys, known_hosts",
    "labgrid.connection-lost": "hwflash stops by itself when the connection is gone; when the "
    "computer is back, resume() goes on with what was begun",
    "labgrid.no-hwflash": "install hwflash on the computer with the programmer, and name it in "
    "the environment file if it is not on the PATH there: tools: {hwflash: /path/of/hwflash}",
    "labgrid.exporter-disk": "free some space in /tmp on the computer with the programmer",
    "labgrid.not-ft232h": "match the FT232H (0403:6014) in the exporter's configuration",
    "labgrid.wrong-exporter": "start hwflash-labgrid-exporter there, not labgrid-exporter, or "
    "export NetworkHwflashProgrammer with its host",
    "labgrid.serial-protocol": "export the port as raw TCP, or as RawSerialPort or USBSerialPort "
    "by a labgrid exporter",
    "labgrid.still-running": "look on the computer with the programmer what hwflash is waiting for",
    "labgrid.bad-answer": "hwflash was killed on the computer with the programmer, or is a version "
    "that has no --json",
    "labgrid.stopped": "start it again",
    "labgrid.image": "give load() a file, or name one: images: in the environment file and image: "
    "at the driver",
    "differs": "write the image again, or look with `hwflash compare`",
}


class HwflashError(ExecutionError):
    """hwflash failed, or could not be run.

    Args:
        code: stable, dotted name: one of hwflash's, or one that begins with ``labgrid.``.
        message: what happened.
        chip: what the chip is known to be: "nothing was changed", "the chip is in an unknown
            state", or "the chip was not being written".
        hint: the command that helps.
        result: hwflash's whole result, if there was one.
        stderr: the last lines that came on stderr.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        chip: str = UNCHANGED,
        hint: str | None = None,
        result: Mapping[str, Any] | None = None,
        stderr: list[str] | None = None,
    ) -> None:
        self.code = code
        self.message = message
        self.chip = chip
        self.hint = hint if hint is not None else HINTS.get(code, "")
        self.result = dict(result or {})
        super().__init__(f"{message} [{code}]", [], stderr or [])  # pyright: ignore[reportCallIssue]

    def __str__(self) -> str:
        lines = [f"{self.message} [{self.code}]", f"chip: {self.chip}"]
        lines += [f"{word}: {text}" for word in ("resume", "restore") if (text := self.error(word))]
        lines += [f"hint: {self.hint}"] if self.hint else []
        return "\n".join([*lines, *(f"stderr: {line}" for line in self.stderr or [])])

    @property
    def unchanged(self) -> bool:
        """It is known that this run changed nothing on the chip."""
        return self.chip != UNKNOWN

    @property
    def job(self) -> str | None:
        """The name that hwflash's journal has for a write that stopped half way."""
        return (self.error("context") or {}).get("resume")

    def error(self, key: str) -> Any:
        """A key of hwflash's ``error`` object; None where there is none."""
        return (self.result.get("error") or {}).get(key)


def from_result(result: Mapping[str, Any]) -> HwflashError:
    """The exception for a result that is not ``ok``."""
    error: Mapping[str, Any] = result.get("error") or {}
    if error:
        return HwflashError(
            error["code"], error["message"], chip=error["chip"], hint=error["hint"], result=result
        )
    places = result.get("mismatches") or []
    total = sum(place["length"] for place in places)
    what = f"{total} bytes differ in {len(places)} places" if places else "they differ"
    return HwflashError("differs", f"{result['command']}: {what}", result=result)

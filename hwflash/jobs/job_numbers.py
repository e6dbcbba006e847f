"""New numbers for a unit: from a counter, a CSV file or a command."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwflash.errors import EnvironmentFault, HwflashError, ImageError
from hwflash.jobs.jobfile_form import COUNTED, JobForm, MacTable, NumberTable, SerialTable, to_mac
from hwflash.jobs.placeholders import UnitValues, fill, mac_text
from hwflash.jobs.run_command import run_command
from hwflash.jobs.serials import Ledger, Number
from hwflash.jobs.unit_sheet import Line, Sheet, identity, read_sheet, require_sound
from hwflash.progress import CancelToken

#: All jobs share one series of MAC addresses unless they say otherwise.
MAC_SERIES = "mac"


@dataclass(frozen=True, slots=True)
class Supply:
    """Where a job's numbers come from.

    Attributes:
        form: the job file.
        folder: its folder; files and commands are meant from there.
    """

    form: JobForm
    folder: Path

    @property
    def series(self) -> dict[str, str]:
        """The series of each role that the job needs."""
        form, found = self.form, dict[str, str]()
        if form.serial is not None:
            found["serial"] = f"serial:{form.serial.series or form.job.name}"
        if form.mac is not None:
            found["mac"] = f"mac:{form.mac.series or MAC_SERIES}"
        if form.csv is not None:
            found["csv"] = f"csv:{form.job.name}"
        return found

    @property
    def key(self) -> str | None:
        """The column that tells lines apart: the one named, or that of a number."""
        if self.form.csv is not None and self.form.csv.key is not None:
            return self.form.csv.key
        tables = (self.form.serial, self.form.mac)
        columns = [item.column for item in tables if item is not None and item.source == "csv"]
        return next((item for item in columns if item is not None), None)

    @property
    def identities(self) -> dict[str, str]:
        """Columns in which no value may come twice, with their roles."""
        found = {self.key: "csv"} if self.key is not None else {}
        for role, table in (("serial", self.form.serial), ("mac", self.form.mac)):
            if table is not None and table.source == "csv" and table.column is not None:
                found[table.column] = role
        return found

    @property
    def asks(self) -> bool:
        """Whether a command gives some of its numbers."""
        tables = (self.form.serial, self.form.mac)
        return any(item is not None and item.source == "command" for item in tables)

    def sheet(self) -> Sheet | None:
        """The CSV file as it is now, or None when the job has none."""
        if self.form.csv is None:
            return None
        return read_sheet(self.folder / self.form.csv.file, self.identities)

    def ask(self, unit: int, chip: str | None, cancel: CancelToken) -> dict[str, str]:
        """Run the commands that give numbers; what each said, by role.

        Raises:
            EnvironmentFault: one failed, or gave no number (``serial.command``).
            Interrupted: a stop was asked for.
        """
        said: dict[str, str] = {}
        values = UnitValues(unit=unit, chip=chip or "")
        for role, table in (("serial", self.form.serial), ("mac", self.form.mac)):
            if table is not None and table.source == "command":
                said[role] = self._ask(role, table, values, cancel)
        return said

    def choose(self, said: dict[str, str]) -> Callable[[Ledger], Sequence[Number]]:
        """What picks a unit's numbers, for `hwflash.jobs.serials.SerialStore.take`.

        Args:
            said: what commands gave.
        """

        def pick(ledger: Ledger) -> list[Number]:
            if self.asks and not said:
                raise EnvironmentFault(
                    "another process took the numbers that were free to be used again",
                    code="serial.raced",
                )
            line = self._free_line(ledger)
            found: list[Number] = []
            if line is not None:
                found.append(Number("csv", self.series["csv"], self._key_of(line)))
            if self.form.serial is not None:
                found.append(self._serial(self.form.serial, ledger, line, said))
            if self.form.mac is not None:
                found += self._macs(self.form.mac, ledger, line, said)
            return found

        return pick

    def values(
        self, numbers: Sequence[Number], unit: int, chip: str | None
    ) -> UnitValues:  # fmt: skip
        """What placeholders stand for, for a unit with these numbers.

        Raises:
            ImageError: its line is no longer in the CSV file (``serial.csv-line``).
        """
        of = {item.role: item.value for item in numbers}
        macs = sorted(int(item.value, 16) for item in numbers if item.role == "mac")
        row: dict[str, str] = {}
        sheet = self.sheet()
        if sheet is not None:
            require_sound(sheet)
            lines = [line for line in sheet.lines if self._key_of(line) == of["csv"]]
            if not lines:
                raise ImageError(
                    f"{sheet.name} has no line for {of['csv']!r} any more",
                    code="serial.csv-line",
                    file=sheet.name,
                    key=of["csv"],
                )
            row = dict(lines[0].values)
        return UnitValues(of.get("serial"), tuple(macs), row, unit, chip or "")

    def _key_of(self, line: Line) -> str:
        key = self.key or ""
        role = self.identities.get(key, "csv")
        return identity(role, line.values[key])

    def _free_line(self, ledger: Ledger) -> Line | None:
        sheet = self.sheet()
        if sheet is None:
            return None
        require_sound(sheet)
        for line in sheet.lines:
            if not ledger.taken(self.series["csv"], self._key_of(line)):
                return line
        raise ImageError(
            f"all {len(sheet.lines)} lines of {sheet.name} were handed out",
            code="serial.exhausted",
            file=sheet.name,
        )

    def _serial(
        self, table: SerialTable, ledger: Ledger, line: Line | None, said: dict[str, str]
    ) -> Number:
        series = self.series["serial"]
        if line is not None and table.source == "csv":
            return Number("serial", series, line.values[table.column or ""])
        if table.source == "command":
            return Number("serial", series, said["serial"])
        position = first_free(ledger, series, table.start or 0, table.last, table.step)
        while position is not None:
            text = serial_text(table, position)
            if text is not None and not ledger.taken(series, text):
                return Number("serial", series, text, position)
            if text is None or (table.last is not None and position + table.step > table.last):
                break
            position += table.step
        raise _exhausted("serial", series)

    def _macs(
        self, table: MacTable, ledger: Ledger, line: Line | None, said: dict[str, str]
    ) -> list[Number]:
        series = self.series["mac"]
        if table.source == "counter":
            low, high = table.start or 0, table.last or 0
            first = first_free(ledger, series, low, high, table.increment)
            if first is None or first + table.increment - 1 > high:
                raise _exhausted("mac", series)
        else:
            from_line = line.values[table.column or ""] if line is not None else ""
            first = to_mac(said["mac"] if table.source == "command" else from_line)
            if fault := mac_fault(first, table):
                text = mac_text(first)
                raise ImageError(f"MAC address {text} {fault}", code="serial.mac", value=text)
        return [
            Number("mac", series, f"{address:012x}", address)
            for address in range(first, first + table.increment)
        ]

    def _ask(self, role: str, table: NumberTable, values: UnitValues, cancel: CancelToken) -> str:
        words = [fill(word, values) for word in table.command or []]
        environ = {**os.environ, "HWFLASH_JOB": self.form.job.name, "HWFLASH_CHIP": values.chip}
        ran = run_command(
            words, folder=self.folder, timeout=table.timeout, environ=environ, cancel=cancel
        )
        cancel.check()
        problem = ran.problem or (f"ended with {ran.exit_code}" if ran.exit_code else "")
        text = ""
        if not problem:
            try:
                text = ran.out.decode("utf-8").strip()
                identity(role, text)
            except UnicodeDecodeError:
                problem = "printed no UTF-8 text"
            except ValueError as error:
                problem = f"printed {text[:60]!r}, which {error}"
        if problem:
            raise EnvironmentFault(
                f"{words[0]}, which gives the {role}, {problem}",
                code="serial.command",
                command=words,
                said=ran.err.decode("utf-8", "replace").strip()[-300:] or None,
            )
        return text


def mac_fault(address: int, table: MacTable) -> str | None:
    """Why an address is none for a unit.

    Ref: IEEE 802, bits 0 (group) and 1 (locally administered) of the first octet.
    """
    first = address >> 40
    if first & 1:
        return "is a group address (bit 0 of its first octet)"
    if bool(first & 2) == table.local:
        return None
    if table.local:
        return "is not locally administered (bit 1 of its first octet is 0)"
    return "is locally administered (bit 1 of its first octet): say local = true"


def first_free(ledger: Ledger, series: str, low: int, high: int | None, step: int) -> int | None:
    """The first number of a counter behind all that were handed out; None when it has none left."""
    top = high if high is not None else 10**18
    used = ledger.highest(series, low, top)
    position = low if used is None else low + (used - low) // step * step + step
    return position if position <= top else None


def serial_text(table: SerialTable, position: int) -> str | None:
    """A counter's number in the job's format; None when it has more digits than that has."""
    pattern = table.format or "{n}"
    match = COUNTED.search(pattern)
    width, base = (int(match[1] or 0), match[2] or "d") if match else (0, "d")
    digits = format(position, base).rjust(width, "0")
    if width and len(digits) > width:
        return None
    return COUNTED.sub(digits, pattern)


def shown(numbers: Sequence[Number]) -> str:
    """Numbers in words."""
    return ", ".join(
        f"{item.role} {mac_text(int(item.value, 16)) if item.role == 'mac' else item.value}"
        for item in numbers
    )


def _exhausted(role: str, series: str) -> HwflashError:
    return ImageError(
        f"the counter of {role} numbers ({series}) has none left",
        code="serial.exhausted",
        series=series,
    )

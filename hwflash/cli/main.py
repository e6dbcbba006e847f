"""The root command. Commands are loaded when they are called, so that help comes at once."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Final

import click

from hwflash import __version__
from hwflash.cli import runner
from hwflash.errors import HwflashError, UsageError

#: Name, module, one line of help.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "list": ("list_", "List the programmers that are attached."),
    "probe": ("probe", "Identify the chip and show what it is and what is protected."),
    "contact": ("contact", "Test clip and wires: shorts, swaps, supply, rising clocks."),
    "read": ("read", "Read the chip, or parts of it, into a file."),
    "write": ("write", "Write a file into the chip: back up, plan, confirm, write, verify."),
    "verify": ("verify", "Compare the chip with a file."),
    "erase": ("erase", "Erase the chip, or parts of it."),
    "protect": ("protect", "Show and change what the chip itself protects against writing."),
    "otp": ("otp", "Read, write and lock the security registers of the chip."),
    "registers": ("registers", "Show the status and configuration registers of the chip in words."),
    "reset": ("reset", "Wake and reset a chip that does not listen."),
    "chips": ("chips", "Look into the chip catalog and decode SFDP tables."),
    "boards": ("boards", "List, show and check board files."),
    "vars": ("vars", "Look at and change the UEFI variables of an image, a chip or a board."),
    "ftw": ("ftw", "Finish or repair fault-tolerant writes of a variable store."),
    "keys": ("keys", "List, enrol and remove the Secure Boot keys of a variable store."),
    "compare": ("compare", "Compare two flash contents: bytes, regions, modules, variables."),
    "layout": ("layout", "Draw the map of a firmware image: regions, volumes, addresses."),
    "gbe": ("gbe", "Show and change the MAC address in the GbE region."),
    "qemu": ("qemu", "Describe, boot and check the simulated reference: OVMF in QEMU."),
    "job": ("job", "Check and run job files: image, variables and numbers, unit after unit."),
    "power": ("power", "Switch a board on and off, as its board file says."),
    "console": ("console", "Watch the serial console of a board."),
    "serve": ("serve", "Put a programmer behind a protocol for flashrom and other computers."),
    "tui": ("tui", "Open the technician's bench: a screen for a day of flashing boards."),
    "history": ("history", "Look at what was done to which chip, and make reports of it."),
    "doctor": ("doctor", "Check this computer: libusb, udev rules, access, tools."),
    "bench": ("bench", "Measure jobs on a simulated programmer, beside their limits."),
    "completion": ("completion", "Print the completion script for a shell."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of a user's day."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"hwflash.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the names that were nearly meant."""
        import difflib

        name = args[0] if args else ""
        completing = ctx.resilient_parsing  # while a line is typed, half a name is no error
        if name and name not in COMMANDS and not name.startswith("-") and not completing:
            near = difflib.get_close_matches(name, COMMANDS, n=3, cutoff=0.65)
            raise click.UsageError(
                f"no such command {name!r}" + (f"; did you mean {', '.join(near)}?" if near else "")
            )
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Without hardware: hwflash probe -p sim://w25q128jv",
)
@click.version_option(__version__, prog_name="hwflash")
def root() -> None:
    """Program and verify SPI NOR flash on real boards.

    Nothing is written before the chip is identified, checked, backed up and planned for. Every
    error says whether the chip was changed.
    """
    runner.set_up_logging()


def _name(arguments: list[str]) -> str:
    """The command that was meant, as results name it: ``probe``, ``chips show``."""
    words = [word for word in arguments if not word.startswith("-")]
    grouped = words[:1] in (
        ["chips"],
        ["boards"],
        ["serve"],
        ["vars"],
        ["ftw"],
        ["job"],
        ["keys"],
        ["qemu"],
        ["history"],
        ["power"],
        ["protect"],
        ["otp"],
        ["gbe"],
    )
    return " ".join(words[: 2 if grouped else 1]) or "hwflash"


def _fill_standard_streams() -> None:
    """Open what the caller closed (``<&-``, ``>&-``), and give it to nobody.

    The next file would else get its number: a library's complaint would go into a backup, and a
    worker would find the null device where it was to inherit the image.
    """
    while True:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor > 2:  # 0 to 2 are taken now
            os.close(descriptor)
            return


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``hwflash``."""
    _fill_standard_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    json_lines = "--json" in arguments
    try:
        outcome: Any = root.main(args=arguments, prog_name="hwflash", standalone_mode=False)
    except click.exceptions.Abort:
        raise SystemExit(runner.diagnostics.INTERRUPTED) from None
    except click.exceptions.NoArgsIsHelpError as exc:
        exc.show()
        runner.leave(exc.exit_code)
    except click.ClickException as exc:
        error = UsageError(exc.format_message(), code="usage.command-line")
        runner.fail(_name(arguments), error, json_lines=json_lines)
    except HwflashError as exc:
        runner.debug_traceback()
        runner.fail(_name(arguments), exc, json_lines=json_lines)
    raise SystemExit(outcome if isinstance(outcome, int) else 0)

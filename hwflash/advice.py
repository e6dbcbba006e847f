"""Whose fault an error probably is, and the command that helps, by its code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Advice:
    """Whose fault it probably is, and what helps."""

    blame: str
    hint: str


_WIRING: Final = "wiring or supply"
_UNSTEADY: Final = (
    "slower clocks were tried already: shorten the wires, check ground and supply, and that the "
    "board does not drive the bus; `hwflash contact` tells which"
)

_ACCEPT: Final = "--accept-other-board, in a job file job.accept_other_board"
_OTHER_BOARD: Final = Advice(
    "the wrong board, or other firmware on it",
    "`hwflash layout SOURCE` shows what the chip holds; if it is the right one all the same: "
    f"{_ACCEPT}",
)

#: By error code, or by its part before the last dot.
ADVICE: Final[Mapping[str, Advice]] = {
    "programmer.absent": Advice(
        "the programmer is not connected",
        "`hwflash list` shows what is attached; `-p sim://w25q128jv` works without hardware",
    ),
    "programmer.inaccessible": Advice(
        "permissions", "`sudo hwflash doctor --install-udev`, then plug the programmer in again"
    ),
    "programmer.busy": Advice(
        "another process or driver", "`hwflash doctor` names what holds it; end that and try again"
    ),
    "programmer.ambiguous": Advice("the command", "choose one with -p: `hwflash list`"),
    "programmer.lost": Advice(
        "cable, hub or supply", "check the cable, plug the programmer in again: `hwflash list`"
    ),
    "programmer.timeout": Advice("cable or hub", "plug the programmer in again: `hwflash list`"),
    "programmer.serprog-unreachable": Advice(
        "the address, or nobody serves there",
        "start `hwflash serve serprog` there; from another computer through a tunnel: "
        "`ssh -L 6475:127.0.0.1:6475 HOST`",
    ),
    "programmer.serprog-busy": Advice(
        "another client", "a server has one client at a time: wait for the other, or end it"
    ),
    "programmer.serprog-closed": Advice(
        "the server, the cable or the network", "look at the server's own messages; try again"
    ),
    "programmer.serprog-timeout": Advice(
        "cable, network or the device's firmware",
        "try again; for a serial port check the baud rate: `?baud=115200`",
    ),
    "programmer.serprog-sync": Advice(
        "the wrong port or baud rate, or a device that is no serprog programmer",
        "check the node and `?baud=`; reset the device and try again",
    ),
    "programmer.serprog-garbage": Advice(
        "the cable, the baud rate or the device's firmware",
        "shorten the cable or lower the rate: `?baud=115200`",
    ),
    "programmer.serprog-version": Advice("the device's firmware", "update the device's firmware"),
    "programmer.serprog-no-spi": Advice(
        "the device", "take a programmer for SPI chips; this one is for parallel, LPC or FWH"
    ),
    "programmer.serprog-nak": Advice(
        "the device's firmware", "it may promise longer operations than it can do; update it"
    ),
    "programmer.serprog-pins": Advice("the device, or the supply of the board", "check its wiring"),
    "programmer.serprog": Advice("the device's firmware", "update it, or take another device"),
    "trace.mismatch": Advice(
        "a change in what reaches the chip, or another image or chip",
        "look at both operations; if the change is meant, record the trace again with record+URL",
    ),
    "trace.ended": Advice(
        "a change in what reaches the chip", "if it is meant, record the trace again: record+URL"
    ),
    "trace.unfinished": Advice(
        "a change in what reaches the chip", "if it is meant, record the trace again: record+URL"
    ),
    "trace.unwritable": Advice("this computer", "name a file you can write with ?trace="),
    "trace": Advice("the trace file", "record it again: `-p record+URL?trace=FILE`"),
    "programmer.qemu-lost": Advice(
        "QEMU, or whatever ended it",
        "look at what it said; the image may be incomplete: `hwflash verify`",
    ),
    "programmer.qemu-timeout": Advice(
        "a QEMU that hangs, or was stopped", "try again; `hwflash doctor` checks this computer"
    ),
    "programmer.qemu-start": Advice("QEMU or the image file", "look at what QEMU said"),
    "programmer.qtest": Advice("the version of QEMU", "QEMU 7.2 is known to work"),
    "programmer": Advice("the programmer", "`hwflash doctor` checks programmer and computer"),
    "environment.libusb": Advice(
        "this computer", "install libusb: `apt-get install libusb-1.0-0`; `hwflash doctor`"
    ),
    "environment.port-in-use": Advice(
        "another program", "end it, or choose another port; `--listen 127.0.0.1:0` finds a free one"
    ),
    "environment.address": Advice(
        "the command", "listen at an address of this computer, such as --listen 127.0.0.1:0"
    ),
    "environment.qemu-missing": Advice(
        "this computer", "install QEMU: `apt-get install qemu-system-x86 qemu-system-arm`"
    ),
    "environment.qemu-version": Advice(
        "the version of QEMU", "qemu:// needs qemu-system-arm; version 7.2 is known to work"
    ),
    "environment.file-busy": Advice(
        "a program that uses the image", "end it, or write to a new file with -o NEWFILE"
    ),
    "environment.tui-missing": Advice("this computer", "`pip install 'hwflash[tui]'`"),
    "environment.unreadable": Advice("the file name, or permissions", "check the file"),
    "environment": Advice("this computer", "`hwflash doctor` checks it"),
    "history.locked": Advice(
        "a program that holds the database", "end it, such as a `sqlite3` shell, and try again"
    ),
    "history.full": Advice("the disk", "make room in the state directory"),
    "history.corrupt": Advice(
        "whatever damaged or replaced the file",
        "move it away: the next job begins a new one; `sqlite3 FILE .recover` may save the old one",
    ),
    "history.version": Advice("this hwflash is too old", "update hwflash"),
    "history.no-entry": Advice("the command", "`hwflash history list` shows the numbers"),
    "history.units": Advice("the command", "make a report of each unit"),
    "history": Advice("permissions, or the disk", "check the state directory: `hwflash doctor`"),
    "doctor.permission": Advice("permissions", "run it with sudo"),
    "state": Advice(
        "this computer", "set HWFLASH_STATE_DIR to a folder you can write: `hwflash doctor`"
    ),
    "backup": Advice("this computer", "name a folder you can write with --backup-dir"),
    "backup.damaged": Advice("the backup file", "restore from another backup"),
    "backup.unreadable": Advice("the file name", "name the .bin file of a backup"),
    "backup.other-chip": Advice("the wrong board", "connect the chip the backup was made from"),
    "journal.unwritable": Advice(
        "this computer", "make room or set HWFLASH_STATE_DIR: `hwflash doctor`"
    ),
    "journal.damaged": Advice(
        "what became of the files in the state directory",
        "`hwflash probe` and `hwflash protect status` show how the chip is; begin anew",
    ),
    "journal.overtaken": Advice(
        "firmware that ran in between, or another command",
        "`hwflash ftw recover SOURCE` finishes what is pending; `hwflash write --restore BACKUP` "
        "goes back",
    ),
    "journal.other-chip": Advice("the wrong board", "connect the chip the write began on"),
    "chip.absent": Advice(
        _WIRING,
        "check VCC, GND, CS# and MISO, and that HOLD# and WP# are high; the board itself must "
        "not drive the bus. `hwflash contact` tells which",
    ),
    "chip.unstable": Advice(_WIRING, _UNSTEADY),
    "chip.unstable-read": Advice(_WIRING, _UNSTEADY),
    "chip.unknown": Advice(
        "a part hwflash does not know",
        "name it with --chip (`hwflash chips list`) or describe it with --chip-file",
    ),
    "chip.unsupported": Advice("the part", "this part cannot be treated as ordinary NOR flash"),
    "chip.addressing": Advice("the part", "describe its 4-byte addressing with --chip-file"),
    "chip.conflict": Advice(
        "SFDP or the catalog", "decide with --chip NAME (`hwflash chips list`) or --size"
    ),
    "chip.stacked": Advice(
        "the part", "if you know that C2h selects its dies, insist on it with --chip NAME"
    ),
    "chip.ambiguous": Advice(
        "the part", "read what is printed on the chip, and name it with --chip NAME"
    ),
    "chip.nand": Advice("the part", "SPI NAND needs a tool that knows bad blocks and ECC"),
    "chip.dataflash": Advice("the part", "AT45DB DataFlash needs a tool made for it"),
    "chip.erased-value": Advice("the part", "no image for ordinary flash fits this part"),
    "chip.page-size": Advice(
        "SFDP or the part", "if the tables are wrong, name the part with --chip or --chip-file"
    ),
    "chip.voltage": Advice(
        "the wrong adapter",
        "use a level shifter, and say so with --allow-voltage; 3.3 V can destroy the chip",
    ),
    "chip.timeout": Advice("the chip, its supply or its HOLD# pin", "`hwflash probe`"),
    "chip.protected": Advice(
        "the chip's protection bits",
        "`hwflash protect status` says what is locked and how to lift it; `--lift-protection` "
        "lifts it for this command and puts it back",
    ),
    "otp.none": Advice(
        "the part, or the chip catalog", "describe them with --chip-file: docs/chips.md"
    ),
    "otp.twins": Advice(
        "parts with one id", "say which it is by the print on the chip: --chip NAME"
    ),
    "otp.locked": Advice(
        "whoever locked it", "nothing can change it any more; use another register"
    ),
    "otp.one-time": Advice(
        "what was written there before", "`hwflash otp read` shows what is free"
    ),
    "otp": Advice("the part", "`hwflash otp read` shows what it has"),
    "usage.otp": Advice("the command", "`hwflash otp read` shows the registers and their sizes"),
    "protection.refused": Advice(
        "WP# is low, or a lock of the registers",
        "`hwflash protect status`; raise WP# (wp= in the URL, or the board's jumper) and try again",
    ),
    "protection.register-locked": Advice(
        "whoever locked the registers",
        "`hwflash protect status` says how long; switch the board off and on where that helps",
    ),
    "protection.individual": Advice(
        "locks that hwflash does not read", "another tool has to unlock this part"
    ),
    "protection.unknown": Advice(
        "the chip catalog",
        "describe the part with --chip-file (docs/chips.md), or name one with --chip",
    ),
    "protection.twins": Advice(
        "parts with one id", "say which it is by the print on the chip: --chip NAME"
    ),
    "protection.no-volatile": Advice("the part", "leave --volatile out"),
    "protection.no-write-command": Advice("the chip catalog", "describe the part: docs/chips.md"),
    "protection.verify-failed": Advice(
        "the chip, its supply or the wiring", "`hwflash protect status` shows how it is now"
    ),
    "protection.not-restored": Advice(
        "cable, supply or WP#", "`hwflash write --resume` puts the protection back"
    ),
    "protection.volatile-refused": Advice(
        "the part", "leave --volatile out: the registers are then written for good"
    ),
    "protection.suspended": Advice(
        "whoever suspended a program or erase", "switch the chip off and on, or `hwflash reset`"
    ),
    "protection.unfinished": Advice(
        "a change of the protection that stopped half way",
        "`hwflash protect resume` finishes it, `hwflash protect restore` takes it back",
    ),
    "protection.persistent": Advice(
        "non-volatile lock bits of sectors",
        "`hwflash protect status` lists them; `hwflash protect clear` erases them, and they do not "
        "come back",
    ),
    "protection.locked-down": Advice(
        "whoever locked the blocks down for ever", "they can be written no more: take another part"
    ),
    "protection.held": Advice(
        "whoever locked the sector down", "switch the chip off and on, and try again"
    ),
    "protection.frozen": Advice(
        "whoever froze the lock bits",
        "switch the chip off and on before the firmware runs; a password is for another tool",
    ),
    "protection.one-time": Advice(
        "a bit that can be set only once", "`hwflash protect resume` finishes the change"
    ),
    "protection.lifted": Advice(
        "an unfinished write",
        "`hwflash write --resume` puts the protection back; `hwflash protect set` chooses another",
    ),
    "protection": Advice("the chip's protection", "`hwflash protect status`"),
    "usage.protect-range": Advice(
        "the part: its bits name a few ranges only",
        "`hwflash protect status --list` lists them; --nearest takes the next one",
    ),
    "usage.change": Advice(
        "the command", "`hwflash protect status` names the changes that stopped half way"
    ),
    "usage.protect-lock": Advice("the part", "`hwflash protect status` shows its bits"),
    "usage.protect-volatile": Advice("the command", "leave --volatile out"),
    "usage.confirm-text": Advice(
        "the command", "what cannot be undone wants the name of the chip: --confirm PART"
    ),
    "chip.busy-reset": Advice(
        "a program or erase that was begun earlier",
        "wait and try again; --force tears it, and what it was changing is then undefined",
    ),
    "chip.no-sfdp": Advice("the part", "`hwflash chips show PART` tells what the catalog knows"),
    "chip.write-enable": Advice("the chip's protection, or WP#", "`hwflash probe`"),
    "chip": Advice("the chip or its wiring", "`hwflash probe`"),
    "board.other-chip": Advice("the wrong board", "check the board, or leave out --board"),
    "board.other-size": Advice("the wrong board", "check the board, or leave out --board"),
    "board.other-unit": Advice("another unit of the board", "check which board is connected"),
    "board.other-descriptor": _OTHER_BOARD,
    "board.other-volume": _OTHER_BOARD,
    "board.other-map": _OTHER_BOARD,
    "board.blank": Advice(
        "a new chip, or the wrong one",
        "write a whole image of the board first; if it shall hold something else: "
        f"{_ACCEPT}",
    ),
    "board": Advice("the board file", "`hwflash boards check FILE` lists every fault"),
    "chip-file": Advice("the chip file", "see docs/chips.md for the form of chip files"),
    "ifd.none": Advice(
        "the image, or the wrong chip", "`hwflash layout SOURCE` shows what is there"
    ),
    "ifd": Advice(
        "the flash descriptor",
        "name regions by a layout file instead: --layout FILE; a good dump of the board helps",
    ),
    "fmap.none": Advice("the image", "`hwflash layout SOURCE` shows what is there"),
    "fmap": Advice("the FMAP in the image", "name regions by a layout file instead: --layout FILE"),
    "layout.syntax": Advice("the layout file", "a line is START:END NAME, in hexadecimal"),
    "layout": Advice(
        "the layout", "`hwflash layout SOURCE` shows it; `hwflash boards check FILE` for a board"
    ),
    "gbe": Advice("the image", "`hwflash layout SOURCE` shows where its regions are"),
    "usage.mac": Advice("the command", "six bytes such as 00:11:22:33:44:55, not a group address"),
    "image.boot": Advice(
        "the image", "`hwflash layout FILE` says what it is; boot: takes OVMF and AAVMF"
    ),
    "image.format": Advice("the image", "`qemu-img convert -O raw FILE RAW`"),
    "image.empty": Advice("the image file", "check the file"),
    "image.too-large": Advice("the addresses in the file", "give only the part to be compared"),
    "usage.compare-boot": Advice("the command", "write boot: once"),
    "image.smaller-than-chip": Advice(
        "the image", "say where it belongs with --at, --range or --region"
    ),
    "image.larger-than-chip": Advice(
        "the image, or the wrong chip", "`hwflash probe` shows the chip's size"
    ),
    "image.other-layout": Advice(
        "the image, or the wrong chip",
        "`hwflash layout FILE` draws the image's regions; write all of it with --all-regions, or "
        "say where with --range",
    ),
    "image.other-board": Advice(
        "the image is for another board",
        "`hwflash layout FILE` shows what is in it; if it is the right one all the same: "
        f"{_ACCEPT}",
    ),
    "image.smaller-than-region": Advice(
        "the file", "give one as large as the region, or as the whole image"
    ),
    "image": Advice("the image file", "check the file"),
    "uefi.no-store": Advice(
        "the image, or firmware that is not EDK2",
        "give a dump of the whole flash; `--full` searches every byte of a chip; an erased one "
        "gets a new store by `hwflash ftw rescue --fresh --layout ovmf-4m`",
    ),
    "uefi.read-only": Advice(
        "the format of the board's firmware",
        "`hwflash vars list SOURCE` shows its variables; change them in the board's own setup or "
        "from its operating system, or write back a dump with `hwflash write --region`",
    ),
    "uefi.unhealthy": Advice(
        "a power cut, or whoever wrote the store",
        "`hwflash vars check SOURCE` names each fault; repair it with `hwflash ftw rescue`, or "
        "say --repair",
    ),
    "uefi.foreign-area": Advice(
        "the board file's [nvram]",
        "check its addresses; --erase-foreign says that the place may be erased",
    ),
    "uefi.unsound": Advice("the values", "`hwflash vars check SOURCE`; please report this"),
    "uefi.exchange": Advice("the JSON file", "`hwflash vars export` writes one that is right"),
    "uefi.plain-store": Advice(
        "the firmware", "only a store with authenticated variables can hold Secure Boot keys"
    ),
    "uefi.signature": Advice(
        "the update, or the keys of the store",
        "`hwflash keys list SOURCE` shows who may sign; --force takes it all the same",
    ),
    "uefi.certificate": Advice("the file", "give an X.509 certificate, DER or PEM"),
    "uefi.signature-list": Advice("the file or the store", "give EFI signature lists (.esl)"),
    "uefi.authentication": Advice(
        "the file", "give a signed update, such as dbxupdate.bin or an .auth file"
    ),
    "uefi.pe": Advice("the file", "give a UEFI program (PE)"),
    "uefi.store-full": Advice("the size of the store", "import fewer variables"),
    "uefi.erase-block": Advice(
        "the chip's erase blocks are larger than the volume's",
        "variables can be set and deleted while there is room; for a rewrite work on an image "
        "and write it with `hwflash write`",
    ),
    "uefi.first-block": Advice(
        "what a power cut left in the first block",
        "--order edk2 rewrites it too; a power cut meanwhile needs `hwflash ftw recover` before "
        "the board is switched on",
    ),
    "uefi.no-canary": Advice(
        "a store that is full to the last byte",
        "delete a variable first, or say --order edk2; a power cut meanwhile needs "
        "`hwflash ftw recover` before the board is switched on",
    ),
    "uefi": Advice(
        "the image", "`hwflash vars check SOURCE`; check the file, or the board's [nvram]"
    ),
    "ftw.pending": Advice(
        "a power cut", "`hwflash ftw recover SOURCE` finishes or drops the write"
    ),
    "ftw": Advice(
        "the fault-tolerant work space or spare area",
        "`hwflash ftw status SOURCE` shows them, `hwflash ftw rescue SOURCE` repairs them",
    ),
    "rescue.lost": Advice(
        "nothing of the variables is left",
        "restore a backup, write the firmware's own template, or make an empty store with --fresh",
    ),
    "rescue": Advice("the image", "look at it first: `hwflash ftw rescue SOURCE --dry-run`"),
    "efi.security-violation": Advice(
        "firmware wants a signature for this variable",
        "--force changes it without one; for keys see `hwflash keys --help`",
    ),
    "efi.out-of-resources": Advice(
        "the size of the store", "`hwflash vars list SOURCE` shows what is used and free"
    ),
    "efi": Advice("the command", "firmware would refuse it too: check name, attributes and value"),
    "fvb": Advice("the chip or the image", "`hwflash vars check SOURCE`"),
    "sfdp": Advice("the file", "give raw SFDP bytes, beginning with 'SFDP'"),
    "qemu.image-size": Advice(
        "the image file", "name a file that does not exist, and it is made; or another model"
    ),
    "log.unreadable": Advice("the file name, or permissions", "check the file"),
    "log.no-events": Advice(
        "the log, or a RELEASE build",
        "take a DEBUG build, with -debugcon file:LOG -global isa-debugcon.iobase=0x402",
    ),
    "log.no-boot": Advice("the command", "leave out --boot to see how many there are"),
    "reference.boot-timeout": Advice(
        "the firmware, or the variable store it was given",
        "`hwflash vars check` looks at the store, `hwflash qemu args` shows what was started; "
        "--patience waits longer, --log keeps what the console said",
    ),
    "reference.guest-crash": Advice(
        "the firmware, or the variable store it was given", "`hwflash vars check` looks at it"
    ),
    "reference.shell-command": Advice("the Shell command", "`help` in the Shell lists commands"),
    "reference.qemu-start": Advice("QEMU or the files", "look at what QEMU said"),
    "reference.fwcfg-file": Advice(
        "the name, or a device that the machine does not have",
        "`hwflash qemu fwcfg list` lists the files; --guid adds a VM Generation ID",
    ),
    "reference.fwcfg": Advice("the machine", "take a q35, pc or virt machine"),
    "reference.fwcfg-dma": Advice("QEMU", "`--by port` reads without DMA"),
    "reference.loader": Advice("QEMU", "`hwflash qemu fwcfg read etc/table-loader` dumps it"),
    "reference": Advice(
        "the simulated reference", "try again; `hwflash doctor` checks this computer"
    ),
    "pflash": Advice("the version of QEMU", "QEMU 7.2 is known to work"),
    "console.none": Advice("the board file", "give it a [console] with a port"),
    "console.absent": Advice(
        "the port, or a console that is not plugged in", "look at /dev/serial/by-id, and `dmesg`"
    ),
    "console.busy": Advice("another program", "end it, such as a terminal program, and try again"),
    "console.inaccessible": Advice("permissions", "be in the group of the port, often dialout"),
    "power.none": Advice("the board file", "give it a [power]; docs/power.md shows how"),
    "power.board-on": Advice(
        "the board, which has its chip to itself",
        "end the process that has switched it on, or `hwflash power off -b BOARD`; then try again",
    ),
    "power.is-off": Advice("the order of things", "switch the board on first"),
    "power.command": Advice(
        "the command in the board file's [power]",
        "run it by hand; `hwflash power status -b BOARD` says what is known of the board",
    ),
    "power.relay-absent": Advice(
        "the port, or a relay card that is not plugged in",
        "look at /dev/serial/by-id, and at power.port of the board file",
    ),
    "power.relay-inaccessible": Advice(
        "permissions", "be in the group of the port, often dialout"
    ),
    "power.relay-busy": Advice("another program", "end what holds the port, and try again"),
    "power.relay-lost": Advice("the relay card or its cable", "plug it in again"),
    "power.pin": Advice(
        "the board file, or the programmer",
        "name the pin of an FT232H in [programmer] power, or choose another power.method",
    ),
    "power.not-simulated": Advice(
        "the command", "name a simulated chip: -p sim://PART?image=FILE"
    ),
    "power.no-image": Advice(
        "the simulated chip, which is empty",
        "write a firmware first: `hwflash write FILE -p sim://PART?image=CHIP`",
    ),
    "power": Advice("the supply of the board", "`hwflash power status -b BOARD`"),
    "boot.no-marker": Advice(
        "the board file", "say --until REGEX, or give the board an [expect] log"
    ),
    "programmer.let-go": Advice("a program", "drive the bus again first"),
    "usage.power-for": Advice("the command", "say --for SECONDS"),
    "usage.pattern": Advice("the command", "quote what has a meaning of its own with a backslash"),
    "console.lost": Advice("cable, or whatever ended the other side", "look at its own messages"),
    "console": Advice("the console", "check port, baud rate and wiring of the UART"),
    "environment.firmware-missing": Advice(
        "firmware that is not installed",
        "install the package, or name files with --code and --template",
    ),
    "environment.file-in-use": Advice("another program", "end it, or work on a copy"),
    "gang.failed": Advice(
        "what the table says of each", "each line of the table has its own cause and hint"
    ),
    "gang.worker-lost": Advice(
        "whatever ended the process, such as the kernel when memory is short",
        "`dmesg` tells of that; with HWFLASH_DEBUG=1 a fault of hwflash shows itself",
    ),
    "gang.memory": Advice("this computer", "end other programs: the image must fit into memory"),
    "gang.image": Advice("this computer's memory", "try again; test the memory"),
    "gang.no-unique-id": Advice("the name of the file", "use {n}, the number of the programmer"),
    "gang.same-file": Advice(
        "chips with one unique id", "use {n}, the number of the programmer"
    ),
    "gang.held-back": Advice(
        "the programmer that failed", "repair that one, or leave out --all-or-nothing"
    ),
    "gang": Advice("the command", "see docs/gang.md"),
    "usage.gang-twice": Advice("the command", "name each programmer once: `hwflash list`"),
    "usage.gang": Advice("the command", "see docs/gang.md for several programmers at once"),
    "job.faults": Advice("the job file", "`hwflash job check FILE` lists every fault"),
    "job.image-changed": Advice(
        "whoever changed the file",
        "finish a batch with the files it began with, or begin a new one",
    ),
    "job.after": Advice(
        "the step, or what it looks at", "the chip itself is good; run the command by hand and look"
    ),
    "job.placeholder": Advice("the job file", "`hwflash job check FILE` lists every fault"),
    "job": Advice("the job file", "see docs/jobs.md for the form of job files"),
    "serial.locked": Advice(
        "another process", "wait for the other run, or end it; numbers are not handed out meanwhile"
    ),
    "serial.corrupt": Advice(
        "the disk, or whoever changed the file",
        "put back a good copy that is not older than the last unit; never begin a new one",
    ),
    "serial.missing": Advice(
        "whoever moved or deleted it",
        "put it back: a new one would hand out the same numbers again (docs/jobs.md)",
    ),
    "serial.unwritable": Advice("this computer", "make room, or check the permissions"),
    "serial.unit-done": Advice(
        "a board that was not changed for the next", 'connect another, or say again = "same"'
    ),
    "serial.duplicate": Advice(
        "the source of the numbers", "look at the CSV file or the command that gives them"
    ),
    "serial.exhausted": Advice("the job file", "get new numbers, and give them to the job"),
    "serial.csv": Advice("the CSV file", "`hwflash job check FILE` lists every fault"),
    "serial.command": Advice("the command of the job file", "run it by hand and look"),
    "serial.raced": Advice("another run of the same job", "run it again"),
    "serial.overtaken": Advice("another run of the same job", "see which unit has the number"),
    "serial": Advice("the source of the numbers", "see docs/jobs.md"),
    "qemu.pflash-missing": Advice("the command", "check the names of code and variable store"),
    "qemu.pflash-size": Advice(
        "the image file", "`hwflash layout FILE`; take the file as the build made it"
    ),
    "qemu.pflash-total": Advice("the images", "together they may have 8 MiB: take a smaller build"),
    "qemu.pflash-unit": Advice("the machine type", "take a q35, pc or virt machine"),
    "qemu.pflash": Advice("the machine's settings", "`hwflash qemu args --help`"),
    "qemu.xml": Advice("the XML", "give a domain as `virsh dumpxml` prints it"),
    "qemu.no-firmware": Advice(
        "this computer, or the wish", "`hwflash qemu firmware` says of each why not; install ovmf"
    ),
    "qemu.no-descriptor": Advice("the file names", "`hwflash qemu firmware` lists what there is"),
    "qemu.other-firmware": Advice("the order of descriptors", "name the files: leave out --auto"),
    "qemu": Advice("the image file or its folder", "name a file you can write with image="),
    "sim": Advice("the simulated chip's files", "remove the image and its .state.json"),
    "chips.unknown-part": Advice("the command", "`hwflash chips list`"),
    "usage.qemu-model": Advice(
        "the command", "`qemu-system-arm -machine none -device help` lists the models, on bus SSI"
    ),
    "usage.qemu-check": Advice(
        "the command",
        "`hwflash qemu check --list` lists the checks; --with and --code choose firmware",
    ),
    "usage.fwcfg-item": Advice("the command", "`hwflash qemu fwcfg list` lists selectors"),
    "usage.vm-guid": Advice(
        "the command", "write it as 00112233-4455-6677-8899-aabbccddeeff"
    ),
    "usage.qemu-template": Advice(
        "the command", "name a file of the guest's own with --vars; --make-vars copies the template"
    ),
    "usage.qemu-reference": Advice(
        "the board file", "name the firmware with --code and --template"
    ),
    "usage.qemu-feature": Advice("the command", "`hwflash qemu firmware` shows the features"),
    "usage.qemu-no-flash": Advice(
        "the command line", "it must have -drive if=pflash, or -machine pflash0="
    ),
    "usage.qemu-xml": Advice("the command", "`hwflash qemu args` can say it"),
    "usage.region": Advice("the command", "`hwflash boards show BOARD` lists its regions"),
    "usage.region-board": Advice(
        "the command", "name the board with --board, or a layout file with --layout"
    ),
    "usage.shared-block": Advice(
        "the layout",
        "name the protected region too (--region), or change nothing in the block it shares",
    ),
    "usage.protected-region": Advice(
        "the command",
        "name it with --region if you mean it, in a job file with job.protected; --all-regions "
        "(`*` in a job file) means all",
    ),
    "usage.layout-import": Advice(
        "the command", "`hwflash write --region NAME:FILE` writes a region of a chip"
    ),
    "usage.unusable-descriptor": Advice(
        "a damaged descriptor, or other data that look like one",
        "`hwflash layout SOURCE` says what is wrong with it; --all-regions writes over it",
    ),
    "usage.job-confirm": Advice("the command", "`hwflash job check FILE`, then say --yes"),
    "usage.terminal": Advice(
        "how it was started", "start it in a terminal, without --json; `ssh -t HOST hwflash tui`"
    ),
    "usage.confirm": Advice("the command", "look at it with --dry-run, then say --yes"),
    "usage.resume": Advice("the command", "name one of them: `hwflash write --resume NAME`"),
    "usage.erase-alignment": Advice("the command", "`hwflash probe` shows the erase blocks"),
    "usage.guid": Advice("the command", "say whose it is with --guid: a GUID, or a known name"),
    "usage.device-path": Advice(
        "the device path", "`hwflash vars get SOURCE Boot0000` shows how one is written"
    ),
    "usage.output": Advice("the command", "-o FILE writes the changed image there"),
    "usage.key": Advice("the command", "`hwflash keys list SOURCE` shows the entries"),
    "usage.key-ambiguous": Advice("the command", "name it by its number or more of its digits"),
    "usage.platform-key": Advice("the command", "PK holds one certificate: --replace"),
    "usage.variable-ambiguous": Advice("the command", "say which with --guid, or with --store"),
    "usage.variable": Advice("the command", "`hwflash vars list SOURCE` shows all of them"),
    "usage.store": Advice(
        "the command", "say which with --store OFFSET; `hwflash vars list SOURCE` shows all of them"
    ),
    "usage.name": Advice("the command", "give a name of letters, digits and the like"),
    "usage.usbip-programmer": Advice(
        "the command",
        "name one with -p sim://PART; Linux exports real programmers itself, with usbipd",
    ),
    "usage.bench-board": Advice(
        "the command", "say --hwflash-board NAME, or hwflash_board in the ini file of pytest"
    ),
    "usage.bench-image": Advice(
        "the command", "say --hwflash-image FILE, or hwflash_image in the ini file of pytest"
    ),
    "usage.bench-workers": Advice(
        "the command", "say --hwflash-programmer once for each worker, or start fewer: -n"
    ),
    "usage.bench-wait": Advice("the command", "say --hwflash-wait 60"),
    "usage.compare-side": Advice("the test", "give bytes, a file, or the fixture itself"),
    "usage.image": Advice("the test", "give bytes, a file, or the fixture `image`"),
    "transaction.not-restored": Advice(
        "whatever kept it", "when that is mended, the command above puts the chip back"
    ),
    "transaction.unfinished": Advice(
        "a run that was killed",
        "the command above puts the chip back; delete the backup if it shall stay as it is",
    ),
    "usage": Advice("the command", "`hwflash --help`, `hwflash COMMAND --help`"),
    "interrupted": Advice("you", "start it again when you like"),
}  # fmt: skip

"""The guard around a program, without a lab: a shell stands for hwflash."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hwflash_labgrid import HwflashDriver, HwflashError, remote
from hwflash_labgrid.errors import UNCHANGED, UNKNOWN

BEGIN = '{"type": "task_begin"}'
RESULT = '{"v": 1, "type": "result", "command": "read", "ok": true, "exit_code": 0}'


def run(
    script: str, *, image: bytes | None = None, get: bool = False, stop: bool = False
) -> tuple[remote.Answer, list[Mapping[str, Any]]]:
    """Run a script; ``stop`` ends its time when it says its first line."""
    heard: list[Mapping[str, Any]] = []
    size = None if image is None else len(image)
    command = remote.guarded(["sh", "-c", script, "sh"], put=size, get=get, name="a b;c.fd")

    def hear(event: Mapping[str, Any]) -> None:
        heard.append(event)
        if stop:
            running._end_in(0)

    running = remote.Run(command, image or b"", hear)
    return running.finish(60.0, 2.0), heard


def test_an_image_goes_there_and_a_file_comes_back() -> None:
    image = bytes(range(256)) * 4096  # more than any pipe holds
    script = f"""
        echo 'Welcome to alpha'
        echo '{RESULT}'
        tr a b <"$1" >"$1.x"
        mv "$1.x" "$1"
    """
    answer, heard = run(script, image=image, get=True)
    assert answer.result
    assert answer.code == 0
    assert answer.data == image.replace(b"a", b"b")
    assert answer.stderr == ["Welcome to alpha"]
    assert not heard


def test_the_file_has_a_plain_name_and_is_removed() -> None:
    answer, heard = run('printf \'{"type": "info", "name": "%s"}\\n\' "$1"', image=b"x")
    (line,) = heard
    assert line["name"].endswith("/a_b_c.fd")
    assert not Path(line["name"]).parent.exists()
    assert answer.begun
    assert answer.result is None


def test_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    answer, _ = run("exit 0", image=b"x")
    assert answer.code == remote.NO_ROOM


def test_it_is_asked_to_stop_and_does() -> None:
    script = f"""
        stop() {{
            echo '{RESULT}'
            exit 6
        }}
        trap stop TERM
        echo '{BEGIN}'
        while :; do sleep 0.05; done
    """
    answer, _ = run(script, stop=True)
    assert (answer.stopped, answer.code) == ("timeout", 6)
    assert answer.result


def test_ctrl_c_while_a_line_is_heard_loses_none_of_the_others() -> None:
    def hear(event: Mapping[str, Any]) -> None:
        raise KeyboardInterrupt

    script = f"printf '%s\\n' '{BEGIN}' '{RESULT}' data"  # all of it in one piece
    running = remote.Run(remote.guarded(["sh", "-c", script, "sh"]), b"", hear)
    answer = running.finish(60.0, 2.0)
    assert answer.stopped == "interrupt"
    assert answer.result
    assert answer.data == b"data\n"


def test_it_is_left_behind_when_it_will_not_stop() -> None:
    answer, _ = run(f"trap '' TERM; echo '{BEGIN}'; exec sleep 5", stop=True)
    assert answer.code is None


@pytest.mark.parametrize(
    ("code", "begun", "command", "error", "chip"),
    [
        (None, True, "write", "labgrid.still-running", UNKNOWN),
        (255, False, "write", "labgrid.connection-lost", UNKNOWN),
        (255, True, "vars list", "labgrid.connection-lost", UNCHANGED),
        (255, True, "vars set", "labgrid.connection-lost", UNKNOWN),
        (255, True, "keys enroll", "labgrid.connection-lost", UNKNOWN),
        (255, True, "keys list", "labgrid.connection-lost", UNCHANGED),
        (255, True, "read", "labgrid.connection-lost", UNCHANGED),
        (137, True, "write", "labgrid.bad-answer", UNKNOWN),  # killed
        (137, False, "write", "labgrid.bad-answer", UNCHANGED),
        (127, False, "write", "labgrid.no-hwflash", UNCHANGED),
        (124, False, "write", "labgrid.exporter-disk", UNCHANGED),
        (143, False, "write", "labgrid.stopped", UNCHANGED),
    ],
)
def test_what_it_means_that_there_is_no_result(
    code: int | None, begun: bool, command: str, error: str, chip: str
) -> None:
    class Driver:
        tool = "hwflash"

    answer = remote.Answer(None, begun, code, "", b"", ["last words"])
    with pytest.raises(HwflashError) as caught:
        HwflashDriver._judge(Driver(), command.split(), answer)  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.chip) == (error, chip)
    assert caught.value.hint
    assert "stderr: last words" in str(caught.value)

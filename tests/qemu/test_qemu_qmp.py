"""The QMP client against a scripted peer."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hwflash.errors import ReferenceFailed
from hwflash.qemu import qmp
from hwflash.qemu.qmp import Event, QmpClient

GREETING = {
    "QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}
}
Answer = Callable[[dict[str, Any]], list[object]]
Serve = Callable[..., QmpClient]


def usual(request: dict[str, Any]) -> list[object]:
    return [{"return": {}, "id": request["id"]}]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A client whose peer greets, then answers each request by a function; [] hangs up.

    An object is sent as a line of JSON, bytes as they are.
    """
    ended: list[tuple[QmpClient | None, threading.Thread]] = []

    def make(answer: Answer = usual, greeting: object = GREETING, silence: float = 2) -> QmpClient:
        ours, theirs = socket.socketpair()

        def say(item: object) -> None:
            theirs.sendall(item if isinstance(item, bytes) else json.dumps(item).encode() + b"\r\n")

        def run() -> None:
            with theirs, theirs.makefile("rb") as lines:
                try:
                    say(greeting)
                    for line in lines:
                        said = answer(json.loads(line))
                        if not said:
                            return
                        for item in said:
                            say(item)
                except OSError:
                    return

        thread = threading.Thread(target=run)
        thread.start()
        client: QmpClient | None = None
        try:
            client = QmpClient(ours, silence)
        finally:
            ended.append((client, thread))
        return client

    yield make
    for client, thread in ended:
        if client is not None:
            client.close()
        thread.join(5)
        assert not thread.is_alive()


def test_greeting_and_answers(serve: Serve) -> None:
    seen: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> list[object]:
        seen.append(request)
        return [{"return": {"status": "running"}, "id": request["id"]}]

    client = serve(answer)
    assert client.version == "7.2.22"
    assert client.execute("query-status") == {"status": "running"}
    assert client.execute("pmemsave", val=0, size=1, file_name="x")
    assert [item["execute"] for item in seen] == ["qmp_capabilities", "query-status", "pmemsave"]
    assert "arguments" not in seen[1]
    assert seen[2]["arguments"] == {"val": 0, "size": 1, "file-name": "x"}


def test_a_second_greeting_and_events_come_between(serve: Serve) -> None:
    stamp = {"seconds": 10, "microseconds": 500_000}
    event = {"event": "STOP", "timestamp": stamp}

    def answer(request: dict[str, Any]) -> list[object]:
        return [GREETING, event, {"return": 1, "id": 999}, b"\r\n", *usual(request)]

    client = serve(answer)
    assert client.execute("stop") == {}
    assert list(client.events) == [Event("STOP", {}, 10.5)] * 2
    assert client.wait_event("RESUME", "STOP", timeout=1) == Event("STOP", {}, 10.5)
    assert len(client.events) == 1


def test_an_event_is_waited_for(serve: Serve) -> None:
    def answer(request: dict[str, Any]) -> list[object]:
        if request["execute"] == "system_powerdown":
            return [*usual(request), {"event": "SHUTDOWN", "data": {"guest": True}}]
        return usual(request)

    client = serve(answer)
    with pytest.raises(ReferenceFailed) as caught:
        client.wait_event("SHUTDOWN", timeout=0.15)
    assert caught.value.code == "reference.qmp-timeout"
    client.execute("system_powerdown")
    assert client.wait_event("SHUTDOWN", timeout=5).data == {"guest": True}


def test_a_refusal_carries_its_class(serve: Serve) -> None:
    def answer(request: dict[str, Any]) -> list[object]:
        if request["execute"] != "nonsense":
            return usual(request)
        error = {"class": "CommandNotFound", "desc": "The command nonsense has not been found"}
        return [{"error": error, "id": request["id"]}]

    client = serve(answer)
    with pytest.raises(ReferenceFailed, match="has not been found") as caught:
        client.execute("nonsense")
    assert caught.value.code == "reference.qmp-refused"
    assert caught.value.context["class"] == "CommandNotFound"
    assert client.execute("query-status") == {}


def test_the_human_monitor(serve: Serve) -> None:
    def answer(request: dict[str, Any]) -> list[object]:
        line = request.get("arguments", {}).get("command-line", "")
        return [{"return": f"said {line}\r\n", "id": request["id"]}]

    assert serve(answer).monitor("info mtree -f") == "said info mtree -f\n"


def test_an_answer_in_many_pieces(serve: Serve) -> None:
    def answer(request: dict[str, Any]) -> list[object]:
        whole = json.dumps({"return": "x" * 200_000, "id": request["id"]}).encode() + b"\r\n"
        return [whole[i : i + 9_999] for i in range(0, len(whole), 9_999)]

    assert len(serve(answer).execute("query-qmp-schema")) == 200_000


def test_silence(serve: Serve) -> None:
    def answer(request: dict[str, Any]) -> list[object]:
        return usual(request) if request["execute"] == "qmp_capabilities" else [b" "]

    client = serve(answer, silence=0.2)
    started = time.monotonic()
    with pytest.raises(ReferenceFailed, match=r"has not answered for 0\.2 s") as caught:
        client.execute("query-status")
    assert caught.value.code == "reference.qmp-timeout"
    assert time.monotonic() - started < 5


def test_the_other_side_hangs_up(serve: Serve) -> None:
    client = serve(lambda request: usual(request) if request["id"] == 1 else [])
    with pytest.raises(ReferenceFailed) as caught:
        client.execute("quit")
    assert caught.value.code == "reference.qmp-lost"
    with pytest.raises(ReferenceFailed):
        client.execute("query-status")


@pytest.mark.parametrize(
    "greeting",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"[1, 2]\r\n",
        b'{"QMP": 3}\r\n',
        b'{"QMP": {"version": {}}}\r\n',
        b"[" * 5000 + b"\n",
        b"\xff\xfe\n",
    ],
)
def test_what_is_no_qmp_is_refused(serve: Serve, greeting: bytes) -> None:
    with pytest.raises(ReferenceFailed) as caught:
        serve(greeting=greeting)
    assert caught.value.code == "reference.qmp"


def test_a_line_without_end_is_refused(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp, "LONGEST", 100_000)
    with pytest.raises(ReferenceFailed, match="100,000 bytes without an end"):
        serve(greeting=b"x" * 300_000)

"""How the processes of a run find each other: only those of one attempt meet, and errors are reported."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from dynamic_rcnn.engine.stop_signal import StopSignal
from dynamic_rcnn.errors import InterruptedRunError, LostProcessError, UserError
from dynamic_rcnn.parallel import rendezvous
from dynamic_rcnn.parallel.rank import Rank
from dynamic_rcnn.run.files import write_json_atomic


def nothing() -> None:
    pass


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    return tmp_path


def test_a_file_of_another_attempt_is_ignored(run_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stale:
        old = {"schema": 1, "attempt": "7_0.0", "host": "127.0.0.1", "port": stale.getsockname()[1]}
        write_json_atomic(run_dir / "rendezvous.json", old)
        found: list[Any] = []
        looked = threading.Event()  # set each time that it has read the stale file
        other = threading.Thread(target=lambda: found.append(rendezvous.meet(Rank(1, 2, 1, "7_0.1"), looked.set)))
        other.start()
        assert looked.wait(timeout=300)
        store = rendezvous.meet(Rank(0, 2, 0, "7_0.1"), nothing)
        other.join(timeout=300)
        stale.settimeout(0.0)
        with pytest.raises(BlockingIOError):
            stale.accept()
    store.set("word", "from rank 0")
    assert found[0].get("word") == b"from rank 0"
    assert not (run_dir / "rendezvous.json").exists()  # it is removed once all have connected


def test_a_rank_that_finds_no_rank_0_gives_up(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "PATIENCE_S", 0.3)
    (run_dir / "rendezvous.json").write_text('{"schema": 1, "att')
    with pytest.raises(LostProcessError) as caught:
        rendezvous.meet(Rank(1, 2, 1, "7_0.1"), nothing)
    assert str(caught.value).startswith("rank 1: no rendezvous.json of this attempt (7_0.1) within 0 s: rank 0 did not")


@pytest.mark.parametrize("number", [0, 1])
def test_waiting_can_be_ended(number: int) -> None:
    stop = StopSignal()
    stop.received = True
    with pytest.raises(InterruptedRunError, match="stopped by a signal while it was starting"):
        rendezvous.meet(Rank(number, 2, number, "7_0.1"), stop.check)


def test_rank_0_reports_missing_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "PATIENCE_S", 0.3)
    with pytest.raises(LostProcessError, match=r"rank 1, 2 did not arrive within 0 s"):
        rendezvous.meet(Rank(0, 3, 0, "7_0.1"), nothing)


def test_two_stores_at_once_use_different_ports() -> None:
    stores = []
    for attempt in ("a", "b"):
        store = rendezvous._serve(Rank(0, 2, 0, attempt))
        store.set("attempt", attempt)
        stores.append(store)
        assert json.loads(Path("rendezvous.json").read_text())["port"] == store.port
    assert stores[0].port != stores[1].port
    assert [store.get("attempt") for store in stores] == [b"a", b"b"]


def seen_by(*addresses: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"address": address, "main": main} for address, main in addresses]


@pytest.mark.parametrize(
    ("peers", "chosen"),
    [
        (seen_by(("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "127.0.0.1")), ["127.0.0.1"] * 2),  # one machine
        # rank 0's machine knows itself by 127.0.1.1, and learns from the others what its address is
        (
            seen_by(("127.0.0.1", "127.0.1.1"), ("127.0.0.1", "127.0.1.1"), ("10.0.0.7", "10.0.0.5")),
            ["10.0.0.5", "10.0.0.5", "10.0.0.7"],
        ),
        (seen_by(("10.0.0.5", "10.0.0.5"), ("10.0.0.7", "10.0.0.5")), ["10.0.0.5", "10.0.0.7"]),
    ],
)
def test_the_chosen_interface_reaches_the_other_processes(
    peers: Any, chosen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(rendezvous, "_interface", asked.append)  # None: the environment stays as it is
    for number in range(len(peers)):
        rendezvous._choose_interface(peers, number)
    assert asked == chosen


def test_interfaces_are_found_by_address() -> None:
    assert rendezvous._interface("127.0.1.1") == rendezvous._interface("127.0.0.1") == "lo"
    assert rendezvous._interface("203.0.113.77") is None


def on(*devices: str) -> list[dict[str, Any]]:
    return [{"device": device, "machine": f"node{number}"} for number, device in enumerate(devices)]


def test_every_process_needs_its_own_gpu_or_none_has_one() -> None:
    rendezvous._check_devices(on("GPU-1", "GPU-2", "GPU-3"))
    rendezvous._check_devices(on("cpu", "cpu"))
    with pytest.raises(UserError, match=r"ranks 1 and 2 are both on GPU GPU-2 of node2; a GPU can take one process"):
        rendezvous._check_devices(on("GPU-1", "GPU-2", "GPU-2"))
    with pytest.raises(
        UserError, match=r"rank 0 is on GPU-1, rank 1 on cpu of node1; all processes need a GPU, or none"
    ):
        rendezvous._check_devices(on("GPU-1", "cpu"))

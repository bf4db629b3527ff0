"""How the processes of a run find each other.

Rank 0 listens on a port that the system chooses, so that runs on one machine never clash, and writes it into
`rendezvous.json` in the run directory (the working directory). The others wait for the file of their own attempt.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch.distributed import Store, TCPStore

from dynamic_rcnn.errors import LostProcessError, UserError
from dynamic_rcnn.parallel.rank import Rank
from dynamic_rcnn.run.files import RENDEZVOUS, FileContent, read_content, write_content

PATIENCE_S = 300.0  # how long to wait for the other processes
_SIOCGIFADDR = 0x8915


class Announcement(FileContent):
    """The content of rendezvous.json: where rank 0 of an attempt listens."""

    attempt: str
    host: str
    port: int


def meet(me: Rank, check: Callable[[], None]) -> Store:
    """Wait for all processes of the run, and select the network interface for gloo. Returns the store that they share.

    check: called while waiting; may raise an exception to stop waiting. Raises UserError if two processes have the same
    GPU, or only some have a GPU, and LostProcessError if the others do not arrive in time.
    """
    store = _serve(me) if me.number == 0 else _find(me, check)
    peers = _introduce(store, me, check)
    if me.number == 0:
        Path(RENDEZVOUS).unlink(missing_ok=True)
    _check_devices(peers)
    _choose_interface(peers, me.number)
    return store


def _serve(me: Rank) -> TCPStore:
    """Serve rank 0's store and announce it in the run directory."""
    server = socket.create_server(("0.0.0.0", 0), backlog=4 * me.size)
    host, port = socket.gethostname(), server.getsockname()[1]
    store = _store(me, host, port, server.detach())
    write_content(Path(RENDEZVOUS), Announcement(attempt=me.attempt, host=host, port=port))
    return store


def _find(me: Rank, check: Callable[[], None]) -> TCPStore:
    """Connect to the store that rank 0 of this attempt announced. Ignores files of other attempts."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(UserError):
            found = read_content(Announcement, Path(RENDEZVOUS))
            if found.attempt == me.attempt:
                return _store(me, found.host, found.port, None)
        if time.monotonic() > deadline:
            raise LostProcessError(
                f"rank {me.number}: no {RENDEZVOUS} of this attempt ({me.attempt}) within {PATIENCE_S:.0f} s: rank 0 "
                "did not start, or its machine uses another run folder"
            )
        check()
        os.scandir(Path()).close()  # makes a network file system look again
        time.sleep(0.1)


def _store(me: Rank, host: str, port: int, listening: int | None) -> TCPStore:
    """Connect to the store. listening: file descriptor of the socket that rank 0 serves; None on other ranks."""
    return TCPStore(
        host,
        port,
        me.size,
        is_master=listening is not None,
        timeout=timedelta(seconds=PATIENCE_S),
        wait_for_workers=False,
        master_listen_fd=listening,
    )


def _introduce(store: TCPStore, me: Rank, check: Callable[[], None]) -> list[dict[str, Any]]:
    """Exchange the machine, the device, the address and the address of rank 0 as each rank sees them, by rank."""
    address, main = _addresses(store.host, store.port)
    peer = {"machine": socket.gethostname(), "device": _device(), "address": address, "main": main}
    store.set(f"rank{me.number}", json.dumps(peer))
    deadline, missing = time.monotonic() + PATIENCE_S, list(range(me.size))
    while missing := [each for each in missing if not store.check([f"rank{each}"])]:
        if time.monotonic() > deadline:
            raise LostProcessError(f"rank {', '.join(map(str, missing))} did not arrive within {PATIENCE_S:.0f} s")
        check()
        time.sleep(0.05)
    return [json.loads(store.get(f"rank{each}")) for each in range(me.size)]


def _device() -> str:
    """The UUID of this process's GPU; "cpu" without one."""
    if not torch.cuda.is_available():
        return "cpu"
    return str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)


def _check_devices(peers: list[dict[str, Any]]) -> None:
    devices = [peer["device"] for peer in peers]
    for number, device in enumerate(devices):
        where, first = peers[number]["machine"], devices.index(device)
        if (device == "cpu") != (devices[0] == "cpu"):
            raise UserError(
                f"rank 0 is on {devices[0]}, rank {number} on {device} of {where}; all processes need a GPU, or none"
            )
        if device != "cpu" and first != number:
            raise UserError(
                f"ranks {first} and {number} are both on GPU {device} of {where}; a GPU can take one process of a run"
            )


def _addresses(host: str, port: int) -> tuple[str, str]:
    """The IPv4 addresses of this machine and of `host` on the route between them; empty without IPv4. Sends nothing."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))
        return probe.getsockname()[0], probe.getpeername()[0]
    return "", ""


def _choose_interface(peers: list[dict[str, Any]], number: int) -> None:
    """Set GLOO_SOCKET_IFNAME, unless it is set, to the network interface that reaches the other processes.

    By default, gloo uses the address of the host's name, which on many systems is the loopback address: processes on
    several machines then do not reach each other. Rank 0's machine learns from the others which address they see.
    """
    seen = [peer["main"] for peer in peers]
    main = next((address for address in seen if address and not address.startswith("127.")), seen[0])
    address = peers[number]["address"]
    interface = _interface(main if address.startswith("127.") else address)
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)


def _interface(address: str) -> str | None:
    """The name of the interface with this IPv4 address; 127.x is always the loopback interface."""
    wanted = "127.0.0.1" if address.startswith("127.") else address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(answer[20:24]) == wanted:
                    return name
    return None

"""The signals with which Slurm warns a process of a job before it ends it. Imports nothing that takes time."""

import signal

NUMBERS = (signal.SIGUSR2, signal.SIGTERM)
received: list[int] = []


def note_signals() -> None:
    """From now on, note Slurm's signals in `received` instead of ending."""
    for number in NUMBERS:
        signal.signal(number, lambda number, frame: received.append(number))

"""Slurm's commands: squeue, scancel, scontrol and, if the cluster has accounting, sacct."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dynamic_rcnn.errors import UserError

TIMEOUT_S = 30.0
_FORMAT = "%i|%T|%N|%j|%r"
_AT_ONCE = 200  # job ids on one command line
_CLIENT_SETTINGS = ("SQUEUE_", "SACCT_", "SCANCEL_", "SLURM_CLUSTERS")  # of the user, would change what is asked
_PREFIX = re.compile(r"^(\w+: )?((fatal|error): |slurm_\w+ error: )+")
_NO_ANSWER = re.compile(
    r"unable to contact|socket timed out|connect failure|connection (refused|failure)|zero bytes|could not establish",
    re.IGNORECASE,
)


class SlurmError(UserError):
    """Slurm refused a request or did not answer."""


@dataclass(frozen=True)
class QueuedJob:
    """A job in the queue. job: its id, "123_4" for the task of an array."""

    job: str
    name: str
    state: str
    reason: str
    nodes: str

    @property
    def array(self) -> str:
        return self.job.split("_")[0]

    @property
    def index(self) -> int:
        """The index in its array; 0 if the job is not an array task."""
        return int(self.job.partition("_")[2] or 0)


def active() -> list[QueuedJob]:
    """This user's jobs in the queue, one per array task. Raises SlurmError if Slurm does not answer."""
    return _jobs(ask("squeue", "--noheader", "--array", f"--user={os.getuid()}", f"--format={_FORMAT}"))


def ended(jobs: Collection[str]) -> dict[str, str]:
    """The states of jobs that left the queue. Jobs that Slurm no longer knows are left out."""
    arrays = sorted({job.split("_")[0] for job in jobs})
    found: dict[str, str] = {}
    for ids in portions(arrays):
        command = ("squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(ids)}", f"--format={_FORMAT}")
        found |= {job.job: job.state for job in _jobs(_try(*command))}
        missing = sorted({job.split("_")[0] for job in jobs if job not in found} & set(ids))
        if missing:
            found |= _accounted(_try("sacct", "-n", "-X", "-P", "-o", "JobID,State", "-j", ",".join(missing)))
    return {job: state for job, state in found.items() if job in jobs}


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs. Each run writes a checkpoint within the site's KillWait."""
    for ids in portions(jobs):
        ask("scancel", *ids)


def requeue(job: str) -> None:
    ask("scontrol", "requeue", job)


def describe(job: str) -> dict[str, str]:
    """The fields of `scontrol show job`; {} if Slurm does not answer."""
    return fields(_try("scontrol", "--oneliner", "show", "job", job))


def describe_nodes(nodes: str) -> list[dict[str, str]]:
    """The fields of `scontrol show node` for a node list such as node[1-2]; [] if Slurm does not answer."""
    return [fields(line) for line in _try("scontrol", "--oneliner", "show", "node", nodes).splitlines() if line.strip()]


def max_array_size() -> int:
    """The maximum number of tasks of an array. Raises SlurmError if Slurm does not answer."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"), re.MULTILINE)
    if found is None:
        raise SlurmError("scontrol show config: has no MaxArraySize; is this Slurm?")
    return int(found[1])


def fields(line: str) -> dict[str, str]:
    """Parse the key=value words of one line of `scontrol --oneliner`. The first of a key counts."""
    found: dict[str, str] = {}
    for word in line.split():
        name, equals, value = word.partition("=")
        if equals:
            found.setdefault(name, value)
    return found


def ask(*command: str) -> str:
    """Run a command of Slurm and return its output. Raises SlurmError, with its message, if it fails."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(_CLIENT_SETTINGS)}
    environment = {**own, "SLURM_TIME_FORMAT": "standard"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False, env=environment)
    except FileNotFoundError:
        raise SlurmError(
            f"{command[0]}: not on the PATH; launch where Slurm is installed, or with cluster=local"
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]}: no answer from Slurm within {TIMEOUT_S:.0f} s; try again later") from None
    if done.returncode:
        raise SlurmError(f"{command[0]}: {error_line(_text(done.stderr)) or f'exit code {done.returncode}'}")
    return _text(done.stdout)


def error_line(stderr: str) -> str:
    """What a command of Slurm printed on stderr, in one line."""
    lines = dict.fromkeys(_PREFIX.sub("", line.strip()) for line in stderr.splitlines() if line.strip())
    text = "; ".join(line.rstrip(".") for line in lines)
    return f"no answer from Slurm ({text}); try again later" if _NO_ANSWER.search(text) else text


def _text(output: bytes) -> str:
    """Output as text. Names of other users' jobs need not be valid UTF-8."""
    return output.decode("utf-8", errors="replace")


def _try(*command: str) -> str:
    try:
        return ask(*command)
    except SlurmError:
        return ""


def _jobs(text: str) -> list[QueuedJob]:
    rows = (line.split("|", 4) for line in text.splitlines() if line.count("|") >= 4)
    return [QueuedJob(job, name, state, reason, nodes) for job, state, nodes, name, reason in rows]


def _accounted(text: str) -> dict[str, str]:
    """sacct's states; "CANCELLED by 1000" is CANCELLED."""
    rows = (line.split("|") for line in text.splitlines() if "|" in line)
    return {job: state.split()[0] for job, state, *_ in rows if state}


def portions(items: Sequence[str], most: int = _AT_ONCE) -> list[list[str]]:
    """`items` in lists of at most `most`."""
    return [list(items[at : at + most]) for at in range(0, len(items), most)]

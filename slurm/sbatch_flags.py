"""Additional flags for sbatch and arguments for srun, which must not contradict the profile or the launcher."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dynamic_rcnn.run.schema import BrokenRulesError, Fault

_OURS = "the launcher sets it; remove it"
# flag of sbatch -> the profile's field that sets it
_FIELDS = {
    **dict.fromkeys(("account", "A"), "account"),
    **dict.fromkeys(("partition", "p"), "partition"),
    **dict.fromkeys(("qos", "q"), "qos"),
    **dict.fromkeys(("constraint", "C"), "constraint"),
    **dict.fromkeys(("nodes", "N"), "nodes"),
    **dict.fromkeys(("gpus", "G", "gpus-per-task", "gpus-per-socket"), "gpus_per_node"),
    **dict.fromkeys(("cpus-per-task", "c", "cpus-per-gpu"), "cpus_per_task"),
    **dict.fromkeys(("time", "t", "time-min"), "time"),
    **dict.fromkeys(("mem",), "mem"),
    **dict.fromkeys(("signal",), "warning_seconds"),
}
_SET_BY_LAUNCHER = """
    array a chdir D dependency d error e hold H input i job-name J kill-on-invalid-dep no-requeue ntasks n
    ntasks-per-node open-mode output o parsable requeue test-only wait W wrap
"""
_SRUN_SET_BY_LAUNCHER = """
    --cpus-per-task -c --error -e --input -i --kill-on-bad-exit -K --nodes -N --ntasks -n --ntasks-per-node --output -o
"""
_GRES_GPUS = re.compile(r"(?:^|,)(?:gres/)?gpu(?::[\w.-]*[A-Za-z_][\w.-]*)?(?::(\d+))?(?:\([^)]*\))?(?=,|$)")
_TYPED = re.compile(r"(?:[A-Za-z_][\w.-]*:)?(\d+)")


def parse_flags(flags: Any) -> dict[str, Any]:
    """Flags of sbatch by name without dashes. Raises ValueError for those that the profile or the launcher sets."""
    if not isinstance(flags, Mapping):
        raise ValueError("must map flags of sbatch to values, e.g. {reservation: spring}")
    found = {str(name).lstrip("-").replace("_", "-"): value for name, value in flags.items()}
    faults: list[Fault] = [((flag,), value, rule) for flag, value in found.items() if (rule := _fault(flag, value))]
    if faults:
        raise BrokenRulesError(faults)
    return found


def _fault(flag: str, value: Any) -> str | None:
    if flag in _FIELDS:
        return f"set cluster.{_FIELDS[flag]} instead"
    if flag in _SET_BY_LAUNCHER.split():
        return _OURS
    if value is False or not isinstance(value, str | int | float):
        return "must be text or a number, or true for a flag without a value"
    if flag == "gpus-per-node" and gpus_per_node(flag, value) is None:
        return 'must be a number, after a type if one is needed: "a100:4"'
    return None


def check_srun(arguments: list[str]) -> list[str]:
    """Raises BrokenRulesError for arguments of srun that the launcher sets."""
    faults: list[Fault] = []
    for index, argument in enumerate(arguments):
        short = argument if argument.startswith("--") else argument[:2]
        if {argument.split("=")[0], short} & set(_SRUN_SET_BY_LAUNCHER.split()):
            faults.append(((index,), argument, _OURS))
    if faults:
        raise BrokenRulesError(faults)
    return arguments


def gpus_per_node(flag: str, value: Any) -> int | None:
    """The GPUs per node that a flag requests. None for other flags."""
    if flag == "gres":
        counts = [int(count or 1) for count in _GRES_GPUS.findall(str(value))]
        return sum(counts) if counts else None
    found = _TYPED.fullmatch(str(value)) if flag == "gpus-per-node" else None
    return int(found[1]) if found else None


def contradictions(flags: Mapping[str, Any], gpus: int, mem: str | int | None) -> list[Fault]:
    """Flags that contradict the profile's `gpus_per_node` or `mem`.

    GPUs with a type ("gpus-per-node: a100:4", "gres: gpu:a100:4") are allowed if the number is the profile's.
    """
    faults: list[Fault] = []
    for flag, value in flags.items():
        if flag in ("mem-per-cpu", "mem-per-gpu") and mem is not None:
            faults.append((("sbatch", flag), value, f"contradicts cluster.mem={mem}; set only one of the two"))
        if gpus_per_node(flag, value) not in (None, gpus):
            rule = f"contradicts cluster.gpus_per_node={gpus}; set both to the same number"
            faults.append((("sbatch", flag), value, rule))
    return faults

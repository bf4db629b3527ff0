"""A profile's further flags of sbatch and arguments of srun: none may contradict the profile or the launcher."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dynamic_rcnn.errors import UserError

_OURS = "the launcher sets it; leave it out"
# flags of sbatch -> the field of the profile that stands for them
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
_LAUNCHERS = """
    array a chdir D dependency d error e hold H input i job-name J kill-on-invalid-dep no-requeue ntasks n
    ntasks-per-node open-mode output o parsable requeue test-only wait W wrap
"""
_SRUN = """
    --cpus-per-task -c --error -e --input -i --kill-on-bad-exit -K --nodes -N --ntasks -n --ntasks-per-node --output -o
"""
_GRES_GPUS = re.compile(r"(?:^|,)(?:gres/)?gpu(?::[\w.-]*[A-Za-z_][\w.-]*)?(?::(\d+))?(?:\([^)]*\))?(?=,|$)")
_TYPED = re.compile(r"(?:[A-Za-z_][\w.-]*:)?(\d+)")


def checked(flags: Any, profile: Mapping[str, Any]) -> dict[str, Any]:
    """`flags` of sbatch by their names without dashes. Raises UserError for those that a field stands for.

    GPUs of a type ("gpus-per-node: a100:4", "gres: gpu:a100:4") are no contradiction where the number is the field's.
    """
    if not isinstance(flags, Mapping):
        raise UserError(f"cluster.sbatch={flags}: must map flags of sbatch to values, e.g. {{reservation: spring}}")
    found = {str(name).lstrip("-").replace("_", "-"): value for name, value in flags.items()}
    for flag, value in found.items():
        _check(flag, value, profile)
    return found


def check_srun(arguments: Sequence[str]) -> None:
    """Raises UserError for arguments of srun that the launcher gives itself."""
    for argument in arguments:
        short = argument[:2] if not argument.startswith("--") else argument
        if {argument.split("=")[0], short} & set(_SRUN.split()):
            raise UserError(f"cluster.srun: {argument}: {_OURS}")


def gpus_asked(flag: str, value: Any) -> int | None:
    """How many GPUs a node a flag asks for; None where it is not one that does."""
    if flag == "gres":
        counts = [int(count or 1) for count in _GRES_GPUS.findall(str(value))]
        return sum(counts) if counts else None
    if flag != "gpus-per-node":
        return None
    found = _TYPED.fullmatch(str(value))
    if found is None:
        raise UserError(f'cluster.sbatch.{flag}={value}: must be a number, after a type where one is needed: "a100:4"')
    return int(found[1])


def _check(flag: str, value: Any, profile: Mapping[str, Any]) -> None:
    where = f"cluster.sbatch.{flag}={value}"
    if flag in _FIELDS:
        raise UserError(f"{where}: give cluster.{_FIELDS[flag]} instead")
    if flag in _LAUNCHERS.split():
        raise UserError(f"{where}: {_OURS}")
    if flag in ("mem-per-cpu", "mem-per-gpu") and profile["mem"] is not None:
        raise UserError(f"{where}: contradicts cluster.mem={profile['mem']}; give one of the two")
    if value is False or not isinstance(value, str | int | float):
        raise UserError(f"{where}: must be text or a number, or true for a flag without a value")
    gpus, field = gpus_asked(flag, value), profile["gpus_per_node"]
    if gpus is not None and gpus != field:
        raise UserError(f"{where}: contradicts cluster.gpus_per_node={field}; give both the same number")

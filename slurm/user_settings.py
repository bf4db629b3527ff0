"""The user's own settings for Slurm: environment variables SBATCH_*, as many sites and users set them."""

from __future__ import annotations

from collections.abc import Mapping

from slurm.site_profile import Profile

# variable -> the field of the profile that it fills in
_FIELDS = {f"SBATCH_{field.upper()}": field for field in ("account", "partition", "qos", "constraint")}
_NOT_OF_SBATCH = {f"SLURM_{name}" for name in ("ACCOUNT", "PARTITION", "QOS", "CLUSTERS")}


def with_user_settings(profile: Profile, env: Mapping[str, str]) -> tuple[Profile, list[str]]:
    """`profile` with the user's variables in the fields that it leaves open, and a line about each variable.

    No other variable reaches sbatch, where it would overrule the batch script.
    """
    found = {name: value for name, value in sorted(env.items()) if value and name in _FIELDS}
    open_fields = {name: field for name, field in _FIELDS.items() if name in found and getattr(profile, field) is None}
    profile = profile.model_copy(update={field: found[name] for name, field in open_fields.items()})
    lines = [f"cluster.{field}={found[name]}, from {name}" for name, field in open_fields.items()]
    for name, value in sorted(env.items()):
        if not value or name in open_fields or not (name.startswith("SBATCH_") or name in _NOT_OF_SBATCH):
            continue
        field = _FIELDS.get(name.replace("SLURM_", "SBATCH_"))
        if field is None:
            lines.append(f"{name}={value} is not used; set it in the cluster profile (cluster.sbatch=...)")
        elif getattr(profile, field) != value:
            lines.append(f"{name}={value} is not used; cluster.{field}={getattr(profile, field)} is")
    return profile, lines

"""A grid: the runs that should exist, and what the report needs to know about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dynamic_rcnn.run.comparisons import Equivalence, Factorial
from dynamic_rcnn.run.manifest import Paper
from dynamic_rcnn.run.spec import RunSpec


def other_seed(seed: int) -> int:
    """The seed whose run is replayed by a run of this seed with `of_other_seed`: the seed before, or 1 for seed 0."""
    return seed - 1 if seed else 1


@dataclass(frozen=True)
class Grid:
    """The runs of a grid file, for the chosen arms and seeds.

    Attributes:
        task: what the runs do, see RunSpec.
        baseline: the arm that the others are compared with, except those in `baselines`, which have their own.
        arms: name -> title, of all arms.
        specs: each arm's run with seed 0, also of arms that were not chosen; `spec` gives other seeds.
        runs: the runs of the chosen arms and seeds.
        pretrain: the run with seed 0 that pretrains the backbone from which the others of its seed start.
        setting: ten hex digits over what all arms share.
        base: the name of the base.
        changed: the fields that differ from the files, see overrides.changed_fields.
        seconds: data set -> declared seconds per iteration, of all arms or by arm.
        timed_arms: name -> title of the arms that the grid's only run times side by side; None for other tasks.
    """

    name: str
    title: str
    task: str
    baseline: str
    baselines: dict[str, str]
    arms: dict[str, str]
    seeds: list[int]
    specs: dict[str, RunSpec]
    runs: list[RunSpec]
    pretrain: RunSpec | None
    setting: str
    base: str
    changed: list[str]
    seconds: dict[str, Any]
    paper: Paper | None
    contrasts: list[tuple[str, str]]
    factorial: Factorial
    equivalence: list[Equivalence]
    seen_seeds: list[int]
    timed_arms: dict[str, str] | None = None

    def spec(self, arm: str, seed: int) -> RunSpec:
        """The run of an arm and seed, with the runs of this seed that it needs."""
        spec = self.specs[arm]
        given = {"init": spec.init, "replay": spec.replay}
        sources = {name: source for name, source in given.items() if source and "setting" in source}
        return spec.with_seed(
            seed, **{name: {**source, "run": self._needed(source, seed).id} for name, source in sources.items()}
        )

    def _needed(self, source: dict[str, Any], seed: int) -> RunSpec:
        """The run that `init` or `replay` of a run with this seed names."""
        if source.get("of_other_seed"):
            seed = other_seed(seed)
        if self.pretrain is not None and source["setting"] == self.pretrain.setting:
            return self.pretrain.with_seed(seed)
        arm = next(name for name, spec in self.specs.items() if spec.setting == source["setting"])
        return self.spec(arm, seed)

    @property
    def pretrainings(self) -> list[RunSpec]:
        """The runs that pretrain the backbones, one per seed."""
        return [] if self.pretrain is None else [self.pretrain.with_seed(seed) for seed in self.seeds]

    @property
    def all_runs(self) -> list[RunSpec]:
        return self.pretrainings + self.runs

    @property
    def has_masks(self) -> bool:
        """Whether any model learns masks, which the data must then have."""
        return any(spec.has_masks for spec in self.specs.values())

    @property
    def min_size(self) -> float:
        """The shorter side of the smallest images that are trained on, in pixels."""
        return float((self.runs[0].config["data"]["filter_cfg"] or {}).get("min_size", 0))

    @property
    def dataset(self) -> str:
        return str(self.runs[0].dataset["name"])

"""A grid's manifest, `<grid>-<setting>.grid.json` beside the runs: the runs that launches of the grid asked for.

The launcher writes it and the report reads it, both by the schema in this module. Grid files share its parts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.comparisons import Contrasts, Equivalence, Factorial, comparison_faults
from dynamic_rcnn.run.files import GRID_SUFFIX, SCHEMA, Part, read_json, write_json_atomic
from dynamic_rcnn.run.results import BENCHMARK
from dynamic_rcnn.run.schema import BrokenRulesError, Fault, validate
from dynamic_rcnn.run.spec import EVALUATE, TASKS, TRAIN

PUBLISHED_BASE = "faster_rcnn_r50_fpn_1x"  # of the paper's main experiments
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def relative_manifest_path(dataset: str, grid: str, setting: str) -> str:
    """The path of a grid's manifest, relative to the run folder."""
    return f"{dataset}/{grid}-{setting}{GRID_SUFFIX}"


def _is_plain_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and not name.endswith(GRID_SUFFIX)


def _plain_name(name: str) -> str:
    if not _is_plain_name(name):
        raise ValueError(
            "must be a plain name: letters, digits, '.', '_' and '-', the first a letter or a digit, not ending in "
            + GRID_SUFFIX
        )
    return name


def _run_path(path: str) -> str:
    """Allow only plain names, so that a manifest cannot point outside its run folder."""
    parts = path.split("/")
    if len(parts) != 3 or not all(map(_is_plain_name, parts)):
        raise ValueError("must be <dataset>/<arm>/seed<k>-<id>")
    return path


def _metrics(row: Any) -> Any:
    numbers = row.values() if isinstance(row, dict) else [None]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise ValueError("must map metrics to numbers in percent")
    return row


def _digest_start(digits: Any) -> Any:
    if not isinstance(digits, str) or not re.fullmatch(r"[0-9a-f]{8,64}", digits):
        raise ValueError("must be the first 8 or more hex digits of a sha256, in quotes")
    return digits


def _task(task: Any) -> Any:
    if task == "measure":  # the name of task benchmark before 0.2.0
        raise ValueError("made by an earlier version; delete the file and launch the grid again")
    if task not in TASKS:
        raise ValueError("made by a newer version; update this one")
    return task


def _or_empty(kind: type) -> BeforeValidator:
    """A validator that replaces null by an empty value, because older manifests have null there."""
    return BeforeValidator(lambda value: kind() if value is None else value)


PlainName = Annotated[str, AfterValidator(_plain_name)]
PaperRows = dict[str, Annotated[dict[str, float], BeforeValidator(_metrics)]]  # arm -> metric -> value in percent


class Paper(Part):
    """The rows of the paper that a grid reproduces, as printed.

    Attributes:
        weights: first digits of the sha256 of the published weights that the numbers belong to, if any.
        test_dev: numbers on COCO test-dev, whose annotations are not public.
        base: the base of the published setting.
    """

    table: str
    source: str
    dataset: str
    rows: PaperRows
    weights: Annotated[str, BeforeValidator(_digest_start)] | None = None
    test_dev: PaperRows = Field(default_factory=dict)
    base: str = PUBLISHED_BASE


class PlannedCell(Part):
    """One run that a grid asks for.

    Attributes:
        path: its directory, relative to the run folder.
        setting: digest of everything but the seed, as the launch recorded it; None in older manifests.
    """

    arm: str
    seed: int
    path: Annotated[str, AfterValidator(_run_path)]
    setting: str | None = None


class EvaluatedWeights(Part):
    """The file of weights that a grid's runs evaluate."""

    name: str
    sha256: str


class Manifest(Part):
    """What launches of a grid asked for.

    Attributes:
        arms: name -> title, in the order of tables.
        baseline: the arm that the others are compared with, except those in `baselines`, which have their own.
        base: name of the base config; None in older manifests.
        changed: fields that differ from the files of the base, the data set and the grid; None in older manifests.
        contrasts: pairs of arms to compare with each other, besides each with its baseline.
        factorial: two factors with the arms that have each; empty for no factorial.
        equivalence: arms that are claimed to differ by no more than a margin.
        seen_seeds: seeds whose results were known when settings were chosen.
        looks: for each launch that added seeds to finished ones, the number of seeds with a result at that time.
        task: what the runs do, one of run.spec.TASKS.
        timed_arms: name -> title of the arms that the only run times side by side; None for other tasks.
    """

    model_config = ConfigDict(populate_by_name=True)

    name: PlainName = Field(alias="grid")
    title: str
    task: Annotated[str, BeforeValidator(_task)] = TRAIN
    weights: EvaluatedWeights | None = None
    setting: PlainName
    dataset: PlainName
    base: str | None = None
    changed: list[str] | None = None
    baseline: str
    baselines: Annotated[dict[str, str], _or_empty(dict)] = Field(default_factory=dict)
    arms: dict[str, str]
    cells: list[PlannedCell] = Field(alias="runs")
    paper: Paper | None = None
    contrasts: Annotated[Contrasts, _or_empty(list)] = Field(default_factory=list)
    factorial: Factorial = Field(default_factory=dict)
    equivalence: list[Equivalence] = Field(default_factory=list)
    seen_seeds: list[int] = Field(default_factory=list)
    looks: list[int] = Field(default_factory=list)
    timed_arms: dict[str, str] | None = None

    @property
    def seeds(self) -> list[int]:
        return sorted({cell.seed for cell in self.cells})

    @property
    def trains(self) -> bool:
        return self.task == TRAIN

    def baseline_of(self, arm: str) -> str:
        """The arm that `arm` is compared with."""
        return self.baselines.get(arm, self.baseline)

    @property
    def key(self) -> str:
        """Unique among manifests; used in file names."""
        return f"{self.dataset}-{self.name}-{self.setting}"

    @property
    def manifest(self) -> str:
        """The path of this manifest, relative to the run folder."""
        return relative_manifest_path(self.dataset, self.name, self.setting)

    @model_validator(mode="after")
    def _check_names(self) -> Manifest:
        declared = (self.contrasts, self.factorial, self.equivalence)
        faults = [*self._arm_faults(), *comparison_faults(*declared, self.arms, self.baseline)]
        if self.task == EVALUATE and self.weights is None:
            faults.append((("weights",), None, "must be given for task 'evaluate': name and sha256 of the file"))
        if (self.task == BENCHMARK) != (self.timed_arms is not None):
            faults.append(
                (
                    ("timed_arms",),
                    self.timed_arms,
                    f"must be given for task {BENCHMARK!r} only; task={self.task}",
                )
            )
        counts = Counter((cell.arm, key) for cell in self.cells for key in (f"seed {cell.seed}", cell.path))
        faults += [(("runs",), f"{arm}, {key}", "is given more than once") for (arm, key), n in counts.items() if n > 1]
        if faults:
            raise BrokenRulesError(faults)
        return self

    def _arm_faults(self) -> Iterator[Fault]:
        rule = f"must be one of {', '.join(self.arms)}"
        if self.baseline not in self.arms:
            yield ("baseline",), self.baseline, rule
        for arm, control in self.baselines.items():
            if arm not in self.arms or control not in self.arms or arm == control:
                yield ("baselines", arm), control, f"{rule}, and another arm than {arm}"
        for index, cell in enumerate(self.cells):
            if cell.arm not in self.arms:
                yield ("runs", index, "arm"), cell.arm, rule


def read_manifest(path: Path, way_out: str = "") -> Manifest:
    """The manifest at `path`.

    Raises:
        UserError: it is missing, corrupt, of another grid or of a newer version. Ends in `way_out`.
    """
    try:
        manifest = validate(Manifest, read_json(path), file=path)
    except UserError as error:
        raise UserError("; ".join(filter(None, [str(error), way_out]))) from None
    if f"{path.parent.name}/{path.name}" != manifest.manifest:
        raise UserError(f"{path}: holds the manifest of {manifest.manifest}; move it there")
    return manifest


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write `manifest` to `path`, with the fields that were given."""
    content = manifest.model_dump(mode="json", by_alias=True, exclude_unset=True)
    write_json_atomic(path, {"schema": SCHEMA, **content, "seeds": manifest.seeds})

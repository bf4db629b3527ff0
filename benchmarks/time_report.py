"""Makes a large folder of runs, and times the report on it: the first time, and a second time when nothing changed.

    python -m benchmarks.time_report folder=FOLDER [runs=2000] [rows=200] [seed=0]

folder   where the set is made; it must not exist
runs     run directories, in grids of 200 (40 arms of 5 seeds); 1 in 20 has failed
rows     logged iterations of each run, with all that training logs
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from analysis.reading.run_files import CURVES, IOU_THRESHOLDS, METRICS
from dynamic_rcnn import PROJECT as ROOT
from dynamic_rcnn.cli import count, parse, run
from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run import directory
from dynamic_rcnn.run.manifest import manifest_place
from dynamic_rcnn.run.spec import RunSpec

DEFAULTS = {"folder": "", "runs": "2000", "rows": "200", "seed": "0"}
ARMS, SEEDS, CLASSES = 40, 5, 80
DATASET = "drawn"
SETTING = "0123456789"
IOU_BINS, TARGET_BINS = 20, 30  # as training counts
SAMPLED = 0.2  # seconds between two looks at the memory


def main(arguments: Sequence[str]) -> int:
    """Exit code 0; raises UserError for a folder that exists and an argument that is no number."""
    values = parse(arguments, DEFAULTS)
    folder = Path(values.pop("folder"))
    if folder == Path() or folder.exists():
        raise UserError(f"folder={'' if folder == Path() else folder}: must name a folder that does not exist yet")
    size = {name: count(name, value, 0 if name == "seed" else 1) for name, value in values.items()}
    make(folder / "runs", size["runs"], size["rows"], np.random.default_rng(size["seed"]))
    first, second = (timed(folder) for _ in range(2))
    print(f"second time: {second / first:.3f} of the first")
    return 0


def make(runs: Path, number: int, rows: int, rng: np.random.Generator) -> None:
    """Write `number` runs and the manifests of their grids below `runs`."""
    cells = [(at // (ARMS * SEEDS), at // SEEDS % ARMS, at % SEEDS) for at in range(number)]
    for grid in range(cells[-1][0] + 1):
        own = [(f"g{grid}a{arm:02}", seed) for at, arm, seed in cells if at == grid]
        entries = []
        for arm, seed in own:
            spec = RunSpec(arm, seed, {"name": DATASET}, {"arm": arm})
            path = spec.directory(runs)
            _write_run(path, spec, rows, rng)
            place = path.relative_to(runs).as_posix()
            entries.append({"arm": arm, "seed": seed, "path": place, "setting": spec.setting})
        arms = list(dict.fromkeys(arm for arm, _ in own))
        manifest = {"schema": 1, "grid": f"g{grid}", "title": f"Grid {grid}", "setting": SETTING, "dataset": DATASET}
        manifest |= {"baseline": arms[0], "arms": {arm: f"arm {arm}" for arm in arms}, "runs": entries}
        directory.write_json_atomic(runs / manifest_place(DATASET, f"g{grid}", SETTING), manifest)


def _write_run(path: Path, spec: RunSpec, rows: int, rng: np.random.Generator) -> None:
    failed = rng.random() < 0.05
    path.mkdir(parents=True)
    spec.write(path)
    last = 10 * rows
    attempt = {"number": 1, "started": 0.0, "ended": 1.0, "outcome": "NaN" if failed else "done"}
    status: dict[str, Any] = {
        "state": "failed" if failed else "done",
        "cause": "NaN" if failed else None,
        "message": None,
    }
    status |= {"iteration": last, "max_iterations": last, "heartbeat": 1.0, "attempts": [attempt]}
    directory.write_json_atomic(path / directory.STATUS, {"schema": 1, **status})
    provenance = {"schema": 1, "commit": "0" * 40, "dirty": False, "device": "cuda", "code": "0" * 10}
    provenance |= {"versions": {"torch": "2.9.0"}, "command": "python experiments/launch.py"}
    directory.write_json_atomic(path / directory.PROVENANCE, provenance)
    lines = "".join(f"{json.dumps(row)}\n" for row in _curve(rows, rng))
    (path / directory.TRAIN_LOG).write_text(lines, encoding="utf-8")
    if not failed:
        directory.write_json_atomic(path / directory.METRICS, _metrics(last, rng))


def _curve(rows: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    values = rng.random((rows, len(CURVES))).tolist()
    for at, drawn in enumerate(values, start=1):
        histograms = {"iou_histogram": rng.integers(0, 500, IOU_BINS).tolist()}
        histograms |= {"target_histogram": rng.integers(0, 50, TARGET_BINS).tolist()}
        yield {**dict(zip(CURVES, drawn, strict=True)), "iteration": 10 * at, **histograms}


def _metrics(iteration: int, rng: np.random.Generator) -> dict[str, Any]:
    by_class = rng.random((CLASSES, 2)).tolist()
    return {
        **{"schema": 1, "iteration": iteration, "split": "val", "images": 5000},
        "metrics": dict(zip(METRICS, rng.random(len(METRICS)).tolist(), strict=True)),
        "by_iou": rng.random(len(IOU_THRESHOLDS)).tolist(),
        "per_class": {f"class{n:02}": {"AP": ap, "AP90": ap90} for n, (ap, ap90) in enumerate(by_class)},
    }


def timed(folder: Path) -> float:
    """Seconds of the report command on the set; prints them with the most memory seen, which it looks at meanwhile."""
    command = [sys.executable, str(ROOT / "analysis/report.py"), f"runs={folder / 'runs'}"]
    start, most = time.perf_counter(), 0
    with psutil.Popen([*command, f"out={folder / 'REPORT.md'}"], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, _memory(process))
            with suppress(psutil.TimeoutExpired):
                process.wait(SAMPLED)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise UserError(f"{' '.join(command)}: ended with {process.returncode}")
    print(f"report: {seconds:.1f} s, about {most / 1e9:.2f} GB at most, all its processes together", flush=True)
    return seconds


def _memory(process: psutil.Popen) -> int:
    """Bytes that the process and its children take at the moment; pages that they share are counted once."""
    found = 0
    for each in (process, *process.children()):
        with suppress(psutil.NoSuchProcess):
            found += each.memory_full_info().pss
    return found


if __name__ == "__main__":
    sys.exit(run(main, __doc__ or ""))

"""The example in docs/own-data.md: its commands, as written, and its data set."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_letters_of_an_image_are_in_their_boxes() -> None:
    drawing = runpy.run_path(str(ROOT / "docs/examples/draw_letters.py"))
    seen: set[int] = set()
    for seed in range(10):
        image, objects = drawing["draw_image"](np.random.default_rng(seed))
        again, same = drawing["draw_image"](np.random.default_rng(seed))
        assert image.tobytes() == again.tobytes() and objects == same
        for item in objects:
            x, y, width, height = item["bbox"]
            assert min(x, y) >= 0 and x + width <= image.width and y + height <= image.height
            assert item["area"] == width * height and min(width, height) >= 8
            box = np.asarray(image)[y : y + height, x : x + width]
            colors, counts = np.unique(box.reshape(-1, 3), axis=0, return_counts=True)
            letter = (box == colors[counts.argmax()]).all(-1)  # of one color, while the background has noise
            assert letter[[0, -1]].any(1).all() and letter[:, [0, -1]].any(0).all()
            seen.add(item["category_id"])
    assert seen == {1, 2, 3, 4}


@pytest.mark.slow
def test_the_commands_of_the_example(tmp_path: Path) -> None:
    page = (ROOT / "docs/own-data.md").read_text()
    script = "".join(re.findall(r"^```bash\n(.*?)^```", page, flags=re.M | re.S))
    assert len(re.findall(r"^python ", script, flags=re.M)) == 7
    here = {"data/letters": f"{tmp_path}/letters", "runs=runs": f"runs={tmp_path}/runs", "out=runs": f"out={tmp_path}"}
    for given, replacement in here.items():
        assert given in script
        script = script.replace(given, replacement)
    script = re.sub(r"^python ", f"{sys.executable} ", script, flags=re.M)
    done = subprocess.run(["bash", "-euc", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 runs (4 arms x 1 seeds): 4 new" in done.stdout and "<- proposed" in done.stdout
    report = (tmp_path / "REPORT.md").read_text()
    assert "letters" in report and "4 of 4 runs done" in report

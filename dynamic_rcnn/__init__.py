"""Dynamic R-CNN as an mmdet extension, and the training of one run.

Importing this package imports nothing else: planning and reporting use its torch-free parts
(`errors`, `cli`, `run`, `data`, `metrics`), training uses `engine` and `method`.
"""

from pathlib import Path

__version__ = "0.2.0"

PROJECT = Path(__file__).resolve().parents[1]  # the checkout: what paths in settings and commands are relative to

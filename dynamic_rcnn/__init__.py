"""Dynamic R-CNN as an mmdet extension, and the training of one run.

Importing this package imports nothing else: planning and reporting use its torch-free parts
(`errors`, `run`, `data`, `evaluation`), training uses `method` and `train`.
"""

__version__ = "0.1.0"

"""All randomness of a run as a function of its seed and of where the run stands.

The generators are seeded anew before each iteration, each sample and the initialisation, so that an interrupted run
has no random state to restore: iteration 641 draws the same numbers whether or not 640 was in the same process.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive(*parts: int | str) -> int:
    """A 64-bit seed from (seed, purpose, counters ...)."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


def seed_all(*parts: int | str) -> None:
    """Seed Python's, numpy's and torch's global generators from (seed, purpose, counters ...)."""
    value = derive(*parts)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)

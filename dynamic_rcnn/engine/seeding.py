"""All randomness of a run as a function of its seed and its position.

The generators are seeded before the initialisation, each iteration and each sample, so that a resumed run has no random
state to restore: iteration 641 draws the same numbers whether or not the same process ran iteration 640.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive(*parts: int | str) -> int:
    """Derive a 64-bit seed from (seed, purpose, counters ...)."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


def seed_all(*parts: int | str) -> None:
    """Seed the global generators of Python, numpy and torch from (seed, purpose, counters ...)."""
    value = derive(*parts)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)

"""Statistics of finished runs: pure functions over seeds, the comparison of arms, verdicts, and timings."""

"""Declarative grids of runs, and the launcher that runs what is missing."""

"""Runs in the tools that people already have open. `exported_run` says what is exported, the others how.

Each tool is a `Tracker`: it keeps one run of its own per run of the suite, with a `State` that says what it has. Thus
exporting again adds what is new and nothing else.
"""

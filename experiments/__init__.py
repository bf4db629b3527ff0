"""What is to exist: declarative grids, and the launcher that makes them exist."""

"""Data sets in COCO format: `shapes`, drawn from a seed, and any other by its paths. Torch-free."""

"""Data sets in COCO format: `shapes`, which is drawn from a seed, and any other by its paths. Torch-free."""

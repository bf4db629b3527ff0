"""From run directories to the report (`report`) and to DataFrames (`frames`).

The report needs neither torch nor mmdet, and the same records give the same bytes; `images` reads the ground truth.
"""

"""From run directories to the report: collect, statistics, tables, figures, page, report; and to DataFrames (frames).

Reads records, and `images.py` the ground truth as well. The report needs neither torch nor mmdet, and gives the same
bytes for the same records.
"""

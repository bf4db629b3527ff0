"""From run directories to the report: collect, statistics, tables, figures, page, report; and to DataFrames (frames).

Reads records only. Needs neither torch nor mmdet, and gives the same bytes for the same records.
"""

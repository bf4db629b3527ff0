"""From run directories to REPORT.md: collect, statistics, tables, figures, page, report.

Reads records only. Needs neither torch nor mmdet, and gives the same bytes for the same records.
"""

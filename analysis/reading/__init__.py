"""From a folder of runs to tidy tables.

Between a run directory and a cell of the report there are five representations:

1. the files of the run directory (`dynamic_rcnn.run.files`),
2. a typed `Run`, checked against the schemas that also wrote the files (`run`, `train_log`; made by `reader`),
3. the tidy data frames of a `RunTable`, one for the whole folder (`run_table.collect`),
4. a `Comparison` or `TimingComparison` of the arms of one grid (`analysis.stats`),
5. a `TableCell` (`analysis.rendering.model`), which each output format writes in its own way.
"""

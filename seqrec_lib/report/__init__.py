"""From records to pages: the paper's numbers, statistics, tables and figures. Knows records, not models.

- `paper`, `claims`: the paper's tables and claims as data; `feasibility`, `sizes`, `audit`: whether they add
up - `statistics`: bootstrap intervals, paired tests, the verdict on a number of the paper - `runs`: the runs
of one model together; `tables`, `datasets`, `footer`, `figures`: what a page shows of them - `html`: the
pieces that all of these are made of
"""

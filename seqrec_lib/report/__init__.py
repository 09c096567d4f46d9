"""From records to pages: the paper's numbers, statistics, tables and figures. Knows records, not models.

- `paper`, `claims`: the paper's tables and claims as data; `feasibility`, `sizes`, `audit`: whether they add up;
- `chapters` puts values, exhibits and evidence into prose that a person wrote; `pages` has what each chapter names,
  `statements`, `values`, `frames` and `evidence` what those are made of; `kit` and `svg` draw;
- `statistics`: bootstrap intervals (from the laws that `bootstrap` computes), paired tests, the verdict on a number of
  the paper;
- `runs`, `timings`: the runs of one model together; `tables`, `costs`, `datasets`, `footer`, `figures`: what pages show
  of them; the other modules have the name of their page or of its part;
- `html`: the pieces that all of these are made of; `html_check`: what a built page must satisfy.
"""

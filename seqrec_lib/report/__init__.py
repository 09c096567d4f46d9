"""From records to pages: the paper's numbers, frames, tables and figures. Knows records, not models.

- `paper`: the paper's tables as data; `feasibility`, `sizes`, `audit`: whether they add up and bear out its claims;
  `published`: what others report;
- `frames`: runs as tidy frames, for notebooks and chapters alike; modules with the name of a page make its frames;
- `kit` makes tables and figures of frames, `svg` and `panels` draw those with the scales of `axes` and the elements of
  `drawing`; `html` has the pieces around them, `footer` where numbers are from;
- `chapters` puts values, exhibits and evidence into prose that a person wrote; `pages` has what each chapter names,
  `statements`, `judges`, `values` and `evidence` what those are made of;
- `html_check`: what a built page must satisfy.
"""

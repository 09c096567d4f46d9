"""How long a recommendation takes: the paper's protocol and an honest one beside it.

- `statistics`: outliers classified, the blocks or processes that are resampled, the A/A control, and what removing
  outliers does to an interval (no torch)
- `contestants`: what is timed: a model on a path (served, module, step; on a GPU eager, compiled, graph), by stages
- `clock`: wall clocks, CUDA events, peak memory
- `worker`: one process that times all contestants in interleaved random blocks
"""

PATHS = {"cpu": ("served", "module", "step"), "cuda": ("eager", "compiled", "graph")}
"""What can be timed, by device; `contestants` says what each is."""

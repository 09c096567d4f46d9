"""seqrec_lib: state space models, preference tuning and a universal gradient method for sequential recommendation.

The package is imported by the study's notebooks and by the `seqrec` command; importing it loads nothing else.
"""

from __future__ import annotations

import os

from seqrec_lib.places import give_numba_a_cache

give_numba_a_cache()  # before numba is imported, which reads its settings then
# oneDNN multiplies in bfloat16 on CPUs. It keeps a program of some megabytes for each shape that it has met, up to
# 1,024 of them, and PyTorch as many once more: two gigabytes for a model that reads texts of all lengths. Both read
# these at the first product.
for _cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_cache, "64")

"""seqrec_lib: state space models, preference tuning and a universal gradient method for sequential recommendation.

The package is imported by the study's notebooks and by the `seqrec` command; importing it loads nothing else.
"""

from __future__ import annotations

from seqrec_lib.places import give_numba_a_cache

give_numba_a_cache()  # before numba is imported, which reads its settings then

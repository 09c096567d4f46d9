"""seqrec_lib: state space models, preference tuning and a universal gradient method for sequential
recommendation.

The package is imported by the study's notebooks and by the `seqrec` command; importing it loads nothing else.
"""

from __future__ import annotations

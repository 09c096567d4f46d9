"""The study's recommenders: `registry` names them, `build` makes one. Nothing here imports torch before that.

To add one: write a :class:`~seqrec_lib.models.base.SequentialRecommender` and give it a line in
:data:`~seqrec_lib.models.registry.MODELS`.
"""

from seqrec_lib.models.building import build, load_class
from seqrec_lib.models.registry import (
    COUNTED,
    LANGUAGE,
    MODELS,
    VARIANTS,
    ModelSpec,
    check,
    check_architecture,
    module_of,
    names,
)

__all__ = [
    "COUNTED",
    "LANGUAGE",
    "MODELS",
    "VARIANTS",
    "ModelSpec",
    "build",
    "check",
    "check_architecture",
    "load_class",
    "module_of",
    "names",
]

"""Fast recommendations from a trained model: `serve(model).recommend(histories, k)`.

A server is a frozen copy of a model's weights, laid out for answering at once: no autograd, no tensor operation where
a compiled loop is faster, no loop where a matrix product is, nothing computed but the last output. No length, batch or
catalogue makes it slower than the model's own pass (`benchmarks/serving_speed.py` measures that). The one-layer
state-space models and SASRec have servers that also take *one more event* (`SteppingServer.start` and `.step`); every
other model is served by its own ``score``. On a GPU the model's own pass is captured once as a CUDA graph for each
length and replayed.

Importing this package compiles nothing: the compiled loops are imported, and numba with them, by the first server.

    >>> from seqrec_lib.models import MODELS, build
    >>> server = serve(build("mamba4rec", 20, 10, MODELS["mamba4rec"].architecture))
    >>> ids, scores = server.recommend([[1, 2, 3], [4, 5]], k=4)
    >>> ids.shape
    (2, 4)
"""

from __future__ import annotations

from typing import Any

from seqrec_lib.models.hydra4rec import Hydra4Rec
from seqrec_lib.models.mamba4rec import Mamba4Rec, TwoMamba4Rec
from seqrec_lib.models.sasrec import SASRec
from seqrec_lib.serving.base import Server, SteppingServer
from seqrec_lib.serving.modules import ModuleServer
from seqrec_lib.ssm.backends import missing

__all__ = ["Server", "SteppingServer", "serve"]


def serve(model: Any, n_items: int | None = None) -> Server:
    """The fastest server for a model of :mod:`seqrec_lib.models`, with its present weights.

    Args:
        model: a `SequentialRecommender`, or a counting model (then ``n_items`` says how large its catalogue is).
    """
    weight = getattr(getattr(model, "item_embedding", None), "weight", None)
    if weight is not None and weight.is_cuda:
        return _captured(model) or ModuleServer(model, n_items)
    found = None if missing("cpu") else _compiled(model)  # the loops need numba, as the mixers' kernels do
    return found or ModuleServer(model, n_items)


def _captured(model: Any) -> Server | None:
    """A server by CUDA graphs; None without `seqrec_lib.fast`."""
    try:
        # Imported here: the folder may be missing.
        from seqrec_lib.fast.serving.graphs import GraphServer
    except ModuleNotFoundError:
        return None
    return GraphServer(model)


def _compiled(model: Any) -> Server | None:
    """A server by compiled loops; None where there are none for this model. A repeat bias only concerns the scores."""
    # Imported here: reading what numba compiled before takes seconds, compiling takes minutes.
    from seqrec_lib.fast.serving.attention import SASRecServer
    from seqrec_lib.fast.serving.state_space import HydraServer, Mamba2Server, MambaServer

    programs = {Mamba4Rec: MambaServer, TwoMamba4Rec: Mamba2Server, Hydra4Rec: HydraServer}
    server: Server
    if type(model) is SASRec:  # a subclass may change any part of the pass: only its own pass is known to be right
        server = SASRecServer(model)
    elif type(model) in programs and len(model.layers) == 1 and model.stack[0].mixer.out_proj.bias is None:
        server = programs[type(model)](model)
    else:
        return None
    if model.repeat_bias is not None:
        server.repeat_bias = model.repeat_bias.item()
    return server

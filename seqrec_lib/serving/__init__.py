"""Fast recommendations from a trained model: `serve(model).recommend(histories, k)`.

A server is a frozen copy of a model's weights, laid out for answering one user at once: no autograd, no tensor
operation where a compiled loop is faster, nothing computed but the last output. The one-layer state-space models and
SASRec have servers that also take *one more event* (`SteppingServer.start` and `.step`); every other model is served by
its own ``score``. On a GPU the model's own pass is captured once as a CUDA graph for each length and replayed.

    >>> from seqrec_lib.models import MODELS, build
    >>> server = serve(build("mamba4rec", 20, 10, MODELS["mamba4rec"].architecture))
    >>> ids, scores = server.recommend([[1, 2, 3], [4, 5]], k=4)
    >>> ids.shape
    (2, 4)
"""

from __future__ import annotations

from typing import Any

from seqrec_lib.serving.base import Server, SteppingServer

__all__ = ["Server", "SteppingServer", "serve"]


def serve(model: Any, n_items: int | None = None, *, table_bytes: int | None = None) -> Server:
    """The fastest server for a model of :mod:`seqrec_lib.models`, with its present weights.

    Args:
        model: a `SequentialRecommender`, or a counting model (then ``n_items`` says how large its catalogue is).
        table_bytes: largest table of projected items that a state-space model may keep; 64 MiB by default.
    """
    from seqrec_lib.serving.modules import GraphServer, ModuleServer
    from seqrec_lib.ssm.backends import missing

    weight = getattr(getattr(model, "item_embedding", None), "weight", None)
    if weight is not None and weight.is_cuda:
        return GraphServer(model)
    found = None if missing("cpu") else _compiled(model, table_bytes)  # the loops need numba, as the mixers' kernels do
    return found or ModuleServer(model, n_items)


def _published_layout(model: Any) -> bool:
    """Whether a state space model is the one that the loops are written for: one layer, no residual, no bias."""
    layer = model.stack[0]
    return len(model.layers) == 1 and not layer.residual and layer.mixer.out_proj.bias is None


def _compiled(model: Any, table_bytes: int | None) -> Server | None:
    """A server by compiled loops; None where there are none for this model. A repeat bias only concerns the scores."""
    from seqrec_lib.fast.serving.attention import SASRecServer
    from seqrec_lib.fast.serving.state_space import TABLE_BYTES, HydraServer, Mamba2Server, MambaServer
    from seqrec_lib.models.hydra4rec import Hydra4Rec
    from seqrec_lib.models.mamba4rec import Mamba4Rec, TwoMamba4Rec
    from seqrec_lib.models.repeats import SCALE, RepeatBias
    from seqrec_lib.models.sasrec import SASRec

    servers = {Mamba4Rec: MambaServer, TwoMamba4Rec: Mamba2Server, Hydra4Rec: HydraServer}
    biased = isinstance(model, RepeatBias)
    kind = next((own for own in (SASRec, *servers) if type(model) is own or (biased and isinstance(model, own))), None)
    server: Server
    if kind is SASRec:
        server = SASRecServer(model)
    elif kind is not None and _published_layout(model):
        server = servers[kind](model, TABLE_BYTES if table_bytes is None else table_bytes)
    else:
        return None
    if isinstance(model, RepeatBias):
        server.max_length, server.repeat_bias = model.window, SCALE * model.repeats.item()
    return server

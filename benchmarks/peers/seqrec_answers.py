"""This library's models recommend as `model` is served to a user, in turns (see turns.py); weights are random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from turns import answer, settings


def main() -> None:
    given = settings()
    import numpy as np
    import torch

    from seqrec_lib.data import load
    from seqrec_lib.models import build
    from seqrec_lib.serving import Server, serve

    torch.set_num_threads(given["threads"])
    sequences = load(given["dataset"])
    test = sequences.split("test")
    histories = [sequences.items[a:b].astype(np.int64) for a, b in zip(test.start, test.stop, strict=True)]
    k = given["k"]

    def way(server: Server) -> Callable[[list[int]], list[list[Any]]]:
        def recommend(users: list[int]) -> list[list[Any]]:
            found: list[list[Any]] = server.recommend([histories[user] for user in users], k)[0].tolist()
            return found

        return recommend

    ways, parameters = {}, {}
    for name, (model, length, architecture) in given["models"].items():
        torch.manual_seed(0)
        net = build(model, sequences.n_items, length, architecture)
        ways[name], parameters[name] = way(serve(net)), net.parameter_counts()[0]
    answer(ways, k, versions={"torch": torch.__version__}, parameters=parameters, items=sequences.n_items)


if __name__ == "__main__":
    main()

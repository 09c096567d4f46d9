"""The weights that a run kept, for whom builds on them: `ensure_weights`, beside `execute`.

What a run keeps (`RunStore.kept`) is no part of its record: a published record comes without. And a record may be of
other data than those installed here, as when a reader's files of the same name differ. Runs on such data, and their
weights, have a store of their own in ``.other-data``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqrec_lib.errors import SeqRecError
from seqrec_lib.experiments.base import Context, Device, execute, look_up
from seqrec_lib.results import RunStore
from seqrec_lib.results.store import MADE_AGAIN

if TYPE_CHECKING:
    from seqrec_lib.models.base import SequentialRecommender


def other_data_store(store: RunStore, split_hash: str) -> RunStore:
    """Where runs on the data of ``split_hash`` are, if ``store`` has the same runs on other data."""
    place = store.new / ".other-data" / split_hash[:16]
    return RunStore(place, place / "none")


def ensure_weights(
    experiment: Any,
    config: Any,
    split_hash: str,
    store: RunStore,
    *,
    device: Device = "auto",
    progress: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """The folder that the run of ``config`` keeps, from the data of ``split_hash``; the run is made if it is missing.

    One process makes it, and others wait for that one. A record that came without its weights is left as it is; then
    only the weights are made. Damaged weights are made again, and ``report`` is told.

    Raises:
        SeqRecError: the run failed, or keeps nothing.
    """
    planned = look_up(experiment, config, store)
    record = planned.record
    if record is not None and record.complete and record.dataset.get("split_sha256") != split_hash:
        store = other_data_store(store, split_hash)
    run_id = planned.run_id  # of edited code, where it is
    if store.is_locked(run_id):
        report(f"another process is at run {run_id}, which this one builds on; waiting")
    with store.lock(run_id):
        # What other code kept is not used either: its record does not count.
        record, folder = look_up(experiment, config, store).record, store.kept(run_id, report)
        if folder is not None and record is not None and record.complete:
            return folder
        if record is None or not record.complete:  # else only the weights are made, on from where a kill left them
            (record,) = execute(experiment, [config], store=store, progress=progress, device=device)
        if record is not None and not record.complete:
            raise SeqRecError(f"run {run_id}, which this one builds on, failed: {record.error}")
        if store.kept(run_id) is None:  # on from a checkpoint of an earlier call, if code and data were the same
            store.goes_on(run_id, f"{MADE_AGAIN}{planned.code} {split_hash}")
            experiment.run(config, Context(store.workdir(run_id), progress, report, device=device))
            store.tidy(run_id)  # of checkpoints: `RunStore.save`, which would remove them, is not called
        folder = store.kept(run_id)
    if folder is None:
        raise SeqRecError(f"run {run_id} kept nothing; delete its record and run it again")
    return folder


def weights_of_parent(experiment: Any, config: Any, split_hash: str, context: Context) -> Path:
    """`ensure_weights` for a run that another one builds on, in the store of that one."""
    store = RunStore(context.workdir.parents[1])
    return ensure_weights(experiment, config, split_hash, store, device=context.device, report=context.report)


def load_recommender(folder: Path, config: Mapping[str, Any], n_items: int) -> SequentialRecommender:
    """The model of an accuracy run with this configuration, as a record has it, from the folder that the run keeps."""
    from safetensors.torch import load_file

    from seqrec_lib.experiments.accuracy import WEIGHTS
    from seqrec_lib.models import build

    net = build(config["model"], n_items, config["training"]["max_length"], config["architecture"])
    net.load_state_dict(load_file(folder / WEIGHTS))
    return net.eval()

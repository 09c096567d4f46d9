"""The verdicts on the paper's claims about speed, from latency records.

A claim is about architectures, a measurement about a program. So both programs are asked: the models as they are
served, and their own tensor operations ("module"). A claim is upheld where both say so on every data set measured, and
partly where some do. The paper measured on a GPU: a word from a CPU's times says so (``under``). Language models are
timed by a benchmark, in turns with the models as served (`decoding`).
"""

from __future__ import annotations

from collections.abc import Sequence

from seqrec_lib.latency.statistics import Estimate
from seqrec_lib.report.claims import SSM, ClaimVerdict, Word, claim, here_table, latency_ratios
from seqrec_lib.report.decoding import Record, against_served, is_random
from seqrec_lib.report.html import Html
from seqrec_lib.report.paper import dataset_name
from seqrec_lib.report.scaling import READ, Scaling, sasrec_ratios
from seqrec_lib.report.timings import Timings, label, milliseconds, span, times
from seqrec_lib.train.recipes import resolve

PROGRAMS = ("served", "module")
ON_A_CPU = "on a CPU"
PAPERS_GPU = "the paper measured on an A100 GPU, this is a CPU"


def _word(held: Sequence[bool]) -> Word:
    if not held:
        return "not tested yet"
    return "upheld" if all(held) else "partly" if any(held) else "not upheld"


def _runs(timings: Sequence[Timings]) -> tuple[str, ...]:
    return tuple(t.record.run_id for t in timings)


def _judged(claim_id: str, held: Sequence[bool], words: Sequence[str], timings: Sequence[Timings]) -> ClaimVerdict:
    """The verdict on a claim that the paper drew from a GPU's times."""
    reason = "; ".join([*words, PAPERS_GPU] if words else [])
    return ClaimVerdict(claim(claim_id), _word(held), reason, _runs(timings), under=ON_A_CPU)


def _found(timings: Timings, slow: str, fast: str) -> dict[str, Estimate]:
    """The ratio by program, where both models were timed with it."""
    both = {path: timings.ratio((slow, path), (fast, path)) for path in PROGRAMS}
    return {path: estimate for path, estimate in both.items() if estimate is not None}


def _program(path: str) -> str:
    return {"served": "as served", "module": "by modules", "graph": "as CUDA graphs"}[path]


def _in_words(path: str, estimate: Estimate) -> str:
    return f"{times(estimate.value)} ({span(estimate, times)}) {_program(path)}"


def speed_ssm(timings: Sequence[Timings]) -> ClaimVerdict:
    """Are state space models faster than SASRec: is each ratio's interval above 1?"""
    held, words = [], []
    for one in timings:
        for model in SSM:
            found = _found(one, "sasrec", model)
            held += [estimate.value > 1 and estimate.excludes(1.0) for estimate in found.values()]
            if found:
                text = ", ".join(_in_words(*item) for item in found.items())
                words.append(f"{_name(one)}, SASRec's time over {label(model)}'s: {text}")
        words += _shorter(one) if words else []
    return _judged("speed-ssm", held, words, timings)


def _shorter(timings: Timings) -> list[str]:
    """That SASRec ranks with shorter histories than it was timed with, where it does."""
    timed = timings.record.config["max_length"]
    _, training = resolve(timings.record.dataset["name"], "sasrec", 0)
    if training is None or training.max_length >= timed:
        return []
    return [
        f"{_name(timings)}: all read up to {timed} items here; elsewhere in this book SASRec ranks with the last "
        f"{training.max_length}, and would be faster so"
    ]


def speed_hydra(timings: Sequence[Timings]) -> ClaimVerdict:
    """Does Mamba4Rec take four to five times as long as Hydra4Rec: does each interval reach 4?"""
    held, words = [], []
    for one in timings:
        found = _found(one, "mamba4rec", "hydra4rec")
        held += [(estimate.high or estimate.value) >= 4 for estimate in found.values()]
        if found:
            text = ", ".join(_in_words(*item) for item in found.items())
            words.append(f"{_name(one)}, Mamba4Rec's time over Hydra4Rec's: {text}")
    return _judged("speed-hydra", held, words, timings)


def sasrec(scaling: Scaling | None, timings: Sequence[Timings | None] = ()) -> ClaimVerdict:
    """Can the architecture take so long: upheld where the paper's least ratio to Mamba4Rec is reached by both programs
    at a history that the paper's models may have read, partly where by one, or at a longer history.

    Whether it takes as long on one data set as on another is told from ``timings``; it decides nothing, as histories
    that are padded to one length give that to every model.
    """
    if scaling is None or not {"sasrec", "mamba4rec"} <= set(scaling.models):
        return ClaimVerdict(claim("speed-sasrec"))
    printed = min(latency_ratios("sasrec", "mamba4rec").values())
    on_gpu = scaling.record.config.get("device") == "cuda"
    near, far, words = [], [], []
    for path in ("graph", "module") if on_gpu else PROGRAMS:
        ratios = sasrec_ratios(scaling, path)
        short = ratios[ratios.index <= READ]
        if short.empty:
            return ClaimVerdict(claim("speed-sasrec"), reason=f"no history of up to {READ} items was timed")
        near.append(bool(short.max() >= printed))
        far.append(bool(ratios.max() >= printed))
        ends = f"{times(float(short.min()))} to {times(float(short.max()))} times as long as Mamba4Rec"
        longest = f"{times(float(ratios.iloc[-1]))} times at {ratios.index[-1]:,}"
        words.append(f"{_program(path)}, SASRec takes {ends} up to {short.index[-1]:,} items, {longest}")
    word: Word = "upheld" if all(near) else "partly" if any(near) or any(far) else "not upheld"
    if on_gpu:
        return ClaimVerdict(claim("speed-sasrec"), word, "; ".join(words), (scaling.record.run_id,))
    present = [one for one in timings if one is not None and {("sasrec", path) for path in PROGRAMS} <= set(one.rows)]
    if len(present) > 1:
        spans = []
        for path in PROGRAMS:
            own = [one.median("sasrec", path).value for one in present]
            spans.append(f"{milliseconds(min(own))} to {milliseconds(max(own))} ms {_program(path)}")
        words.append(f"its own time over {len(present)} data sets, histories unpadded: {', '.join(spans)}")
    else:
        present = []
    ids = (scaling.record.run_id, *_runs(present))
    return ClaimVerdict(claim("speed-sasrec"), word, "; ".join([*words, PAPERS_GPU]), ids, under=ON_A_CPU)


def cpu(timings: Sequence[Timings]) -> ClaimVerdict:
    """Are state space models slow on a CPU: do they take longer than SASRec at the same length?"""
    held, words = [], []
    for one in timings:
        for model in SSM:
            found = _found(one, model, "sasrec")
            held += [estimate.value > 1 and estimate.excludes(1.0) for estimate in found.values()]
            if found:
                text = ", ".join(_in_words(*item) for item in found.items())
                words.append(f"{_name(one)}, {label(model)}'s time over SASRec's: {text}")
    return ClaimVerdict(claim("cpu"), _word(held), "; ".join(words), _runs(timings))


def against_language(waits: Record | None, datasets: Sequence[str] | None = None) -> ClaimVerdict:
    """The latency part of the claim on language models: does each take longer than each state space model?

    Asked of the pair at this study's own small size: a larger language model only takes longer. That is half of the
    claim, the other half is accuracy: so the word is "partly" at best.
    """
    held, words = [], []
    for dataset, by_pair in against_served(waits, SSM, datasets).items():
        assert waits is not None
        steps = waits["datasets"][dataset]["steps"]
        for model in dict.fromkeys(model for model, _ in by_pair):
            found = [own for (writer, _), own in by_pair.items() if writer == model]
            untuned = is_random(waits, dataset, model)
            # Random weights never end a query early. Had they ended each after its first token, reading and one of the
            # equal steps would be left: no less than one part in `steps`.
            least = steps if untuned else 1
            longer = [(own.low or own.value) > least for own in found]
            # An upper bound above 1 that is not this far above it leaves open which of the two takes longer.
            held += [word for word, own in zip(longer, found, strict=True) if word or not untuned or own.value <= 1]
            ratios = [own.value for own in found]
            span = f"{times(min(ratios))} to {times(max(ratios))} times as long as a state space model as served"
            if untuned:
                at_most = f"{label(model)} at this study's size, untuned, takes at most {span}"
                words.append(f"{dataset_name(dataset)}: {at_most}, and no less than one part in {steps} of that")
            else:
                words.append(f"{dataset_name(dataset)}: {label(model)} from scratch takes {span}")
    reason = "; ".join(words) or "no language model has been timed beside them"
    word = _word(held)
    return ClaimVerdict(claim("ssm-against-llm"), "partly" if word == "upheld" else word, reason, under=ON_A_CPU)


def verdicts(
    timings: Sequence[Timings | None], waits: Record | None = None, datasets: Sequence[str] | None = None
) -> list[ClaimVerdict]:
    """The verdicts of all claims about speed, from the runs that there are and the benchmark `query_latency`
    (``waits``; all its data sets, or ``datasets``)."""
    present = [one for one in timings if one is not None]
    return [*(judge(present) for judge in (speed_ssm, speed_hydra, cpu)), against_language(waits, datasets)]


def speed_claims_table(timings: Timings | None, waits: Record | None = None, dataset: str = "") -> Html:
    """The claims about speed with word and reason, on one data set."""
    return here_table(verdicts([timings], waits, [dataset]), "speed")


def _name(timings: Timings) -> str:
    return dataset_name(timings.record.dataset["name"])

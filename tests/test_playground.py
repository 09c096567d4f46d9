"""The mixers of the notebook's text: what they compute, and the row that one gets beside the study's models."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from seqrec_lib import playground
from seqrec_lib.errors import SeqRecError
from seqrec_lib.places import project_root
from seqrec_lib.results import RunStore


@pytest.fixture(scope="module")
def text() -> dict:
    """What the notebook's cells about mixers define."""
    cells = json.loads((project_root() / "notebooks" / "playground.ipynb").read_text(encoding="utf-8"))["cells"]
    namespace: dict = {"torch": torch, "nn": nn}
    sources = ["".join(cell["source"]) for cell in cells if "mixer" in cell["metadata"].get("tags", [])]
    assert len([line for line in sources[0].splitlines() if line.strip()]) <= 10
    for source in sources:
        exec(source, namespace)
    return namespace


def test_the_mixer_of_the_text_is_the_decayed_sum_that_the_text_says(text: dict) -> None:
    torch.manual_seed(0)
    mixer = text["Decay"](4).double()
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    total = torch.zeros(2, 4, dtype=torch.float64)
    for place in range(5):
        total = torch.sigmoid(mixer.rate) * total + x[:, place]
        torch.testing.assert_close(mixer(x, torch.tensor([5, 5]))[:, place], mixer.out(total))


def test_its_steps_give_what_the_whole_history_gives_and_padding_changes_nothing(text: dict) -> None:
    torch.manual_seed(1)
    net = playground.recommender(text["DecayWithState"], n_items=9, max_length=8).eval()
    items = torch.tensor([[3, 1, 4, 1], [5, 9, 0, 0]])
    whole = net.encode(items, torch.tensor([4, 2]))
    torch.testing.assert_close(whole[1:], net.encode(items[1:, :2], torch.tensor([2])))
    state = net.init_state(1)
    for item in items[0]:
        encoded, state = net.step(item[None], state)
    torch.testing.assert_close(encoded, whole[:1])


def test_a_mixer_gets_its_row_beside_the_others(text: dict, store: RunStore) -> None:
    frame = playground.rows(
        [text["DecayWithState"], text["Decay"]], beside=["markov", "sasrec"], overrides={"epochs": 1}, store=store
    ).set_index("model")
    assert set(frame.index) == {"DecayWithState", "Decay", "Markov", "SASRec"}
    mine, same = frame.loc["DecayWithState"], frame.loc["Decay"]
    assert 0 < mine["low"] <= mine["ndcg"] <= mine["high"] < 1
    assert mine["ndcg"] == same["ndcg"]  # one seed, one recipe, the same arithmetic
    assert mine["state"] == 64 * 4 / 1024 and same["state"] != same["state"]
    assert mine["request"] > 0 and frame.loc["SASRec", "request"] > 0 and frame.loc["Markov", "request"] != 0
    assert "DecayWithState" in playground.table(frame.reset_index()).html


def test_without_mixers_the_records_are_read_and_no_data(store: RunStore) -> None:
    frame = playground.rows([], "amazon-2023-video-games", beside=["sasrec"], missing="skip", store=store)
    assert frame["model"].tolist() == ["SASRec"] and frame["ndcg"].isna().all()


class Peeks(nn.Linear):
    def __init__(self, d_model: int) -> None:
        super().__init__(d_model, d_model)

    def forward(self, x, lengths):  # type: ignore[override]
        return x.flip(1)


class Shrinks(Peeks):
    def forward(self, x, lengths):  # type: ignore[override]
        return x[..., :3]


@pytest.mark.parametrize(("mixer", "message"), [(Peeks, "depends on later items"), (Shrinks, "should keep the shape")])
def test_a_mixer_that_cannot_be_trained_on_all_positions_is_refused(mixer, message: str) -> None:
    with pytest.raises(SeqRecError, match=message):
        playground.recommender(mixer, 9, 8)

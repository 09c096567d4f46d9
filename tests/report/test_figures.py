import base64
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from seqrec_lib.report import figures, tables
from seqrec_lib.report.paper import MODEL_NAMES


def svg_of(piece):
    return base64.b64decode(re.search(r"data:image/svg\+xml;base64,([^\"]+)", piece.html).group(1))


def test_a_figure_keeps_alt_text_caption_and_numbers():
    figure = figures.popularity_curve(np.array([0, 0.5, 1.0]), np.array([0, 0.8, 1.0]), "demo")
    numbers = pd.DataFrame({"items": [0.5, 1.0], "share": [0.8, None]})
    piece = figures.figure_html(figure, alt='a "curve" < line', caption="Popularity", numbers=numbers)
    assert 'alt="a &quot;curve&quot; &lt; line"' in piece.html
    assert "<figcaption>Popularity</figcaption>" in piece.html
    assert "0.8" in piece.html
    csv = base64.b64decode(re.search(r"data:text/csv;base64,([^\"]+)", piece.html).group(1)).decode()
    assert csv.splitlines() == ["items,share", "0.5,0.8", "1.0,"]
    root = ElementTree.fromstring(svg_of(piece))
    assert root.tag.endswith("svg")
    assert 'alt="' not in piece.text


def test_long_numbers_are_a_download_only():
    figure = figures.popularity_curve(np.array([0, 1.0]), np.array([0, 1.0]), "demo")
    piece = figures.figure_html(figure, alt="x", caption="c", numbers=pd.DataFrame({"n": range(500)}))
    assert "<table" not in piece.html
    assert "500 rows" in piece.html


def test_equal_figures_are_equal_files():
    once, again = (
        figures.figure_html(figures.rounding_chart(["a", "b"], [0.0, 3.0], 0.5), alt="x", caption="y").html
        for _ in range(2)
    )
    assert once == again


def test_runs_that_validated_best_at_their_last_epoch_are_named(make):
    (own,) = [runs for runs in make().runs if runs.label == "SASRec"]
    for record, last in zip(own.complete, (0.9, 0.0), strict=True):
        for entry, value in zip(record.history, (0.1, 0.2, last), strict=True):
            entry["valid_ndcg@10"] = value
    assert "last epoch: SASRec 1 of 2." in figures.still_rising([own]).text
    own.complete[0].history[-1]["valid_ndcg@10"] = 0.0
    assert figures.still_rising([own]).text == "No run validated best at its last epoch."
    assert "not run" in figures.still_rising([]).text


def test_learning_curves_have_a_line_per_run_in_the_models_colour(make):
    runs = make().runs
    figure = figures.learning_curves(runs)
    for axis in figure.axes:
        assert len(axis.lines) == 2  # popularity does not learn, the third seed failed, mamba4rec was not run
        assert {line.get_color() for line in axis.lines} == {figures.style("sasrec")[0]}
        assert len({line.get_linestyle() for line in axis.lines}) == 2
    assert figure.axes[1].lines[0].get_ydata() == pytest.approx([0.05, 0.1, 0.15])
    numbers = figures.learning_curve_numbers(runs)
    assert len(numbers) == 6
    assert set(numbers["seed"]) == {0, 1}
    assert figures.learning_curves(runs[:1]) is None
    assert figures.learning_curve_numbers(runs[:1]).empty


def test_metric_dots_draw_ours_and_the_paper(make):
    frame = tables.accuracy_frame(make().runs, ["ht@10"])
    axis = figures.metric_dots(frame).axes[0]
    hollow = [line for line in axis.lines if line.get_markerfacecolor() == "none"]
    assert [line.get_xdata()[0] for line in hollow] == [0.224, 0.303]  # sasrec, mamba4rec (not run)
    assert len(axis.lines) == 2 + 2 * 2
    numbers = figures.metric_numbers(frame)
    assert numbers["paper"].isna().tolist() == [True, False, False]
    assert numbers["ours"].isna().tolist() == [False, False, True]


def test_seen_items_draw_each_model_that_ran_both_ways(make):
    frame = tables.accuracy_frame(make().runs, ["ht@10"])
    ran = frame[frame["mean"].notna()]
    axis = figures.seen_items(frame, "ht@10").axes[0]
    ends = [list(line.get_xdata()) for line in axis.lines if len(line.get_xdata()) == 2]
    assert ends == [[row.mean, row.masked_mean] for row in ran.itertuples()]
    assert figures.seen_items_numbers(frame, "ht@10")["model"].tolist() == ran["label"].tolist()
    assert f"{ran['mean'].iloc[0]:.3f} and" in figures.seen_items_alt(frame, "ht@10")
    assert figures.seen_items(frame.assign(masked_mean=None), "ht@10") is None


def test_length_histogram_draws_each_bin_from_its_first_to_its_last_length():
    figure = figures.length_histogram(np.array([5, 6, 10]), np.array([5, 9, 30]), np.array([8, 4, 1]), "demo")
    bars = figure.axes[0].patches
    assert [(bar.get_x(), bar.get_x() + bar.get_width(), bar.get_height()) for bar in bars] == [
        (5, 6, 8),
        (6, 10, 4),
        (10, 31, 1),
    ]


def test_every_model_has_a_style_of_its_own():
    styles = [figures.style(model) for model in MODEL_NAMES]
    assert len({colour for colour, _ in styles}) == len({marker for _, marker in styles}) == len(styles)
    assert figures.style("llamarec+orpo") == figures.style("llamarec")

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    # graphics need a contrast of 3 on white by WCAG 1.4.11; markers and labels carry those just below it
    assert min(1.05 / (luminance(colour) + 0.05) for colour, _ in styles) > 2.2


def test_show_displays_a_sentence_where_there_is_no_figure(monkeypatch):
    shown = []
    monkeypatch.setattr(figures, "display", shown.append)
    figures.show(None, alt="x", caption="y", missing="nothing was trained")
    figures.show(figures.rounding_chart(["a"], [1.0], 0.5), alt="x", caption="y")
    assert shown[0].text == "No figure: nothing was trained."
    assert "<figure" in shown[1].html

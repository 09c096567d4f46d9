"""Tables and figures of the kit: what is missing says so, colours follow the page, numbers can be downloaded."""

from __future__ import annotations

import base64
import io
import re
from html import unescape
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from seqrec_lib.report import axes, kit, svg
from seqrec_lib.report.kit import Column
from seqrec_lib.report.panels import panels

DOTS = pd.DataFrame(
    {
        "model": ["A", "A", "B"],
        "order": ["one", "two", "one"],
        "mean": [0.2, np.nan, 0.3],
        "low": [0.1, np.nan, 0.25],
        "high": [0.3, np.nan, 0.35],
    }
)
OPTIONS = {"group": "model", "label": "order", "value": "mean", "axis": "HT@10"}


def pictures(html: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]


def downloaded(html: str) -> pd.DataFrame:
    (csv,) = re.findall(r"data:text/csv;base64,([^\"]+)", html)
    return pd.read_csv(io.BytesIO(base64.b64decode(csv)))


def test_a_figure_is_drawn_for_two_widths_with_alt_text_caption_and_numbers() -> None:
    html = kit.figure(DOTS, "dots", alt="What & how", caption="It is so.", **OPTIONS).html
    wide, narrow = pictures(html)
    assert (wide.get("width"), narrow.get("width")) == (str(kit.WIDE), str(kit.NARROW))
    assert {wide.get("aria-label"), narrow.get("aria-label")} == {"What & how"}
    assert html.count("<figcaption>It is so.</figcaption>") == 1
    pd.testing.assert_frame_equal(downloaded(html), DOTS)


def test_what_was_not_run_says_so_in_figures_and_tables() -> None:
    for picture in pictures(kit.figure(DOTS, "dots", alt="A.", caption="C.", **OPTIONS).html):
        texts = [text.text for text in picture.iter() if text.tag.endswith("text")]
        assert texts.count("not run") == 1
        assert len([circle for circle in picture.iter() if circle.tag.endswith("circle")]) == 2
    table = kit.table(
        DOTS, [kit.Column("order", "Order"), kit.Column("mean", "Mean", interval=("low", "high"))], caption="C."
    )
    assert table.html.count("not run") == 1
    assert "0.200<br><small>0.100 to 0.300</small>" in table.html
    empty = DOTS.iloc[:0]
    assert "not-run" in kit.figure(empty, "dots", alt="A.", caption="C.", **OPTIONS).html
    assert "not-run" in kit.table(empty, [kit.Column("order", "Order")], caption="C.").html


def test_an_optional_column_leaves_a_table_in_which_no_row_has_it() -> None:
    columns = [Column("a", "A"), Column("b", "The paper's", missing="–", optional=True)]
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [None, 3.0]})
    assert "The paper's" in unescape(kit.table(frame, columns, caption="C").html)
    without = kit.table(frame.assign(b=None), columns, caption="C")
    assert "paper" not in without.html and "b" not in without.text.split()


def test_colours_are_variables_of_the_page() -> None:
    frame = pd.DataFrame({"s": ["a", "a"], "x": [1, 10], "y": [1.0, 2.0], "low": [0.9, 1.9], "high": [1.1, 2.1]})
    lines = kit.figure(frame, "lines", alt="A.", caption="C.", series="s", x="x", y="y", x_axis="X", y_axis="Y").html
    for html in (lines, kit.figure(DOTS, "dots", alt="A.", caption="C.", **OPTIONS).html):
        assert re.findall(r"#[0-9a-fA-F]{3,6}\b", re.sub(r"var\([^()]*\)", "", html)) == []


def test_a_panel_takes_six_lines_and_no_more() -> None:
    many = pd.DataFrame({"s": list("abcdefg"), "x": 1, "y": 1.0, "low": 1.0, "high": 1.0})
    with pytest.raises(ValueError, match="7 lines"):
        svg.lines(many, 700, series="s", x="x", y="y", x_axis="X", y_axis="Y")


def test_marks_stand_where_the_scale_says() -> None:
    (wide, _) = pictures(kit.figure(DOTS, "dots", alt="A.", caption="C.", **OPTIONS).html)
    places = [float(circle.get("cx", 0)) for circle in wide.iter() if circle.tag.endswith("circle")]
    grid = {
        text.text: float(text.get("x", 0))
        for text in wide.iter()
        if text.tag.endswith("text") and text.get("text-anchor") == "middle"
    }
    step = grid["0.2"] - grid["0.1"]
    assert places == pytest.approx([grid["0.2"], grid["0.2"] + step], abs=0.2)


def test_labels_at_the_ends_of_lines_do_not_cover_each_other() -> None:
    placed = svg._apart([(10.0, "a", ""), (11.0, "b", ""), (60.0, "c", "")], 15)
    assert [y for y, _, _ in placed] == [10.0, 25.0, 60.0]


def marks_of(picture: ElementTree.Element) -> list[tuple[float, float]]:
    return [
        (float(mark.get("cx", 0)), float(mark.get("cy", 0))) for mark in picture.iter() if mark.tag.endswith("circle")
    ]


def test_the_name_of_an_axis_stays_on_the_canvas_of_a_phone_beside_a_long_name() -> None:
    rows = pd.DataFrame({"model": ["2Mamba4Rec+residual+repeats"] * 2, "x": [1.0, 9.0], "y": [2.0, 3.0]})
    title = "Items in the history, at most"
    drawn = svg.lines(rows, kit.NARROW, series="model", x="x", y="y", x_axis=title, y_axis="ms")
    (place,) = [text for text in ElementTree.fromstring(drawn).iter() if text.text == title]
    assert float(place.attrib["x"]) >= len(title) * axes.TEXT * axes.LETTER / 2


def test_values_below_zero_stand_left_of_a_line_at_zero() -> None:
    frame = pd.DataFrame({"m": ["A", "B"], "g": "", "mean": [-0.2, 0.1], "low": [-0.3, 0.0], "high": [-0.1, 0.2]})
    for picture in pictures(
        kit.figure(frame, "dots", alt="A.", caption="C.", group="g", label="m", value="mean", axis="").html
    ):
        (left, _), (right, _) = marks_of(picture)
        zero = [float(text.get("x", 0)) for text in picture.iter() if text.text in {"0", "-0"}]
        assert len(zero) == 1 and left < zero[0] < right


PANELS = pd.DataFrame({"p": ["a", "a", "b", "b"], "x": [1, 10, 1, 10], "y": [1.0, 2.0, 3.0, 30.0]})


def test_panels_share_a_scale_unless_they_are_free() -> None:
    options = {"alt": "A.", "caption": "C.", "panel": "p", "x": "x", "y": "y"}
    for free in (False, True):
        for picture in pictures(kit.figure(PANELS, "panels", free_y=free, **options).html):
            places = [y for _, y in marks_of(picture)]
            assert (abs(places[2] - places[0]) < 1) == free  # side by side: the least of each panel


def test_what_lies_above_a_panel_is_hollow_at_its_edge() -> None:
    html = kit.figure(PANELS, "panels", alt="A.", caption="C.", panel="p", x="x", y="y", top=3.0).html
    for picture in pictures(html):
        filled = [
            mark.get("style", "").startswith("fill:var(--chart-1")
            for mark in picture.iter()
            if mark.tag.endswith("circle")
        ]
        assert filled == [True, True, True, False]
        places = [y for _, y in marks_of(picture)]
        assert places[2] == places[3]


def test_a_panel_of_many_lines_is_refused() -> None:
    many = pd.DataFrame({"p": "a", "s": list("abcdefg"), "x": 1, "y": 1.0})
    with pytest.raises(ValueError, match="7 lines"):
        panels(many, 700, panel="p", series="s", x="x", y="y")


def test_a_small_p_is_text_in_the_html() -> None:
    shown = kit.table(pd.DataFrame({"p": [0.0001, 0.0214]}), [Column("p", "p", "p")], caption="C")
    assert "&lt; 0.001" in shown.html and "0.021" in shown.html


def test_a_name_without_room_is_left_out_of_a_scatter_and_none_leaves_the_canvas() -> None:
    rows = pd.DataFrame({"m": [f"Mamba4Rec number {n}" for n in range(60)], "x": np.geomspace(1, 2, 60), "y": 0.1})
    drawn = svg.scatter(rows, kit.NARROW, label="m", x="x", y="y", x_axis="x", y_axis="y")
    tree = ElementTree.fromstring(drawn)
    names = [element for element in tree.iter() if (element.text or "").startswith("Mamba4Rec")]
    assert 0 < len(names) < 60
    assert all(0 <= float(element.attrib["y"]) <= float(tree.attrib["viewBox"].split()[3]) for element in names)


def test_the_heading_of_a_group_is_wrapped_on_a_phone() -> None:
    rows = pd.DataFrame({"g": ["GPT4Rec (from scratch, 0.3 M weights, dropout 0.1)"] * 2, "m": ["a", "b"], "v": 0.1})
    drawn = svg.dots(rows, kit.NARROW, group="g", label="m", value="v", axis="NDCG@10")
    bold = [text.text or "" for text in ElementTree.fromstring(drawn).iter() if text.attrib.get("font-weight") == "600"]
    assert len(bold) == 2 and all(len(line) * axes.TEXT * svg.BOLD <= kit.NARROW for line in bold)

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from seqrec_lib.evaluate.statistics import Interval, PairedTest, bootstrap_interval, metric_values
from seqrec_lib.report import figures, footer, tables
from seqrec_lib.report.html import details, note, table
from seqrec_lib.report.paper import verdict

VOID = {"img", "br", "hr"}


class Checker(HTMLParser):
    """Collects what accessibility needs of tables, and complains about tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.captions, self.scopes, self.boxes = [], 0, 0, [], 0
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.tables += tag == "table"
        self.captions += tag == "caption"
        if tag == "th":
            self.scopes.append(attributes.get("scope"))
        if attributes.get("role") == "region":
            self.boxes += 1
            assert attributes["tabindex"] == "0"
            assert attributes["aria-label"]
            assert "overflow-x:auto" in attributes["style"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check(piece):
    found = Checker(piece.html)
    assert found.tables == found.captions == found.boxes
    assert set(found.scopes) <= {"row", "col"}
    assert "nan" not in piece.text.lower().split()
    assert "None" not in piece.text
    return found


def test_a_table_is_accessible_and_escapes_its_texts():
    piece = table(["a", "<b>"], [["x & y", "1"]], caption='5 < 6 "quoted"', notes=["<script>"])
    assert check(piece).scopes == ["col", "col", "row"]
    assert "<script>" not in piece.html
    assert "<b>" not in piece.html
    assert "x &amp; y" in piece.html
    assert "x & y" in piece.text
    check(details("more", note("Title.", "text")))


def test_accuracy_frame_holds_paper_ours_interval_and_verdict(make):
    made = make()
    frame = tables.accuracy_frame(made.runs, ["ht@10", "ndcg@10"])
    assert list(frame["metric"]) == ["ht@10"] * 3 + ["ndcg@10"] * 3
    row = frame.iloc[4]
    assert (row.label, str(row.paper), row.planned, row.done, row.failed) == ("SASRec", "0.117", 3, 2, 1)
    values = (metric_values(made.runs[1].ranks[0], "ndcg@10") + metric_values(made.runs[1].ranks[1], "ndcg@10")) / 2
    assert row["mean"] == pytest.approx(values.mean())
    assert row.interval == bootstrap_interval(values)
    assert row.difference == pytest.approx(row["mean"] - 0.117)
    assert row.verdict == ("matches" if row.interval.low <= 0.1175 and row.interval.high >= 0.1165 else "ours higher")
    assert list(frame["verdict"])[::2][:1] == ["not in the paper"]
    assert frame.iloc[2].verdict == "not run"
    assert frame.iloc[2]["mean"] is None


def test_accuracy_tables_show_what_was_not_run(make):
    made = make()
    piece = tables.accuracy_tables(tables.accuracy_frame(made.runs), "ml-1m")
    assert check(piece).tables == 4  # one for each metric, one for masked ranking
    assert piece.text.count("○ not run") == 3
    assert "0.303" in piece.text  # the paper's Mamba4Rec shows although ours is missing
    assert "HT@10 on MovieLens 1M" in piece.text
    check(tables.summary(tables.accuracy_frame(made.runs), "ml-1m"))
    assert "Not run on MovieLens 1M: Mamba4Rec" in tables.summary(tables.accuracy_frame(made.runs), "ml-1m").text


def test_the_summary_says_what_seen_items_cost(make):
    frame = tables.accuracy_frame(make().runs, ["ndcg@10"])
    row = next(r for r in frame.itertuples() if r.mean is not None)
    text = tables.summary(frame, "ml-1m").text
    assert f"{row.label} {row.masked_mean - row.mean:+.4f}" in text
    assert "Mamba4Rec +" not in text  # not run


def test_the_summary_says_who_is_not_told_apart_from_the_first(make):
    frame = tables.accuracy_frame(make().runs, ["ht@10", "ndcg@10"])
    rows = [r for r in frame.itertuples() if r.mean is not None and r.metric == "ndcg@10"]
    best = max(rows, key=lambda r: r.mean)
    other = next(r.label for r in rows if r.label != best.label)
    nothing = Interval(0.001, -0.001, 0.003)
    for p, said in ((0.2, True), (0.01, False)):
        text = tables.summary(frame, "ml-1m", [PairedTest(other, best.label, nothing, p, p)]).text
        assert (f"NDCG@10: {best.label} leads with" in text) and (f", not told apart from {other}." in text) == said
        assert text.count("not told apart") == said  # of the metric that was tested, no other
        assert text.count("leads with") == 1 and "HT@10: " in text.partition("has the highest mean")[0]


def test_the_summary_says_who_leads_with_seen_items_left_out(make):
    frame = tables.accuracy_frame(make().runs, ["ndcg@10"])
    rows = [r for r in frame.itertuples() if r.masked_mean is not None]
    best = max(rows, key=lambda r: r.masked_mean)
    other = next(r.label for r in rows if r.label != best.label)
    assert f"NDCG@10 with seen items left out: {best.label} has the highest mean" in tables.summary(frame, "ml-1m").text
    tests = [PairedTest(other, "Another", Interval(0.001, -0.001, 0.003), 0.2, 0.2)]
    assert "leads" not in tables.summary(frame, "ml-1m", (), tests).text  # it was not among those tested
    tests = [PairedTest(other, best.label, Interval(0.001, -0.001, 0.003), 0.2, 0.2)]
    text = tables.summary(frame, "ml-1m", (), tests).text
    assert (
        f"left out: {best.label} leads with {best.masked_mean:.4f}" in text and f"not told apart from {other}" in text
    )


def test_paired_tables_have_the_labels_in_full():
    nothing = Interval(0.001, -0.001, 0.003)
    tests = [PairedTest("SASRec", "GPT4Rec (from scratch, 0.3 M weights)", nothing, 0.2, 0.2)]
    text = tables.paired_table(tests, "ndcg@10", "ml-1m").text
    assert "SASRec − GPT4Rec" in text and "In full: GPT4Rec (from scratch, 0.3 M weights)." in text
    assert "In full" not in tables.paired_table([replace(tests[0], b="Markov")], "ndcg@10", "ml-1m").text


def test_the_summary_says_how_the_words_would_read_with_seen_items_masked(make):
    frame = tables.accuracy_frame(make().runs, ["ht@10"])
    judged = [r for r in frame.itertuples() if r.difference is not None]
    words = {r.label: verdict(r.paper, r.masked_mean, r.masked_interval) for r in judged}
    assert words
    text = tables.summary(frame, "ml-1m").text
    assert "does not say whether it masks" in text
    assert all(f"{word} for" in text.split("the words would be")[1] for word in words.values())
    assert "whether it masks" not in tables.summary(tables.accuracy_frame(make("demo").runs, ["ht@10"]), "demo").text


def test_other_data_get_the_papers_number_but_no_verdict(make):
    frame = tables.accuracy_frame(make("amazon-2018-video-games").runs, ["ht@10"])
    assert str(frame.iloc[1].paper) == "0.119"
    assert frame.iloc[1].verdict == "other data"
    assert frame.iloc[1].difference is None
    demo = tables.accuracy_frame(make("demo").runs, ["ht@10"])
    assert demo.iloc[1].paper is None
    assert demo.iloc[1].verdict == "not in the paper"


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("demo", "simulator"),
        ("ml-1m", "side by side"),
        ("amazon-2014-beauty", "stands in for"),
        ("ml-100k", "no row"),
    ],
)
def test_every_page_says_how_its_data_relate_to_the_papers(dataset, words):
    assert words in tables.data_note(dataset).text


def test_a_page_with_nothing_run_still_works(make):
    made = make()
    nothing = [None] * len(made.configs)
    from seqrec_lib.report.runs import gather

    runs = gather(made.configs, nothing, made.store)
    frame = tables.accuracy_frame(runs)
    assert set(frame["verdict"]) == {"not run"}
    for piece in (
        tables.accuracy_tables(frame, "ml-1m"),
        tables.summary(frame, "ml-1m"),
        tables.paired_table(tables.paired_tests(runs, "ht@10"), "ht@10", "ml-1m"),
        footer.failures(runs),
    ):
        check(piece)


def test_a_page_without_the_paper_has_no_empty_columns(make):
    piece = tables.accuracy_tables(tables.accuracy_frame(make("demo").runs, ["ht@10"]), "demo")
    check(piece)
    assert piece.text.splitlines()[1].split() == ["Model", "Ours", "Runs"]
    assert "Not run on Demo (simulated): Mamba4Rec." in piece.text
    assert "Verdict" not in piece.text and "Difference" not in piece.text  # nor in what explains the columns
    assert "paper" not in figures.metric_caption(tables.accuracy_frame(make("demo").runs, ["ht@10"]))


def test_paired_table_reads_its_tests():
    far = PairedTest("A", "B", Interval(-0.1, -0.12, -0.08), 0.0001, 0.0002)
    near = PairedTest("A", "C", Interval(0.01, -0.02, 0.04), 0.5, 0.5)
    piece = tables.paired_table([far, near], "ndcg@10", "demo")
    check(piece)
    assert [line.split("  ")[-1] for line in piece.text.splitlines()[2:4]] == ["B higher", "not told apart"]
    assert "< 0.001" in piece.text


def test_paired_tests_see_that_sasrec_beats_popularity(make):
    (test,) = tables.paired_tests(make().runs, "ndcg@10")
    assert (test.a, test.b) == ("Popularity", "SASRec")
    assert test.p_holm < 0.01
    assert test.difference.high < 0


def test_failures_show_their_error(make):
    made = make()
    assert "SASRec, seed 2" in footer.failures(made.runs).text
    assert "NaN" in footer.failures(made.runs).text
    assert footer.failures(made.runs[:1]).text == "No run failed."


def test_formats():
    assert tables.mean_and_spread(0.12344, None) == "0.1234"
    assert tables.mean_and_spread(0.5, 0.01) == "0.5000 ± 0.0100"
    assert tables.format_interval(Interval(0.1, 0.05, 0.2), signed=True) == "+0.0500 to +0.2000"
    assert tables.format_interval(bootstrap_interval(np.zeros(9))) == "all users equal"
    assert tables.metric_name("masked@5") == "masked@5"


def test_what_stands_in_parentheses_goes_below_in_a_table_and_stays_in_text() -> None:
    cell = tables.label_cell("GPT4Rec (epochs 2) (from scratch, 0.3 M weights)")
    assert not isinstance(cell, str)
    assert cell.html.startswith("GPT4Rec<br>") and "epochs 2, from scratch, 0.3 M weights</span>" in cell.html
    assert cell.text == "GPT4Rec (epochs 2) (from scratch, 0.3 M weights)"
    assert tables.label_cell("SASRec") == "SASRec"

"""Runs side by side: whole ones, trainings alone, damaged ones; best first."""

import json

import pytest

from kolors_lab.challenge.board import LeaderboardConfig, find_runs, leaderboard, table
from kolors_lab.core.errors import DataError

SERIES = {"heroine": 0.9, "seen": 8, "style": 0.8, "copies": 0.25}


def make_run(folder, scores, practice=True, **score):
    (folder / "train").mkdir(parents=True)
    steps = {"juice": {"result": {"kept": 40}, "seconds": 2.0}, "train": {"result": {"loss": 0.1}, "seconds": 10.5}}
    (folder / "steps.json").write_text(json.dumps(steps))
    rows = [json.dumps({"step": n, "loss": 1 / n, "seconds": n}) for n in range(1, 21)]
    (folder / "train" / "metrics.jsonl").write_text("\n".join(rows))
    found = {"scores": scores, "practice": practice, "fits": [0.3, None, 0.5], "series": SERIES, **score}
    (folder / "scores.json").write_text(json.dumps({"lora": found}))
    (folder / "report.html").write_text("<p>")
    return folder


@pytest.fixture
def runs(tmp_path):
    make_run(tmp_path / "a", [6.0, 6.2])
    make_run(tmp_path / "deep" / "b", [6.4, 6.8])
    make_run(tmp_path / "c", [5.0, 5.5], practice=False)
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "metrics.jsonl").write_text('{"step": 5, "loss": 0.2, "seconds": 3.0}')
    return tmp_path


def test_runs_come_best_first_and_practice_apart(runs):
    found = {entry.run: entry for entry in find_runs(runs)}
    assert list(found) == ["c", "deep/b", "a", "alone"]
    b, alone = found["deep/b"], found["alone"]
    assert (b.pictures, b.steps, b.seconds) == (40, 20, 12.5)
    assert (b.heroine, b.style, b.copies) == (0.9, 0.8, 0.25)
    assert b.score == pytest.approx(6.6) and b.fit == pytest.approx(0.4)
    assert (alone.steps, alone.loss, alone.score, alone.report) == (5, 0.2, None, None)


def test_page_and_table_hold_every_run_and_link_its_report(runs):
    lines = leaderboard(LeaderboardConfig(str(runs)))
    assert lines[-1].endswith("leaderboard.html") and [line.split()[0] for line in lines[1:5]] == [
        "c", "deep/b", "a", "alone",
    ]  # fmt: skip
    assert lines[0].startswith("run ") and " training pictures " in lines[0]  # not the story's
    assert "练习" in lines[2] and "练习" not in lines[1]
    page = (runs / "leaderboard.html").read_text(encoding="utf-8")
    assert '<a href="deep/b/report.html">' in page and "<svg" in page and page.count("<tr>") == 5
    rows = table(find_runs(runs), links=True).splitlines()
    assert len(rows) == 6 and len({row.count("|") for row in rows}) == 1


@pytest.mark.parametrize("odd", [5, "x", [], {}, None, True, [5], [None], {"result": 5}, {"result": {"kept": "many"}}])
@pytest.mark.parametrize(
    "place", ["steps.json", "juice", "scores.json", "lora", "scores", "practice", "fits", "series", "heroine"]
)
def test_a_run_that_says_something_else_has_gaps(runs, place, odd):
    if place in ("steps.json", "juice"):
        content = {"juice": odd} if place == "juice" else odd
        (runs / "a" / "steps.json").write_text(json.dumps(content), encoding="utf-8")
    else:
        score = {"scores": [5.0, 6.0], "practice": False, "fits": None}
        odd, place = ({**SERIES, "heroine": odd}, "series") if place == "heroine" else (odd, place)
        content = odd if place == "scores.json" else {"lora": odd if place == "lora" else score | {place: odd}}
        (runs / "a" / "scores.json").write_text(json.dumps(content), encoding="utf-8")
    assert len(leaderboard(LeaderboardConfig(str(runs)))) == 6


def test_eight_times_one_picture_is_marked(runs):
    make_run(runs / "copies", [6.5, 6.5], series={"heroine": float("nan"), "seen": 0, "style": 1.0, "copies": 1.0})
    lines = {line.split()[0]: line for line in leaderboard(LeaderboardConfig(str(runs)))}
    assert "100% !" in lines["copies"] and " — " in lines["copies"]
    assert "25%" in lines["a"] and "!" not in lines["a"]


def test_a_damaged_run_has_gaps_and_an_empty_folder_is_said(runs, tmp_path):
    (runs / "a" / "scores.json").write_text("{")
    (runs / "a" / "train" / "metrics.jsonl").write_text("")
    [a] = [entry for entry in find_runs(runs) if entry.run == "a"]
    assert (a.score, a.steps, a.pictures) == (None, None, 40)
    with pytest.raises(DataError, match="no run in it"):
        find_runs(tmp_path / "none")

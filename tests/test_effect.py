"""What the LoRA did: the last lines of the whole way and the report's table are made of this."""

import pytest

from kolors_lab.challenge import effect as module
from kolors_lab.challenge.effect import Effect, count_style

FILES = [f"{n}.png" for n in range(1, 9)]

SERIES = {"heroine": 0.9, "seen": 8, "style": 0.6, "copies": 0.25}


def side(mean: float, fits: list | None = None, styled: int | None = None, series: dict | None = None) -> dict:
    return {"mean": mean, "files": FILES, "fits": fits, "styled": styled, "series": series}


def test_the_style_is_counted_and_figures_stand_side_by_side():
    effect = Effect(side(5.5, [0.3] * 8, 0, SERIES), side(6.25, [0.31] * 8, 8, SERIES | {"style": 0.7}), "二次元", True)
    assert effect.rows() == [
        ("panels in the style of 二次元", "0 of 8", "8 of 8"),
        ("练习分 practice score", "5.50 (below 6)", "6.25 (above 6)"),
        ("prompt fit", "0.300", "0.310"),
        ("heroine's likeness", "0.900", "0.900"),
        ("style likeness", "0.600", "0.700"),
        ("nearly equal pairs of panels", "25%", "25%"),
    ]
    assert effect.advice() == []


def test_panels_that_are_copies_raise_the_alarm():
    effect = Effect(
        side(6, series=SERIES), side(6, series=SERIES | {"copies": 0.75, "heroine": float("nan")}), "", True
    )
    assert "no story" in effect.advice()[0]
    assert "heroine's likeness" not in [name for name, *_rest in effect.rows()]  # of one side it is not known


def test_what_cannot_be_measured_is_left_out_and_no_dash_stands_for_a_word():
    effect = Effect(side(6), side(6.5), "", practice=False)
    assert [name for name, *_rest in effect.rows()] == ["美学分 aesthetic score"]
    styled = Effect(side(6, styled=1), side(6, styled=2), "", practice=False)
    assert styled.rows()[0] == ("panels in the style of the pictures learned from", "1 of 8", "2 of 8")


def test_a_fit_that_falls_beyond_chance_names_its_cure():
    before = [0.30, 0.31, 0.29, 0.33, 0.30, 0.28, 0.32, 0.31]
    fallen = Effect(side(6, before), side(6, [fit - 0.1 - fit / 10 for fit in before]), "二次元", practice=True)
    (line,) = fallen.advice()
    assert "--lora_strength 0.6" in line and "fell by 0.13" in line
    wavering = [fit + change for fit, change in zip(before, [0.1, -0.1, 0.05, -0.06] * 2, strict=True)]
    assert Effect(side(6, before), side(6, wavering), "", practice=True).advice() == []
    assert Effect(side(6, [None] * 8), side(6, [0.1] * 8), "", practice=True).advice() == []


def test_a_lora_that_takes_the_story_below_the_gate_names_its_cure():
    (line,) = Effect(side(6.4), side(5.7), "二次元", practice=True).advice()
    assert "5.70" in line and "6.40" in line and "--lora_strength 0.7" in line
    assert Effect(side(5.9), side(5.7), "", practice=True).advice() == []  # it was below the gate without the LoRA too
    assert Effect(side(6.4), side(6.0), "", practice=True).advice() == []


def test_the_style_is_that_of_most_pictures_learned_from(monkeypatch, tmp_path):
    from kolors_lab.models.presets import get_preset

    styles = {"a": "anime", "b": "anime", "c": "ink"}
    monkeypatch.setattr(module, "open_image", lambda file: file.name[0])
    monkeypatch.setattr(module, "classify", lambda seen, preset: [{"style": styles[name]} for name in seen])
    learned = [tmp_path / name for name in ("a1", "b1", "c1")]
    panels = {"base": [tmp_path / "c2", tmp_path / "c3"], "lora": [tmp_path / "a2", tmp_path / "c4"]}
    assert count_style(get_preset("tiny"), learned, panels) == {"base": 0, "lora": 1}


@pytest.mark.parametrize("gate", [5.99, 6.0])
def test_six_is_above_the_gate(gate):
    (row,) = Effect(side(gate), side(gate), "", practice=False).rows()
    assert row[1].endswith("(above 6)" if gate == 6 else "(below 6)")

"""Figures of the report that are computed here."""

import json

import pytest
from PIL import Image

from kolors_lab.challenge.report import embed, mean_loss, read_metrics, svg, versions
from kolors_lab.core.figures import loss_curve


def test_mean_loss_is_that_of_the_last_tenth(tmp_path):
    rows = [{"step": n + 1, "loss": float(n)} for n in range(40)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert mean_loss(read_metrics(tmp_path / "m.jsonl")) == pytest.approx((36 + 37 + 38 + 39) / 4)
    assert mean_loss(rows[:3]) == 2.0


@pytest.mark.parametrize("count", [1, 2, 30])
def test_loss_curve_of_any_length_is_an_svg_element(count):
    drawn = svg(loss_curve([{"step": n + 1, "loss": 0.1} for n in range(count)]))
    assert drawn.startswith("<svg")
    assert drawn.rstrip().endswith("</svg>")


def test_pictures_are_embedded_no_larger_than_asked(tmp_path):
    import base64
    import io

    Image.new("RGB", (900, 600), "red").save(tmp_path / "1.png")
    kind, data = embed(tmp_path / "1.png", 300).split(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (300, 200)


def test_versions_name_what_the_run_stood_on():
    found = versions()
    assert found["diffusers"][0].isdigit()
    assert "python" in found

"""Every kind of dirt costs exactly the pictures that have it, in any number of processes, and nothing of the user's."""

import csv
import io
import json
import logging
import os
import platform
import random
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import make_scorer, make_set
from PIL import Image, ImageDraw, ImageEnhance, ImageFile, ImageFilter

from kolors_lab.cli import main
from kolors_lab.core.errors import DataError, SettingError
from kolors_lab.dataset.cleaning import CleanConfig, _workplace, clean, run_recipe
from kolors_lab.dataset.folder import read_examples
from kolors_lab.dataset.measures import distance, perceptual_hash, sharpness
from kolors_lab.models import presets as models

CAPTION = '二次元，"紫色"短发, 少女\n在客厅'  # commas, quotes and a line break must survive CSV


def drawing(seed: int, width: int = 160, height: int = 144) -> Image.Image:
    """A sharp picture unlike those of other seeds."""
    rng, image = random.Random(seed), Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(30):
        x, y = rng.randrange(width), rng.randrange(height)
        color = tuple(rng.randrange(256) for _ in range(3))
        draw.ellipse((x - 20, y - 15, x + 20, y + 15), fill=color, outline="black")
    return image


def jpeg(image: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def upside_down(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 3
    return jpeg(image.rotate(180), exif=exif, quality=95)


def write_set(folder: Path, pictures: dict[str, bytes | None], caption: str = CAPTION) -> Path:
    """A raw set in the baseline's layout; None: listed, but the file is missing. `mute` has no caption."""
    (folder / "train").mkdir(parents=True)
    lines = []
    for name, content in pictures.items():
        if content is not None:
            (folder / "train" / f"{name}.jpg").write_bytes(content)
        row = {"text": "" if name == "mute" else caption, "image": [f"train/{name}.jpg"]}
        lines.append(json.dumps(row, ensure_ascii=False))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


GOOD = {f"good {n} 好": jpeg(drawing(n), quality=92) for n in range(4)}
DIRTY = {  # name: (content, what its reason says)
    "small": (jpeg(drawing(20, 64, 64)), "size: 64 x 64 px, needs 128 x 128"),
    "flat": (jpeg(drawing(21, 160, 100)), "size: 160 x 100 px, needs 128 x 128"),
    "wide": (jpeg(drawing(22, 300, 130)), "aspect ratio: 2.31, needs 0.5 to 2"),
    "blurred": (jpeg(drawing(23).filter(ImageFilter.GaussianBlur(4))), "sharpness: "),
    "copy": (GOOD["good 0 好"], "exact duplicates: the same picture as train/good 0 好.jpg"),
    "larger": (jpeg(drawing(1).resize((240, 216))), "near duplicates: like train/good 1 好.jpg, "),
    "brighter": (
        jpeg(ImageEnhance.Brightness(drawing(2)).enhance(1.05), quality=60),
        "near duplicates: like train/good 2",
    ),
    "text": (b"<html>404 Not Found</html>", "cannot be read as a picture"),
    "empty": (b"", "empty"),
    "truncated": (jpeg(drawing(24))[:2500], "truncated"),
    "missing": (None, "does not exist"),
    "mute": (jpeg(drawing(25)), "no caption"),
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    pictures = {**GOOD, **{name: content for name, (content, _) in DIRTY.items()}}
    pictures["turned"] = upside_down(drawing(26))
    return write_set(tmp_path_factory.mktemp("raw set") / "生的", pictures)


@pytest.fixture(scope="module")
def juiced(raw, tmp_path_factory):
    """A juiced set in one process: its result and the calls of on_step."""
    steps = []
    config = CleanConfig(data=str(raw), out=str(tmp_path_factory.mktemp("out") / "clean"))
    return clean(config, on_step=lambda *step: steps.append(step)), steps


def files(folder: Path) -> dict[str, bytes]:
    """All that juice wrote for training and for reading; the figure and np in the recipe may differ."""
    return {f.name: f.read_bytes() for f in sorted(folder.rglob("*")) if f.suffix in (".jpg", ".csv")}


def test_each_kind_of_dirt_is_rejected_for_its_reason(juiced):
    rejected = dict(juiced[0].rejected)
    assert sorted(rejected) == sorted(f"train/{name}.jpg" for name in DIRTY)
    assert {
        name: rejected[f"train/{name}.jpg"]
        for name, (_, words) in DIRTY.items()
        if words not in rejected[f"train/{name}.jpg"]
    } == {}
    assert rejected["train/mute.jpg"] == "has no caption"  # the column before names the picture
    assert rejected["train/text.jpg"].startswith("cannot be read as a picture (")
    assert juiced[0].funnel == [
        ("raw", 17), ("readable", 12), ("size", 10), ("aspect ratio", 9), ("sharpness", 8), ("exact duplicates", 7),
        ("near duplicates", 5),
    ]  # fmt: skip


def test_clean_folder_is_the_baseline_s_layout_with_the_captions_untouched(juiced):
    out = juiced[0].out
    assert (out / "train/metadata.csv").read_bytes().startswith(b"\xef\xbb\xbffile_name,text")
    examples = read_examples(out)
    assert [e.image.name for e in examples] == ["0000.jpg", "0001.jpg", "0002.jpg", "0003.jpg", "0016.jpg"]
    assert {e.text for e in examples} == {CAPTION}
    assert sorted(f.name for f in (out / "train").glob("*.jpg")) == [e.image.name for e in examples]
    with (out / "rejected.csv").open(encoding="utf-8-sig", newline="") as stream:
        assert [tuple(row) for row in csv.reader(stream)] == [("file", "reason"), *juiced[0].rejected]
    assert Image.open(out / "funnel.png").format == "PNG"


def test_kept_pictures_are_upright_and_look_the_same(juiced):
    from PIL import ImageChops, ImageStat

    for name, seed in (("0000", 0), ("0016", 26)):
        kept = Image.open(juiced[0].out / f"train/{name}.jpg")
        assert (kept.format, kept.mode, kept.getexif()) == ("JPEG", "RGB", {})
        assert max(ImageStat.Stat(ImageChops.difference(kept, drawing(seed))).mean) < 8


def test_progress_counts_up_to_the_total(juiced):
    assert juiced[1] == [(n, 22) for n in range(1, 23)]


def test_two_processes_make_the_same_files(juiced, raw, tmp_path):
    result = clean(CleanConfig(data=str(raw), out=str(tmp_path / "clean"), np=2))
    assert (result.rejected, result.funnel) == (juiced[0].rejected, juiced[0].funnel)
    assert files(result.out) == files(juiced[0].out)


def test_ray_leaves_the_same_rows(juiced, raw, tmp_path, capfd):
    result = clean(CleanConfig(data=str(raw), out=str(tmp_path / "clean"), executor="ray"))
    assert (result.rejected, result.funnel) == (juiced[0].rejected, juiced[0].funnel)
    assert files(result.out) == files(juiced[0].out)
    assert capfd.readouterr().out == ""


def test_ray_that_does_not_answer(raw, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
    with pytest.raises(DataError, match="no Ray answers there"):  # the server is gone
        clean(CleanConfig(data=str(raw), out=str(tmp_path / "clean"), executor="ray"))
    with pytest.raises(SettingError, match="Ray itself says how many"):
        CleanConfig(executor="ray", np=2)


def test_process_is_left_as_it_was(juiced, raw, tmp_path, capfd):
    level, handlers = logging.getLogger().level, logging.getLogger().handlers[:]
    clean(CleanConfig(data=str(raw), out=str(tmp_path / "clean")))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert (logging.getLogger().level, logging.getLogger().handlers) == (level, handlers)
    assert capfd.readouterr() == ("", "")
    assert [f.name for f in tmp_path.iterdir()] == ["clean"]


def test_data_juicer_alone_drops_every_picture_for_one_bad_one(tmp_path):
    """The trap that opening every picture first avoids; with the recipe's skip_op_error false it is an error."""
    folder = write_set(tmp_path / "raw", {**GOOD, "bad": b"no picture"})
    rows = [
        {"index": n, "file": e.image.name, "text": e.text, "image": [str(e.image)]}
        for n, e in enumerate(read_examples(folder))
    ]
    recipe = {"np": 1, "image_key": "image", "process": [{"image_shape_filter": {"min_width": 8, "min_height": 8}}]}
    with pytest.raises(Exception, match="cannot identify image file"):
        list(run_recipe({**recipe, "skip_op_error": False}, rows))
    [(_, left, _)] = run_recipe({**recipe, "skip_op_error": True}, rows)
    assert left == []
    assert clean(CleanConfig(data=str(folder), out=str(tmp_path / "clean"))).kept == 4


def test_packages_are_never_installed_at_run_time(monkeypatch):
    from data_juicer.utils.lazy_loader import LazyLoader

    from kolors_lab.dataset.quiet import data_juicer

    calls = []
    monkeypatch.setattr("subprocess.check_call", lambda command: calls.append(command))
    with data_juicer(), pytest.raises(DataError, match="needs the package imagededup; install it with: pip install"):
        LazyLoader._install_package("imagededup")
    assert calls == []


def test_recipe_says_what_was_done(juiced):
    import yaml

    recipe = yaml.safe_load((juiced[0].out / "recipe.yaml").read_text(encoding="utf-8"))
    assert recipe["skip_op_error"] is False
    assert {"image_shape_filter": {"min_width": 128, "min_height": 128, "any_or_all": "any"}} in recipe["process"]
    assert {"image_near_deduplicator": {"max_distance": 12}} in recipe["process"]


def test_thresholds_are_the_user_s(raw, tmp_path):
    config = CleanConfig(
        data=str(raw), out=str(tmp_path / "clean"), min_size=32, max_ratio=3, min_sharpness=0, max_distance=-1
    )
    assert [file for file, reason in clean(config).rejected if "duplicates" not in reason] == [
        f"train/{name}.jpg" for name in ("text", "empty", "truncated", "missing", "mute")
    ]


def test_captions_that_the_model_does_not_read_to_their_end_are_named(tmp_path, monkeypatch, capsys):
    data = write_set(tmp_path / "raw", {name: GOOD[name] for name in sorted(GOOD)[:3]})
    rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    rows[1]["text"] = "，".join(f"{n}" for n in range(300))
    (data / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert main(["juice", "--data", str(data), "--out", str(tmp_path / "clean")]) == 0
    assert "only 256 tokens fit, the rest is not read: 0001.jpg\n" in capsys.readouterr().out
    monkeypatch.setattr("kolors_lab.dataset.cleaning.pipeline_path", lambda preset: tmp_path / "no model")
    assert clean(CleanConfig(data=str(data), out=str(tmp_path / "clean"))).too_long == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_size": 500}, r"4 went at the step 'size', e.g. train/good 0 好.jpg: 160 x 144 px, .* change min_size"),
        ({"min_sharpness": 1e6}, "4 went at the step 'sharpness'.*needs 1e.06; change min_sharpness"),
    ],
)
def test_nothing_left_names_the_step_and_the_setting(tmp_path, settings, message):
    folder = write_set(tmp_path / "raw", GOOD)
    with pytest.raises(DataError, match=message):
        clean(CleanConfig(data=str(folder), out=str(tmp_path / "clean"), **settings))
    assert [f.name for f in tmp_path.iterdir()] == ["raw"]


def test_no_readable_picture_at_all(tmp_path):
    folder = write_set(tmp_path / "raw", {"a": b"", "b": b"text"})
    with pytest.raises(DataError, match=r"2 went at the step 'readable', e\.g\. train/a\.jpg: is empty"):
        clean(CleanConfig(data=str(folder), out=str(tmp_path / "clean")))


@pytest.mark.parametrize(("folder", "message"), [("absent", "does not exist"), ("", "no metadata.jsonl")])
def test_missing_or_empty_raw_folder(tmp_path, folder, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        clean(CleanConfig(data=str(tmp_path / "empty" / folder), out=str(tmp_path / "clean")))
    assert not (tmp_path / "clean").exists()


def test_again_replaces_the_earlier_set(tmp_path):
    out = tmp_path / "clean"
    clean(CleanConfig(data=str(write_set(tmp_path / "one", GOOD)), out=str(out)))
    other = write_set(tmp_path / "two", {"a": jpeg(drawing(30)), "b": jpeg(drawing(31))})
    assert clean(CleanConfig(data=str(other), out=str(out))).kept == 2
    assert len(list((out / "train").glob("*.jpg"))) == 2


def test_files_of_the_user_s_are_never_replaced(tmp_path):
    config = CleanConfig(data=str(write_set(tmp_path / "raw", GOOD)), out=str(tmp_path / "clean"))
    mine = tmp_path / "clean" / "diary.txt"
    mine.parent.mkdir()
    mine.write_text("dear diary")
    with pytest.raises(DataError, match="not made by juice"):
        clean(config)
    mine.rename(tmp_path / "diary.txt")
    clean(config)  # into the folder, empty now
    (tmp_path / "diary.txt").rename(mine)
    with pytest.raises(DataError, match=r"diary\.txt was not made by juice"):
        clean(config)
    assert mine.read_text() == "dear diary"


def test_captions_edited_by_hand_are_never_replaced(tmp_path):
    config = CleanConfig(data=str(write_set(tmp_path / "raw", GOOD)), out=str(tmp_path / "clean"))
    captions = clean(config).out / "train/metadata.csv"
    captions.write_text(captions.read_text(encoding="utf-8-sig").replace("少女", "姑娘"), encoding="utf-8-sig")
    with pytest.raises(DataError, match="was edited"):
        clean(config)
    assert "姑娘" in captions.read_text(encoding="utf-8-sig")


def test_pictures_retouched_or_added_by_hand_are_never_lost(tmp_path):
    config = CleanConfig(data=str(write_set(tmp_path / "raw", GOOD)), out=str(tmp_path / "clean"))
    mine = clean(config).out / "train/mine.jpg"
    mine.write_bytes(jpeg(drawing(40)))
    with pytest.raises(DataError, match=r"mine\.jpg was not made by juice"):
        clean(config)
    assert mine.exists()


def test_failure_leaves_the_earlier_set(tmp_path, monkeypatch):
    config = CleanConfig(data=str(write_set(tmp_path / "raw", GOOD)), out=str(tmp_path / "clean"))
    before = files(clean(config).out)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kolors_lab.dataset.cleaning.write_table", full)
    with pytest.raises(DataError, match=r"cannot write .*clean: No space left on device"):
        clean(config)
    assert files(tmp_path / "clean") == before
    assert sorted(f.name for f in tmp_path.iterdir()) == ["clean", "raw"]


def test_score_is_an_option(tmp_path, monkeypatch):
    tiny = replace(models.get_preset("tiny"), scorer=str(make_scorer(tmp_path / "any name", level=6.5)))
    monkeypatch.setitem(models.PRESETS, "tiny", lambda: tiny)
    config = CleanConfig(data=str(write_set(tmp_path / "raw", GOOD)), out=str(tmp_path / "clean"), min_score=5.0, np=2)
    assert clean(config).funnel[-1] == ("score", 4)
    with pytest.raises(DataError, match=r"4 went at the step 'score', e.g. .*: [67]\.\d\d, needs 9; change min_score"):
        clean(replace(config, min_score=9.0))


@pytest.mark.parametrize("field", ["np", "min_size", "min_ratio", "min_sharpness", "min_score", "max_distance"])
def test_impossible_setting_is_named(field):
    with pytest.raises(SettingError, match=field):
        CleanConfig(**{field: -2})


def test_real_photographs_pass(tmp_path):
    """The photographs that scikit-image ships; its cat is there under a second name."""
    skimage = pytest.importorskip("skimage")
    names = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png")
    source, folder = Path(skimage.__file__).parent / "data", tmp_path / "photos"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes((source / name).read_bytes())
        (folder / name).with_suffix(".txt").write_text("照片", encoding="utf-8")
    Image.open(source / "chelsea.png").save(folder / "zoe.png", compress_level=0)
    (folder / "zoe.txt").write_text("猫", encoding="utf-8")
    result = clean(CleanConfig(data=str(folder), out=str(tmp_path / "clean")))
    assert result.rejected == [("zoe.png", "exact duplicates: the same picture as chelsea.png")]
    assert result.kept == len(names)


def test_embedded_set_holds_exactly_the_dirt_it_was_given(tmp_path):
    from sets import anime_raw

    result = clean(CleanConfig(out=str(tmp_path / "clean")))
    kinds = {file: reason.split(":")[0] for file, reason in result.rejected}
    expected = anime_raw.expected()
    assert kinds.keys() == expected.keys()
    assert {f: k for f, k in kinds.items() if k in dict(result.funnel)} == {
        f: k for f, k in expected.items() if k in dict(result.funnel)
    }
    assert (len(expected), result.kept) == (40, 160)
    assert all("二次元" in example.text for example in read_examples(result.out))


def test_sharpness_falls_with_blur_and_does_not_ask_for_size():
    image = drawing(0, 640, 640)
    blurred = [sharpness(image.filter(ImageFilter.GaussianBlur(radius)), 128) for radius in (0, 5, 10, 20)]
    assert blurred == sorted(blurred, reverse=True)
    assert blurred[0] > 1000
    assert blurred[-1] < 100
    assert sharpness(image, 128) == pytest.approx(sharpness(image.resize((128, 128)), 128), rel=0.01)
    assert sharpness(Image.new("RGB", (1, 1)), 128) == 0


def test_perceptual_hash_knows_a_copy_from_another_picture():
    image = drawing(0)
    assert distance(perceptual_hash(image), perceptual_hash(image.resize((480, 432)))) <= 6
    assert distance(perceptual_hash(image), perceptual_hash(drawing(1))) > 60


def test_what_a_killed_run_left_is_swept_and_a_living_ones_stays(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = [f".juice-{platform.node()}-{pid}-x" for pid in (dead.pid, os.getpid())]
    for name in names:
        (tmp_path / name / "made").mkdir(parents=True)
    with _workplace(tmp_path / "clean") as work:
        assert {file.name for file in tmp_path.iterdir()} == {names[1], work.name}
    assert [file.name for file in tmp_path.iterdir()] == names[1:]


def test_repeats_encodings_zips_and_odd_names_come_through(tmp_path, monkeypatch):
    """What kohya's folders say stays in the clean set; captions in GBK are read where asked; a name in no encoding."""
    monkeypatch.setenv("KOLORS_LAB_CACHE", str(tmp_path / "cache"))
    make_set(tmp_path / "made")
    raw = tmp_path / "raw"
    for n, place in enumerate(("10_toy", "10_toy", "1_class")):
        (raw / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "made" / "train" / f"{n}.png", raw / place)
        (raw / place / f"{n}.txt").write_bytes("二次元，少女".encode("gbk"))
    odd = os.fsencode(raw / "1_class") + b"/\xff.png"
    Path(os.fsdecode(odd)).write_bytes(b"no picture")
    settings = {"data": str(raw), "encoding": "gbk", "min_size": 32, "min_sharpness": 0}
    result = clean(CleanConfig(out=str(tmp_path / "clean"), **settings))
    found = [(e.text, e.repeats) for e in read_examples(tmp_path / "clean")]
    assert found == [("二次元，少女", 10), ("二次元，少女", 10), ("二次元，少女", 1)]
    assert len(result.rejected) == 1 and "udcff.png" in (tmp_path / "clean" / "rejected.csv").read_text("utf-8-sig")
    Path(os.fsdecode(odd)).unlink()
    packed = shutil.make_archive(str(tmp_path / "set"), "zip", raw)
    again = clean(CleanConfig(out=str(tmp_path / "again"), **settings | {"data": packed}))
    assert again.kept == 3 and not again.rejected
    with pytest.raises(DataError, match="juice --encoding gbk"):
        clean(CleanConfig(out=str(tmp_path / "third"), data=str(raw)))
    with pytest.raises(SettingError, match="encoding = 'latin-1'"):
        CleanConfig(encoding="latin-1")


def test_a_clock_set_back_changes_nothing(raw, tmp_path):
    """Neither does juice disown what it made, nor does an edit go unseen."""
    config = CleanConfig(data=str(raw), out=str(tmp_path / "clean"))
    clean(config)
    os.utime(tmp_path / "clean" / "recipe.yaml", (0, 0))  # as if the clock had gone back while it was written
    (tmp_path / "clean" / ".DS_Store").write_bytes(b"x")
    clean(config)
    captions = tmp_path / "clean" / "train" / "metadata.csv"
    captions.write_text(captions.read_text(encoding="utf-8-sig").replace("二次元", "水墨"), encoding="utf-8-sig")
    os.utime(captions, (0, 0))
    with pytest.raises(DataError, match=r"metadata\.csv was edited after it was made"):
        clean(config)
    assert "水墨" in captions.read_text(encoding="utf-8-sig")

"""Reading picture-caption folders, opening pictures of every sort."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from kolors_lab.core.errors import DataError, KolorsLabWarning
from kolors_lab.core.images import open_image
from kolors_lab.dataset.folder import Example, check_examples, read_examples


def save(file, color="red", size=(20, 10), **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(file, **options)
    return file


def write_jsonl(folder, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


# Reading a folder ----------------------------------------------------------------------------------------------------


def test_jsonl_takes_a_list_of_one_path_and_a_string(tmp_path):
    write_jsonl(tmp_path, {"text": "甲", "image": ["train/1.jpg"]}, "", {"text": "乙\u2028丙", "image": "2.jpg"})
    expected = [Example(tmp_path / "train/1.jpg", "甲"), Example(tmp_path / "2.jpg", "乙\u2028丙")]
    assert read_examples(tmp_path) == expected


@pytest.mark.parametrize("where", [".", "train"])
def test_csv_with_byte_order_mark_beside_the_pictures(tmp_path, where):
    folder = tmp_path / where
    folder.mkdir(exist_ok=True)
    (folder / "metadata.csv").write_text('file_name,text\n1.jpg,"甲,乙"\n', encoding="utf-8-sig")
    assert read_examples(tmp_path) == [Example(folder / "1.jpg", "甲,乙")]


def test_csv_whose_paths_start_at_the_folder_above(tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name,text\ntrain/1.jpg,甲\n", encoding="utf-8")
    assert read_examples(tmp_path) == [Example(tmp_path / "train/1.jpg", "甲")]


def test_txt_captions_of_the_same_stem(tmp_path):
    save(tmp_path / "一 张 图.png")
    (tmp_path / "一 张 图.txt").write_text(" 白马\n", encoding="utf-8")
    assert read_examples(tmp_path) == [Example(tmp_path / "一 张 图.png", "白马")]
    check_examples(read_examples(tmp_path))


@pytest.mark.parametrize("lonely", ["picture", "caption"])
def test_txt_captions_that_do_not_match_are_named(tmp_path, lonely):
    save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("白马", encoding="utf-8")
    if lonely == "picture":
        save(tmp_path / "lonely.png")
    else:
        (tmp_path / "lonely.txt").write_text("王子", encoding="utf-8")
    with pytest.raises(DataError, match="lonely"):
        check_examples(read_examples(tmp_path))


@pytest.mark.parametrize(
    "line",
    ["{broken", '{"text": "甲"}', '{"text": "甲", "image": []}', '{"text": 1, "image": "1.jpg"}', "[]", "[" * 100_000],
)
def test_a_malformed_jsonl_line_is_named(tmp_path, line):
    write_jsonl(tmp_path, {"text": "甲", "image": "1.jpg"}, line)
    with pytest.raises(DataError, match=r"metadata\.jsonl line 2") as error:
        read_examples(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize("text", ["name,text\n1.jpg,甲\n", "file_name,text\n1.jpg,甲,乙\n", "file_name,text\n,甲\n"])
def test_a_malformed_csv_line_is_named(tmp_path, text):
    (tmp_path / "metadata.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"metadata\.csv line \d"):
        read_examples(tmp_path)


def test_metadata_that_is_not_utf8_says_how_to_save_it(tmp_path):
    (tmp_path / "metadata.csv").write_bytes("file_name,text\n1.jpg,二次元\n".encode("gbk"))
    with pytest.raises(DataError, match="UTF-8"):
        read_examples(tmp_path)


@pytest.mark.parametrize("name", ["../secret.png", "train/../../secret.png", "{absolute}", "link.png"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, name):
    secret = save(tmp_path / "secret.png")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "link.png").symlink_to(secret)
    write_jsonl(folder, {"text": "甲", "image": name.format(absolute=secret)})
    with pytest.raises(DataError, match=r"line 1.*outside"):
        read_examples(folder)


def test_a_picture_that_is_a_link_out_of_a_txt_folder_is_refused(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "a.png").symlink_to(save(tmp_path / "secret.png"))
    (folder / "a.txt").write_text("甲", encoding="utf-8")
    with pytest.raises(DataError, match="outside"):
        read_examples(folder)


def test_missing_and_empty_folders_are_named(tmp_path):
    for folder in (tmp_path / "nothing", tmp_path):
        with pytest.raises(DataError, match=str(folder)):
            read_examples(folder)
    write_jsonl(tmp_path)
    with pytest.raises(DataError, match="lists no pictures"):
        read_examples(tmp_path)


def test_check_examples_counts_the_faults_and_says_what_helps(tmp_path):
    good = save(tmp_path / "good.png")
    examples = [Example(good, "甲"), Example(good, ""), Example(tmp_path / "gone.png", "乙")]
    with pytest.raises(DataError, match=r"good\.png has no caption, and 1 more like it.*juice"):
        check_examples(examples)


# Sets as they are in the wild ----------------------------------------------------------------------------------------

CASES = Path(__file__).parent / "cases" / "sets"


def test_hidden_files_of_macos_and_windows_are_passed_over():
    examples = read_examples(CASES / "macos_dotfiles")
    assert [example.image.name for example in examples] == ["0.png", "1.png", "2.png"]
    check_examples(examples)


def test_avif_and_jfif_are_read_and_heic_is_named():
    examples = {example.image.suffix: example for example in read_examples(CASES / "avif_jfif_heic")}
    check_examples([examples[suffix] for suffix in (".png", ".jfif", ".avif")])
    with pytest.raises(DataError, match="HEIC, which is not read here; save it as JPEG"):
        check_examples([examples[".heic"]])


def test_a_txt_beside_a_table_that_says_something_else_is_named():
    with pytest.warns(KolorsLabWarning, match=r"in metadata\.csv count, not those of .*0000\.txt and 1 more"):
        read_examples(CASES / "txt_beside_csv")


def test_kohyas_folders_count_as_often_as_they_say(tmp_path):
    for name, place in (("a", "10_sks girl"), ("b", "2_class"), ("c", "more"), ("d", ".")):
        save(tmp_path / place / f"{name}.png")
        (tmp_path / place / f"{name}.txt").write_text(r"saber \(fate\)", encoding="utf-8")
    found = {example.image.stem: (example.weight, example.text) for example in read_examples(tmp_path)}
    assert found == {name: (weight, "saber (fate)") for name, weight in zip("abcd", (10, 2, 1, 1), strict=True)}


@pytest.mark.parametrize("name", ["a\0.png", "\ud800.png", "loop.png"])
def test_a_name_that_cannot_be_a_files_is_refused(tmp_path, name):
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    write_jsonl(tmp_path, json.dumps({"text": "甲", "image": name}))
    with pytest.raises(DataError) as error:
        check_examples(read_examples(tmp_path))
    assert "\n" not in str(error.value)


def test_a_caption_in_gbk_is_offered_and_not_guessed(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_bytes("二次元，少女".encode("gbk"))
    with pytest.raises(DataError, match="in GBK it begins “二次元，少女”: if that is right, save it again as UTF-8"):
        read_examples(tmp_path)


def test_a_huge_field_of_a_table_is_named(tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name,text\n1.jpg," + "a" * 140_000 + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"metadata\.csv line \d: not CSV"):
        read_examples(tmp_path)


# Pictures ------------------------------------------------------------------------------------------------------------


def png(width, height):
    """A PNG header that promises width x height grey pixels, and next to no data."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def truncated(file):
    save(file, size=(200, 200))
    Image.effect_noise((200, 200), 90).save(file)
    file.write_bytes(file.read_bytes()[:-3000])


def text_bomb(file):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 5_000_000, zip=True)
    Image.new("RGB", (10, 10)).save(file, pnginfo=info)


FAULTS = {
    "zero bytes": (lambda file: file.write_bytes(b""), "empty"),
    "text": (lambda file: file.write_text("no picture"), "no picture"),
    "missing": (lambda file: None, "does not exist"),
    "truncated": (truncated, "truncated"),
    "bomb": (lambda file: file.write_bytes(png(50_000, 50_000)), "50000|bomb"),
    "large bomb below Pillow's own limit": (lambda file: file.write_bytes(png(13_000, 13_000)), "13000"),
    "longer than a JPEG can be": (lambda file: file.write_bytes(png(8, 65_600)), "65600"),
    "text bomb": (text_bomb, "too large"),
    "damaged": (lambda file: file.write_bytes(png(100, 100)), "cannot be read"),
    "folder": (lambda file: file.mkdir(), "cannot be read"),
    "PostScript": (lambda file: file.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "no picture"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_picture_is_one_line_that_names_it(tmp_path, fault):
    make, words = FAULTS[fault]
    suffix = ".png" if "bomb" in fault else ".jpg"
    file = tmp_path / f"bad{suffix}"
    make(file)
    with pytest.raises(DataError, match=words) as error:
        open_image(file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_truncation_is_found_though_another_package_allows_it(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    truncated(tmp_path / "bad.jpg")
    with pytest.raises(DataError, match="truncated"):
        open_image(tmp_path / "bad.jpg")


def colour(image):
    return tuple(int(v) for v in np.asarray(image).reshape(-1, 3)[0])


def test_the_content_decides_not_the_suffix(tmp_path):
    save(tmp_path / "a.png", "blue")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert colour(open_image(tmp_path / "a.jpg")) == (0, 0, 255)


def test_exif_orientation_turns_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_image(save(tmp_path / "a.jpg", size=(20, 10), exif=exif)).size == (10, 20)


def test_sixteen_bit_grey_keeps_its_brightness(tmp_path):
    Image.fromarray(np.full((4, 4), 32896, np.uint16)).save(tmp_path / "a.png")
    assert colour(open_image(tmp_path / "a.png")) == (128, 128, 128)


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.jpg")
    red, green, _ = colour(open_image(tmp_path / "a.jpg"))
    assert red < 30 < 200 < green


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(tmp_path, mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    options = {"transparency": 0} if mode == "P" else {}
    (Image.new("P", (4, 4), 0) if mode == "P" else image.convert(mode)).save(tmp_path / "a.png", **options)
    assert colour(open_image(tmp_path / "a.png")) == (255, 255, 255)


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert colour(open_image(tmp_path / "a.gif")) == (255, 0, 0)


def test_one_pixel_and_unicode_names(tmp_path):
    assert open_image(save(tmp_path / "一 个 像素 é.png", size=(1, 1))).size == (1, 1)

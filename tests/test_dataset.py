"""Reading picture-caption folders, opening pictures of every sort."""

from __future__ import annotations

import json
import re
import struct
import sys
import warnings
import zipfile
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


def test_a_folder_without_captions_says_how_to_come_by_them(tmp_path, cache):
    """Pictures get a draft, a draft is to be looked through, and nobody is sent round in circles."""
    save(tmp_path / "my photos/1.jpg")
    with pytest.raises(DataError, match=f"kolors-lab captions '{tmp_path}/my photos' --tag$"):
        read_examples(tmp_path / "my photos")
    zipped(tmp_path / "set.zip", {"1.jpg": save(tmp_path / "1.jpg").read_bytes()})
    with pytest.raises(DataError, match=r"kolors-lab captions FOLDER --tag$"):
        read_examples(tmp_path / "set.zip")
    (tmp_path / "my photos/captions.csv").write_text("file_name,text\n1.jpg,甲\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"captions\.csv is a draft: look through it, then rename it to metadata\.csv$"):
        read_examples(tmp_path / "my photos")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"with \.txt captions$"):
        read_examples(tmp_path / "empty")
    with pytest.raises(DataError, match="does not exist") as error:
        read_examples(tmp_path / "nothing")
    assert "juice" not in str(error.value) and "metadata.csv (file_name,text)" in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "File_Name, Text ,Repeats\n1.jpg,甲；乙,3\n",
        "file_name;text;repeats\n1.jpg;甲；乙;3\n",
        'FILE_NAME\ttext\trepeats\n"1.jpg"\t甲；乙\t3\n',
    ],
)
def test_a_table_as_a_spreadsheet_writes_it(tmp_path, text):
    """Capitals and spaces in the names of columns; semicolons, as in much of Europe, or tabs between them."""
    (tmp_path / "metadata.csv").write_text(text, encoding="utf-8-sig")
    assert read_examples(tmp_path) == [Example(tmp_path / "1.jpg", "甲；乙", repeats=3)]


def test_of_two_columns_of_nearly_one_name_ours_counts(tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name,Text,text\n1.jpg,甲,乙\n", encoding="utf-8")
    assert [example.text for example in read_examples(tmp_path)] == ["乙"]


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


def test_avif_and_jfif_are_read_and_heic_is_named(monkeypatch):
    examples = {example.image.suffix: example for example in read_examples(CASES / "avif_jfif_heic")}
    check_examples([examples[suffix] for suffix in (".png", ".jfif", ".avif")])
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(DataError, match=r"in the format HEIC; pip install --upgrade pillow-heif, or save it as JPEG"):
        check_examples([examples[".heic"]])


def test_heic_is_read_with_its_extra(tmp_path):
    pytest.importorskip("pillow_heif").register_heif_opener()
    save(tmp_path / "a.jpg", "navy", (64, 48), format="HEIF")  # what it is goes by the content
    assert open_image(tmp_path / "a.jpg").size == (64, 48)


def test_a_txt_beside_a_table_that_says_something_else_is_named():
    with pytest.warns(KolorsLabWarning, match=r"in metadata\.csv count, not those of .*0000\.txt and 1 more"):
        read_examples(CASES / "txt_beside_csv")


def test_kohyas_folders_count_as_often_as_they_say(tmp_path):
    for name, place in (("a", "10_sks girl"), ("b", "2_class"), ("c", "more"), ("d", ".")):
        save(tmp_path / place / f"{name}.png")
        (tmp_path / place / f"{name}.txt").write_text(r"saber \(fate\)", encoding="utf-8")
    found = {example.image.stem: (example.repeats, example.text) for example in read_examples(tmp_path)}
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
    with pytest.raises(DataError, match=r"in GBK it begins “二次元，少女”.*juice --encoding gbk.* again as UTF-8"):
        read_examples(tmp_path)


@pytest.mark.parametrize("encoding", ["gbk", "big5", "utf-16"])
@pytest.mark.parametrize("kind", ["txt", "csv"])
def test_an_encoding_that_the_user_named_is_read_beside_utf8(tmp_path, encoding, kind):
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    texts = {"a.png": ("少女，白日", encoding), "b.png": ("白日", "utf-8")}
    if kind == "csv":
        content = "file_name,text\n" + "".join(f"{name},{text}\n" for name, (text, _) in texts.items())
        (tmp_path / "metadata.csv").write_bytes(content.encode(encoding))
    else:
        for name, (text, its) in texts.items():
            (tmp_path / name).with_suffix(".txt").write_bytes(text.encode(its))
    assert [e.text for e in read_examples(tmp_path, encoding)] == ["少女，白日", "白日"]
    with pytest.raises(DataError, match="save it again as UTF-8"):
        read_examples(tmp_path)


def captioned(folder, *names, text="甲"):
    """Pictures with a .txt each."""
    for name in names:
        save(folder / name)
        (folder / name).with_suffix(".txt").write_text(text, encoding="utf-8")
    return folder


def test_folders_within_folders_are_read_and_what_has_no_caption_is_named(tmp_path):
    captioned(tmp_path, "a/b/c/1.png", "img/10_toy/sub/2.png", "__MACOSX/3.png", ".hidden/4.png")
    save(tmp_path / "a" / "5.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = {e.image.relative_to(tmp_path).as_posix(): (e.text, e.repeats) for e in read_examples(tmp_path)}
    assert found == {"a/5.png": ("", 1), "a/b/c/1.png": ("甲", 1), "img/10_toy/sub/2.png": ("甲", 10)}
    (tmp_path / "out").symlink_to(tmp_path.parent)
    with pytest.raises(DataError, match=r"out is a link to outside"):
        read_examples(tmp_path)


@pytest.mark.parametrize("name", ["0_toy", "2024_summer"])
def test_a_folder_that_would_count_never_or_a_thousand_times_is_named(tmp_path, name):
    captioned(tmp_path, f"{name}/1.png")
    with pytest.raises(DataError, match=rf"{name}: its pictures would be drawn .* times; rename it"):
        read_examples(tmp_path)


@pytest.mark.parametrize("caption", ["1.caption", "1.png.txt", "1.TXT"])
def test_captions_as_other_programs_name_them(tmp_path, caption):
    save(tmp_path / "1.png")
    (tmp_path / caption).write_text("甲", encoding="utf-8")
    assert read_examples(tmp_path) == [Example(tmp_path / "1.png", "甲")]
    (tmp_path / "1.txt").write_text("乙", encoding="utf-8")
    if caption == "1.caption":
        with pytest.raises(DataError, match=r"1\.caption and 1\.txt are captions of one picture"):
            read_examples(tmp_path)


def test_a_picture_of_an_unknown_suffix_goes_by_its_content(tmp_path):
    captioned(tmp_path, "1.png")
    save(tmp_path / "2.jpe", format="JPEG")
    (tmp_path / "3.psd").write_bytes(b"8BPS")
    for name in ("2.txt", "3.txt", "readme.txt"):
        (tmp_path / name).write_text("乙", encoding="utf-8")
    examples = {example.image.name: example for example in read_examples(tmp_path)}
    check_examples([examples["2.jpe"]])
    with pytest.raises(DataError, match=r"3\.psd cannot be read as a picture"):
        check_examples([examples["3.psd"]])
    with pytest.raises(DataError, match=r"readme\.txt is a caption without a picture"):
        check_examples([examples["readme.txt"]])


def test_what_a_table_says_in_other_programs_words(tmp_path):
    save(tmp_path / "train" / "1.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\ntrain\\1.png,甲\n", encoding="utf-8")
    assert read_examples(tmp_path) == [Example(tmp_path / "train/1.png", "甲")]
    write_jsonl(tmp_path, {"file_name": "train/1.png", "text": "乙"})
    assert read_examples(tmp_path) == [Example(tmp_path / "train/1.png", "乙")]
    write_jsonl(tmp_path, {"image": "train/1.png", "caption": "乙"})
    with pytest.raises(DataError, match=r"line 1: .*must be called text; there is caption"):
        read_examples(tmp_path)


@pytest.mark.parametrize("caption", ["a\0b", "a\ud800b", "长" * 10_001])
def test_a_caption_that_nobody_can_mean_is_named(tmp_path, caption):
    save(tmp_path / "1.png")
    write_jsonl(tmp_path, json.dumps({"image": "1.png", "text": caption}))
    with pytest.raises(DataError, match=rf"1\.png has no caption that can be meant: {len(caption)} characters"):
        check_examples(read_examples(tmp_path))


def test_columns_and_pictures_that_a_table_does_not_use_are_named(tmp_path):
    for name in ("1.png", "2.png", "._3.png"):
        save(tmp_path / name)
    (tmp_path / "metadata.csv").write_text("file_name,text,tags\n1.png,甲,x\n", encoding="utf-8")
    with pytest.warns(KolorsLabWarning) as said:
        assert [e.image.name for e in read_examples(tmp_path)] == ["1.png"]
    told = " ".join(str(warning.message) for warning in said)
    assert "not used: tags" in told and "no line for" in told and "2.png: left out" in told


def test_a_second_table_and_what_lies_deeper_than_the_first_are_named(tmp_path):
    for place in ("train", "train/10_more", "test"):
        save(tmp_path / place / "1.png")
        (tmp_path / place / "metadata.csv").write_text("file_name,text\n1.png,甲\n", encoding="utf-8")
    (tmp_path / "prompt.json").write_text('{"source": "a", "target": "b", "prompt": "c"}', encoding="utf-8")
    (tmp_path / "prompt.json").rename(tmp_path / "train" / "prompt.json")  # is read beside it
    with pytest.warns(KolorsLabWarning) as said:
        assert len(read_examples(tmp_path)) == 1
    told = " ".join(str(warning.message) for warning in said)
    assert re.search(r"train/metadata\.csv is read, \S*test/metadata\.csv and 1 more not", told)
    assert re.search(r"no line for \S*10_more/1\.png: left out", told)


def test_files_beside_the_pictures_and_a_caption_of_two_are_named(tmp_path):
    captioned(tmp_path, "1.png")
    assert not told_of(tmp_path)
    save(tmp_path / "1.jpg")
    for name in ("1.json", "1.npz", "clip.mp4", "Thumbs.db", "README.md", ".DS_Store", "@eaDir/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    told = told_of(tmp_path)
    assert re.search(r"neither picture nor caption, not used: \S*1\.json and 2 more", told)
    assert re.search(r"1\.jpg and 1 more have one caption", told)


def told_of(folder):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        read_examples(folder)
    return " ".join(str(warning.message) for warning in said)


@pytest.mark.parametrize("caption", ["", " \n", ", ,", "，、。", " \ufeff"])
def test_a_caption_without_a_word_is_none(tmp_path, caption):
    captioned(tmp_path, "1.png", text=caption)
    with pytest.raises(DataError, match=r"1\.png has no caption"):
        check_examples(read_examples(tmp_path))


def test_repeats_of_a_table_are_whole_numbers(tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name,text,repeats\n1.png,甲,10\n2.png,乙,\n", encoding="utf-8")
    assert [e.repeats for e in read_examples(tmp_path)] == [10, 1]
    for wrong in ("much", "-1", "nan", "1e9"):
        (tmp_path / "metadata.csv").write_text(f"file_name,text,repeats\n1.png,甲,{wrong}\n", encoding="utf-8")
        with pytest.raises(DataError, match=f"line 2: repeats '{wrong}' is no whole number"):
            read_examples(tmp_path)


# Sets in a zip -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KOLORS_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def zipped(file, entries):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file


def test_a_zip_is_a_set_and_stays_as_it_is(tmp_path, cache):
    folder = captioned(tmp_path / "in", "10_toy/一.png")
    entries = {f"my set/10_toy/{f.name}": f.read_bytes() for f in sorted((folder / "10_toy").iterdir())}
    file = zipped(tmp_path / "set.zip", entries | {"__MACOSX/my set/._1.png": b"x", "my set/.DS_Store": b"x"})
    before = file.read_bytes()
    for _ in range(2):
        (example,) = read_examples(file)
        assert (example.image.name, example.text, example.repeats) == ("一.png", "甲", 10)
        check_examples([example])
    assert file.read_bytes() == before and len(list((cache / "sets").iterdir())) == 1


@pytest.mark.parametrize("encoding", ["gbk", "utf-8"])
@pytest.mark.parametrize("name", ["图一", "图二", "10_少女/图一", "10_少女\\图一"])
def test_names_that_windows_packed_are_read(tmp_path, cache, encoding, name):
    """No flag says what they are; in GBK 图一 is by chance UTF-8, too."""
    picture = save(tmp_path / "1.png").read_bytes()
    names = [f"{name}{suffix}".encode(encoding) for suffix in (".png", ".txt")]
    stand_ins = [(b"%d" % n).ljust(len(raw), b"x") for n, raw in enumerate(names)]
    file = zipped(tmp_path / "set.zip", dict(zip(map(bytes.decode, stand_ins), (picture, "甲"), strict=True)))
    content = file.read_bytes()
    for stand_in, raw in zip(stand_ins, names, strict=True):
        content = content.replace(stand_in, raw)
    file.write_bytes(content)
    (example,) = read_examples(file)
    check_examples([example])
    assert (example.image.stem, example.text, example.repeats) == (name[-2:], "甲", 10 if "10_" in name else 1)


def test_what_windows_left_in_a_zip_hides_no_folder(tmp_path, cache):
    picture = save(tmp_path / "1.png").read_bytes()
    entries = {"set/train/1.png": picture, "set/metadata.csv": "file_name,text\ntrain/1.png,甲\n", "desktop.ini": "x"}
    assert [example.text for example in read_examples(zipped(tmp_path / "set.zip", entries))] == ["甲"]


LINK = zipfile.ZipInfo("link.png")
LINK.external_attr = 0o120777 << 16


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"../evil.txt": "x"}, "leads out of the folder"),
        ({"a/../../evil.txt": "x"}, "leads out of the folder"),
        ({"/evil.txt": "x"}, "leads out of the folder"),
        ({"..\\evil.txt": "x"}, "leads out of the folder"),
        ({"C:\\evil.txt": "x"}, "leads out of the folder"),
        ({LINK: "/etc/passwd"}, "is a link"),
        ({"bomb.txt": b"0" * 2**27}, "would unpack to 1 files and 134,217,728 bytes"),
        ({"a.txt": "x", "A.txt": "y"}, "holds a file twice"),
    ],
    ids=str,
)
def test_a_zip_that_means_harm_is_refused_before_anything_is_written(tmp_path, cache, entries, said):
    file = zipped(tmp_path / "set.zip", entries)
    with pytest.raises(DataError, match=said):
        read_examples(file)
    assert not cache.exists() and not (tmp_path / "evil.txt").exists()


def test_a_file_without_a_name_in_a_zip_is_refused(tmp_path, cache):
    file = zipped(tmp_path / "set.zip", {"1.txt": "甲"})
    file.write_bytes(file.read_bytes().replace(b"1.txt", b"\0.txt"))
    with pytest.raises(DataError, match="without a name"):
        read_examples(file)


def test_a_zip_that_is_damaged_or_no_zip_is_one_line(tmp_path, cache):
    file = zipped(tmp_path / "set.zip", {f"{n}.txt": f"甲{n}" * 100 for n in range(9)})
    content = file.read_bytes()
    for damaged in (b"", b"no zip", content[:-30], content[:40] + b"\xff" * 60 + content[100:]):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match=r"set\.zip: no folder, and no zip that can be read"):
            read_examples(file)
    assert not list(cache.glob("sets/*"))


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


def test_a_picture_of_fractions_is_refused_and_not_black(tmp_path):
    Image.new("F", (64, 64), 0.5).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="nothing says what is white; save it as PNG"):
        open_image(tmp_path / "a.tif")


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

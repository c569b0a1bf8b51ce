"""Textual inversion: one new word in the vocabulary, learned, written, read, used, and taken away without a trace."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from kolors_lab.core.errors import DataError, ModelError, SettingError
from kolors_lab.pictures.files import generate_file
from kolors_lab.sampling.config import GenerateConfig
from kolors_lab.sampling.metadata import read_settings
from kolors_lab.sampling.pipeline import generate
from kolors_lab.sampling.text import encode_prompt, token_characters
from kolors_lab.sampling.vocabulary import add_word, embedding_of, load_word, remove_words, save_word
from kolors_lab.training.inversion import InversionConfig, invert, name_it


def embeds(pipe, text):
    with torch.no_grad():
        return pipe.encode_prompt(text, "cpu", do_classifier_free_guidance=False)[0]


def last_embedding(pipe, text):
    """Of the last token; alone, a word would have SentencePiece's mark of a beginning before it."""
    row = pipe.tokenizer.convert_tokens_to_ids(pipe.tokenizer.tokenize(text))[-1]
    return pipe.text_encoder.get_input_embeddings()(torch.tensor(row)).detach()


@pytest.fixture
def run(pipe_folder, pipe, pictures, tmp_path):
    def run(out="word", pipe=pipe, **settings):
        settings = {"steps": 3, "batch_size": 2, "trigger_word": "白马", "initial_word": "马"} | settings
        return invert(
            InversionConfig(preset=str(pipe_folder), data=str(pictures), out=str(tmp_path / out), **settings), pipe
        )

    return run


def test_a_word_with_another_words_embedding_is_that_word(pipe):
    """The tokens and the encoder see the new word as they would see the old one, and all other text as before."""
    horse, girl = embeds(pipe, "少女，白马"), embeds(pipe, "白马，少女")
    add_word(pipe, "<toy>", last_embedding(pipe, "白马"))
    ids = pipe.tokenizer("少女，白<toy>")["input_ids"]
    assert ids[-1] == pipe.text_encoder.get_input_embeddings().num_embeddings - 1
    torch.testing.assert_close(embeds(pipe, "少女，白<toy>"), horse)
    assert torch.equal(embeds(pipe, "白马，少女"), girl)
    add_word(pipe, "<hat>", last_embedding(pipe, "少女"))
    torch.testing.assert_close(embeds(pipe, "少女，白<toy>"), horse)
    torch.testing.assert_close(embeds(pipe, "白马，少<hat>"), girl)
    remove_words(pipe)
    assert torch.equal(embeds(pipe, "少女，白马"), horse)


def test_only_the_word_learns_and_it_learns_the_same_for_equal_seeds(run, pipe):
    weights = [weight.clone() for part in (pipe.text_encoder, pipe.unet) for weight in part.parameters()]
    first, second, other = run("a"), run("b"), run("c", seed=1)
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()
    after = [weight for part in (pipe.text_encoder, pipe.unet) for weight in part.parameters()]
    assert all(torch.equal(one, two) for one, two in zip(weights, after, strict=True))
    assert not torch.equal(load_file(first)["embedding"], embedding_of(pipe, "马"))
    assert first.stat().st_size < 2000
    config = json.loads((first.parent / "config.json").read_text(encoding="utf-8"))
    assert (config["word"], config["initial_word"]) == ("<toy>", "马")


def test_the_gradient_is_that_of_the_embedding_table_itself(pipe):
    """Against torch's own gradient for a row of the table, with the new word in that row's place."""
    weight = pipe.text_encoder.get_input_embeddings().weight
    (row,) = pipe.tokenizer.convert_tokens_to_ids(pipe.tokenizer.tokenize("女")[-1:])
    weight.requires_grad_(True)
    pipe.encode_prompt("少女", "cpu", do_classifier_free_guidance=False)[0].square().mean().backward()
    expected = weight.grad[row].clone()
    weight.requires_grad_(False)
    vector = add_word(pipe, "<toy>", weight[row])
    pipe.encode_prompt("少<toy>", "cpu", do_classifier_free_guidance=False)[0].square().mean().backward()
    torch.testing.assert_close(vector.grad, expected)


def test_a_word_is_loaded_at_generation(run, pipe):
    before = np.asarray(generate(pipe, "<toy>，少女", steps=2))
    assert load_word(pipe, run(learning_rate=1.0)) == "<toy>"
    assert not np.array_equal(np.asarray(generate(pipe, "<toy>，少女", steps=2)), before)
    remove_words(pipe)
    assert np.array_equal(np.asarray(generate(pipe, "<toy>，少女", steps=2)), before)


def test_a_picture_is_made_with_the_word_and_says_which(pipe, pipe_folder, tmp_path):
    def make(name, **settings):
        settings |= {"prompt": "<toy>，少女", "steps": 1, "out": str(tmp_path / f"{name}.png")}
        return generate_file(GenerateConfig(preset=str(pipe_folder), **settings), pipe)

    start = embedding_of(pipe, "少女")
    words = [save_word(tmp_path / f"{n}.safetensors", "<toy>", start * n) for n in (30, -30)]
    without, *files = make("none"), *(make(word.stem, word=str(word)) for word in words)
    assert len({np.asarray(Image.open(file)).tobytes() for file in (without, *files)}) == 3
    assert read_settings(files[0])["word"].startswith("30.safetensors:") and "word" not in read_settings(without)
    assert "workflow" in Image.open(without).text and "workflow" not in Image.open(files[0]).text  # none can say it
    assert np.array_equal(np.asarray(generate(pipe, "<toy>，少女", steps=1)), np.asarray(Image.open(without)))


@pytest.mark.parametrize("text", ["<toy>", "少女，<toy>", "<toy>，少女，白马", "少女<toy>白马<toy>，叭", "少女，白马"])
def test_every_token_knows_its_characters_around_a_new_word(pipe, text):
    add_word(pipe, "<toy>", embedding_of(pipe, "白马"))
    places = token_characters(pipe.tokenizer, text)
    assert len(places) == len(pipe.tokenizer.tokenize(text))
    told = [text[begin:end] for begin, end in places]
    assert told.count("<toy>") == text.count("<toy>") and "".join(told).replace("叭" * 3, "叭") == text


def test_a_weight_stays_on_its_words_behind_a_new_word(pipe):
    add_word(pipe, "<toy>", embedding_of(pipe, "白马"))
    places = token_characters(pipe.tokenizer, "<toy>，少女，白马")
    girl = [n - len(places) for n, (begin, end) in enumerate(places) if 6 <= begin < end <= 8]
    plain, weighted = (encode_prompt(pipe, text)[0][0] for text in ("<toy>，少女，白马", "<toy>，(少女:1.5)，白马"))
    assert ((plain != weighted).any(1).nonzero().flatten() - len(plain)).tolist() == girl


@pytest.mark.parametrize(
    ("before", "after"),
    [("aawxbc玩偶，书院", "<toy>，书院"), ("书院", "<toy>，书院"), ("<toy>在书院", "<toy>在书院")],
)
def test_captions_are_told_with_the_new_word(before, after):
    assert name_it(before, InversionConfig()) == after


@pytest.mark.parametrize("word", ["toy", "<>", "<a b>", "", "<a", "<a>b<c>"])
def test_a_word_that_could_be_part_of_another_is_refused(word):
    with pytest.raises(SettingError, match=r"word = .*must be"):
        InversionConfig(word=word)


def test_a_file_that_is_no_word_is_one_line(pipe, run, tmp_path):
    file = tmp_path / "word.safetensors"
    for make, words in (
        (lambda: file.write_text("text"), "damaged or no word"),
        (lambda: save_file({"embedding": torch.ones(64)}, file), "holds no word"),
        (lambda: save_word(file, "<toy>", torch.ones(5)), r"another model: \(5,\) there, \(64,\) here"),
        (lambda: save_word(file, "<toy>", torch.full((64,), float("nan"))), "holds no word"),
    ):
        make()
        with pytest.raises(ModelError, match=words):
            load_word(pipe, file)
    run()
    with pytest.raises(DataError, match="already holds"):
        run()


def test_a_word_learns_in_half_precision_too(run, pipe, monkeypatch):
    """Without a scale, gradients below 6e-8 are 0 in float16 and the word stays where it began."""
    from kolors_lab.training import inversion

    pipe.to(torch.float16)
    start, loss = embedding_of(pipe, "马"), inversion.loss
    monkeypatch.setattr(inversion, "loss", lambda *args: loss(*args) * 1e-6)
    learned = load_file(run(steps=4))["embedding"]
    assert learned.isfinite().all() and (learned - start).count_nonzero() > 0.9 * len(start)


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_word_to_begin_from_is_refused(empty):
    with pytest.raises(SettingError, match="initial_word is empty"):
        InversionConfig(initial_word=empty)


def test_a_word_without_tokens_has_no_embedding(pipe):
    with pytest.raises(SettingError, match="finds no token in it"):
        embedding_of(pipe, "")

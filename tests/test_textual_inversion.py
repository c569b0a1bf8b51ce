"""Textual inversion: one new word in the vocabulary, learned, written, read, used, and taken away without a trace."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kolors_lab.errors import DataError, ModelError, SettingError
from kolors_lab.generate import generate
from kolors_lab.textual_inversion import (
    InversionConfig,
    add_word,
    embedding_of,
    invert,
    load_word,
    name_it,
    remove_words,
    save_word,
)


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


@pytest.mark.parametrize(
    ("before", "after"), [("sks玩偶，书院", "<toy>，书院"), ("书院", "<toy>，书院"), ("<toy>在书院", "<toy>在书院")]
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

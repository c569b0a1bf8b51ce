"""Prompt weights: what each syntax means, which tokens they reach, and what is said where a prompt cannot be read."""

from __future__ import annotations

import pytest
import torch

from kolors_lab.core.errors import SettingError
from kolors_lab.prompts.formula import formula, negative
from kolors_lab.prompts.syntax import Span, choose, extract_loras, parse
from kolors_lab.sampling.text import PromptCut, encode_prompt, token_characters

RARE = "一个龘🐎少女"  # in no vocabulary: three and four bytes


@pytest.mark.parametrize(
    ("syntax", "text", "spans"),
    [
        # the examples that the web UI gives for its own parser
        ("webui", "normal text", [("normal text", 1)]),
        ("webui", "an (important) word", [("an ", 1), ("important", 1.1), (" word", 1)]),
        ("webui", r"\(literal\]", [("(literal]", 1)]),
        ("webui", "(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        (
            "webui", "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).)",
            [("a ", 1), ("house", 1.573), (" ", 1.1), ("on", 1), (" a ", 1.1), ("hill", 0.55), (", sun, ", 1.1),
             ("sky", 1.4641), (".", 1.1)],
        ),
        ("webui", "[(少女)]，时间：晚上", [("少女，时间：晚上", 1)]),
        ("webui", "(少女：１．３)，马", [("少女", 1.3), ("，马", 1)]),  # as a Chinese keyboard has it
        ("webui", "（古风），[少女]", [("（古风），", 1), ("少女", 0.909091)]),
        # ComfyUI: a number replaces what brackets around it say; square brackets are text
        ("comfyui", "((a:1.2) b) [c] (d)", [("a", 1.2), (" b", 1.1), (" [c] ", 1), ("d", 1.1)]),
        ("comfyui", "((a) b:1.5)", [("a", 1.65), (" b", 1.5)]),
        ("comfyui", r"\(a\) (b)", [("(a) ", 1), ("b", 1.1)]),
        ("compel", "a tall+ man-- with a well-known hat", [
            ("a ", 1), ("tall", 1.1), (" ", 1), ("man", 0.81), (" with a well-known hat", 1)]),
        ("compel", "紫色短发少女++，白马", [("紫色短发少女", 1.21), ("，白马", 1)]),
        ("compel", "(a (b)+ c)1.3 (d)- (e)", [("a ", 1.3), ("b", 1.43), (" c", 1.3), (" ", 1), ("d", 0.9), (" e", 1)]),
        ("plain", "(a:1.3) {b} BREAK", [("(a:1.3) {b} BREAK", 1)]),
        ("webui", "", []),
    ],
)  # fmt: skip
def test_each_syntax_means_what_its_own_program_means(syntax, text, spans):
    found = parse(text, syntax)
    assert [span.text for span in found] == [text for text, _ in spans]
    assert [span.weight for span in found] == pytest.approx([weight for _, weight in spans], abs=1e-6)


@pytest.mark.parametrize(
    ("syntax", "text", "character", "reason"),
    [
        ("webui", "一个(少女", 3, "never closed"),
        ("webui", "少女)", 3, "closes nothing"),
        ("webui", "(少女]", 4, "closes nothing"),
        ("webui", "少女，(马:1.2.3)", 6, "1.2.3 is no number"),
        ("webui", "少女，(马:99)", 5, "from -10 to 10"),
        ("webui", "a BREAK b", 3, "256"),
        ("webui", "a AND b", 3, "one prompt"),
        ("webui", "a [b:c:0.5]", 3, "from:to:when"),
        ("webui", "a [b|c]", 3, "from:to:when"),
        ("webui", "a <lora:b:1>", 3, "say as loras which folder"),
        ("webui", "a {b|c}", 3, "choose"),
        ("webui", "少女，（紫色：1.3）", 4, "full-width"),
        ("comfyui", "(a", 1, "never closed"),
        ("compel", "(a, b).blend(1, 2)", 6, "blend"),
        ("compel", "a)", 2, "closes nothing"),
        ("webui", "a, __hair__", 4, "wildcards"),
        ("comfyui", "a, embedding:bad", 4, "invert"),
        ("webui", "(" * 300, 101, "more than 100 brackets"),
        ("webui", "少女，(马：1,3)", 6, "1,3 is no number"),
        ("comfyui", "(马:1。3)", 3, "1。3 is no number"),
        ("webui", "[少女：白马：0.5]", 1, "from:to:when"),
        ("webui", "少女，｛紫｜黑｝发", 4, "full-width braces choose nothing"),
        ("webui", "a <wildcard:hair>", 3, "tag of another program"),
        ("webui", "(a, b)++, c", 6, "prompt_syntax compel"),
        ("comfyui", '("a", "b").and()', 10, "and"),
        ("webui", "少女 --ar 1:1", 4, "Midjourney"),
        ("webui", "少女::2 白马::1", 3, r"write \(word:1.3\)"),
        ("webui", "[[少女]|白马]", 1, "from:to:when"),
        ("webui", "[少女:白马:0.5,0.8]", 1, "from:to:when"),
        ("webui", "少女BREAK白马", 3, "256"),
        ("webui", "少女 AND_PERP 白马", 4, "one prompt"),
        ("webui", "少女 ADDCOMM 白马", 4, "orders to another program"),
        ("comfyui", "少女，MASK(0 1 0 1)", 4, "orders to another program"),
        ("webui", "(少女:1.2，白马)", 4, "right before the one that closes"),
        ("webui", "少女：1.2，白马", 3, "right before the one that closes"),
        ("webui", "少女，<LORA:b:1>", 4, "say as loras which folder"),
        ("comfyui", "少女，＜lora：b：1＞", 4, "say as loras which folder"),
        ("webui", "少女Embedding：bad", 3, "invert"),
        ("webui", "少女__hair__马", 3, "wildcards"),
        ("webui", "＿＿hair＿＿", 1, "wildcards"),
        ("webui", "［少女｜白马］", 1, "full-width"),
        ("webui", "1.2::少女::，白马", 1, r"write \(word:1.3\)"),
        ("webui", "少女 --v 6", 4, "Midjourney"),
        ("webui", "少女 —ar 16:9", 4, "Midjourney"),
        ("webui", "/imagine prompt: girl", 1, "Midjourney"),
        ("webui", "少女\nNegative prompt: 模糊\nSteps: 20, Sampler: Euler", 4, "a picture's parameters"),
    ],
)
def test_an_error_points_at_the_character(syntax, text, character, reason):
    with pytest.raises(SettingError, match=f"prompt, character {character}: .*{reason}") as error:
        parse(text, syntax)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["时间：18:30，马", "比例1:1.5", "well--known", "a — no hands", "x|y", "AND1", "＿马＿"]
)
def test_what_only_looks_like_another_programs_syntax_is_text(text):
    assert parse(text) == [Span(text)]
    assert parse(r"\[a|b:0.5\]") == [Span("[a|b:0.5]")]


def test_an_unknown_syntax_is_refused():
    with pytest.raises(SettingError, match="prompt_syntax = 'a1111': must be one of webui"):
        parse("少女", "a1111")


@pytest.mark.parametrize("text", ["", "少女", RARE, "二次元  少女 ", "abc\n白马"])
def test_weight_1_is_the_pipelines_own_embedding_bit_for_bit(pipe, text):
    theirs, _, pooled, _ = pipe.encode_prompt(text, do_classifier_free_guidance=False)
    for written, syntax in ((text, "webui"), (f"({text}:1.0)" if text else "", "comfyui"), (text, "plain")):
        ours = encode_prompt(pipe, written, syntax)
        assert torch.equal(ours[0], theirs) and torch.equal(ours[1], pooled)


@pytest.mark.parametrize(
    ("before", "words", "after"), [("一个", "紫色短发", "少女"), ("", "🐎龘", "白马"), ("白马 ", "a", "")]
)
def test_a_weight_moves_the_tokens_of_its_words_and_no_others(pipe, before, words, after):
    plain, _, pooled, _ = pipe.encode_prompt(before + words + after, do_classifier_free_guidance=False)
    empty = pipe.encode_prompt("", do_classifier_free_guidance=False)[0][:, -1]
    ours, our_pooled = encode_prompt(pipe, f"{before}({words}:1.5){after}")
    places = token_characters(pipe.tokenizer, before + words + after)
    inside = [len(before) <= begin < len(before + words) and end > begin for begin, end in places]
    marked = torch.tensor([False] * (256 - len(places)) + inside)
    assert marked.any() and torch.equal(ours[:, ~marked], plain[:, ~marked])
    assert torch.allclose(ours[:, marked], empty + 1.5 * (plain[:, marked] - empty), atol=1e-5)
    assert torch.equal(our_pooled, pooled)


@pytest.mark.parametrize("text", ["二次元少女", RARE, " 白马  夜空 ", "", "a b\nc，ａ（少女）", "x<少女>y"])
def test_every_token_has_its_place_in_the_text(pipe, text):
    places = token_characters(pipe.tokenizer, text)
    assert len(places) == len(pipe.tokenizer(text)["input_ids"]) - 2
    assert {i for begin, end in places for i in range(begin, end)} >= {i for i, c in enumerate(text) if not c.isspace()}
    assert places == sorted(places)


def test_a_prompt_that_is_cut_says_what_was_lost(pipe):
    with pytest.warns(PromptCut, match="only 256 tokens fit; not read: “.*9.*白马”") as said:
        ours, _ = encode_prompt(pipe, "(王子:1.2)" * 200 + "白马")
    assert len(said) == 1 and "\n" not in str(said[0].message)
    assert ours.shape[:2] == (1, 256)


def test_choices_come_from_the_seed():
    text = "{紫色|黑色}的{短发|{长|中长}发}少女，\\{a\\}"
    found = {choose(text, seed) for seed in range(40)}
    assert found == {f"{color}的{hair}发少女，\\{{a\\}}" for color in ("紫色", "黑色") for hair in ("短", "长", "中长")}
    assert choose(text, 7) == choose(text, 7)
    assert parse(choose(text, 7))[-1].text.endswith("，{a}")
    assert choose(r"{a\|b|a\|b}", 0) == r"a\|b"
    assert "".join(choose("{a|b|}", seed) for seed in range(9)).count("a") < 9
    for text, character, reason in (
        ("少女{紫色", 3, "never closed"),
        ("少女}", 3, "alone"),
        ("{女主}，白马", 1, "alone"),  # a part of a story
        ("{{少女}}", 2, "alone"),  # NovelAI's weights
        ("${a=b}", 2, "alone"),
        ("{a|" * 200 + "b" + "}" * 200, 301, "more than 100 braces"),
    ):
        with pytest.raises(SettingError, match=f"character {character}: .*{reason}"):
            choose(text, 0)


@pytest.mark.parametrize("text", ["{0.7::a|b}", "{2$$a|b}", "{a|0.3::b}"])
def test_choices_of_another_program_are_refused(text):
    with pytest.raises(SettingError, match="only plain choices are made here"):
        choose(text, 0)


@pytest.mark.parametrize("text", ["(" * 300_000, "{" * 300_000, "<lora:" * 50_000, "[" * 300_000])
@pytest.mark.parametrize("read", [parse, lambda text: choose(text, 0), extract_loras])
def test_endless_prompts_are_refused_at_once(read, text):
    with pytest.raises(SettingError, match="300000 characters, at most 10000 are read"):
        read(text)


def test_lora_tags_come_out_of_the_prompt():
    assert extract_loras("少女，<lora:my style:0.8>，夜空") == ("少女，，夜空", [("my style", 0.8)])
    assert extract_loras("<lora:a><lora:b:0.5:-1> 白马") == ("白马", [("a", 1.0), ("b", -1.0)])
    assert extract_loras(" 白马 ") == (" 白马 ", [])
    assert extract_loras("<Lora:a:0.5>＜lora：b：０．８＞") == ("", [("a", 0.5), ("b", 0.8)])
    for text, reason in (("<lora:../a:1>", "without folders"), ("a <lora:b:c>", "no strength"), ("<lora:a", "whole")):
        with pytest.raises(SettingError, match=reason):
            extract_loras(text)


def test_spans_in_a_row_are_the_prompt():
    assert parse("a(b)c") == [Span("a"), Span("b", 1.1), Span("c")]


def test_the_formula_has_three_parts_in_two_languages():
    assert formula("一个少女", "舞台", "anime") == "杰作，最佳质量，动漫，漫画，游戏CG，一个少女，舞台"
    assert (
        formula("a girl", "", "3d", quality=0, language="en") == "3D, C4D render, unreal engine, octane render, a girl"
    )
    assert parse(formula("少女", quality=0, weight=1.2)) == [Span("少女", 1.2)]
    for wrong in ({"subject": " "}, {"subject": "a", "style": "oil"}, {"subject": "a", "language": "fr"}):
        with pytest.raises(SettingError):
            formula(**wrong)


def test_negative_lists_join_without_repeating_a_word():
    assert negative() == "丑陋，变形，嘈杂，模糊，低对比度"
    words = negative("camp", "quality", "face", language="en").split(", ")
    assert len(words) == len(set(words)) and {"ugly", "worst quality", "unclear eyes"} <= set(words)
    with pytest.raises(SettingError, match="negative feet: must be of camp"):
        negative("feet")

"""Train tiny-kolors' text encoder: a small ChatGLM that reads a caption and knows what it says.

Kolors' encoder is a language model that was trained before and is frozen; ours gets its knowledge from naming the
parts of the scene a caption was written for: once from the pooled vector (the last token of the last layer, which
conditions the time embedding) and once from the tokens (the layer before, which cross-attention reads).

    python data/make/build.py models.text_encoder
"""

import argparse
import random

import torch
from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel
from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer
from torch import nn
from world.captions import caption
from world.scenes import ATTRIBUTES, GARMENT, UNSEEN_STYLE, asked, random_scene, training_scenes

from models.common import forget_places, found, made, note
from models.training import Lots, add_options, fit, run_of

QUESTIONS = {**ATTRIBUTES, "garment": GARMENT}
CONFIG = dict(
    num_layers=3, hidden_size=128, ffn_hidden_size=320, kv_channels=32, num_attention_heads=4, seq_length=256,
    multi_query_attention=True, multi_query_group_num=2, add_qkv_bias=True, add_bias_linear=False,
    bias_dropout_fusion=True,
    rmsnorm=True, post_layer_norm=True, apply_residual_connection_post_layernorm=False, layernorm_epsilon=1e-5,
    attention_softmax_in_fp32=True, apply_query_key_layer_scaling=True, fp32_residual_connection=False,
    hidden_dropout=0.0, attention_dropout=0.0, original_rope=True, use_cache=False,
)  # fmt: skip


def new_encoder(vocabulary: int) -> ChatGLMModel:
    """A small ChatGLM with every parameter set: its constructor leaves them uninitialised (NaN)."""
    encoder = ChatGLMModel(ChatGLMConfig(padded_vocab_size=vocabulary, **CONFIG), empty_init=False)
    for name, parameter in encoder.named_parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.5 if "word_embeddings" in name else parameter.shape[1] ** -0.5)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.ones_(parameter)
    nn.init.zeros_(encoder.output_layer.weight)  # the pipeline never predicts words
    return encoder


class Reader(nn.Module):
    """The encoder with the questions that teach it; only the encoder is kept."""

    def __init__(self, encoder: ChatGLMModel):
        super().__init__()
        self.encoder = encoder
        width = encoder.config.hidden_size
        self.queries = nn.Parameter(torch.randn(len(QUESTIONS), width) * width**-0.5)
        self.from_pooled = nn.ModuleDict({name: nn.Linear(width, len(a)) for name, a in QUESTIONS.items()})
        self.from_tokens = nn.ModuleDict({name: nn.Linear(width, len(a)) for name, a in QUESTIONS.items()})

    def forward(self, tokens):
        hidden = self.encoder(**tokens, output_hidden_states=True, return_dict=True).hidden_states
        read, pooled = hidden[-2].transpose(0, 1), hidden[-1][-1]  # (B, L, D), (B, D)
        scores = torch.einsum("qd,bld->bql", self.queries, read) / read.shape[-1] ** 0.5
        scores = scores.masked_fill(tokens["attention_mask"][:, None] == 0, -1e4)
        looked = torch.einsum("bql,bld->bqd", scores.softmax(-1), read)
        answers = [
            (name, self.from_pooled[name](pooled), self.from_tokens[name](looked[:, i]))
            for i, name in enumerate(QUESTIONS)
        ]
        # The UNet's projections expect values of size one, as a trained language model's are kept by its norms.
        size = (read.square().mean().sqrt() - 1).square() + (pooled.square().mean().sqrt() - 1).square()
        return answers, size


def answers_of(scenes) -> dict[str, torch.Tensor]:
    """Per question the index of the right answer, -100 where it is not asked or (the unseen style) not known."""
    return {
        name: torch.tensor(
            [
                known.index(getattr(s, name))
                if (asked(s, name) if name in ATTRIBUTES else s.has_girl) and getattr(s, name) != UNSEEN_STYLE
                else -100
                for s in scenes
            ]
        )
        for name, known in QUESTIONS.items()
    }


def tokenize(tokenizer, texts: list[str]):
    """Padded to the longest only: padding stands left and is masked, so the pipeline's 256 give the same values."""
    return tokenizer(texts, padding="longest", max_length=256, truncation=True, return_tensors="pt")


def starting_encoder(start: str, vocabulary: int) -> ChatGLMModel:
    """A fresh encoder for "nothing", else the one trained last or shipped, if it reads the same tokens."""
    if start == "nothing":
        return new_encoder(vocabulary)
    encoder = ChatGLMModel.from_pretrained(found("tiny-kolors/text_encoder"), torch_dtype=torch.float32)
    known = encoder.config.padded_vocab_size
    if known != vocabulary:
        raise ValueError(f"the encoder reads {known} tokens, the tokenizer writes {vocabulary}: use --start nothing")
    return encoder


@torch.no_grad()
def right(reader: Reader, tokenizer, scenes, rng: random.Random) -> dict[str, list[float]]:
    """Per question the shares of right answers about captions of `scenes`, from pooled and from tokens."""
    answers, _ = reader(tokenize(tokenizer, [caption(s, rng) for s in scenes]))
    truth = answers_of(scenes)
    share = lambda x, name: (x.argmax(-1) == truth[name])[truth[name] >= 0].float().mean().item()  # noqa: E731
    return {name: [round(share(x, name), 3) for x in pair] for name, *pair in answers}


def main(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    lots = Lots(0)
    tokenizer = ChatGLMTokenizer.from_pretrained(found("tiny-kolors/tokenizer"))
    reader = Reader(starting_encoder(options.start, -(-len(tokenizer) // 64) * 64))
    pool, held = training_scenes(1, 60_000, spoiled=0.12), [random_scene(random.Random(i)) for i in range(1000)]

    def loss_of(_):
        scenes = lots.rng.sample(pool, options.batch)
        answers, size = reader(tokenize(tokenizer, [caption(s, lots.rng) for s in scenes]))
        truth = answers_of(scenes)
        cross = nn.functional.cross_entropy
        return sum(cross(p, truth[n]) + cross(t, truth[n]) for n, p, t in answers) / len(QUESTIONS) + size

    def report(averaged):
        return {name: tokens for name, (_, tokens) in right(averaged, tokenizer, held[:300], random.Random(0)).items()}

    trained = fit(reader, loss_of, run_of("text_encoder", options, decay=0.995), lots, report=report)
    note("text encoder, right from pooled and from tokens", **right(trained, tokenizer, held, random.Random(0)))
    trained.encoder.half().save_pretrained(made("tiny-kolors/text_encoder"), safe_serialization=True)
    forget_places(made("tiny-kolors/text_encoder"))


if __name__ == "__main__":
    parser = add_options(argparse.ArgumentParser(description=__doc__), steps=1400, cooldown=400, lr=2e-3)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--start", choices=("last", "nothing"), default="last", help="the weights to start from")
    main(parser.parse_args())

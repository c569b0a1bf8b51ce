"""Train tiny-kolors' text encoder: a small ChatGLM that reads a caption and knows what it says.

Kolors' encoder is a language model that was trained before and is frozen; ours gets its knowledge from naming the
parts of the scene a caption was written for: once from the pooled vector (the last token of the last layer, which
conditions the time embedding) and once from the tokens (the layer before, which cross-attention reads).

    python data/make/build.py models.text_encoder
"""

import random

import torch
from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel
from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer
from torch import nn
from world.captions import caption
from world.scenes import ACTION, ATTRIBUTES, GARMENT, UNSEEN_STYLE, asked, random_scene, training_scenes

from models.common import BUILD, TINY, fit, note

QUESTIONS = {**ATTRIBUTES, "garment": GARMENT, "action": ACTION}
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


def main(steps: int = 1400, batch: int = 96) -> None:
    torch.manual_seed(0)
    rng = random.Random(0)
    tokenizer = ChatGLMTokenizer.from_pretrained(TINY / "tokenizer")
    vocabulary = -(-len(tokenizer) // 64) * 64
    reader = Reader(new_encoder(vocabulary))
    pool = training_scenes(1, 60_000, spoiled=0.12)

    def loss_of(_):
        scenes = rng.sample(pool, batch)
        answers, size = reader(tokenize(tokenizer, [caption(s, rng) for s in scenes]))
        right = answers_of(scenes)
        cross = nn.functional.cross_entropy
        return sum(cross(p, right[n]) + cross(t, right[n]) for n, p, t in answers) / len(QUESTIONS) + size

    kept = fit(reader, loss_of, steps, 2e-3, "text", decay=0.995)
    kept.encoder.half().save_pretrained(TINY / "text_encoder", safe_serialization=True)
    kept.float()
    scenes = [random_scene(rng) for _ in range(1000)]
    with torch.no_grad():
        answers, _ = kept(tokenize(tokenizer, [caption(s, rng) for s in scenes]))
    right = answers_of(scenes)
    figures = {n: [round(((x.argmax(-1) == right[n])[right[n] >= 0]).float().mean().item(), 3) for x in (p, t)]
               for n, p, t in answers}  # fmt: skip
    print(figures)
    note("text encoder, right from pooled and from tokens", **figures)


if __name__ == "__main__":
    BUILD.mkdir(exist_ok=True)
    main()

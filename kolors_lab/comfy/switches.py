"""rgthree's nodes that pass on what others give them, switches and contexts: where each leads is known before a run,
and so none of them is left in a graph."""

from __future__ import annotations

from functools import cache
from typing import Any

from kolors_lab.comfy.elsewhere import PASSING
from kolors_lab.comfy.graph import Graph, is_link, upstream

ANY = "Any Switch (rgthree)"
CONTEXT = (  # the outputs of a context, in order, and its inputs; the plain one has those up to the seed
    "base_ctx", "model", "clip", "vae", "positive", "negative", "latent", "images", "seed", "steps", "step_refiner",
    "cfg", "ckpt_name", "sampler", "scheduler", "clip_width", "clip_height", "text_pos_g", "text_pos_l", "text_neg_g",
    "text_neg_l", "mask", "control_net",
)  # fmt: skip


def without_switches(graph: Graph) -> Graph:
    """The graph with every link led past them. One whose whole context goes to another node stays, and is named so."""

    def led(value: Any) -> Any:
        """What an input gets at last: a link, a value, or None. A context's slot 0 is the whole context, and stays."""
        passed = is_link(value) and value[0] in switches and (value[1] or switches[value[0]] == ANY)
        return given(*value) if passed else value

    @cache
    def given(key: str, slot: int) -> Any:
        """What a switch or a context gives at `slot`: the first that there is of what may come there."""
        kind, inputs = switches[key], graph[key]["inputs"]
        choices = [inputs[name] for name in sorted(inputs) if name.startswith(("any_", "ctx_", "base_ctx"))]
        if kind != ANY:
            contexts = [ctx for choice in choices if (ctx := led(choice)) is not None]
            contexts = contexts[:1] if "Context Switch" in kind else contexts[::-1]  # merged: the last one counts most
            choices = [inputs.get(CONTEXT[slot]), *([ctx[0], slot] if ctx[0] in switches else ctx for ctx in contexts)]
        return next((found for choice in choices if (found := led(choice)) is not None), None)

    switches = {key: node["class_type"] for key, node in graph.items() if node["class_type"] in PASSING}
    if not switches:
        return graph
    others = [key for key in graph if key not in switches]
    for key in others:
        inputs = graph[key]["inputs"].items()  # a link that leads to nothing goes
        graph[key]["inputs"] = {
            name: found for name, value in inputs if (found := led(value)) is not None or value is None
        }
    taken = upstream(graph, others)
    kept = Graph((key, node) for key, node in graph.items() if key in taken)
    kept.notes = graph.notes
    return kept

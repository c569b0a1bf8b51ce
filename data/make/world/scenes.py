"""What a picture of the little world shows: one Scene, its words, and how scenes are drawn by lot.

The renderer (draw.py), the captions (captions.py), the classifier and the bars all speak these words.
"""

import hashlib
import random
from dataclasses import dataclass, fields, replace

WHO = ("girl", "prince", "horse", "rider", "couple", "couple_rider")
HAIR_COLOR = ("black", "purple", "gold", "red", "blue")
HAIR_LENGTH = ("short", "medium", "long")
GARMENT = ("long_dress", "dress", "strap_dress", "gown")
COLOR = ("green", "white", "pink", "black", "red", "blue", "yellow")
ACTION = (
    "stand", "listen", "sleep", "wake", "write", "bored", "watch", "wish", "sing", "nervous", "talk", "ride",
    "read", "dance",
)  # fmt: skip
PLACE = ("academy", "peach", "wild", "river", "living", "concert", "night", "practice", "fitting", "stage")
FRAMING = ("full", "half")
STYLE = ("plain", "ink", "oil", "pencil", "watercolor", "papercut")  # what the base model learns
UNSEEN_STYLE = "anime"  # 二次元: the VAE and the eyes see it, the base never does
SPOIL = ("none", "blur", "noise", "low_contrast", "deform")

# What one can be seen doing where; the first entry of each place is the usual one.
GIRL_ACTIONS = {
    "academy": ("listen", "sleep", "wake", "write", "read", "stand"),
    "peach": ("stand", "wish", "sing", "dance", "read"),
    "wild": ("stand", "sing", "dance", "read"),
    "river": ("stand", "sing", "wish", "dance", "read"),
    "living": ("bored", "stand", "sing", "write", "read", "sleep", "dance"),
    "concert": ("watch", "stand"),
    "night": ("wish", "stand", "dance"),
    "practice": ("sing", "stand", "dance"),
    "fitting": ("nervous", "stand", "dance"),
    "stage": ("sing", "stand", "dance", "nervous"),
}
SELDOM = ("sleep", "wake", "bored", "listen", "nervous", "watch", "wish")  # that few places have
OUTDOORS = ("peach", "wild", "river", "night")


@dataclass(frozen=True)
class Scene:
    """One picture. The girl's fields are read only where a girl is shown (girl, couple, couple_rider).

    `severity` in 0..1 says how strongly `spoil` acts. `seed` fixes everything the words leave open
    (where clouds hang, how a head is tilted), so that equal scenes give equal pictures.
    """

    who: str = "girl"
    hair_color: str = "black"
    hair_length: str = "long"
    garment: str = "long_dress"
    color: str = "green"
    action: str = "stand"
    place: str = "academy"
    framing: str = "full"
    style: str = "plain"
    spoil: str = "none"
    severity: float = 0.0
    seed: int = 0

    @property
    def has_girl(self) -> bool:
        return self.who in ("girl", "couple", "couple_rider")

    @property
    def has_prince(self) -> bool:
        return self.who in ("prince", "rider", "couple", "couple_rider")


# The classifier's questions: attribute -> its possible answers (for pictures where it can be asked, see `asked`).
ATTRIBUTES = {
    "who": WHO,
    "hair_color": HAIR_COLOR,
    "hair_length": HAIR_LENGTH,
    "color": COLOR,
    "action": ACTION,
    "place": PLACE,
    "framing": FRAMING,
    "style": (*STYLE, UNSEEN_STYLE),
    "spoil": SPOIL,
}


def asked(scene: Scene, attribute: str) -> bool:
    """Whether the picture shows the attribute at all: no hair and dress without a girl; what one does, of her alone."""
    if attribute == "action":
        return scene.who == "girl"
    return scene.has_girl or attribute not in ("hair_color", "hair_length", "color")


def held_out(scene: Scene) -> bool:
    """A tenth of all combinations of who, hair, dress and place that training never sees, fixed by their hash."""
    key = f"{scene.who} {scene.hair_color} {scene.color} {scene.place} {scene.style}"
    return scene.has_girl and hashlib.sha256(key.encode()).digest()[0] < 26


def random_scene(rng: random.Random, styles: tuple[str, ...] = STYLE, spoiled: float = 0.0) -> Scene:
    """A scene by lot; `spoiled` is the share (0..1) of spoiled ones."""
    who = rng.choices(WHO, weights=(10, 2, 1.5, 2, 3, 2))[0]
    if who == "girl":
        place = rng.choice(PLACE)
        action = rng.choice((GIRL_ACTIONS[place][0], *GIRL_ACTIONS[place]))
        framing = rng.choice(FRAMING)
    elif who in ("rider", "couple_rider", "horse"):
        place, framing = rng.choice(OUTDOORS), "full"
        action = "stand" if who == "horse" else "ride"
    elif who == "prince":
        place, action, framing = rng.choice((*OUTDOORS, "academy", "stage")), "stand", rng.choice(FRAMING)
    else:
        place, action, framing = rng.choice((*OUTDOORS, "academy", "living")), "talk", rng.choice(FRAMING)
    scene = Scene(
        who, rng.choice(HAIR_COLOR), rng.choice(HAIR_LENGTH), rng.choice(GARMENT), rng.choice(COLOR),
        action, place, framing, rng.choice(styles), seed=rng.getrandbits(31),
    )  # fmt: skip
    return spoil(scene, rng) if rng.random() < spoiled else scene


def spoil(scene: Scene, rng: random.Random) -> Scene:
    """The same scene spoiled in one way; only people are deformed, never horses."""
    ways = SPOIL[1:4] if scene.who == "horse" else SPOIL[1:]
    return replace(scene, spoil=rng.choice(ways), severity=rng.uniform(0.3, 1.0))


def training_scenes(seed: int, count: int, styles: tuple[str, ...] = STYLE, spoiled: float = 0.0) -> list[Scene]:
    """`count` scenes for training: none of a held-out combination."""
    rng, scenes = random.Random(seed), []
    while len(scenes) < count:
        scene = random_scene(rng, styles, spoiled)
        if not held_out(scene):
            scenes.append(scene)
    return scenes


def balanced_scenes(seed: int, count: int, styles: tuple[str, ...] = STYLE, spoiled: float = 0.0) -> list[Scene]:
    """As `training_scenes`, but a third show what a girl SELDOM does: by lot alone each of these is in a picture of a
    hundred, and their faces are the hardest, asleep or with closed eyes."""
    rng, scenes = random.Random(seed + 1), training_scenes(seed, count - count // 3, styles, spoiled)
    while len(scenes) < count:
        action = rng.choice(SELDOM)
        place = rng.choice([place for place, actions in GIRL_ACTIONS.items() if action in actions])
        scene = random_scene(rng, styles, spoiled)
        scene = replace(scene, who="girl", action=action, place=place, framing=rng.choice(FRAMING))
        scenes += [] if held_out(scene) else [scene]
    return scenes


def check(scene: Scene) -> Scene:
    """The scene itself; ValueError for a word the world does not know."""
    for field in fields(scene):
        known = {**ATTRIBUTES, "garment": GARMENT}.get(field.name)
        if known and getattr(scene, field.name) not in known:
            raise ValueError(f"{field.name}={getattr(scene, field.name)!r}: not one of {', '.join(known)}")
    return scene

"""Captions of the picture world: every wording a learner may use for a Scene, in Chinese and in English.

The words stand in wordings.py; these functions put them together. `caption` is what models are trained on;
`python data/make/build.py world.captions` writes the two stories (stories.py) to data/stories.
"""

import csv
import random
from pathlib import Path

from world import wordings as w
from world.look import hour_of, look_of
from world.scenes import Scene
from world.stories import PROMPTS, story_rows, story_scenes  # noqa: F401 (story_scenes: for those who use captions)


def caption(scene: Scene, rng: random.Random, complete: bool = False) -> str:
    """One of very many captions of `scene`, fixed by `rng`: Chinese, a fifth of them English.

    Some of what the scene shows is left out, unless `complete`. Half of the spoiled scenes carry the negative words
    that learners use; the other half is captioned as if nothing were wrong. Never one of the sixteen story prompts.
    """
    spoken = scene.spoil != "none" and rng.random() < 0.5
    if spoken and rng.random() < 0.2:
        return negative_caption(scene, rng)
    write = _english if rng.random() < 0.2 else _chinese if complete or rng.random() < 0.8 else everyday
    words = [negative_caption(scene, rng, write is _english)] if spoken else []
    text = write(scene, rng, complete, words)
    return text + "。" if text in PROMPTS else text


def negative_caption(scene: Scene, rng: random.Random, english: bool | None = None) -> str:
    """Only the negative words for how `scene` is spoiled, by lot one of the whole lists that learners paste."""
    english = rng.random() < 0.2 if english is None else english
    fitting, everything = (w.EN_NEGATIVE, w.EN_NEGATIVE_ALL) if english else (w.NEGATIVE, w.NEGATIVE_ALL)
    if rng.random() < 0.4:
        return ", ".join(rng.sample(everything, len(everything))) if english else rng.choice(w.NEGATIVE_LISTS)
    words = [rng.choice(fitting[scene.spoil])] if scene.spoil != "none" else []
    words += rng.sample([word for word in everything if word not in words], rng.randint(0 if words else 1, 3))
    return (", " if english else rng.choice("，、")).join(rng.sample(words, len(words)))


def _chinese(scene: Scene, rng: random.Random, complete: bool, words: list[str]) -> str:
    who, dress = _who(scene, rng, complete), _dress(scene, rng, complete)
    place, action = _place_and_action(scene, rng, complete)
    style, framing = _style(scene, rng, complete, w.STYLE), _framing(scene, rng, complete, w.FRAMING)
    rest = words + _extras(rng, w.QUALITY, w.MOOD) + (_situation(scene, rng) if rng.random() < 0.14 else [])
    if rng.random() < 0.3:  # one sentence: 一个…少女穿着…坐在…，…
        linked = place[:1] if place and place[0][0] in "在坐站" else []
        subject = who + _linked_dress(scene, rng, dress) + "".join(linked)
        body = [subject.strip("，"), *rng.sample(action, len(action))]
        place = place[len(linked) :]
    else:
        body = [who, *place, *([_tag_dress(scene, rng, dress)] if dress else []), *action]
        lot = rng.random()
        if lot > 0.4:
            body = rng.sample(body, len(body)) if lot > 0.85 else [who, *rng.sample(body[1:], len(body) - 1)]
        place = []
    tail = rng.sample([*place, *framing, *rest], len(place) + len(framing) + len(rest))
    if style and rng.random() < 0.2:
        return f"{rng.choice(w.OPENING).format(style[0])}{'，'.join([*body, *tail])}。"
    parts = [*style, *body, *tail] if rng.random() < 0.75 else [*body, *tail, *style]
    if rng.random() < 0.1:
        parts = rng.sample(parts, len(parts))
    return rng.choices(("，", ",", ", ", "、", " "), weights=(70, 12, 5, 8, 5))[0].join(parts)


def everyday(scene: Scene, rng: random.Random, complete: bool, words: list[str]) -> str:
    """As people speak, and often next to nothing: 一个女孩在草地上开心的跳舞; 小女孩; 公园里."""
    lot, tail = rng.random(), [*words, *_style(scene, rng, False, w.STYLE)]
    located = [text for text in w.PLACE[scene.place][0] if text.startswith("在")]
    place = rng.choice(located)
    if lot < 0.08:
        body = place.removeprefix("在") if rng.random() < 0.5 else rng.choice(w.PLACE[scene.place][1])
    elif lot < 0.22:
        body = _who(scene, rng, False) if rng.random() < 0.5 else _plain_who(scene, rng)
    else:
        who = _plain_who(scene, rng) if rng.random() < 0.6 else _who(scene, rng, False)
        dress = _dress(scene, rng, False) if scene.who == "girl" and rng.random() < 0.4 else ""
        verb = rng.choice(w.VERB[scene.action]) if scene.has_girl else ""
        at = place + rng.choice(("", "", "里" if place.endswith("室") else ""))
        body = who + (rng.choice(w.WEARS) + dress if dress else "") + (at if lot > 0.3 or not verb else "") + verb
    if rng.random() < 0.25:
        tail += rng.sample([*_framing(scene, rng, False, w.FRAMING), *_situation(scene, rng)], 1)
    parts = [body, *tail] if rng.random() < 0.5 else [*tail, body]
    return rng.choice("，，，， ").join(parts)


def _plain_who(scene: Scene, rng: random.Random) -> str:
    """The person without looks: 一个女孩, 公主和王子."""
    if scene.who == "girl":
        return rng.choice(("一个", "一个", "一位", "")) + rng.choice(w.GIRL)
    if scene.who.startswith("couple"):
        pair = rng.choice(("女孩和王子", "王子和少女", "一个女孩和一个王子", "少女与王子"))
        return pair + (rng.choice(w.RIDES_TOGETHER) if scene.who == "couple_rider" else "")
    return {"horse": "一匹马", "prince": "一个王子"}.get(scene.who) or rng.choice(("王子骑马", "王子骑着马"))


def _situation(scene: Scene, rng: random.Random) -> list[str]:
    """A word for the hour or for where the figure stands, both of which the picture shows."""
    look = look_of(scene.seed)
    hour = hour_of(scene.place, look)
    if hour and rng.random() < 0.75:
        return [rng.choice(w.HOUR[hour])]
    return [rng.choice(w.SIDE[look.side])] if scene.who in ("girl", "prince") else [rng.choice(w.QUALITY)]


def _who(scene: Scene, rng: random.Random, complete: bool) -> str:
    count = rng.choice(("一个", "一个", "一位", ""))
    if scene.who == "horse":
        return rng.choice(w.HORSE)
    prince = rng.choice(("一位", "一名", "")) + rng.choice(w.PRINCE)
    if scene.who in ("prince", "rider"):
        return prince + (rng.choice(("，", "")) + rng.choice(w.RIDES) if scene.who == "rider" else "")
    hair = _hair(scene, rng, complete)
    if scene.who == "girl":
        return count + _girl(rng, hair, rng.choice(w.GIRL))
    girl = rng.choice((count, "")) + _girl(rng, hair, "少女").replace("，", "")
    together = rng.choice(w.RIDES_TOGETHER) if scene.who == "couple_rider" else ""
    pair = (girl, rng.choice("与和") + rng.choice((prince, "王子", rng.choice(w.PRINCE))))
    return "".join(pair) + together


def _hair(scene: Scene, rng: random.Random, complete: bool) -> str:
    """The hair's colour and length; now and then the colour alone, one in twelve times nothing."""
    color, lot = rng.choice(w.HAIR_COLOR[scene.hair_color]), rng.random()
    if not complete and lot < 0.08:
        return ""
    if not complete and lot < 0.2:
        return rng.choice((w.HAIR_ONLY[scene.hair_color], color + "头发"))
    return color + rng.choice(("", "", "", "的")) + rng.choice(w.HAIR_LENGTH[scene.hair_length])


def _girl(rng: random.Random, hair: str, noun: str) -> str:
    if not hair:
        return noun
    forms = ("{0}{1}",) * 5 + ("{0}的{1}", "有着{0}的{1}", "留着{0}的{1}", "{1}，{0}")
    return rng.choice(forms).format(hair, noun)


def _dress(scene: Scene, rng: random.Random, complete: bool) -> str:
    """The dress's colour and kind; empty where none is shown or said."""
    if not scene.has_girl or (not complete and rng.random() < 0.08):
        return ""
    open_ = not complete and rng.random() < 0.12
    color = rng.choice(w.COLOR[scene.color]) + rng.choice(("", "", "", "的"))
    return color + rng.choice(w.GARMENT_OPEN if open_ else w.GARMENT[scene.garment])


def _tag_dress(scene: Scene, rng: random.Random, dress: str) -> str:
    if scene.who != "girl":
        return rng.choice(("少女着", "少女穿着", "少女穿", "少女身穿")) + dress
    return rng.choice(("", "", *w.WEARS)) + dress


def _linked_dress(scene: Scene, rng: random.Random, dress: str) -> str:
    """The dress inside a sentence, behind the person it belongs to."""
    if not dress:
        return ""
    return f"，{_tag_dress(scene, rng, dress)}，" if scene.who != "girl" else rng.choice(w.WEARS) + dress


def _place_and_action(scene: Scene, rng: random.Random, complete: bool) -> tuple[list[str], list[str]]:
    located, nouns, details = w.PLACE[scene.place]
    hour = hour_of(scene.place, look_of(scene.seed))
    details = [text for text in details if hour in w.HOUR_OF_DETAIL.get(text, (hour,))]
    clauses = w.ACTION[scene.action]
    if (scene.action, scene.place) == ("wish", "night"):
        clauses = (*w.STAR_WISH, *clauses)
    often = 0.3 if scene.action == "stand" else 0.85
    action = rng.sample(clauses, rng.randint(1, 2)) if rng.random() < often else []
    if not scene.has_girl:
        action = [rng.choice(w.HORSE_EXTRA if scene.who == "horse" else w.PRINCE_EXTRA)] if rng.random() < 0.3 else []
    if scene.who.startswith("couple") and rng.random() < 0.4:
        action.append(rng.choice(w.COUPLE_EXTRA))
    told = action and (scene.action, scene.place) in w.TELLS_PLACE
    if not complete and rng.random() < (0.35 if told else 0.06):
        return rng.sample(details, int(bool(told))), action
    if scene.who != "girl":  # nobody else sits in class, and riders and horses do not "stand by"
        wrong = "坐" if scene.who in ("prince", "couple") else "坐站"
        located = [words for words in located if words[0] not in wrong]
    backdrop = rng.choice(w.BACKDROP).format(rng.choice(nouns))
    place = [rng.choice(located) if rng.random() < 0.65 else backdrop]
    return place + rng.sample(details, rng.choices((0, 1, 2), weights=(60, 28, 12))[0]), action


def _style(scene: Scene, rng: random.Random, complete: bool, table: dict[str, tuple[str, ...]]) -> list[str]:
    """The word for the style: nearly always for the styled ones, seldom for the plain one."""
    said = rng.random() < (0.3 if scene.style == "plain" else 0.98)
    return [rng.choice(table[scene.style])] if said or (complete and scene.style != "plain") else []


def _framing(scene: Scene, rng: random.Random, complete: bool, table: dict[str, tuple[str, ...]]) -> list[str]:
    return [rng.choice(table[scene.framing])] if complete or rng.random() < 0.75 else []


def _extras(rng: random.Random, quality: tuple[str, ...], mood: tuple[str, ...]) -> list[str]:
    """Quality words, and words that say nothing about the picture: unknown words are to do no harm."""
    extras = rng.sample(quality, rng.randint(1, 2)) if rng.random() < 0.2 else []
    extras += [rng.choice(mood)] if rng.random() < 0.2 else []
    return extras + ([_unknown(rng)] if rng.random() < 0.08 else [])


def _unknown(rng: random.Random) -> str:
    """One or two characters that mean nothing here, or a made-up word such as "zovak"."""
    if rng.random() < 0.5:
        return "".join(c for c in rng.choices(w.CHARACTERS, k=2) if c not in w.WORLD_TEXT) or "某"
    return "".join(rng.choice("bdfgklmnprtvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3)))


def _english(scene: Scene, rng: random.Random, complete: bool, words: list[str]) -> str:
    subject = _english_who(scene, rng, complete)
    lot = 1.0 if complete else rng.random()
    action = [rng.choice(w.EN_ACTION[scene.action])] if rng.random() < (0.3 if scene.action == "stand" else 0.8) else []
    action = action if scene.has_girl else []
    place = [rng.choice(w.EN_PLACE[scene.place])] if lot > 0.06 else []
    style, framing = _style(scene, rng, complete, w.EN_STYLE), _framing(scene, rng, complete, w.EN_FRAMING)
    rest = words + _extras(rng, w.EN_QUALITY, w.EN_MOOD)
    if (hour := hour_of(scene.place, look_of(scene.seed))) and rng.random() < 0.14:
        rest.append(rng.choice(w.EN_HOUR[hour]))
    if rng.random() < 0.5:
        start = f"{rng.choice(('An' if style[0][0] in 'aioue' else 'A', 'One'))} {style[0]} of " if style else ""
        return f"{start}{' '.join([subject, *action, *place])}{''.join(f', {part}' for part in [*framing, *rest])}"
    body = [subject, *rng.sample([*action, *place, *framing, *rest], len(action + place + framing + rest))]
    return ", ".join([*style, *body] if rng.random() < 0.7 else [*body, *style])


def _english_who(scene: Scene, rng: random.Random, complete: bool) -> str:
    if scene.who == "horse":
        return rng.choice(w.EN_HORSE)
    prince = rng.choice(w.EN_PRINCE)
    if not scene.has_girl:
        return prince + (" " + rng.choice(w.EN_RIDES) if scene.who == "rider" else "")
    color, noun, lot = w.EN_HAIR_COLOR[scene.hair_color], rng.choice(w.EN_GIRL), rng.random()
    length = rng.choice(w.EN_HAIR_LENGTH[scene.hair_length])
    girl = rng.choice((f"a {noun} with {length} {color} hair", f"a {color} {length} hair {noun}"))
    if not complete and lot < 0.2:
        girl = f"a {noun}" if lot < 0.08 else f"a {color}-haired {noun}"
    if complete or rng.random() > 0.08:
        garment = rng.choice(w.EN_GARMENT[scene.garment]) if complete or rng.random() > 0.12 else "dress"
        girl += rng.choice((" in a {0} {1}", " wearing a {0} {1}", ", {0} {1},")).format(scene.color, garment)
    together = " " + rng.choice(w.EN_RIDES_TOGETHER) if scene.who == "couple_rider" else ""
    return girl if scene.who == "girl" else f"{girl} and {prince}{together}"


def write_stories(folder: Path) -> None:
    """Writes dream.csv and idol.csv: scene, prompt, negative_prompt, seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in story_rows().items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([("scene", "prompt", "negative_prompt", "seed"), *rows])


if __name__ == "__main__":
    write_stories(Path(__file__).parents[2] / "stories")

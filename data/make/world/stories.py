"""The two stories that the picture world tells: prompts word for word, and the Scene that each should show."""

from dataclasses import dataclass

from world.scenes import Scene


@dataclass(frozen=True)
class StoryPrompt:
    """One panel. `open` names the attributes that the prompt leaves open, so that nobody judges them."""

    title: str
    prompt: str
    negative_prompt: str
    seed: int
    scene: Scene
    open: tuple[str, ...] = ()


DREAM_NEGATIVE = "现代风格，数字画，丑陋，变形，嘈杂，模糊，低对比度，扭曲的手指，多余的手指"
IDOL_NEGATIVE = "丑陋、变形、嘈杂、模糊、低对比度"
HANDS_NEGATIVE = IDOL_NEGATIVE + "，扭曲的手指，多余的手指"


EVENING_SEED = 4  # of a scene whose look has the evening sun


def _dream(title: str, prompt: str, seed: int, open_: tuple[str, ...] = (), evening: bool = False, **scene):
    heroine = dict(hair_color="black", hair_length="long", garment="long_dress", style="ink")
    shown = Scene(seed=EVENING_SEED if evening else seed, **heroine, **scene)
    return StoryPrompt(title, "古风，水墨画，" + prompt, DREAM_NEGATIVE, seed, shown, open_)


def _idol(title: str, prompt: str, seed: int, *, negative: str = IDOL_NEGATIVE, framed: bool = False, **scene):
    shown = Scene(who="girl", hair_color="purple", style="anime", seed=seed, **scene)
    return StoryPrompt(title, "二次元，" + prompt, negative, seed, shown, () if framed else ("framing",))


# The course's second task: a lesson, a dream, and back to the desk.
DREAM = (
    _dream(
        "女主正在上课",
        "一个黑色长发少女，坐在古代书院的教室里，认真听讲，盯着老师手中的竹简，上半身，绿色长裙，背景有木质桌椅和古书架",
        0, color="green", action="listen", place="academy", framing="half",
    ),
    _dream(
        "开始睡着了",
        "一个黑色长发少女，伏在书桌上，眼睛半闭，显露出疲惫感，上半身，绿色长裙，周围书籍散乱，窗外夕阳透进来",
        1, color="green", action="sleep", place="academy", framing="half", evening=True,
    ),
    _dream(
        "进入梦乡",
        "一个黑色长发少女，站在一条青石板小路旁，四周桃花盛开，全身，白色飘逸长裙，背景是远处的古风建筑，天空中有几朵淡云",
        2, color="white", action="stand", place="peach", framing="full",
    ),
    _dream(
        "王子骑马而来",
        "一位身穿银色盔甲的年轻王子，骑着一匹白色骏马从远处走来，手持长剑，全身，背景为古风山野，桃花纷飞",
        3, who="rider", action="ride", place="wild", framing="full",
    ),
    _dream(
        "两人相谈甚欢",
        "黑色长发少女与身穿银甲的王子站在路旁，微笑交谈，彼此注视，上半身，少女着白色长裙，王子手持缰绳，背景为桃花盛开的古风小路",
        4, who="couple", color="white", action="talk", place="peach", framing="half",
    ),
    _dream(
        "一起坐在马背上",
        "黑色长发少女与王子共骑一匹白马，少女侧坐在马背上，双手环抱王子的腰，全身，少女穿白色长裙，王子穿银甲，背景为青山绿水",
        5, who="couple_rider", color="white", action="ride", place="river", framing="full",
    ),
    _dream(
        "下课了 梦醒了",
        "黑色长发少女从书桌上抬起头，眼神迷茫刚从梦中醒来，上半身，绿色长裙，书桌上的竹简散乱，窗外阳光明媚",
        6, color="green", action="wake", place="academy", framing="half",
    ),
    _dream(
        "又回到了学习生活中",
        "黑色长发少女站在教室中，手握毛笔在书案上认真书写，全身，绿色长裙，背景为书院的木质书架和摆满书籍的桌子",
        7, color="green", action="write", place="academy", framing="full",
    ),
)  # fmt: skip

# 偶像少女养成日记: the baseline notebook's own story, with its seeds but for those of the first two panels.
IDOL = (
    _idol(
        "无聊的一天", "一个紫色短发小女孩，在家中沙发上坐着，双手托着腮，很无聊，全身，粉色连衣裙", 3, framed=True,
        hair_length="short", garment="dress", color="pink", action="bored", place="living", framing="full",
    ),
    _idol(
        "第一次看演唱会",
        "日系动漫，演唱会的观众席，人山人海，一个紫色短发小女孩穿着粉色吊带漏肩连衣裙坐在演唱会的观众席，"
        "舞台上衣着华丽的歌星们在唱歌", 4,
        hair_length="short", garment="strap_dress", color="pink", action="watch", place="concert",
    ),
    _idol(
        "心生憧憬", "一个紫色短发小女孩穿着粉色吊带漏肩连衣裙坐在演唱会的观众席，露出憧憬的神情", 2,
        hair_length="short", garment="strap_dress", color="pink", action="watch", place="concert", framing="half",
    ),
    _idol(
        "对流星许愿", "一个紫色短发小女孩穿着粉色吊带漏肩连衣裙，对着流星许愿，闭着眼睛，十指交叉，侧面", 5,
        negative=HANDS_NEGATIVE,
        hair_length="short", garment="strap_dress", color="pink", action="wish", place="night", framing="half",
    ),
    _idol(
        "开始练习", "一个紫色中等长度头发小女孩穿着粉色吊带漏肩连衣裙，在练习室练习唱歌", 0,
        hair_length="medium", garment="strap_dress", color="pink", action="sing", place="practice",
    ),
    _idol(
        "渐渐长大", "一个紫色长发小女孩穿着粉色吊带漏肩连衣裙，在练习室练习唱歌，手持话筒", 1,
        hair_length="long", garment="strap_dress", color="pink", action="sing", place="practice",
    ),
    _idol(
        "登台之前", "紫色长发少女，穿着黑色连衣裙，试衣间，心情忐忑", 7,
        hair_length="long", garment="dress", color="black", action="nervous", place="fitting",
    ),
    _idol(
        "站上舞台", "紫色长发少女，穿着黑色礼服，连衣裙，在台上唱歌", 0,
        hair_length="long", garment="gown", color="black", action="sing", place="stage",
    ),
)  # fmt: skip
STORIES = {"dream": DREAM, "idol": IDOL}
PROMPTS = frozenset(panel.prompt for story in STORIES.values() for panel in story)


def story_scenes() -> dict[str, list[tuple[str, str, int, Scene]]]:
    """Both stories as (prompt, negative prompt, seed, Scene that the prompt should show)."""
    return {
        name: [(panel.prompt, panel.negative_prompt, panel.seed, panel.scene) for panel in story]
        for name, story in STORIES.items()
    }


def story_rows() -> dict[str, list[tuple[str, str, str, int]]]:
    """Both stories as the rows of their CSV: scene title, prompt, negative prompt, seed."""
    return {
        name: [(panel.title, panel.prompt, panel.negative_prompt, panel.seed) for panel in story]
        for name, story in STORIES.items()
    }


def open_attributes(prompt: str) -> frozenset[str]:
    """The attributes that a story prompt does not fix; for a prompt without a girl see also scenes.asked."""
    return frozenset(next(p.open for story in STORIES.values() for p in story if p.prompt == prompt))

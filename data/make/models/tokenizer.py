"""Trains tiny-kolors' SentencePiece tokenizer and writes the small ChineseCLIP's Bert vocabulary.

`python data/make/build.py models.tokenizer` writes data/tiny-kolors/tokenizer/ (a diffusers ChatGLMTokenizer) and
data/tiny-clip/vocab.txt. Equal runs write equal files.
"""

import io
import random
import re
import string
import tempfile
from collections import Counter
from pathlib import Path

from world import wordings
from world.captions import caption
from world.scenes import STYLE, training_scenes
from world.stories import STORIES

DATA = Path(__file__).parents[2]
CAPTIONS, SPECIALS = 60_000, 9
VOCABULARY = 8192 - SPECIALS  # ChatGLMTokenizer puts nine special tokens behind the model's own pieces

# Names that the base model never sees, for the LoRA, DreamBooth and textual inversion to learn.
NEW_WORDS = ("二次元", "日系动漫", "动漫", "anime", "sks", "zwx", "ohwx", "qkv", "<s1>", "<s2>", "<s3>", "<s4>")
# Further words of prompts that beginners write.
GENERAL = """
一个女孩 一个男孩 一只猫 一只狗 小猫 小狗 老人 孩子 男生 男人 女人 公主 国王 骑士 老师 学生 朋友 妈妈 爸爸 机器人
汽车 飞机 轮船 自行车 早上 中午 下午 晚上 夜里 今天 明天 昨天 春天 夏天 秋天 冬天 太阳 月亮 星星 云朵 下雨 下雪 刮风
彩虹 大海 沙滩 森林 草原 沙漠 高山 湖泊 城市 街道 公园 学校 医院 商店 房间 厨房 卧室 花园 城堡 宫殿 寺庙 桥 塔 船
灯笼 雨伞 扇子 古琴 笛子 书本 毛笔 宝剑 花瓶 茶杯 蛋糕 苹果 跑步 跳舞 走路 坐着 站着 躺着 睡觉 吃饭 喝茶 读书 写字
画画 弹琴 唱歌 微笑 大笑 哭泣 生气 害羞 惊讶 思考 回头 挥手 拥抱 牵手 奔跑 飞翔 美丽 可爱 优雅 帅气 神秘 梦幻 浪漫
温柔 活泼 安静 古典 现代 未来 科幻 奇幻 中国风 汉服 旗袍 校服 帽子 眼镜 围巾 鞋子 项链 耳环 翅膀 面具 赤橙黄绿青蓝紫
灰色 棕色 橙色 银色 深色 浅色 明亮 黑暗 温暖 寒冷 特写 近景 远景 正面 背面 侧面 俯视 仰视 对称 光影 逆光 柔光 景深
电影感 风格 线条 色彩 构图 背景 前景 细节 质感 画质 分辨率 超高清 大师作品 插画 海报 壁纸 头像 表情 动作 姿势 服装
发型 眼睛 嘴巴 手指 脸部 身体 我们 你们 他们 她们 这个 那个 这里 那里 什么 怎么 为什么 因为 所以 但是 如果 然后 已经
正在 一起 非常 有点 很多 一些 没有 可以 需要 喜欢 the and with a an of in on at by to from her his she he they is
are has wearing holding looking smiling running flying girl boy woman man cat dog bird horse flower tree mountain
river sea sky cloud sun moon star city street house castle red orange yellow green blue purple pink white black gray
brown gold silver bright dark light soft warm cold portrait landscape close-up background foreground detailed
beautiful cute elegant masterpiece best quality high resolution 0 1 2 3 4 5 6 7 8 9 10 2024 1024x1024 8k 4k hd
"""


def gb2312() -> list[str]:
    """The 6,763 characters of GB2312: level 1 (rows B0 to D7) and level 2 (D8 to F7)."""
    codes = [bytes((row, cell)) for row in range(0xB0, 0xF8) for cell in range(0xA1, 0xFF)]
    return [code.decode("gb2312") for code in codes if code[0] != 0xD7 or code[1] < 0xFA]


def sample_captions(count: int) -> list[str]:
    """`count` captions of the styles that the base model learns, a tenth of them of spoiled pictures."""
    rng = random.Random(0)
    return [caption(scene, rng) for scene in training_scenes(0, count, STYLE, spoiled=0.1)]


def whole_words() -> list[str]:
    """Words that stay one piece whatever stands around them: colours, hair, dresses, framings, styles, places."""
    tables = (wordings.HAIR_COLOR, wordings.HAIR_LENGTH, wordings.COLOR, wordings.GARMENT, wordings.FRAMING)
    words = [word for table in (*tables, wordings.STYLE) for choices in table.values() for word in choices]
    words += [noun for _, nouns, _ in wordings.PLACE.values() for noun in nouns if len(noun) <= 4]
    words += [*wordings.HAIR_ONLY.values(), *wordings.GIRL, *wordings.NEGATIVE_ALL, *wordings.QUALITY]
    words += [*wordings.THINGS]
    parts = {part for word in words for part in re.split("[，、]", word)}
    return [*NEW_WORDS, *sorted(parts - set(NEW_WORDS) - set("的"))]


def train_sentencepiece(texts: list[str]) -> bytes:
    """The SentencePiece model (BPE with byte fallback) as bytes."""
    import sentencepiece

    model = io.BytesIO()
    symbols = whole_words()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY,
        user_defined_symbols=symbols,
        required_chars="".join(gb2312()) + string.printable[:94] + "，。、：；！？（）《》“”‘’…—·～",
        byte_fallback=True,
        normalization_rule_name="identity",  # what a learner typed is what the tokens show
        max_sentencepiece_length=8,
        num_threads=1,
        minloglevel=1,
    )
    return model.getvalue()


def write_tokenizer(folder: Path, texts: list[str]) -> int:
    """Writes a ChatGLMTokenizer to `folder`; returns how many ids it has, special tokens included."""
    from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer

    with tempfile.TemporaryDirectory() as temporary:
        model = Path(temporary) / "tokenizer.model"
        model.write_bytes(train_sentencepiece(texts))
        tokenizer = ChatGLMTokenizer(str(model), model_max_length=256)
        tokenizer.save_pretrained(folder)
    return tokenizer.vocab_size


def write_bert_vocabulary(file: Path, texts: list[str]) -> int:
    """Writes a BertTokenizer's vocab.txt: characters, and the English words that captions use often."""
    english = Counter(word for text in texts for word in re.findall("[a-z]{2,}", text.lower()))
    known = GENERAL.split() + [word for word in NEW_WORDS if word.isalpha()]
    general = [word for word in known if word.isascii() and word.isalpha() and len(word) > 1]
    frequent = [word for word, count in english.most_common() if count >= 20]
    letters = string.ascii_lowercase + string.digits
    lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *string.punctuation]
    lines += [*"，。、：；！？（）《》“”‘’…—·～", *(f"##{letter}" for letter in letters), *gb2312()]
    lines = list(dict.fromkeys(lines + sorted({*frequent, *general})))
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(file)
    return len(lines)


def main() -> None:
    """Writes both, and says how many ids each has."""
    texts = sample_captions(CAPTIONS)
    texts += 20 * (GENERAL.split("\n") + [panel.prompt.removeprefix("二次元，") for panel in STORIES["dream"]])
    print("tiny-kolors/tokenizer", write_tokenizer(DATA / "tiny-kolors" / "tokenizer", texts), "ids")
    print("tiny-clip/vocab.txt", write_bert_vocabulary(DATA / "tiny-clip" / "vocab.txt", texts), "ids")


if __name__ == "__main__":
    main()

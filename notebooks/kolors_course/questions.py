"""The exercises that ask for a prediction or a decision: each wrong answer is told what would follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from kolors_course.exercises import Verdict
from kolors_lab.core.errors import SettingError


@dataclass(frozen=True)
class Question:
    """`right` is the answer; `wrong` has for each other one what it would mean, Chinese and English."""

    right: str
    wrong: dict[str, str]


def check_prediction(question: str, answer: object) -> Verdict:
    """Whether `answer`, a text or its number, is right.

    A wrong one is told what would have to be so, and not which is right.
    SettingError for a question that the course does not have.
    """
    if question not in QUESTIONS:
        raise SettingError(f"question {question!r}: must be one of {', '.join(QUESTIONS)}")
    asked, answer = QUESTIONS[question], str(answer)
    if answer == asked.right:
        return Verdict([])
    choices = ", ".join(sorted({asked.right, *asked.wrong}))
    return Verdict([asked.wrong.get(answer, f"先选一个 choose one of: {choices}")])


QUESTIONS = {
    "00 again": Question(
        "same",
        {
            "similar": "那样的话，总有东西是随机的；可随机数都从种子来，种子没变 "
            "then something would be left to chance; but all chance comes from the seed, and that is the same",
            "other": "那样的话，没有人能重画你的画，比赛也没法复现 "
            "then nobody could draw your picture again, and no entry could be reproduced",
        },
    ),
    "01 resume": Question(
        "13",
        {
            "1": "那样的话，前 12 步白练了；停下来的那一刻已经存了一个检查点 then the first 12 steps would be lost; "
            "but a checkpoint was saved at the very step at which it was stopped",
            "11": "那是“每 10 步存一次、突然断电”的情形：从第 10 步的检查点接着走；这里是正常停下 "
            "that is a power cut with a checkpoint every 10 steps; this one was stopped in order",
        },
    ),
    "02 one bad picture": Question(
        "0",
        {
            "6": "那样的话，训练时会碰上一张打不开的图 then training would come upon a picture that cannot be opened",
            "5": "人人都这样想：只丢坏的那一张。跑一下再看 so everybody thinks: only the bad one goes. Run it and see",
        },
    ),
    "03 clothes": Question(
        "7",
        {
            "8": "那样的话，每一句里都要有 {衣服}；有一格只有王子 "
            "then every prompt would have to say {衣服}; one panel shows the prince alone",
            "1": "那样的话，{衣服} 只用在一句里；它写一次，用在很多句里 "
            "then {衣服} would stand in one prompt; it is said once and used in many",
        },
    ),
    "04 cfg 1": Question(
        "no",
        {
            "yes": "把 cfg = 1 代进“反 + cfg ×（正 − 反）”，看看还剩什么 "
            "put cfg = 1 into negative + cfg × (positive − negative)"
        },
    ),
    "05 seed": Question(
        "sampler",
        {
            "all": "那样的话，每换一个种子都要重新加载权重、重新读句子；它们的输入没变 "
            "then weights and texts would be read again for every seed, though nothing that goes into them has changed",
            "save": "那样的话，画还是旧种子的：种子写在采样器里 "
            "then the picture would still be the old seed's: the seed is a setting of the sampler",
        },
    ),
    "06 min-SNR": Question(
        "middle",
        {
            "light": "不加权的话是的，轻噪声最难猜；可它的信噪比大，份量只有 5/SNR "
            "unweighted that is so, light noise is hardest to guess; but its SNR is high and its weight is 5 / SNR",
            "heavy": "最重的噪声里几乎没有画，x 本身就是噪声，照着说就行 "
            "the heaviest noise leaves hardly any picture: x is the noise, and only has to be said back",
        },
    ),
    "07 one seed": Question(
        "cannot tell",
        {
            "constant": "这个种子上它低一点，表里三个种子也都低；可是三个差散得开，区间跨过 0，还说不准 "
            "it is a little lower here, as with the table's three seeds; but these scatter so much that the interval "
            "holds 0",
            "cosine": "这一个种子上它并不低；就算低，一次训练也说明不了 "
            "from this seed it is not lower; and if it were, one training would not show it",
        },
    ),
    "07 patience": Question(
        "64",
        {
            "40": "那是最低的一次；要再看三次没有变好，才知道它最低 that is the lowest look; three more without a "
            "better one are needed to know that",
            "48": "那是 patience=1 that would be patience=1",
            "120": "那样的话早停没有起作用 then early stopping would not have acted at all",
        },
    ),
    "09 both sides": Question(
        "no",
        {
            "yes": "那样的话，正、反两边的差里要有“坏”；可每张训练图都坏，两边一样坏，一减就没了 "
            "then badness would have to be in the difference of the two sides; but every picture it learned from was "
            "bad, so both sides are equally bad and it cancels",
        },
    ),
    "10 copies": Question(
        "gate",
        {
            "better": "24 份是同一张图的副本，没有哪一份画得更好；最大值总是高过平均值 "
            "the 24 are copies of one picture, and none is better drawn; a maximum always lies above a mean",
            "nothing": "同一个文件再打一次，分数一样：交最高的那一份，及格线看到的平均确实高了 "
            "the same file scores the same again: hand in the highest, and the mean that the gate looks at is higher",
        },
    ),
    "10 report": Question(
        "another judge",
        {
            "same score": "挑它就是因为它高：同一把尺子量出的“提高”，一部分是挑出来的 "
            "it was chosen for being high: part of a gain by that yardstick comes of choosing",
            "best of 24": "挑得越多，看上去越高，还是同一把尺子 the more you choose from, the higher it looks, by the "
            "same yardstick",
        },
    ),
    "11 saved again": Question(
        "settings",
        {
            "nothing": "画面没变，可 PNG 里的种子和提示词没有了 "
            "the picture is the same, but the seed and prompt inside the PNG are gone",
            "score": "分数看的是画面，画面没变 a score looks at the picture, and that is the same",
        },
    ),
    "11 which": Question(
        "idol",
        {
            "two-panels": "比赛至少要八张图，两张无效，分数多少都一样 "
            "the challenge asks for eight pictures or more: two are invalid"
        },
    ),
    "08 loudest": Question(
        "doudou",
        {
            "ohwx": "它和 sks 一样，是词表里的一整个词，训练时没出现过；量一量，2.4 % "
            "like sks it is one whole word of the vocabulary, which training never used; measure it: 2.4 %",
            "旺财": "意思再好，tiny 的描述里也没有过这两个字；量一量，2.3 % "
            "a lucky name, but none of tiny's captions held these characters; measure it: 2.3 %",
        },
    ),
    "12 untrained": Question(
        "same",
        {
            "noise": "那样的话，加到 UNet 上的要有不是零的东西；可副本说的话都要先过零卷积 "
            "then something other than zero would have to reach the UNet; but all the copy says passes a zero "
            "convolution first",
            "lines": "抄来的权重认得画，从没学过线稿是什么意思；而且它说的话现在都乘 0 "
            "the copied weights know pictures and never learned what lines mean; and whatever they say is multiplied "
            "by 0 as yet",
        },
    ),
    "13 enlarge": Question(
        "8",
        {
            "3": "那是不放大的情形：24 像素，每 8 个像素一个潜变量 "
            "that is without enlarging: 24 px, a latent for every 8",
            "24": "那是原图里的像素数；一个潜变量管 8 × 8 个像素 "
            "those are the px in the picture as it was; a latent stands for 8 × 8 of them",
            "16": "那是整个方块放大以后的宽度：128 ÷ 8；脸只占其中一半 "
            "that is the whole enlarged square, 128 / 8; the face is half its width",
        },
    ),
    "14 a T4": Question(
        "parts",
        {
            "whole": "12.5 + 5.3 GB 的权重，再加画图要用的，超过了 15 GB "
            "12.5 + 5.3 GB of weights and what drawing needs are more than 15 GB",
            "encode": "那是编码器自己也放不下的卡：8 GB。T4 能用的约 15.3 GB，12.5 GB 的编码器单独放得下 "
            "that is for a GPU that cannot even hold the encoder, such as one of 8 GB; a T4 holds its 12.5 GB alone",
        },
    ),
}

"""The three-part formula of a prompt, quality and style · subject · scene, and lists of what a picture should not show.

    formula("一个紫色短发少女，唱歌", "舞台，夜空", style="anime")
    negative("quality", "hands", language="en")

The words are those that users of Stable Diffusion hand on to each other, in the models' English and in Chinese; their
own weights (up to 2) were made for CLIP and are left out. Kolors reads both languages.
"""

from __future__ import annotations

from collections.abc import Sequence

from kolors_lab.core.errors import SettingError, check_name

Words = Sequence[tuple[str, str]]  # (Chinese, English)

QUALITY: Words = (
    ("杰作", "masterpiece"), ("最佳质量", "best quality"), ("高分辨率", "highres"),
    ("极其细致的CG", "extremely detailed CG"), ("完美光照", "perfect lighting"), ("8K壁纸", "8k wallpaper"),
)  # fmt: skip
STYLES: dict[str, Words] = {
    "photo": (("摄影", "photograph"), ("照片般真实", "photorealistic")),
    "illustration": (("插画", "illustration"), ("绘画", "painting"), ("笔触", "paintbrush")),
    "anime": (("动漫", "anime"), ("漫画", "comic"), ("游戏CG", "game CG")),
    "3d": (("3D", "3D"), ("C4D渲染", "C4D render"), ("虚幻引擎", "unreal engine"), ("OC渲染", "octane render")),
}
NEGATIVE: dict[str, Words] = {
    "camp": (  # the baseline's own
        ("丑陋", "ugly"), ("变形", "deformed"), ("嘈杂", "noisy"), ("模糊", "blurry"), ("低对比度", "low contrast"),
    ),
    "quality": (
        ("最差质量", "worst quality"), ("低质量", "low quality"), ("普通质量", "normal quality"),
        ("低分辨率", "lowres"), ("模糊", "blurry"), ("压缩痕迹", "jpeg artifacts"), ("裁切不全", "cropped"),
        ("单色", "monochrome"), ("灰度", "grayscale"), ("重复", "duplicate"), ("错误", "error"),
    ),
    "hands": (
        ("画坏的手", "bad hands"), ("变异的手", "mutated hands"), ("画得差的手", "poorly drawn hands"),
        ("缺手指", "missing fingers"), ("多余的手指", "too many fingers"), ("粘连的手指", "fused fingers"),
        ("多一个指头", "extra digit"), ("少一个指头", "fewer digits"),
    ),
    "body": (
        ("人体结构错误", "bad anatomy"), ("比例失调", "bad proportions"), ("多余的肢体", "extra limbs"),
        ("多余的手臂和腿", "extra arms and legs"), ("缺手臂", "missing arms"), ("多余的腿", "extra legs"),
        ("身体粘连", "fused body"), ("扭曲的身体", "twist body"), ("头太大", "big head"), ("画坏的脚", "bad feet"),
        ("残缺", "mutilated"), ("毁容", "disfigured"), ("病态", "morbid"),
    ),
    "face": (
        ("丑陋", "ugly"), ("眼睛不清楚", "unclear eyes"), ("皮肤斑点", "skin spots"), ("痘痘", "acne"),
        ("皮肤瑕疵", "skin blemishes"), ("老年斑", "age spot"),
    ),
    "marks": (
        ("文字", "text"), ("签名", "signature"), ("水印", "watermark"), ("用户名", "username"),
        ("画师名", "artist name"),
    ),
    "safe": (("不宜内容", "NSFW"),),
}  # fmt: skip
LANGUAGES = {"zh": "，", "en": ", "}  # and what stands between words


def formula(
    subject: str,
    scene: str = "",
    style: str | None = None,
    quality: int = 2,
    weight: float = 1.0,
    language: str = "zh",
) -> str:
    """A prompt of three parts: the first `quality` words of QUALITY and those of STYLES[style] · subject · scene.

    The subject stands before the scene and may carry a `weight`, as (subject:1.2). Raises SettingError.
    """
    if style is not None:
        check_name("style", style, STYLES)
    if not subject.strip():
        raise SettingError("subject: it is empty; say who or what the picture shows")
    subject = subject.strip() if weight == 1 else f"({subject.strip()}:{weight:g})"
    words = [*_in(language, QUALITY[: max(quality, 0)]), *_in(language, STYLES[style] if style else ())]
    return LANGUAGES[language].join(part for part in (*words, subject, scene.strip()) if part)


def negative(*lists: str, language: str = "zh") -> str:
    """A negative prompt of some of the lists in NEGATIVE, each word once; without a name the camp's own."""
    if unknown := [name for name in lists if name not in NEGATIVE]:
        raise SettingError("negative {lists}: must be of {names}", lists=", ".join(unknown), names=", ".join(NEGATIVE))
    words = [word for name in lists or ("camp",) for word in _in(language, NEGATIVE[name])]
    return LANGUAGES[language].join(dict.fromkeys(words))


def _in(language: str, words: Words) -> list[str]:
    check_name("language", language, LANGUAGES)
    return [pair[list(LANGUAGES).index(language)] for pair in words]

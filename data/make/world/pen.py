"""The pen all pictures are drawn with: the same shapes come out washed, outlined, cel-shaded or cut from paper.

Coordinates are units of 1/128 of the picture's shorter side; colours are (red, green, blue) in 0..255.
"""

import colorsys
import math
import random
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import skia

PAPER = {"ink": (242, 235, 219), "pencil": (251, 248, 238), "watercolor": (252, 251, 247)}
INK = (38, 36, 40)
GRAPHITE = (88, 84, 88)


@dataclass(frozen=True)
class Style:
    """How a way of painting treats a shape: outline width (units), edge wobble (units) and kind of shading."""

    outline: float = 0.0
    wobble: float = 0.0
    shading: str = "soft"  # soft | cel | flat | wash
    relief: bool = False  # each shape casts a shadow as a layer of paper does


STYLES = {
    "plain": Style(),
    "ink": Style(outline=1.6, wobble=0.5, shading="wash"),
    "oil": Style(wobble=0.9),
    "pencil": Style(outline=1.7, wobble=0.35, shading="soft"),
    "watercolor": Style(wobble=0.7, shading="wash"),
    "papercut": Style(outline=1.5, shading="flat", relief=True),
    "anime": Style(outline=1.8, shading="cel"),
}


def mix(a, b, share: float):
    """The colour `share` (0..1) of the way from a to b."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def hsv(color, saturation: float = 1.0, value: float = 1.0):
    """The colour with its saturation and value multiplied."""
    h, s, v = colorsys.rgb_to_hsv(*(min(max(c, 0), 255) / 255 for c in color))
    return tuple(255 * c for c in colorsys.hsv_to_rgb(h, min(s * saturation, 1), min(v * value, 1)))


def luma(color) -> float:
    return (0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2]) / 255


def to_style(color, style: str, focus: bool):
    """The colour as this way of painting has it; `focus` marks people and animals, whose hues must stay readable."""
    if style == "ink":
        tone = mix(INK, PAPER["ink"], 0.10 + 0.90 * luma(color) ** (1.0 if focus else 0.62))
        return mix(tone, color, 0.74 if focus else 0.26)
    if style == "oil":
        return hsv(color, 1.2, 0.96) if focus else hsv(color, 1.3, 0.84)
    if style == "pencil":
        return mix(hsv(color, 1.0, 1.06), PAPER["pencil"], 0.20 if focus else 0.50)
    if style == "watercolor":
        return mix(hsv(color, 1.25, 1.06), PAPER["watercolor"], 0.12 if focus else 0.30)
    if style == "papercut":
        return tuple(round(c / 28) * 28 for c in hsv(color, 1.05, 1.0))
    if style == "anime":
        return hsv(color, 1.12, 1.03) if focus else mix(hsv(color, 1.35, 1.06), (255, 232, 248), 0.22)
    return color


@lru_cache(maxsize=8192)
def _packed(rgb, style: str, focus: bool) -> int:
    r, g, b = (int(min(max(c, 0), 255)) for c in to_style(rgb, style, focus))
    return r << 16 | g << 8 | b


def smooth(points, closed: bool = True, tension: float = 1.0) -> skia.Path:
    """A soft curve through the points (Catmull-Rom)."""
    path, n = skia.Path(), len(points)
    path.moveTo(*points[0])
    for i in range(n if closed else n - 1):
        at = (lambda k: points[k % n]) if closed else (lambda k: points[min(max(k, 0), n - 1)])
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = at(i - 1), at(i), at(i + 1), at(i + 2)
        k = tension / 6
        path.cubicTo(bx + (cx - ax) * k, by + (cy - ay) * k, cx - (dx - bx) * k, cy - (dy - by) * k, cx, cy)
    if closed:
        path.close()
    return path


def poly(*points) -> skia.Path:
    return skia.Path.Polygon([skia.Point(*p) for p in points], True)


def zigzag(*points) -> skia.Path:
    return skia.Path.Polygon([skia.Point(*p) for p in points], False)


def oval(x: float, y: float, rx: float, ry: float | None = None) -> skia.Path:
    ry = rx if ry is None else ry
    return skia.Path.Oval(skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry))


def box(x0: float, y0: float, x1: float, y1: float, radius: float = 0.0) -> skia.Path:
    return skia.Path.RRect(skia.RRect.MakeRectXY(skia.Rect.MakeLTRB(x0, y0, x1, y1), radius, radius))


def star(x: float, y: float, r: float, points: int = 4, inner: float = 0.35) -> skia.Path:
    at = [(math.pi * i / points - math.pi / 2, r if i % 2 == 0 else r * inner) for i in range(2 * points)]
    return poly(*((x + d * math.cos(a), y + d * math.sin(a)) for a, d in at))


def mirrored(points):
    """A closed outline from its right half, given from top to bottom."""
    return [*points, *((-x, y) for x, y in reversed(points) if x)]


class Pen:
    """Draws shapes on a canvas in one style.

    `view` = (left, top, right, bottom) of what can be seen, in units. `focus` is set while people and animals are
    drawn: their hues stay readable and their outlines strong. `flipped`: the coordinates are mirrored at present.
    `faces` and `hands` collect where on the picture those are, as boxes (left, top, right, bottom) in px.
    """

    def __init__(self, canvas: skia.Canvas, style: str, seed: int, view):
        self.canvas, self.name, self.style, self.view = canvas, style, STYLES[style], view
        self.rng, self.focus, self.zoom = random.Random(seed), False, 1.0
        self.flipped = False
        self.faces, self.hands = [], []

    @contextmanager
    def placed(self, x: float, y: float, scale: float = 1.0, turn: float = 0.0, mirror: bool = False):
        """Draw in coordinates with their origin at (x, y), scaled, turned (degrees), mirrored."""
        zoom, flipped = self.zoom, self.flipped
        self.canvas.save()
        self.canvas.translate(x, y)
        self.canvas.rotate(turn)
        self.canvas.scale(-scale if mirror else scale, scale)
        self.zoom, self.flipped = zoom * scale, flipped != mirror
        yield
        self.canvas.restore()
        self.zoom, self.flipped = zoom, flipped

    def note(self, boxes: list, x0: float, y0: float, x1: float, y1: float):
        """Keep in `boxes` where the box in the present coordinates lies on the picture, in px."""
        rect = self.canvas.getTotalMatrix().mapRect(skia.Rect.MakeLTRB(x0, y0, x1, y1))
        boxes.append((rect.left(), rect.top(), rect.right(), rect.bottom()))

    def color(self, rgb, alpha: float = 1.0) -> int:
        return int(255 * alpha) << 24 | _packed(rgb, self.name, self.focus)

    def paint(self, rgb, alpha: float = 1.0, width: float = 0.0, blur: float = 0.0) -> skia.Paint:
        paint = skia.Paint(AntiAlias=True, Color=self.color(rgb, alpha))
        if width:
            paint.setStyle(skia.Paint.kStroke_Style)
            paint.setStrokeWidth(width)
            paint.setStrokeCap(skia.Paint.kRound_Cap)
            paint.setStrokeJoin(skia.Paint.kRound_Join)
        if blur:
            paint.setMaskFilter(skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, blur))
        return paint

    def fill(self, path: skia.Path, rgb, shade: float = 1.0, line: float = 1.0):
        """A solid shape; `shade` scales its modelling, `line` the width of its outline."""
        path = self._wobbled(path, line)
        if self.style.relief and line:
            self._cast(path)
        self.canvas.drawPath(path, self._shaded(path, rgb, shade))
        if self.style.shading == "cel" and shade:
            self._cel(path, rgb, shade)
        if self.style.shading == "wash" and shade and line:
            self._wet_edge(path, rgb)
        if self.style.outline and line:
            self._outline(path, rgb, line)

    def flat(self, path: skia.Path, rgb, alpha: float = 1.0, blur: float = 0.0):
        """A plain patch of colour without outline or modelling: blush, light, mist."""
        self.canvas.drawPath(path, self.paint(rgb, alpha, blur=blur))

    def stroke(self, points, rgb, width: float = 0.8, alpha: float = 1.0):
        """A line as such: a mouth, a lash, a seam."""
        path = points if isinstance(points, skia.Path) else smooth(points, closed=False)
        self.canvas.drawPath(path, self.paint(rgb, alpha, width))

    def limb(self, points, rgb, width: float):
        """A thick rounded line with the style's outline: an arm, a leg, a rope."""
        path = smooth(points, closed=False)
        if self.style.relief:
            self._cast(path, width)
        if self.style.outline:
            edge = self._edge(rgb, 1.0)
            edge.setStrokeWidth(width + 2 * edge.getStrokeWidth())
            self.canvas.drawPath(path, edge)
        self.canvas.drawPath(path, self.paint(rgb, 1.0, width))
        if self.style.shading in ("soft", "wash"):
            self.canvas.drawPath(path, self.paint(mix(rgb, (255, 250, 240), 0.45), 0.35, width * 0.3, blur=0.6))

    def glow(self, x: float, y: float, r: float, rgb, alpha: float = 0.6):
        """A soft round light that fades to nothing at radius r."""
        colors = [self.color(rgb, alpha), self.color(rgb, alpha * 0.45), self.color(rgb, 0)]
        paint = skia.Paint(AntiAlias=True, Shader=skia.GradientShader.MakeRadial(skia.Point(x, y), r, colors))
        self.canvas.drawCircle(x, y, r, paint)

    def gradient(self, path: skia.Path, top, bottom, y0: float, y1: float):
        """A background area that runs from one colour to another, from y0 down to y1."""
        steps = 4 if self.style.shading in ("flat", "cel") else 0
        colors, stops = [self.color(top), self.color(bottom)], None
        if steps:
            colors = [self.color(mix(top, bottom, i / (steps - 1))) for i in range(steps) for _ in (0, 1)]
            stops = [(i + j) / steps for i in range(steps) for j in (0, 1)]
        shader = skia.GradientShader.MakeLinear([skia.Point(0, y0), skia.Point(0, y1)], colors, stops)
        self.canvas.drawPath(path, skia.Paint(AntiAlias=True, Shader=shader))

    def _wobbled(self, path: skia.Path, line: float) -> skia.Path:
        bounds = path.getBounds()
        if not (self.style.wobble and line and min(bounds.width(), bounds.height()) > 9):
            return path
        effect = skia.DiscretePathEffect.Make(7, self.style.wobble, self.rng.getrandbits(16))
        effect = skia.PathEffect.MakeCompose(skia.CornerPathEffect.Make(4), effect)
        paint, wavy = skia.Paint(PathEffect=effect), skia.Path()
        return wavy if paint.getFillPath(path, wavy) else path

    def _shaded(self, path: skia.Path, rgb, shade: float) -> skia.Paint:
        paint = self.paint(rgb)
        if not shade or self.style.shading in ("flat", "cel"):
            return paint
        bounds = path.getBounds()
        depth = {"oil": 0.30, "ink": 0.22, "watercolor": 0.16, "pencil": 0.12}.get(self.name, 0.20) * shade
        light, dark = mix(rgb, (255, 252, 244), depth), mix(rgb, (40, 30, 70), depth)
        if self.style.shading == "wash":  # pigment settles at the bottom
            ends = [skia.Point(bounds.centerX(), bounds.top()), skia.Point(bounds.centerX(), bounds.bottom())]
            if self.name == "ink" and not self.focus:  # far things are dark above and lost in mist below
                low = min(bounds.bottom(), bounds.top() + 50)
                ends[1] = skia.Point(bounds.centerX(), low)
                light, dark = mix(rgb, INK, 0.42 * shade), mix(rgb, PAPER["ink"], 0.5)
        else:
            ends = [skia.Point(bounds.left(), bounds.top()), skia.Point(bounds.right(), bounds.bottom())]
        colors = [self.color(light), self.color(rgb), self.color(dark)]
        paint.setShader(skia.GradientShader.MakeLinear(ends, colors))
        return paint

    def _cel(self, path: skia.Path, rgb, shade: float):
        """One hard-edged shadow: the shape less a copy of itself moved towards the light."""
        bounds = path.getBounds()
        step = min(bounds.width(), bounds.height()) * 0.22 * min(shade, 1)
        lit = skia.Path(path)
        lit.offset(-step, -step * 0.6)
        self.canvas.save()
        self.canvas.clipPath(path, skia.ClipOp.kIntersect, True)
        self.canvas.clipPath(lit, skia.ClipOp.kDifference, True)
        self.canvas.drawPath(path, self.paint(mix(hsv(rgb, 1.2, 0.80), (130, 80, 170), 0.14)))
        self.canvas.restore()

    def _wet_edge(self, path: skia.Path, rgb):
        dark = mix(rgb, (30, 26, 50), 0.45 if self.name == "watercolor" else 0.3)
        self.canvas.save()
        self.canvas.clipPath(path, skia.ClipOp.kIntersect, True)
        self.canvas.drawPath(
            path, self.paint(dark, 0.42 if self.name == "watercolor" else 0.26, 2.4 / self.zoom**0.5, blur=0.7)
        )
        self.canvas.restore()

    def _edge(self, rgb, line: float) -> skia.Paint:
        if self.name == "papercut":  # the white core of cut paper
            return self.paint(mix(rgb, (255, 252, 244), 0.72), 1.0, self.style.outline * line / self.zoom**0.5)
        tint = {"ink": (30, 28, 32), "pencil": GRAPHITE}.get(self.name) or mix(hsv(rgb, 1.2, 0.3), (40, 24, 52), 0.6)
        strength = {"ink": 0.6 if self.focus else 0.3, "pencil": 0.85}.get(self.name, 1.0)
        focus, self.focus = self.focus, True
        width = self.style.outline * (max(line, 1) if focus else 0.6 * line)  # no thin line on a figure
        paint = self.paint(tint, strength, width / self.zoom**0.5)
        self.focus = focus
        return paint

    def _outline(self, path: skia.Path, rgb, line: float):
        paint = self._edge(rgb, line)
        self.canvas.drawPath(path, paint)
        if self.name == "ink" and self.focus:  # the brush presses harder on one side
            self.canvas.save()
            self.canvas.translate(0.45 / self.zoom**0.5, 0.55 / self.zoom**0.5)
            self.canvas.drawPath(path, paint)
            self.canvas.restore()

    def _cast(self, path: skia.Path, width: float = 0.0):
        paint = skia.Paint(AntiAlias=True, Color=skia.ColorSetARGB(105, 40, 24, 50))
        if width:
            paint.setStyle(skia.Paint.kStroke_Style)
            paint.setStrokeWidth(width)
            paint.setStrokeCap(skia.Paint.kRound_Cap)
        paint.setMaskFilter(skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, 0.8))
        self.canvas.save()
        self.canvas.translate(1.5 / self.zoom, 1.8 / self.zoom)
        self.canvas.drawPath(path, paint)
        self.canvas.restore()

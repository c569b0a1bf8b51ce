"""The colours of people, (red, green, blue) in 0..255 before a way of painting changes them (pen.to_style)."""

HAIR = {
    "black": (44, 38, 52), "purple": (140, 74, 196), "gold": (244, 200, 76), "red": (196, 60, 36),
    "blue": (58, 124, 218), "brown": (122, 80, 52),
}  # fmt: skip
DRESS = {
    "green": (64, 172, 92), "white": (246, 244, 248), "pink": (248, 146, 184), "black": (58, 54, 70),
    "red": (212, 40, 54), "blue": (54, 104, 212), "yellow": (250, 214, 70),
}  # fmt: skip
SKIN, BLUSH, DARK, LASH, MOUTH = (252, 218, 192), (244, 132, 124), (58, 40, 48), (40, 20, 40), (190, 62, 70)
SILVER, GOLD, CAPE, LEATHER = (196, 206, 220), (232, 184, 70), (64, 88, 170), (120, 78, 50)
WHITE = (255, 255, 255)

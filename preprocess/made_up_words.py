"""Words for what the made-up data sets show, and how captions are put together from them."""

import re
from typing import TypeVar

import numpy as np

Word = TypeVar("Word")

# Each value with the words for it; a word stands for one value only, so that a caption that
# names all four attributes tells which video is meant.
SHAPES = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle", "wedge"),
    "star": ("star", "pointed star"),
    "diamond": ("diamond", "rhombus"),
    "cross": ("cross", "plus sign"),
    "ring": ("ring", "hoop"),
    "heart": ("heart", "heart shape"),
}
COLOURS = {
    "red": ("red", "crimson"),
    "green": ("green", "emerald"),
    "blue": ("blue", "cobalt"),
    "yellow": ("yellow", "golden"),
    "orange": ("orange", "amber"),
    "purple": ("purple", "violet"),
    "cyan": ("cyan", "turquoise"),
    "pink": ("pink", "rosy"),
}
BACKGROUNDS = {
    "dark": ("dark", "black"),
    "light": ("light", "white"),
    "striped": ("striped", "stripy"),
    "checkered": ("checkered", "chessboard"),
    "gradient": ("gradient", "fading"),
    "grass": ("grassy", "meadow"),
}
SIZES = {"small": ("small", "little"), "large": ("large", "big")}


def one(rng: np.random.Generator, words: tuple[Word, ...]) -> Word:
    """Draw one of several wordings."""
    return words[int(rng.integers(len(words)))]


def drawn_templates(templates: tuple[str, ...], count: int, rng: np.random.Generator) -> list[str]:
    """Draw `count` templates; none comes again before all of them were drawn."""
    order: list[int] = []
    while len(order) < count:
        order.extend(rng.permutation(len(templates)).tolist())
    return [templates[index] for index in order[:count]]


def with_articles(text: str) -> str:
    """Return a caption with "an" where "a" stands before a vowel."""
    return re.sub(r"\ba (?=[aeiou])", "an ", text)

"""A picture of what a model retrieves: captions with their five best videos, right ones marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from tvr.dataloaders.frames import read_frames
from tvr.dataloaders.records import Clip, Split

BEST = 5
THUMBNAIL = (160, 120)  # width, height in pixels
MARGIN, TEXT_HEIGHT, BORDER = 8, 24, 4
RIGHT, WRONG = (30, 150, 60), (200, 200, 200)


def draw_contact_sheet(path: Path, sim_AB: np.ndarray, split: Split, captions: int) -> None:
    """Write a JPEG or PNG with `captions` evenly spaced captions of the split."""
    count = min(captions, len(split.captions))
    chosen = np.linspace(0, len(split.captions) - 1, count).astype(int)
    row_height = TEXT_HEIGHT + THUMBNAIL[1] + 2 * MARGIN
    width = MARGIN + BEST * (THUMBNAIL[0] + MARGIN)
    sheet = Image.new("RGB", (width, MARGIN + count * row_height), "white")
    owners = split.video_of_caption()
    for row, caption in enumerate(chosen):
        top = MARGIN + row * row_height
        draw_row(sheet, top, split, int(caption), owners[caption], sim_AB[caption])
    sheet.save(path, quality=90)


def draw_row(
    sheet: Image.Image, top: int, split: Split, caption: int, owner: int, sim_B: np.ndarray
) -> None:
    """One caption, the rank of its own video, and the best videos from left to right."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    rank = int((sim_B >= sim_B[owner]).sum())
    text = shorten(f"rank {rank}: {split.captions[caption].text}", font, sheet.width - 2 * MARGIN)
    draw.text((MARGIN, top), text, fill="black", font=font)
    for place, video in enumerate(np.argsort(-sim_B, kind="stable")[:BEST]):
        left = MARGIN + place * (THUMBNAIL[0] + MARGIN)
        image = ImageOps.fit(middle_frame(split.clips[video]), THUMBNAIL)
        colour = RIGHT if video == owner else WRONG
        framed = ImageOps.expand(ImageOps.crop(image, BORDER), BORDER, fill=colour)
        corner = (left, top + TEXT_HEIGHT)
        sheet.paste(framed, corner)
        if video == owner:
            draw.rectangle((*corner, corner[0] + 44, corner[1] + 20), fill=RIGHT)
            draw.text((corner[0] + 6, corner[1] + 1), "right", fill="white", font=font)


def shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, cut with an ellipsis where it would be wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def middle_frame(clip: Clip) -> Image.Image:
    """The middle one of a clip's frames at one per second."""
    frames_FHWC = read_frames(clip.path, 1.0, 9, clip.start, clip.end, "opencv")
    return Image.fromarray(frames_FHWC[len(frames_FHWC) // 2])

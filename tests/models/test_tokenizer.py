"""`Backbone.tokenize` against transformers' CLIP tokenizer, built from the same merges."""

import gzip
import html
import json
import random
from pathlib import Path

import ftfy
import open_clip
import pytest
from transformers import CLIPTokenizer

from tvr.models.clip import build_backbone

START, END = 49406, 49407

PIECES = [
    *("a man is cooking", "A WOMAN Sings", "MiXeD CaSe iPhone", "supercalifragilistic"),
    *("it's", "they'll", "we've", "I'm", "he'd", "DON'T", "rock 'n' roll", "'s", "the dogs' bowl"),
    *("it’s “quoted”", "well—known", "ellipsis…", "état naïf", "cafe\u0301", "Ångström", "straße"),
    *("İstanbul", "ΣΊΣΥΦΟΣ", "Привет мир", "مرحبا بالعالم", "שלום", "नमस्ते", "ไทย", "한국어 단어"),
    *("東京タワー", "男人在做饭", "ﬁne ﬂow", "x² + y₃", "½ cup", "Ⅳ", "１２３", "①"),
    *("😀", "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "❤️", "🏳️‍🌈 flag"),
    *("&amp; co", "&lt;b&gt;", "&amp;amp;", "&quot;x&quot;", "&#39;s", "&nbsp;gap", "&eacute;"),
    *("<b>bold</b>", "a < b > c", "1234567890", "3.14", "1,000,000", "12:30pm", "7-up", "mp4"),
    *("!", "!!", "!!!!!!!", "?!", "...", "--", "- - -", "@#$%^&*()", "a_b_c", "C:\\path\\file"),
    *("line\nbreak", "tab\there", "\r\n", "  many   spaces ", "\u00a0nbsp", "\u3000wide", "\x1c"),
    *("zero\u200bwidth", "soft\u00adhyphen", "\ufeffbom", "nul\x00byte", "bell\x07", "\x1b[31mred"),
    *(
        "http://example.com/?q=1&r=2",
        "me@example.com",
        "#hashtag",
        "\\n",
        "schÃ¶n",
        "â€œmojibakeâ€",
    ),
    *(
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
        "e\u0301\u0301",
        "\u202eright to left",
    ),
]


def awkward_captions(count=200):
    """Every piece on its own, then random sentences of them, some far longer than any limit."""
    draw = random.Random(0)
    captions = ["", " ", "\n\t", "word " * 300, "!" * 200, "é" * 150, *PIECES]
    while len(captions) < count:
        pieces = draw.choices(PIECES, k=draw.choice([2, 3, 5, 20]))
        captions.append(draw.choice([" ", "", ", ", "\n"]).join(pieces))
    return captions


CAPTIONS = awkward_captions()


@pytest.fixture(scope="module")
def tokenize():
    return build_backbone("tiny").tokenize


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """transformers' tokenizer; its vocabulary file is written here from CLIP's list of merges."""
    folder = tmp_path_factory.mktemp("vocabulary")
    text = gzip.decompress(Path(open_clip.tokenizer.default_bpe()).read_bytes()).decode()
    merges = text.split("\n")[1 : 49152 - 256 - 2 + 1]
    # a visible byte stands for itself, the others for letters from 256 on; visible ones come first
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(b) for b in visible] + [chr(256 + n) for n in range(256 - len(visible))]
    entries = letters + [letter + "</w>" for letter in letters]
    entries += ["".join(merge.split()) for merge in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {entry: i for i, entry in enumerate(entries)}
    assert len(vocabulary) == len(entries) == 49408
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))


def cleaned(caption):
    """What CLIP does to a caption and transformers leaves out: HTML entities, twice."""
    return html.unescape(html.unescape(ftfy.fix_text(caption)))


@pytest.mark.parametrize("length", [77, 32, 3])
def test_200_awkward_captions_have_the_tokens_of_transformers(tokenize, theirs, length):
    assert len(set(CAPTIONS)) == len(CAPTIONS) == 200
    rows = tokenize(CAPTIONS, length).tolist()
    for caption, row in zip(CAPTIONS, rows, strict=True):
        ids = theirs(cleaned(caption), truncation=True, max_length=length)["input_ids"]
        assert row == ids + [0] * (length - len(ids)), repr(caption)


@pytest.mark.parametrize("length", [77, 64, 32, 8, 3])
def test_every_caption_has_a_start_an_end_and_zeros(tokenize, length):
    tokens = tokenize(CAPTIONS, length)
    assert tokens.shape == (len(CAPTIONS), length)
    full = tokenize(CAPTIONS, 2000)
    for row, untruncated in zip(tokens.tolist(), full.tolist(), strict=True):
        assert row.count(START) == row.count(END) == 1
        end = row.index(END)
        words = untruncated[1 : untruncated.index(END)][: length - 2]
        assert row == [START, *words, END, *[0] * (length - end - 1)]
        assert end == len(words) + 1


def test_some_captions_are_cut_and_some_are_not(tokenize):
    """The tests above would say little if the list did not hold both."""
    ends = tokenize(CAPTIONS, 32).argmax(dim=1)
    assert (ends == 31).sum() > 20
    assert (ends < 31).sum() > 100
    assert ends.min() == 1  # nothing but start and end


def test_known_tokens(tokenize):
    """Fixed numbers, so that both tokenizers cannot drift together."""
    assert tokenize(["a diagram", "!", ""], 6).tolist() == [
        [START, 320, 22697, END, 0, 0],
        [START, 256, END, 0, 0, 0],
        [START, END, 0, 0, 0, 0],
    ]

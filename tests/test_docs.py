"""What the documentation names is there: links, source files, programs and flags."""

import re
import sys

import pytest
from programs import ROOT, importing, run_program

FOLDERS = ("tvr", "preprocess", "scripts", "benchmarks", "tests")
FOUND = (*ROOT.glob("*.md"), ROOT / "data/README.md", *ROOT.glob("docs/**/*.md"))
PAGES = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in sorted(FOUND)}
every_page = pytest.mark.parametrize("page", PAGES)

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PLACE = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)}|docs)/[\w./*-]*[\w*/]")
# the first has weights that are downloaded, the second what readers of docs/extending.md write
NOT_OURS = re.compile(r"tvr/models/.*\.pt|tvr/dataloaders/cooking\.py")
STARTED = re.compile(r"python -m ([\w.]+)")
OTHERS = ("pytest", "torch.distributed.launch")  # programs
# program, subcommand, and what follows
COMMAND = re.compile(
    r"(main_retrieval\.py|(?<=python )preprocess/\w+\.py|(?<=bash )scripts/\w+\.sh"
    r"|(?<=python -m )(?:tvr|benchmarks)[\w.]*)"
    r"(?: (index|query|serve|recall|latency|cost|memory)\b)?([^\n`#]*)"
)
FLAG = re.compile(r"(?<![\w-])--[a-z]\w*")
# of tensorboard, of pytest and its plugins, and of an example in docs/extending.md
OTHER_FLAGS = {"--logdir", "--seed", "--trials", "--basetemp", "--dist", "--hinge"}
# --help of several programs by one process, so that PyTorch is imported once
HELP = """
import contextlib, runpy, sys
for command in sys.argv[1:]:
    print(f"== {command}")
    sys.argv = [*command.split(), "--help"]
    run = runpy.run_path if sys.argv[0].endswith(".py") else runpy.run_module
    with contextlib.suppress(SystemExit):
        run(sys.argv[0], run_name="__main__")
"""


def without_code(text):
    """A page without its code blocks, in which brackets are no links and # is no heading."""
    return re.sub(r"^```.*?^```$|^ {4}.*?$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text):
    """The names that GitHub gives to a page's headings, by which they are linked."""
    names = []
    for heading in re.findall(r"^#+ (.*)$", without_code(text), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        names.append(f"{name}-{names.count(name)}" if name in names else name)
    return names


def commands(text):
    """(program and subcommand, flags) of every command of ours on a page."""
    for program, subcommand, rest in COMMAND.findall(text.replace("\\\n", " ")):
        if program.endswith(".sh"):
            program = "main_retrieval.py"  # to which the scripts hand their flags
        yield f"{program} {subcommand}".strip(), FLAG.findall(rest)


@pytest.fixture(scope="module")
def flags():
    """The flags of every program of ours that a page starts."""
    programs = {program for text in PAGES.values() for program, _ in commands(text)}
    asked = (*sorted(programs), "torch.distributed.run")
    done = run_program(sys.executable, "-c", HELP, *asked, **importing(ROOT / "preprocess"))
    assert done.returncode == 0, done.stderr
    said = (part.partition("\n") for part in done.stdout.split("== ")[1:])
    return {program: {*FLAG.findall(text)} for program, _, text in said}


@every_page
def test_links_and_pictures(page):
    for link in LINK.findall(without_code(PAGES[page])):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), f"{page} links to {link}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_every_page_is_linked_from_the_readme(page):
    assert page in LINK.findall(PAGES["README.md"])


def test_every_source_file_is_in_the_list():
    rows = re.findall(r"^ {4}(\S+) +(\S.*)$", PAGES["docs/code.md"], re.MULTILINE)
    listed = [name for name, _ in rows]
    there = {
        str(path.relative_to(ROOT))
        for path in [
            ROOT / "main_retrieval.py",
            *(p for f in FOLDERS for p in (ROOT / f).rglob("*")),
        ]
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.name != "__init__.py"
        and not NOT_OURS.fullmatch(str(path.relative_to(ROOT)))
    }
    assert there - {*listed} == set(), "not in docs/code.md"
    assert {*listed} - there == set(), "in docs/code.md, and not there"
    assert len(listed) == len({*listed})


@every_page
def test_places_that_are_named(page):
    """Also those in commands, such as `bash scripts/msrvtt.sh`."""
    for place in PLACE.findall(LINK.sub("", PAGES[page])):
        if not NOT_OURS.fullmatch(place):
            assert list(ROOT.glob(place)), f"{page} names {place}"


@every_page
def test_modules_and_make_targets_that_are_named(page):
    for module in STARTED.findall(PAGES[page]):
        path = ROOT / module.replace(".", "/")
        there = path.with_suffix(".py").exists() or (path / "__main__.py").exists()
        assert there or module in OTHERS, f"{page} starts {module}"
    for target in re.findall(r"(?:^ {4}|`)make ([a-z]+)", PAGES[page], re.MULTILINE):
        makefile = (ROOT / "Makefile").read_text("utf-8")
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page} names make {target}"


@every_page
def test_flags(page, flags):
    """Those of a command are its program's; others, in text, are of some program."""
    for program, given in commands(PAGES[page]):
        unknown = {*given} - flags[program] - OTHER_FLAGS
        assert unknown == set(), f"{page} gives them to {program}"
    known = OTHER_FLAGS.union(*flags.values())
    assert {*FLAG.findall(LINK.sub("", PAGES[page]))} - known == set(), page

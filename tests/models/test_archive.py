"""`read_weights` on real files of every kind, and on hostile and damaged ones."""

import os
import pickle
import zipfile

import pytest
import torch
from openai_files import Node, module_tree, random_state, write_archive

from tvr.models.archive import read_weights
from tvr.utils.errors import UserError


def assert_same_tensors(result, expected):
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        assert result[name].dtype == value.dtype, name
        assert torch.equal(result[name], value), name


@pytest.mark.parametrize("name", ["ViT-B-32.pt", "renamed.bin"])
def test_an_archive_like_openais_has_its_state_dict(tmp_path, name):
    path = write_archive(tmp_path / name, random_state(vocabulary=50))
    expected = torch.jit.load(path).state_dict()
    assert expected["visual.conv1.weight"].dtype == torch.float16
    assert expected["input_resolution"].shape == ()
    assert_same_tensors(read_weights(path), expected)


def test_a_traced_archive_has_its_state_dict(tmp_path):
    """OpenAI traced its models; tracing writes other class names and constants of its own."""
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).eval()
    torch.jit.trace(module, torch.randn(2, 4)).save(tmp_path / "traced.pt")
    assert_same_tensors(read_weights(tmp_path / "traced.pt"), module.state_dict())


def awkward_tensors():
    """Transposed, strided, offset and expanded views, several of them of one storage."""
    shared = torch.arange(24.0).view(4, 6).half()
    return {
        "whole": shared,
        "inner.transposed": shared.T,
        "inner.strided": shared[::2, 1::3],
        "inner.deep.offset": shared[2:],
        "inner.deep.expanded": torch.tensor([7.0]).expand(3, 2),
        "scalar": torch.tensor(3.5, dtype=torch.double),
        "long": torch.arange(5)[::2],
        "int": torch.arange(3, dtype=torch.int32),
        "bool": torch.tensor([True, False, True]),
        "bfloat": torch.randn(3, generator=torch.Generator().manual_seed(0)).bfloat16(),
    }


def test_strided_and_shared_storages_of_an_archive(tmp_path):
    path = tmp_path / "views.pt"
    torch.jit.save(torch.jit.script(module_tree(awkward_tensors())), path)
    expected = torch.jit.load(path).state_dict()
    assert expected["inner.transposed"].stride() == (1, 6)  # the archive does hold views
    assert_same_tensors(read_weights(path), expected)
    assert_same_tensors(expected, awkward_tensors())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_state_dict_as_torch_saves_it(tmp_path, zipped):
    path = tmp_path / "state.pt"
    content = {**awkward_tensors(), "code/x": torch.ones(2)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert_same_tensors(read_weights(path), content)


class Pair(torch.nn.Module):
    """Two names for one module, or for one that has two."""

    def __init__(self, inner):
        super().__init__()
        self.a = self.b = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_a_module_that_a_script_has_twice_has_two_names(tmp_path):
    path, inner = tmp_path / "shared.pt", module_tree({"weight": torch.ones(2)})
    torch.jit.save(torch.jit.script(Pair(Pair(inner))), path)
    names = [f"{one}.{two}.weight" for one in "ab" for two in "ab"]
    assert sorted(read_weights(path)) == sorted(torch.jit.load(path).state_dict()) == names


class Hostile:
    """Runs a shell command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def hostile_save(path, marker, zipped):
    content = {"weight": torch.ones(2), "extra": Hostile(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)


def hostile_plain(path, marker):
    path.write_bytes(pickle.dumps({"extra": Hostile(marker)}, protocol=2))


def hostile_archive(path, marker, protocol=2):
    """A real TorchScript archive whose data.pkl is replaced."""
    clean = path.with_suffix(".clean")
    torch.jit.save(torch.jit.script(module_tree({"weight": torch.ones(2)})), clean)
    with zipfile.ZipFile(clean) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("/data.pkl"):
                content = pickle.dumps(Hostile(marker), protocol=protocol)
            target.writestr(name, content)


HOSTILE = {
    "legacy": lambda path, marker: hostile_save(path, marker, zipped=False),
    "zip": lambda path, marker: hostile_save(path, marker, zipped=True),
    "plain pickle": hostile_plain,
    "archive": hostile_archive,
    # from protocol 4 on a class is named by two strings from the stack
    "archive, protocol 4": lambda path, marker: hostile_archive(path, marker, protocol=4),
}


@pytest.mark.parametrize("write", HOSTILE.values(), ids=HOSTILE)
def test_nothing_in_a_hostile_file_is_executed(tmp_path, write):
    path, marker = tmp_path / "hostile.pt", tmp_path / "executed"
    write(path, marker)
    with pytest.raises(UserError, match=f"{path}: not a readable weights file"):
        read_weights(path)
    assert not marker.exists()


def test_the_hostile_pickle_would_work(tmp_path):
    """Else the test above could not fail."""
    pickle.loads(pickle.dumps(Hostile(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        *[("builtins", name) for name in ("eval", "exec", "getattr", "__import__", "open")],
        *[("torch", name) for name in ("load", "compile", "from_file", "serialization.load")],
        *[("posix", "system"), ("subprocess", "Popen"), ("torch._utils", "_import_dotted_name")],
        *[("tvr.models.archive", "TensorUnpickler"), ("torch.jit._pickle", "build_intlist")],
        *[("collections", "defaultdict"), ("torch.hub", "load")],
    ],
)
def test_an_archive_may_name_tensors_and_containers_only(tmp_path, module, name):
    """The GLOBAL opcode on its own, uncalled: what is refused cannot be called either."""
    path = tmp_path / "archive.pt"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("archive/code/__torch__.py", "")
        target.writestr("archive/data.pkl", f"c{module}\n{name}\n.".encode())
    with pytest.raises(UserError, match=f"the class {module}.{name} is not allowed"):
        read_weights(path)


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    """Its view would read memory that is not the file's."""
    clean, path = tmp_path / "clean.pt", tmp_path / "archive.pt"
    torch.jit.save(torch.jit.script(module_tree({"weight": torch.ones(64)})), clean)
    with zipfile.ZipFile(clean) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if "/data/" in name:
                content = content[:8]
            target.writestr(name, content)
    with pytest.raises(UserError, match="not a readable weights file"):
        read_weights(path)


def write_jit(path):
    torch.jit.save(torch.jit.script(module_tree(awkward_tensors())), path)


WRITERS = {
    "zip": lambda path: torch.save(awkward_tensors(), path),
    "legacy": lambda path: torch.save(
        awkward_tensors(), path, _use_new_zipfile_serialization=False
    ),
    "archive": write_jit,
}


@pytest.mark.parametrize("kind", ["zip", "legacy", "archive"])
def test_a_file_cut_anywhere_is_refused(tmp_path, kind):
    path = tmp_path / "cut.pt"
    WRITERS[kind](path)
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 100):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="not a readable weights file"):
            read_weights(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:40d3657\nsize 353976522\n",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        bytes(1000),
    ],
    ids=["empty", "html", "lfs pointer", "png", "zip header", "zeros"],
)
def test_what_is_not_a_weights_file_is_refused(tmp_path, content):
    path = tmp_path / "ViT-B-32.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path}: not a readable weights file"):
        read_weights(path)


def test_a_zip_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "source.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("repo/code/main.py", "print()")
    with pytest.raises(UserError, match="not a readable weights file"):
        read_weights(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(UserError, match=f"{path}: no such file"):
            read_weights(path)


@pytest.mark.parametrize("content", [torch.ones(3), [torch.ones(3)], "weights", 7])
def test_what_is_no_dictionary_is_refused(tmp_path, content):
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    with pytest.raises(UserError, match=f"{path}: holds a .*dictionary was expected"):
        read_weights(path)


def test_a_saved_module_is_refused(tmp_path):
    """`torch.save(model)` instead of `torch.save(model.state_dict())`."""
    path = tmp_path / "module.pt"
    torch.save(Node(), path)
    with pytest.raises(UserError, match="Python objects, which are never loaded"):
        read_weights(path)

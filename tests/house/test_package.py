"""The shape of the house: what may import what, what is public, what a wheel holds, what stays light."""

from __future__ import annotations

import ast
import inspect
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from without_extras import BLOCK, run_python

import isc_fast
from isc_fast import errors

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"isc_fast": ROOT / "isc_fast", "isc_fast.training": ROOT / "training", "isc_fast.export": ROOT / "export"}

# A room may import from the rooms of the lines above its own, and from itself.
LAYERS = [
    "errors items assets silence",
    "stores",
    "files machine progress",
    "sources decoders networks",
    "engines",
    "descriptors",
    "matching.searchers matching.lists",
    "matching.pairs matching.groups matching.normalizing",
    "extraction matching",
    "evaluation",
    "review",
    "runs.sides",
    "runs.pixels runs.tasks",
    "runs.copies runs.checks",
    "runs.file_kinds",
    "runs",
    "export",
    "training",
    "training.tiny",
    "__init__ cli",
    "__main__",
]
NEEDS_TORCH = ("training", "export", "training.tiny")
LAYER = {name: number for number, line in enumerate(LAYERS) for name in line.split()}
HEAVY = (
    "torch",
    "timm",
    "onnx",
    "onnxruntime",
    "openvino",
    "faiss",
    "pyarrow",
    "tensorrt",
    "obstore",
    "h5py",
    "PIL",
    "numpy",
)


def modules() -> Iterator[tuple[str, Path]]:
    """(dotted name, file) of every module."""
    for package, folder in PACKAGES.items():
        for file in sorted(folder.rglob("*.py")):
            inside = file.relative_to(folder).with_suffix("").parts
            parts = inside[:-1] if inside[-1] == "__init__" else inside
            yield ".".join([package, *parts]), file


def imported(name: str, file: Path) -> Iterator[str]:
    """The modules of isc_fast that a module imports, at its top or inside its functions, but not for types only."""
    tree = ast.parse(file.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "isc_fast")
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - (node.level - 1)] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            if target.split(".")[0] != "isc_fast":
                continue
            for alias in node.names:
                full = f"{target}.{alias.name}"
                yield full if full in KNOWN else target


KNOWN = {name for name, _ in modules()}


def top(name: str) -> str:
    """``isc_fast.engines.ort`` → ``engines``; what is run as a program is ``__main__``, wherever it lies."""
    if name.endswith(".__main__"):
        return "__main__"
    parts = name.split(".")[1:]
    room = ".".join(parts[:2])
    return room if room in LAYER else parts[0] if parts else "__init__"


@pytest.mark.parametrize(("name", "file"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_go_one_way(name, file):
    assert top(name) in LAYER, f"say in LAYERS where {name} belongs"
    for other in imported(name, file):
        if top(other) == top(name) or other == "isc_fast":
            continue
        assert LAYER[top(other)] < LAYER[top(name)], f"{name} imports {other}"
        needs_torch = top(other) in ("training", "export", "networks")
        assert not needs_torch or top(name) in NEEDS_TORCH, f"{name} imports {other}: the runtime needs no torch"


def test_files_are_short():
    """A file of more than four screens is two files."""
    files = [file for _, file in modules()] + sorted((ROOT / "bench").glob("*.py"))
    assert len(files) > 300
    long = {str(file.relative_to(ROOT)): len(file.read_text("utf-8").splitlines()) for file in files}
    assert {name: lines for name, lines in long.items() if lines > 400} == {}


def test_only_leaves_import_heavy_libraries():
    """Their own module, and none that a light one imports."""
    allowed = {
        "torch": ("isc_fast.networks", "isc_fast.training", "isc_fast.export"),
        "timm": ("isc_fast.networks", "isc_fast.training", "isc_fast.export"),
        "onnx": ("isc_fast.export",),
        "onnxruntime": ("isc_fast.export",),  # elsewhere through errors.require only
        "openvino": (),
        "faiss": (),
        "pyarrow": (),
        "obstore": (),
    }
    for name, file in modules():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for library in {found.split(".")[0] for found in names} & set(allowed):
                assert name.startswith(allowed[library] or "-"), f"{name} imports {library}"


@pytest.mark.parametrize(
    "code",
    [
        "import isc_fast; dir(isc_fast)",
        "import isc_fast.cli.main as c\ntry: c.main(['--help'])\nexcept SystemExit: pass",
        "import isc_fast.cli.main as c\nfor verb in c.VERBS:\n  try: c.main([verb, '--help'])\n  except SystemExit: pass",
        "import isc_fast.cli.main as c\ntry: c.main(['extract', '--help'])\nexcept SystemExit: pass",
        "import isc_fast.cli.main as c\ntry: c.main(['extract'])\nexcept SystemExit: pass",
    ],
)
def test_importing_and_helping_load_nothing_heavy(code):
    loaded = run_python(code + "\nimport sys; print('modules', *sys.modules)").splitlines()[-1].split()
    assert not {name for name in loaded if name.split(".")[0] in HEAVY}


def test_every_runtime_module_imports_without_any_extra():
    names = [name for name in KNOWN if top(name) not in ("networks", "training", "training.tiny", "export", "__main__")]
    blocked = "BLOCKED = {'torch', 'timm', 'onnx', 'onnxruntime', 'openvino', 'faiss', 'pyarrow', 'torchvision'}"
    code = blocked + BLOCK + f"import importlib\nfor name in {names!r}: importlib.import_module(name)\nprint('fine')"
    assert run_python(code) == "fine\n"


def test_the_runtime_works_without_torch(tmp_path):
    """From photos to figures, with torch and its friends out of reach."""
    code = "BLOCKED = {'torch', 'timm', 'onnx', 'onnxscript', 'torchvision', 'openvino'}" + BLOCK
    code += "import isc_fast, sys; isc_fast.run_demo(sys.argv[1]); print('fine')"
    assert run_python(code, str(tmp_path)) == "fine\n"


@pytest.mark.parametrize(
    ("blocked", "call", "extra"),
    [
        ("onnxruntime", "isc_fast.load_engine('demo')", "cpu"),
        ("openvino", "isc_fast.load_engine('demo', runtime='openvino')", "openvino"),
        ("openvino", "isc_fast.export.export_engine(sys.argv[1], 'y.onnx', precision='int8', runtime='openvino')", "openvino"),
        ("faiss", "isc_fast.search(*[isc_fast.Descriptors(eye(2, dtype='f4'), ['a', 'b'])] * 2)", "cpu"),
        ("pyarrow", "isc_fast.convert({'': isc_fast.Descriptors(eye(1), ['a'])}, 'x', 'clip-retrieval')", "parquet"),
        ("torch", "isc_fast.export.export_engine(sys.argv[1], 'x.onnx')", "export"),
        ("onnxscript", "isc_fast.export.export_engine(sys.argv[1], 'x.onnx')", "export"),
    ],
)  # fmt: skip
def test_a_missing_extra_says_the_line_that_installs_it(tmp_path, blocked, call, extra):
    if blocked == "openvino" and "export" in call:
        pytest.importorskip("onnx")  # the exporter asks for it before it asks for the runtime
    (tmp_path / "x.pth").write_bytes(b"PK\x03\x04")  # begins like a checkpoint
    code = f"BLOCKED = {{{blocked!r}}}{BLOCK}import isc_fast, isc_fast.errors, isc_fast.export; from numpy import eye\n"
    code += f"try: {call}\nexcept isc_fast.errors.MissingExtraError as error: print(error)"
    assert f"pip install 'isc-fast[{extra}]'" in run_python(code, str(tmp_path / "x.pth"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --stage v999 --data . -o o", "there is no stage 'v999'"),
        ("train --stage v83 --data nowhere -o o", "there is no folder nowhere"),
        ("train --stage v83 --data . -o o", "the stage v83 cannot train on ."),
        ("train --schedule v107 --data nowhere --dry-run", "there is no folder nowhere"),
        ("train --stage v86 --data . -o o", "v86 starts from v83-2: name its checkpoint with --init FILE"),
        ("train --stage v86 --data . --init none.pth -o o", "cannot read the checkpoint none.pth"),
        ("train --stage v86 --data . --init README.md -o o", "README.md is not a checkpoint: it is text"),
        ("train --stage v83 --data . --set frozzen=x -o o", "there is no setting 'frozzen'"),
        ("train --stage v83 --data . --accumulate 0 -o o", "accumulate must be at least 1"),
        ("export --ckpt none.pth -o o.onnx", "the checkpoint none.pth does not exist"),
        ("export --ckpt README.md -o o.onnx", "README.md is not a checkpoint: it is text"),
        ("export --ckpt none.pth -o o.xyz", "cannot export 'o.xyz'"),
    ],
)
def test_errors_that_need_no_torch_come_without_it(arguments, message):
    """Importing torch and timm takes ten seconds on two busy cores."""
    code = f"BLOCKED = {{'torch', 'timm'}}{BLOCK}from isc_fast.cli.main import main; import contextlib\n"
    code += f"with contextlib.redirect_stderr(sys.stdout): status = main({arguments.split()!r})\nprint(status)"
    told, status = run_python(code).splitlines()
    assert told.startswith("error: ")
    assert message in told
    assert status == "1"


def test_public_names_are_the_ones_listed():
    for name in isc_fast.__all__:
        value = getattr(isc_fast, name)
        assert value.__doc__, f"{name} has no docstring"
        assert value.__module__.startswith("isc_fast")
    assert set(isc_fast.__all__) <= set(dir(isc_fast))
    code = "import isc_fast.cli.main, isc_fast as i; print(*[name for name in i.__all__ if not callable(getattr(i, name))])"
    assert run_python(code) == "\n", "a module has the name of a function and takes its place"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = isc_fast.nothing
    typed = ast.parse((ROOT / "isc_fast" / "__init__.py").read_text("utf-8"))
    block = next(node for node in ast.walk(typed) if isinstance(node, ast.If))
    assert {alias.asname for node in block.body for alias in node.names} == set(isc_fast.__all__)  # type: ignore[attr-defined]


def test_public_functions_say_what_they_raise():
    for name in isc_fast.__all__:
        value = getattr(isc_fast, name)
        if inspect.isfunction(value):
            assert "Raises:" in (value.__doc__ or ""), f"{name} does not say what it raises"


def test_the_error_tree_is_drawn_as_it_is():
    classes = {n for n, v in vars(errors).items() if inspect.isclass(v) and issubclass(v, errors.IscFastError)}
    drawn = {word for line in (errors.__doc__ or "").splitlines() for word in line.split() if word.endswith("Error")}
    assert classes == drawn


def test_a_wheel_holds_one_top_level_name_and_all_files(tmp_path):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", "demo-out"
    )
    shutil.copytree(ROOT, source, ignore=ignored)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"isc_fast", f"isc_fast-{isc_fast.__version__}.dist-info"}
    python = {name for name in names if name.endswith(".py")}
    expected = {
        "/".join([*package.split("."), *file.relative_to(folder).parts])
        for package, folder in PACKAGES.items()
        for file in folder.rglob("*.py")
        if file.parent.name != "tiny"
    }
    assert python == expected
    data = {
        f"isc_fast/data/{file.relative_to(ROOT / 'isc_fast' / 'data')}"
        for file in (ROOT / "isc_fast" / "data").rglob("*.*")
    }
    assert data <= set(names)
    assert "isc_fast/py.typed" in names
    page = {file.relative_to(ROOT).as_posix() for file in (ROOT / "isc_fast" / "review" / "parts").iterdir()}
    assert page
    assert page <= set(names)


@pytest.mark.parametrize("broken", ["two\nlines", "a\r\nb", "form\x0cfeed", "line\u2028separator", "next\x85line"])
def test_an_error_s_text_is_one_line_whatever_a_name_holds(broken):
    text = str(errors.DamageError(broken, broken))
    assert len(text.splitlines()) == 1
    assert text.encode("ascii").decode("unicode_escape") == broken

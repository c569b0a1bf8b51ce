"""What holds the repository together: packages, locks, READMEs, make, and a wheel that finds its data."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-older.lock")
READMES = ("README.md", "README.zh-CN.md")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tracked() -> list[Path]:
    """The files in git, as paths relative to the repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [Path(name) for name in names.decode().split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads(read("pyproject.toml"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The project's wheel, built without fetching anything."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, str(ROOT)], check=True)
    return next(folder.glob("kolors_lab-*.whl"))


def locked(lock: str) -> dict[str, str]:
    """Name and version of each package that a lock gives the running Python."""
    lines = [Requirement(line) for line in read(lock).splitlines()]
    return {line.name: str(line.specifier)[2:] for line in lines if not line.marker or line.marker.evaluate()}


def test_environment_lists_what_pyproject_lists(project):
    environment = yaml.safe_load(read("environment.yml"))["dependencies"]
    needed = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["dev"]
    assert environment[-1]["pip"] == needed
    assert f"python{project['project']['requires-python']}" in environment


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_names_versions_and_markers_only(lock):
    for line in read(lock).splitlines():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; .+)?", line), line
        assert not line.startswith(("torchvision", "nvidia-", "cuda-", "triton", "simple-aesthetics")), line


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_satisfies_every_dependency(lock, project):
    extras = project["project"]["optional-dependencies"]
    for text in project["project"]["dependencies"] + extras["dev"] + extras["make-data"]:
        need = Requirement(text)
        assert need.specifier.contains(locked(lock)[need.name]), text


def test_locks_are_the_two_supported_lines():
    assert locked(LOCKS[0])["transformers"].startswith("5.")
    assert locked(LOCKS[1])["transformers"] == "4.57.6"


def test_no_dependency_has_an_upper_bound(project):
    """A cap could make pip replace the torch or transformers of a machine that works; OpenCV 5 has no face finder."""
    for text in project["project"]["dependencies"]:
        if (requirement := Requirement(text)).name != "opencv-python-headless":
            assert all(part.operator == ">=" for part in requirement.specifier), text


def commands(readme: str) -> list[str]:
    """The lines of a README's bash blocks."""
    return "\n".join(re.findall(r"^```bash\n(.*?)^```", read(readme), re.MULTILINE | re.DOTALL)).splitlines()


def test_both_readmes_give_the_same_commands():
    english, chinese = (
        [shlex.split(line, comments=True) for line in commands(name)] for name in ("README.md", "README.zh-CN.md")
    )
    assert english == chinese


def test_commands_of_the_readme_are_understood():
    from kolors_lab.cli.options import find_command, make_parser

    ours = [shlex.split(line, comments=True)[1:] for line in commands("README.md") if line.startswith("kolors-lab ")]
    assert {words[0] for words in ours} >= {"baseline", "juice", "train", "generate", "story", "score", "submit"}
    for words in ours:
        name, rest = find_command(words)
        make_parser(name).parse_args(rest)


@pytest.mark.parametrize("readme", READMES)
def test_links_of_the_readme_lead_somewhere(readme):
    for target in re.findall(r"\]\(([^)]+)\)", read(readme)):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def floors(project: dict) -> str:
    """The contract as a drawing, the top floor first; folders side by side may not import each other."""
    (layers,) = [c["layers"] for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers"]
    names = [layer.replace("kolors_lab.", "").replace(" | ", " │ ") for layer in layers]
    rows = [f"{len(names) - number:2}  │ {name:^24} │" for number, name in enumerate(names)]
    edge = "─" * 26
    return "\n".join([f"    ┌{edge}┐", f"\n    ├{edge}┤\n".join(rows), f"    └{edge}┘"])


def test_the_floors_are_drawn_as_they_are(project):
    drawing = floors(project)
    assert f"```\n{drawing}\n```" in read("CONTRIBUTING.md"), f"CONTRIBUTING.md should hold\n{drawing}"
    folders = {f.parent.name for f in (ROOT / "kolors_lab").glob("*/__init__.py")}
    for name in READMES:
        assert folders <= set(re.findall(r"^\| `(\w+)/`", read(name), re.MULTILINE)), name


def test_importing_the_package_imports_nothing_heavy():
    heavy = "{'torch', 'diffusers', 'transformers', 'data_juicer', 'matplotlib', 'modelscope', 'ray'}"
    code = f"import sys, kolors_lab, kolors_lab.cli; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_hypernetwork_that_08_explains_is_the_one_that_was_measured():
    bench = (ROOT / "benchmarks/dreambooth.py").read_text(encoding="utf-8")
    [notebook] = (ROOT / "notebooks").glob("08*.ipynb")
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    shown = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    parts = ("class Hypernetwork", "def attach", "def detach", "def begin", "def write", 'METHODS["hypernetwork"]')
    for start in parts:
        assert bench[bench.index(start) :].split("\n\n\n")[0].strip() in shown


def test_every_benchmark_finds_what_it_imports():
    names = sorted(file.stem for file in (ROOT / "benchmarks").glob("*.py"))
    code = f"import importlib; [importlib.import_module(name) for name in {names}]"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "benchmarks", capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_the_wheel_takes_every_folder_of_data_but_what_made_and_shows_it(project):
    included = {Path(f) for f in project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]}
    folders = {folder.relative_to(ROOT) for folder in (ROOT / "data").iterdir() if folder.is_dir()}
    assert folders - included == {Path("data/make"), Path("data/gallery")}


def test_wheel_holds_every_file_of_its_data(wheel, project):
    folders = [
        f for f in project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"] if f.startswith("data/")
    ]
    data = {f"kolors_lab/{file.as_posix()}" for file in tracked() if file.as_posix().startswith(tuple(folders))}
    names = set(zipfile.ZipFile(wheel).namelist())
    assert data
    assert data <= names
    assert not any(name.startswith(("tests/", "data/", "kolors_lab/data/make/")) for name in names)


def test_installed_wheel_finds_its_data(wheel, tmp_path):
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)]
    subprocess.run(pip, check=True)
    code = "from kolors_lab.models.presets import data_dir; print(data_dir())"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": "site"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (tmp_path / run.stdout.strip()).resolve() == (tmp_path / "site/kolors_lab/data").resolve()
    assert (tmp_path / "site/kolors_lab/data/stories/dream.csv").is_file()


def test_installed_wheel_writes_the_course_and_speaks_chinese(wheel, tmp_path):
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)]
    subprocess.run(pip, check=True)
    others = os.pathsep.join(("site", sysconfig.get_path("purelib")))
    run = subprocess.run(
        [sys.executable, "-S", "-m", "kolors_lab", "course", "--lang", "zh", "mine"],  # -S: nothing of this checkout
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": others},
        capture_output=True,
        check=False,
    )
    names = {file.name for file in (ROOT / "notebooks").iterdir() if file.suffix in (".ipynb", ".md")}
    assert run.returncode == 0, run.stderr
    assert names <= {file.name for file in (tmp_path / "mine").iterdir()}
    assert "留下" in (tmp_path / "mine" / "01_baseline.ipynb").read_text(encoding="utf-8")
    assert (tmp_path / "site/kolors_lab/locale/zh/LC_MESSAGES/kolors_lab.mo").is_file()


def test_no_file_is_too_large_for_git():
    large = [str(file) for file in tracked() if (ROOT / file).stat().st_size > 15e6]
    assert large == []


def test_no_model_says_where_it_was_made():
    for file in tracked():
        if file.suffix == ".json" and file.parts[0] == "data":
            assert not re.search(r'"(/|[A-Z]:)[^"]*/[^"]*"|"\w*name_or_path"', read(str(file))), file


def test_no_file_names_a_registry_or_somebodys_home():
    words = re.compile(r"pypi[.]org|[p]ythonhosted|download[.]pytorch|--[i]ndex-url|/(root|home|Users)/\w")
    for file in tracked():
        if file.suffix in (".py", ".md", ".toml", ".yml", ".lock", ".ipynb", ".csv", ".json", ".j2", ""):
            found = words.search(read(str(file)))
            assert not found, f"{file}: {found[0]}"


@pytest.fixture
def checkout(tmp_path) -> Path:
    """What make needs to set up a venv, in a folder with a space in its name."""
    folder = tmp_path / "a check out"
    (folder / ".ci").mkdir(parents=True)
    for name in ("Makefile", ".ci/find_python", "pyproject.toml", *LOCKS):
        shutil.copy(ROOT / name, folder / name)
    return folder


def typed_by_hand() -> dict[str, str]:
    """The environment without what the make that runs these tests puts into it: its flags, and what it was given."""
    return {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k not in ("VENV", "LOCK", "TORCH")}


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo 3.8", ["is Python 3.8", "3.10, 3.11, 3.12 or 3.13"]),
        ("echo 3.14", ["is Python 3.14"]),
        ('case "$2" in *ensurepip*) exit 1;; esac; echo 3.11', ["has none", "apt-get install python3.11-venv"]),
        ("exit 127", ["does not run"]),
    ],
)
def test_make_says_in_one_line_what_is_wrong_with_python(checkout, body, words):
    python = checkout / "python"
    python.write_text(f"#!/bin/sh\n{body}\n")
    python.chmod(0o755)
    env = typed_by_hand()
    run = subprocess.run(["make", "run", "PYTHON=./python"], cwd=checkout, env=env, capture_output=True, text=True)
    lines = (run.stdout + run.stderr).strip().splitlines()
    assert run.returncode != 0
    assert len(lines) == 1
    assert all(word in lines[0] for word in words), lines[0]
    assert not (checkout / ".venv").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            "HAS_UV=yes",
            ["uv pip install --python .venv/bin/python", "requirements.lock --torch-backend=auto"],
        ),
        ("HAS_UV= TORCH=cpu", ["-m uv pip install", "--torch-backend=cpu $(grep '^torch==' requirements.lock)"]),
        ("HAS_UV=", ["-m pip install --no-compile"]),
        ("HAS_UV=yes TORCH=", ["uv pip install --python .venv/bin/python --no-build-isolation"]),
    ],
)
def test_torch_is_the_build_that_fits_without_an_address(checkout, given, words):
    env = typed_by_hand()
    told = ["make", "-n", "setup", "PYTHON=python3", *given.split()]
    run = subprocess.run(told, cwd=checkout, env=env, capture_output=True, text=True, check=True)
    assert all(word in run.stdout for word in words), run.stdout
    assert ("torch-backend" in run.stdout) == ("backend" in "".join(words))


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_what_uv_could_not_do_is_shown(checkout, tmp_path):
    """uv marks what is wrong with × and explains it in the lines below; pip's own words begin with ERROR."""
    said = "Resolved 3 packages in 2ms\nUsing Python 3.12\n  × No solution found:\n  ╰─▶ because of this\n"
    show = next(line for line in read("Makefile").split("\n\n") if "\nSHOW :=" in line).split("SHOW := ")[1]
    show = show.replace("\\\n", "")
    run = subprocess.run(["bash", "-c", show], input=said, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [line for line in said.splitlines() if "Python" not in line]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_make_takes_the_first_python_that_fits(tmp_path):
    for name, version in (("old", "3.8"), ("good", "3.12"), ("other", "3.11")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {version}\n")
        (tmp_path / name).chmod(0o755)
    names = [f"{tmp_path}/{name}" for name in ("missing", "old", "good", "other")]
    run = subprocess.run(["bash", str(ROOT / ".ci/find_python"), *names], capture_output=True, text=True)
    assert run.stdout.strip() == f"ok:{tmp_path}/good"

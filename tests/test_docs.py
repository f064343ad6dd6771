"""The documents against the code: what they show is what happens, and what they lead to is there."""

from __future__ import annotations

import ast
import csv
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest
import requests
import tifffile

import driver
from nd_synapse import __version__, errors
from nd_synapse.cli.run_options import job_from, parser
from nd_synapse.job.job import Job
from nd_synapse.local_boss.synthetic import SyntheticVolume, generate
from nd_synapse.pipeline import registry
from tests.conftest import REPOSITORY
from tests.fixtures_boss import BossServer, blobs, fill, start_boss
from tests.in_process import main as run_command
from tests.in_process import restored
from tests.markdown import anchors, code, fenced, section, tables

README = REPOSITORY / "README.md"
RUNNING = REPOSITORY / "docs" / "running.md"
LIBRARY = REPOSITORY / "docs" / "library.md"
RESULTS = REPOSITORY / "docs" / "results.md"
PIPELINES = REPOSITORY / "docs" / "pipelines.md"
GALLERY = REPOSITORY / "docs" / "gallery.md"
MULTICORE = REPOSITORY / "docs" / "nd-multicore.md"
DOCUMENTS = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").rglob("*.md"))]
TUTORIALS = REPOSITORY / "docs" / "tutorials"
LIMIT_S = 300

HELPS = (
    *(
        "--help",
        "run --help-all",
        "view --help",
        "sources --help",
        "upload --help",
        "report --help",
        "pipelines --help",
    ),
    *("demo --help", "doctor --help", "verify --help", "evaluate --help-all", "multicore --help"),
    *("boss ingest --help", "boss serve --help", "boss sample --help", "boss token --help"),
    *("batch plan --help", "batch script --help", "batch submit --help", "batch status --help", "batch logs --help"),
    *("batch cancel --help", "batch resume --help"),
)
OF_OTHERS = {
    "container.md": {
        *("--build-arg", "--cap-drop", "--init", "--network", "--no-deps", "--read-only", "--rm", "--security-opt"),
        *("--tmpfs", "--user", "--volumes"),
    },
    "clusters.md": {"--rm", "--user"},
    "CONTRIBUTING.md": {"--osv-url"},
}
OF_OTHERS["README.md"] = {"--rm"}
OF_OTHERS["batch.md"] = {
    *("--aws-service-name", "--capabilities", "--cli-input-json", "--container-overrides", "--job-name", "--job-queue"),
    *("--parameter-overrides", "--password-stdin", "--query", "--secret-id", "--secret-string", "--stack-name"),
    *("--template-file", "--username"),
}
"""Options of other programs that documents show."""


@cache
def help_text(words: str) -> str:
    """Return what a command prints as help, at a fixed width, without colours."""
    printed = io.StringIO()
    environment = {"COLUMNS": "100", "NO_COLOR": "1", "PYTHON_COLORS": "0", "RESULTS_BUCKET": ""}
    with restored(), redirect_stdout(printed):
        os.environ.update(environment)
        assert run_command("nd-synapse", *words.split()) == 0
    return printed.getvalue()


def commands(document: Path) -> list[list[str]]:
    """Return the command lines of ours that a document shows, word by word."""
    lines = "".join(fenced(document.read_text(encoding="utf-8"))).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("nd-synapse ")]


class TestCommandLine:
    """Every option is documented as it is."""

    @pytest.mark.parametrize("words", [words.replace("-all", "") for words in HELPS])
    def test_a_help_fits_on_two_screens(self, words: str) -> None:
        assert len(help_text(words).splitlines()) <= 55

    @pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
    def test_every_option_that_a_document_names_exists(self, document: Path) -> None:
        existing = {option for words in HELPS for option in re.findall(r"--[a-z][a-z-]+", help_text(words))}
        named = set(re.findall(r"(?<![\w<!-])--[a-z][a-z-]+", document.read_text(encoding="utf-8")))
        assert named - existing <= OF_OTHERS.get(document.name, set())

    @pytest.mark.parametrize("document", [README, RUNNING], ids=lambda file: file.name)
    def test_every_job_that_is_shown_is_valid(self, document: Path) -> None:
        jobs = [words[2:] for words in commands(document) if words[1] == "run"]
        assert jobs
        for words in jobs:
            # a volume that is not there has no extent
            ranges = [f"--{axis}-range=0,1" for axis in "zyx"] if "--source" in words else []
            job = job_from(parser().parse_args([*words, *ranges]), {"BOSS_TOKEN": "a-token-of-a-test"})
            assert job.box.voxels > 0

    def test_every_call_that_is_shown_has_arguments_that_exist(self) -> None:
        (example,) = (block for block in fenced(section(LIBRARY, "A job")) if block.startswith("import driver"))
        calls = [node for node in ast.walk(ast.parse(example)) if isinstance(node, ast.Call)]
        assert calls
        for call in calls:
            assert isinstance(call.func, ast.Attribute)
            signature = inspect.signature(getattr(driver, call.func.attr))
            bound = signature.bind(*call.args, **{word.arg: word.value for word in call.keywords if word.arg})
            assert set(bound.arguments.get("options", {})) <= {field.name for field in fields(Job)}


class TestFacts:
    """What is written twice is the same twice."""

    def test_exit_codes_in_the_documents_are_those_of_the_errors(self) -> None:
        classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
        kinds: list[type[errors.NDSynapseError]] = [c for c in classes if issubclass(c, errors.NDSynapseError)]
        meanings = {0: "done", **{kind.exit_code: kind.meaning for kind in kinds}}
        (rows,) = tables(section(RUNNING, "Exit codes"))
        assert [int(number) for number, _ in rows] == sorted(meanings)
        for number, meaning in rows:
            assert meaning.startswith(meanings[int(number)])

    def test_version_and_licence_are_the_same_everywhere(self) -> None:
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
        assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [__version__]
        assert re.findall(r"^license: (.+)$", citation, re.MULTILINE) == [project["license"]] == ["Apache-2.0"]

    def test_every_pipeline_is_documented_with_its_roles_and_parameters(self) -> None:
        (overview, *_) = tables(PIPELINES.read_text(encoding="utf-8"))
        named = {code(row[0])[0]: code(row[3]) for row in overview if row[3] != "yours"}
        assert named == {name: list(registry.build(name, {}).masks) for name in registry.names()}
        for name in registry.names():
            page = PIPELINES.with_suffix("") / f"{name}.md"
            (roles,), (parameters, *_) = (tables(section(page, heading)) for heading in ("Channels", "Parameters"))
            pipeline = registry.build(name, {})
            assert roles == [[f"`{role.name}`", ", ".join(role.markers)] for role in pipeline.roles], page.name
            assert [row[:3] for row in parameters] == [
                [f"`{parameter.name}`", f"`{parameter.default}`" if parameter.default != "" else "", parameter.unit]
                for parameter in pipeline.parameters
            ], page.name

    def test_the_gallery_has_every_pipeline_with_a_small_picture(self) -> None:
        text = GALLERY.read_text(encoding="utf-8")
        shown = re.findall(r"^```\{figure\} gallery/(.+)\.jpg\n:target: reports/(.+)\.html$", text, re.MULTILINE)
        assert sorted(shown) == [(name, name) for name in sorted(registry.names())]
        for name, _ in shown:
            assert (GALLERY.with_suffix("") / f"{name}.jpg").stat().st_size < 150_000, name


class TestPlaces:
    """What a document leads to is there."""

    @pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
    def test_every_relative_link_leads_to_a_file_and_a_heading(self, document: Path) -> None:
        for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
            if link.startswith(("https://", "http://")):
                continue
            path, _, anchor = link.partition("#")
            target = document.parent / path if path else document
            assert target.is_file(), link
            assert not anchor or anchor in anchors(target), link

    @pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", ".ci/run", ".github/workflows/ci.yml"])
    def test_every_make_target_that_is_named_exists(self, path: str) -> None:
        targets = set(re.findall(r"^([a-z][a-z-]*):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
        text = (REPOSITORY / path).read_text(encoding="utf-8")
        shown = [*code(text), *fenced(text)] if path.endswith(".md") else re.findall(r"^[^#].*", text, re.MULTILINE)
        assert set(re.findall(r"\bmake ([a-z][a-z-]*)", "\n".join(shown))) <= targets

    def test_ci_and_the_workflow_call_the_same_targets(self) -> None:
        (called,) = re.findall(r"^for target in (.+); do$", (REPOSITORY / ".ci/run").read_text(), re.MULTILINE)
        workflow = (REPOSITORY / ".github/workflows/ci.yml").read_text()
        assert set(called.split()) == set(re.findall(r"run: make (\S+)", workflow)) - {"audit", "demo"}

    def test_every_test_that_contributors_are_sent_to_exists(self) -> None:
        (rows,) = tables(section(REPOSITORY / "CONTRIBUTING.md", "Which test for what"))
        for _, cell in rows:
            for path in " ".join(code(cell)).split():
                assert any(REPOSITORY.glob(path)), path


@dataclass(frozen=True)
class Demonstration:
    """What ``make demo`` printed, and the result folder that it left."""

    printed: str
    folder: Path


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Demonstration:
    """Run what ``make demo`` runs, in an empty folder."""
    path = tmp_path_factory.mktemp("demo")
    words = [sys.executable, "-m", "nd_synapse", "demo"]
    done = subprocess.run(words, cwd=path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = (path / "demo" / "results").iterdir()
    return Demonstration(done.stdout, folder)


SCORE = re.compile(r"planted synapses found .*: (\d+) of (\d+), (\d+) detections matched none")


@pytest.mark.slow
class TestDemonstration:
    """The figures and files in the documents are those of a run."""

    def test_readme_shows_what_the_demonstration_prints(self, demonstration: Demonstration) -> None:
        """To a hundredth: another processor may round a random number differently."""
        shown, printed = (SCORE.search(text) for text in (README.read_text(encoding="utf-8"), demonstration.printed))
        assert shown, "the README shows no score"
        assert printed, demonstration.printed
        for documented, counted in zip(shown.groups(), printed.groups(), strict=True):
            assert int(documented) == pytest.approx(int(counted), rel=0.01, abs=10)
        for line in ("0 voxels differ", "ok   S3"):
            assert line in demonstration.printed

    def test_precision_and_recall_in_the_text_follow_from_the_figures_shown(self) -> None:
        text = " ".join(README.read_text(encoding="utf-8").split())
        shown = SCORE.search(text)
        assert shown
        found, planted, false_alarms = map(int, shown.groups())
        detections = found + false_alarms
        assert f"{found / detections:.1%} of its {detections:,} detections".replace("%", " %") in text
        assert f"{found / planted:.1%} of the {planted:,} planted".replace("%", " %") in text

    @pytest.mark.slow
    def test_the_plan_that_is_shown_is_that_of_the_sample(self, demonstration: Demonstration) -> None:
        """The volume is that of the demonstration; where its server is differs from run to run."""
        (words,) = (words for words in commands(RUNNING) if "--dry-run" in words)
        (shown,) = (block for block in fenced(RUNNING.read_text(encoding="utf-8")) if block.startswith("volume "))
        folder = demonstration.folder.parents[1]
        with start_boss(folder / "boss") as server:
            line = [sys.executable, "-m", "nd_synapse", *words[1:]]
            line[line.index("--host") + 1] = server.url
            environment = {**os.environ, "BOSS_TOKEN": server.token}
            printed = subprocess.run(
                line, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=True
            ).stdout
        assert printed.replace(server.url, "http://127.0.0.1:8080") == shown

    def test_every_file_of_a_result_folder_is_documented(self, demonstration: Demonstration) -> None:
        rows = tables(section(README, "What you get"))[0]
        patterns = [re.sub("/$", "/*", re.sub("<[^>]+>", "*", code(row[0])[0])) for row in rows]
        root = demonstration.folder
        files = [file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()]
        assert [file for file in files if not any(fnmatchcase(file, p) for p in patterns)] == []
        assert [p for p in patterns if not any(fnmatchcase(file, p) for file in files)] == []

    def test_every_column_of_the_table_is_documented(self, demonstration: Demonstration) -> None:
        with (demonstration.folder / "synapses.csv").open(encoding="utf-8", newline="") as file:
            columns = next(csv.reader(file))
        documented = [name for row in tables(section(RESULTS, "synapses.csv"))[0] for name in code(row[0])]
        plain = [name for name in documented if "<" not in name]
        assert [column for column in columns if column in plain] == [name for name in plain if name in columns]
        named_after = [re.sub("<[^>]+>", "*", name) for name in documented if name not in plain]
        others = [column for column in columns if not any(fnmatchcase(column, p) for p in [*plain, *named_after])]
        assert others == []
        assert set(plain) <= set(columns)


def write_channels(folder: Path, shape: tuple[int, int, int]) -> SyntheticVolume:
    """Write a synthetic volume as a TIFF a channel, and return it."""
    volume = generate(shape=shape, voxel_size_nm=(70, 100, 100), seed=0)
    folder.mkdir()
    for name in ("Synapsin", "PSD95", "GABA"):
        tifffile.imwrite(folder / f"{name}.tif", volume.channels[name])
    return volume


def write_labels(table: Path, labels: Path) -> None:
    """Write what the page of a run would let one download: a label for each of the first sixty rows of its table."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:60]
    with labels.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "z_um", "y_um", "x_um", "label", "pipeline", "strictness"])
        for number, row in enumerate(rows):
            place = [f"{float(row[f'centroid_{axis}_um']):.2f}" for axis in "zyx"]
            writer.writerow([row["id"], *place, "false" if number % 9 == 0 else "true", "nomads-unsupervised", 1])


def install_example(folder: Path) -> None:
    """Put the class of CONTRIBUTING.md into a folder with what ``pip install`` leaves of its distribution."""
    contributing = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (program,) = (text for text in fenced(contributing) if "class BrightSpots" in text)
    (folder / "bright_spots.py").write_text(program)
    installed = folder / "bright_spots-0.1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: bright-spots\nVersion: 0.1\n")
    points = "[nd_synapse.pipelines]\nbright-spots = bright_spots:BrightSpots\n"
    (installed / "entry_points.txt").write_text(points)


def done(words: list[str], folder: Path) -> str:
    """Run a command of ours in a folder as a document shows it; return what it prints."""
    line = [sys.executable, "-m", "nd_synapse", *words[1:]]
    environment = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (REPOSITORY, folder)))
    if words[1] != "view":
        ended = subprocess.run(
            line, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert ended.returncode == 0, f"{shlex.join(words)}: {ended.stderr}"
        return ended.stdout
    with subprocess.Popen(line, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            assert requests.get(url, timeout=LIMIT_S).text.startswith("<!doctype html>")
        finally:
            server.kill()
    return url


@pytest.mark.slow
class TestReadme:
    """Its commands, word by word; only places of this machine are others. Those of Docker are run in `tests.image`."""

    def test_your_tiff(self, tmp_path: Path) -> None:
        write_channels(tmp_path / "my_slice", (12, 160, 160))
        (block,) = fenced(section(README, "Your TIFF or OME-Zarr"))
        sources, run, view = (shlex.split(line) for line in block.splitlines())
        assert "nomads-unsupervised" in done(sources, tmp_path)
        done(run, tmp_path)
        (folder,) = (tmp_path / "results").iterdir()
        verify = next(
            words for words in code(README.read_text(encoding="utf-8")) if words.startswith("nd-synapse verify")
        )
        for words in (view, shlex.split(verify)):
            done([word.replace("KEY", folder.name) for word in words], tmp_path)

    def test_boss(self, tmp_path: Path) -> None:
        (block,) = fenced(section(README, "BOSS"))
        assert block.splitlines()[-1] == fenced(section(RUNNING, "A volume in BOSS"))[0].splitlines()[-1]
        fill(tmp_path / "boss", "my_lab", "my_slice", blobs((16, 256, 256), 0, 200))
        with start_boss(tmp_path / "boss") as server:
            changes = {"=...": f"={server.token}", "api.bossdb.io": server.url, "0,2048": "0,256"}
            for words, others in changes.items():
                assert words in block
                block = block.replace(words, others)
            path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
            line = ["bash", "-euc", block]
            ended = subprocess.run(
                line, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=LIMIT_S
            )
            assert ended.returncode == 0, ended.stderr
            assert "and read them back" in ended.stderr

    @pytest.mark.parametrize("document", [README, TUTORIALS / "first-run.md"], ids=lambda file: file.name)
    def test_what_is_installed_is_tried_before_a_release(self, document: Path) -> None:
        """`.ci/release` runs these lines on every Python that is there."""
        text = document.read_text(encoding="utf-8")
        shown = [*code(text), *"".join(fenced(text)).splitlines()]
        installing = [line for line in shown if line.startswith(("pip install", "uv tool install"))]
        assert installing
        release = (REPOSITORY / ".ci" / "release").read_text()
        assert [line for line in installing if line not in release] == []


@pytest.mark.slow
class TestTutorials:
    """Every command of the tutorials does what it says, word by word and in the order of the pages."""

    def test_first_run(self, demonstration: Demonstration, tmp_path: Path) -> None:
        doctor, demo = commands(TUTORIALS / "first-run.md")
        assert done(doctor, tmp_path).startswith("versions")
        assert demo[1:] == ["demo"]
        name = re.escape(demonstration.folder.relative_to(demonstration.folder.parents[2]).as_posix())
        assert re.search(f"`{name}`", (TUTORIALS / "first-run.md").read_text(encoding="utf-8"))

    def test_own_data_threshold_and_pipeline(self, tmp_path: Path) -> None:
        write_channels(tmp_path / "my_slice", (16, 512, 512))
        (tmp_path / "my_slice" / "Thumbs.db").write_bytes(b"no image")
        (tmp_path / "my_slice" / "README.txt").write_text("notes")
        planted = write_channels(tmp_path / "my_box", (12, 160, 160)).synapses
        points = "".join(f"{z},{y},{x}\n" for z, y, x in planted.centre)
        (tmp_path / "points.csv").write_text(f"z,y,x\n{points}")
        (program,) = (text for text in fenced((TUTORIALS / "pipeline.md").read_text()) if text.startswith("def "))
        (tmp_path / "bright.py").write_text(program)
        install_example(tmp_path)

        printed = [done(words, tmp_path) for words in commands(TUTORIALS / "own-data.md")]
        assert printed[0].splitlines()[-1].endswith("nd-synapse run --source my_slice --voxel-size-nm Z,Y,X")
        box = tmp_path / "results" / "nomads-unsupervised_my_slice_z_0_12_y_0_512_x_0_512"
        write_labels(box / "synapses.csv", tmp_path / "labels.csv")
        for page in ("threshold.md", "pipeline.md"):
            printed += [done(words, tmp_path) for words in commands(TUTORIALS / page)]
        assert [text.split()[0] for text in printed if "precision" in text] == [
            "60",
            "nomads-unsupervised,",
            "bright-bright,",
        ]
        assert len([*tmp_path.glob("*/*/PyMeda_*.html")]) == 5


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BossServer]:
    """Serve the sample that the example of docs/nd-multicore.md names."""
    data = tmp_path_factory.mktemp("sample")
    (words,) = (words for words in commands(MULTICORE) if words[1:3] == ["boss", "sample"])
    words = [str(data) if previous == "--data" else word for previous, word in zip(["", *words], words, strict=False)]
    with restored():
        assert run_command(*words) == 0
    with start_boss(data) as server:
        yield server


def blocks_of_example() -> tuple[str, str, str]:
    """Return the neurodata.cfg, the program and the output that docs/nd-multicore.md shows."""
    blocks = fenced(section(MULTICORE, "An example"))
    (config,) = (block for block in blocks if block.startswith("[Default]"))
    (program,) = (block for block in blocks if block.startswith("import"))
    return config, program, blocks[-1]


def run_example(program: str, folder: Path, server: BossServer, *words: str) -> str:
    """Run a program of the documents beside the neurodata.cfg of docs/nd-multicore.md, and return what it prints."""
    config, *_ = blocks_of_example()
    (folder / "neurodata.cfg").write_text(config.replace("http://127.0.0.1:8080", server.url))
    (folder / "example.py").write_text(program)
    line = [sys.executable, *(words or ["example.py"])]
    done = subprocess.run(
        line,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestExamples:
    """What a document shows is what happens."""

    @pytest.mark.slow
    def test_the_example_of_a_function_on_blocks_prints_what_is_shown(self, sample: BossServer, tmp_path: Path) -> None:
        """Numbers to a hundredth: another processor may round a random number differently."""
        _, program, shown = blocks_of_example()
        printed, number = run_example(program, tmp_path, sample), re.compile(r"\d+")
        assert number.sub("N", shown) == number.sub("N", printed)
        found = zip(number.findall(shown), number.findall(printed), strict=True)
        assert all(int(one) == pytest.approx(int(other), rel=0.01, abs=3) for one, other in found), printed

    @pytest.mark.slow
    def test_the_size_of_its_blocks_does_not_show(self, sample: BossServer, tmp_path: Path) -> None:
        """Its halo is as wide as it reaches, as the text says."""
        _, program, _ = blocks_of_example()
        assert "(128, 128, 8)" in program
        whole, parts = (
            run_example(program.replace("(128, 128, 8)", size), tmp_path, sample).splitlines()
            for size in ("(256, 256, 16)", "(100, 77, 3)")
        )
        assert whole[-1] == parts[-1]
        assert whole[-2].split(":")[-1] == parts[-2].split(":")[-1]

    def test_the_example_runs_from_the_shell_as_well(self, sample: BossServer, tmp_path: Path) -> None:
        _, program, _ = blocks_of_example()
        (tmp_path / "puncta.py").write_text(program)
        words = ("-m", "nd_synapse", "multicore", "neurodata.cfg", "puncta:puncta", "--block-size", "8,128,256")
        assert run_example(program, tmp_path, sample, *words) == "0_0_0\n0_128_0\n8_0_0\n8_128_0\n"

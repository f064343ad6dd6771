"""What is in the image, and what is not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from nd_synapse import __version__
from tests.conftest import REPOSITORY
from tests.image.conftest import HARDENED, base_of, configuration, demand_image, docker, ended

demand_image()

MOST_BYTES = 500_000_000
LEFT_OUT = {"tests", "benchmarks"}
BAIT = "b41757eab41757eab41757eab41757eab41757ea"
BAITED = (
    ".aws/credentials",
    ".env",
    ".git/config",
    "boss/token.txt",
    "container/cache/tokens.json",
    "demo/boss/tokens.json",
    "nd_synapse/neurodata.cfg",
    "neurodata.cfg",
    "results/job.log",
    "tests/token.py",
)
"""Where a token may lie when somebody builds the image."""

# Every module that a job imports, and whether its bytecode is beside it; driver.py is a script, which is never cached.
UNCOMPILED = """
import importlib.util, os, sys
import driver, pymeda_driver, sklearn.mixture
from nd_synapse.cli import run, upload
from nd_synapse.job import delivery, steps
specs = [module.__spec__ for module in list(sys.modules.values()) if getattr(module, "__spec__", None)]
cached = {spec.name: spec.cached for spec in specs if (spec.cached or "").startswith("/opt")}
print([name for name, file in cached.items() if not os.path.exists(file)])
"""


def shell(image: str, script: str) -> str:
    """Run a script in the image, with a read-only root; return what it prints."""
    done = ended(image, "sh", "-c", script, options=HARDENED)
    assert done.code == 0, done.log
    return done.log


def layers(image: str, folder: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield name and content of every file of every layer, and of the image's own description."""
    docker("save", "--output", str(folder / "image.tar"), image)
    with tarfile.open(folder / "image.tar") as outer:
        for member in outer:
            file = outer.extractfile(member)
            if file is None:
                continue
            try:
                with tarfile.open(fileobj=file, mode="r:*") as layer:
                    for entry in layer:
                        content = layer.extractfile(entry) if entry.isfile() else None
                        if content is not None:
                            yield entry.name, content
            except tarfile.ReadError:
                # no layer, but what describes the image
                file.seek(0)
                yield member.name, file


class TestContents:
    """Small, and nothing that a job does not need."""

    def test_the_image_is_below_500_megabytes(self, image: str) -> None:
        (found,) = json.loads(docker("image", "inspect", image))
        assert found["Size"] < MOST_BYTES

    def test_labels_tell_where_it_comes_from(self, image: str) -> None:
        labels = configuration(image)["Labels"]
        named = {key.removeprefix("org.opencontainers.image."): value for key, value in labels.items()}
        assert named["version"] == __version__
        assert re.fullmatch(r"[0-9a-f]{40}|unknown", named["revision"])
        assert {"title", "licenses", "source", "base.name"} <= named.keys()

    def test_nobody_is_root_in_it_and_an_init_is_the_first_process(self, image: str) -> None:
        assert configuration(image)["User"] == "1000:1000"
        assert shell(image, "id -u; cat /proc/1/comm").split() == ["1000", "tini"]

    def test_the_package_is_installed_and_beside_it_lie_the_door_and_the_entry_point_alone(self, image: str) -> None:
        listed = shell(image, "cd /app && find . -type f")
        assert {line.removeprefix("./") for line in listed.splitlines()} == {"driver.py", "entrypoint"}
        listed = shell(image, "cd /opt/venv/lib/python3*/site-packages && find nd_synapse pipelines batch -name '*.py'")
        tracked = subprocess.run(
            ["git", "ls-files", "nd_synapse", "pipelines", "batch"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        assert set(listed.splitlines()) == {name for name in tracked if name.endswith(".py")}

    def test_neither_tests_nor_tools_nor_caches_came_along(self, image: str) -> None:
        script = """
            find /opt/venv /app -type d -name tests
            ls -d /opt/venv/bin/pip* /opt/venv/lib/python3*/site-packages/setuptools /root/.cache /tmp/* 2>/dev/null
            ls /var/lib/apt/lists/* /var/cache/apt/* 2>/dev/null
            for tool in cc gcc ld make strip; do command -v $tool; done
            exit 0
        """
        assert shell(image, script) == ""

    def test_what_a_job_imports_is_compiled(self, image: str) -> None:
        """With a read-only root, Python would otherwise compile it at every start."""
        done = ended(image, "python3", "-c", UNCOMPILED, options=HARDENED)
        assert (done.code, done.log.strip()) == (0, "[]")

    def test_the_aws_services_that_are_called_are_known(self, image: str) -> None:
        script = """
            import boto3
            for service in ("batch", "logs", "s3", "sso", "sso-oidc", "sts"):
                boto3.client(service, region_name="us-east-1")
        """
        done = ended(image, "python3", "-c", textwrap.dedent(script), options=HARDENED)
        assert done.code == 0, done.log

    def test_what_people_compress_tiff_with_is_decoded(self, image: str) -> None:
        """The image has a part of imagecodecs alone."""
        script = """
            import io, numpy, tifffile
            voxels = numpy.arange(3072, dtype="u1").reshape(3, 32, 32)
            for kind in "lzw zstd zlib lzma packbits jpeg jpeg2000 jpegxl jpegxr png lerc".split():
                file = io.BytesIO()
                tifffile.imwrite(file, voxels, compression=kind, photometric="minisblack")
                file.seek(0)
                assert tifffile.imread(file).shape == voxels.shape, kind
        """
        done = ended(image, "python3", "-c", textwrap.dedent(script), options=HARDENED)
        assert done.code == 0, done.log


class TestSecrets:
    """What lies in the folder where the image is built."""

    def test_no_file_beside_the_code_gets_into_a_layer(self, image: str, tmp_path: Path) -> None:
        """Files that hold a token lie all over a copy of the repository, and an image is made of that."""
        copy = tmp_path / "copy"
        names = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
        for name in names.splitlines():
            if (REPOSITORY / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, copy / name)
        for name in BAITED:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_text(f"token = {BAIT}\n")
        baited = f"{image.partition(':')[0]}:baited"
        docker(
            "build", "--quiet", "--tag", baited, "--build-arg", f"BASE_IMAGE={base_of(image)}", str(copy), limit_s=600
        )
        try:
            assert BAIT not in docker("history", "--no-trunc", baited) + json.dumps(configuration(baited))
            held = [name for name, content in layers(baited, tmp_path) if BAIT.encode() in content.read()]
        finally:
            docker("image", "rm", baited)
        assert held == []

"""The same bytes on another processor: what NumPy and OpenBLAS choose by it must not show."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nd_synapse.detection.shape import eigenvalues
from tests.conftest import REPOSITORY

OTHERS = {
    "without AVX-512": {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL", "OPENBLAS_CORETYPE": "Haswell"},
    "of another maker": {"OPENBLAS_CORETYPE": "Zen"},
}

PROGRAM = """
import hashlib
import numpy as np
from nd_synapse.detection.in_memory import detect_arrays
from nd_synapse.detection.registration import measure_registration
from nd_synapse.geometry import Box
from nd_synapse.local_boss.synthetic import generate
from tests.pipelines.variants import VARIANTS, built, volume

for variant in VARIANTS:
    for dtype, seed in ((np.uint8, 3), (np.uint16, 4)):
        pipeline = built(variant)
        voxels = volume(pipeline, (6, 64, 64), dtype, "spots", seed)
        found = detect_arrays(pipeline, voxels, (70.0, 100.0, 100.0), sampled=True)
        digest = hashlib.sha256(repr(sorted(found.finding.items())).encode())
        for mask in found.masks.values():
            digest.update(mask.tobytes())
        print(variant, np.dtype(dtype), digest.hexdigest()[:16], found.chance)
        for name, values in found.table.items():
            print("  ", name, hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16])
shape = (4, 330, 400)
images = generate(shape).channels
for pair in measure_registration(images, list(images), Box.of_shape(shape), (70.0, 100.0, 100.0)).pairs:
    print(pair)
"""


def digests(environment: dict[str, str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_masks_and_tables_are_the_same_bytes_on_other_processors() -> None:
    """As far as this one can act as others; one without AVX-512 has fewer of them to act as."""
    here = digests({})
    assert len(here) > 100
    for name, environment in OTHERS.items():
        assert digests(environment) == here, name


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-9, 1.0, 1e9]), flat=st.booleans())
def test_eigenvalues_are_those_of_lapack(seed: int, scale: float, flat: bool) -> None:
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(20, 3, 3)) * np.array([1.0, 1.0, 1e-4 if flat else 1.0])
    matrices = scale * factors @ factors.transpose(0, 2, 1)
    matrices = (matrices + matrices.transpose(0, 2, 1)) / 2
    expected = np.linalg.eigvalsh(matrices).T
    np.testing.assert_allclose(eigenvalues(matrices), expected, rtol=1e-9, atol=1e-12 * scale)


def test_eigenvalues_of_a_diagonal_are_its_values() -> None:
    values = np.array([[3.0, 1.0, 2.0], [0.0, 0.0, 0.0], [5.0, 5.0, 1e-300]])
    assert np.array_equal(eigenvalues(values[:, :, None] * np.eye(3)), np.sort(values, axis=1).T)

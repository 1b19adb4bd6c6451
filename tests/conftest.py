"""One CPU process that looks like eight devices, strict dtypes, and the golden data if it lies beside the checkout."""

import atexit
import gc
import logging
import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_INTERP_TEST_PLATFORM", "cpu")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Tests and the processes that they start compile the same small programs over and over: each once for all of them.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled = tempfile.mkdtemp(prefix="jax-interp-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)

import jax
import numpy as np
import pytest

from tests.array_types import check_annotations

check_annotations()
jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_collection_modifyitems(items):
    if jax.default_backend() == "gpu":
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU, and JAX_INTERP_TEST_PLATFORM=cuda"))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def package_logger():
    """Commands give the package's logger a console; the next test starts without it."""
    yield
    logger = logging.getLogger("jax_interp")
    logger.handlers, logger.propagate, logger.level = [], True, logging.NOTSET


@pytest.fixture(scope="module")
def settled_heap():
    """What lives before a module's tests is set aside, so that collecting the garbage of each takes milliseconds."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory):
    """Caches of the tests stay out of the user's home."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """The golden checkpoints, converted by the command line with no flag but the folders."""
    from tests import golden
    from tests.commands import jax_interp

    folder = tmp_path_factory.mktemp("golden") / "converted"
    outcome = jax_interp("convert", "--checkpoint-dir", golden.CHECKPOINTS, "--output-dir", folder)
    assert outcome.code == 0, outcome.output
    return folder


def _quantized(folder, quantization):
    from tests import golden
    from tests.commands import jax_interp

    arguments = ("--checkpoint-dir", golden.CHECKPOINTS, "--output-dir", folder, "--quantization", quantization)
    outcome = jax_interp("convert", *arguments)
    assert outcome.code == 0, outcome.output
    return folder


@pytest.fixture(scope="session")
def quantized(tmp_path_factory):
    """The golden checkpoints, converted into 8 bits."""
    return _quantized(tmp_path_factory.mktemp("quantized") / "converted", "int8")


@pytest.fixture(scope="session")
def rotated_folder(tmp_path_factory):
    """The golden checkpoints, converted into 8 bits with rotated channels."""
    return _quantized(tmp_path_factory.mktemp("rotated") / "converted", "int8-rotated")


@pytest.fixture(scope="session")
def smoothed_folder(tmp_path_factory):
    """The golden checkpoints, converted into 8 bits with the factors of a calibration that was made up."""
    from convert import convert
    from tests import golden
    from tests.made_up_calibration import MadeUp

    folder = tmp_path_factory.mktemp("smoothed") / "converted"
    convert(golden.CHECKPOINTS, folder, quantization="int8", calibrate=MadeUp())
    return folder


@pytest.fixture(scope="session")
def interpolators(converted):
    """One `Interpolator` for each precision, on the golden checkpoints."""
    from jax_interp import Interpolator

    return {dtype: Interpolator.from_pretrained(converted, dtype=dtype) for dtype in ("float32", "bfloat16")}


@pytest.fixture(scope="session")
def converted_world(tmp_path_factory):
    """The golden networks of Video2World, converted by the command line with no flag but the folders."""
    from tests import golden
    from tests.commands import jax_interp

    folder = tmp_path_factory.mktemp("world") / "converted"
    checkpoints = golden.VIDEO2WORLD / "checkpoints"
    outcome = jax_interp("convert", "--checkpoint-dir", checkpoints, "--output-dir", folder)
    assert outcome.code == 0, outcome.output
    return folder


@pytest.fixture(scope="session")
def worlds(converted_world):
    """One `Video2World` for each precision, on the golden checkpoints."""
    from jax_interp import Video2World

    return {dtype: Video2World.from_pretrained(converted_world, dtype=dtype) for dtype in ("float32", "bfloat16")}


@pytest.fixture(scope="session")
def guarded(tmp_path_factory):
    """Tiny guardrails (`tests.guardrails.tiny_guards`), converted by the command line."""
    from tests.commands import jax_interp
    from tests.guardrails.tiny_guards import write_guardrails

    root = tmp_path_factory.mktemp("guarded")
    checkpoints = write_guardrails(root / "checkpoints")
    outcome = jax_interp("convert", "--checkpoint-dir", checkpoints, "--output-dir", root / "converted")
    assert outcome.code == 0, outcome.output
    return root / "converted"

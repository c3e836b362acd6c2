"""Fixtures that tests of several folders share."""

import os
import signal
from pathlib import Path

import pytest
import torch

from hub_stand_in import serving
from workflow_runner import Workflow

# A shell that starts the suite in the background lets it ignore SIGINT, and every program that a test starts would
# inherit that. With a handler here they start as from a terminal.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """The suite shares two cores with the workflows that it starts."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _cache_folder(tmp_path_factory):
    """Digests that the tests remember stay out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real GLUE, SuperGLUE and SQuAD data, or a skip that says how to get it."""
    folder = os.environ.get("EPT_TEST_DATA")
    if not folder:
        pytest.skip("EPT_TEST_DATA does not name a folder with GLUE, SuperGLUE and SQuAD as Parquet")
    return Path(folder)


@pytest.fixture
def hub(monkeypatch):
    """A stand-in of the Hugging Face hub, which HF_ENDPOINT names."""
    with serving() as hub:
        for name in [name for name in os.environ if name.startswith("HF_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


@pytest.fixture
def workflow(project, tmp_path):
    """A fresh folder to run the workflow in."""
    return Workflow(project, tmp_path)


@pytest.fixture(scope="module")
def shared_workflow(project, tmp_path_factory):
    """One folder for all tests of a module, in their order."""
    return Workflow(project, tmp_path_factory.mktemp("workflow"))

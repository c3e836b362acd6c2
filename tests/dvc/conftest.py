"""Clones of the project with a small configuration, and stores on loopback."""

import pytest

from dvc_clone import Clone
from s3_stand_in import serving


@pytest.fixture(scope="module")
def first(project, tmp_path_factory) -> Clone:
    """A repository with the project in its working state, one commit, nothing made."""
    return Clone.of_project(project, tmp_path_factory.mktemp("first") / "clone")


@pytest.fixture(scope="module")
def s3():
    """A store on S3 that admits one key."""
    with serving() as store:
        yield store

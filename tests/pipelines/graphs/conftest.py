"""Pictures and models that several files here share."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from pipelines import Pixels
from tests.pipelines.graphs.pictures import CLIP, picture


@pytest.fixture(scope="package")
def reference(one_chunk_model: Path) -> Pixels:
    """The picture of the plain backend."""
    return picture(one_chunk_model, "eager", "float32")


@pytest.fixture(scope="package")
def calibrated(one_chunk_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "calibrated"
    shutil.copytree(one_chunk_model, folder)
    (folder / "calibration").mkdir()
    for index in range(5):
        Image.fromarray(CLIP[7 * index]).save(folder / "calibration" / f"{index}.jpg", quality=95)
    return folder

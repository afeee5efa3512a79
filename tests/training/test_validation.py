from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("torchvision")

from isc_fast.assets import demo_photos
from isc_fast.errors import InputError
from isc_fast.training.data.held_out import read_held_out
from isc_fast.training.tiny.photo_split import source_of
from isc_fast.training.tiny.validation import SIZE, kinds, split_for_validation


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 60 real photos, small; every third source has two pictures."""
    folder = tmp_path_factory.mktemp("data") / "training_images"
    folder.mkdir()
    for number, photo in enumerate(demo_photos()):
        image = Image.open(photo).convert("RGB")
        image.thumbnail((120, 120))
        image.save(folder / f"{photo.stem}__0.jpg")
        if number % 3 == 0:
            image.rotate(90, expand=True).save(folder / f"{photo.stem}__1.jpg")
    return folder.parent


def test_no_source_is_trained_on_and_validated_on(data, tmp_path):
    train, queries = split_for_validation(data, tmp_path / "out")
    names = {file.stem for file in (tmp_path / "out/training_images").iterdir()}
    assert len(names) == train
    held = read_held_out(tmp_path / "out/validation")
    assert len(held.queries) == queries == len(held.truth.queries)
    aside = {source_of(item.id) for item in held.references} | {
        query.rpartition("__")[0] for query in held.truth.queries
    }
    assert len(aside) == 12
    assert not aside & {source_of(name) for name in names}
    assert len(aside | {source_of(name) for name in names}) == 60
    references = {item.id for item in held.references}
    assert {reference for _, reference in held.truth.pairs} < references
    assert len(held.truth.pairs) == 4 * len(kinds())
    assert queries == 8 * len(kinds())
    sizes = {Image.open(item.path).size for item in held.queries}
    assert sizes == {(SIZE, SIZE)}


def test_the_same_photos_give_the_same_queries_and_each_kind_another(data, tmp_path):
    for name in ("one", "two"):
        split_for_validation(data, tmp_path / name)
    one, two = (sorted((tmp_path / name / "validation/query_images").iterdir()) for name in ("one", "two"))
    contents = [file.read_bytes() for file in one]
    assert contents == [file.read_bytes() for file in two]
    assert len(set(contents)) == len(contents)


def test_too_few_sources_and_a_full_folder_are_refused(data, tmp_path):
    (tmp_path / "few/training_images").mkdir(parents=True)
    for number in range(20):
        Image.new("RGB", (40, 30)).save(tmp_path / f"few/training_images/a{number}.png")
    with pytest.raises(InputError, match="of 20 sources; expected at least 60"):
        split_for_validation(tmp_path / "few", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(InputError, match="is not empty"):
        split_for_validation(data, tmp_path / "full")

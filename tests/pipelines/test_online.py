"""One image at once: the pixels of a run, refused as files are, and shared by threads."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.io import MemoryFile

from models.registry import default_folders, load_cards
from pipelines.online import Form, Grounds, Online, Question
from pipelines.runner import Loop
from swathe.errors import GridError, ImageryError, InputError, LimitError
from swathe.recipe import Recipe


@pytest.fixture(scope="module")
def online(card, home, sensors):
    return Online(card, home, sensors)


@pytest.fixture(scope="module")
def ran(go, tmp_path_factory):
    """What a run of the same scene leaves, cut into chunks."""
    out = tmp_path_factory.mktemp("ran")
    go(out, Loop(), chunk=512)
    return out


def ask(online, image, form=Form.TIFF, **changes):
    return online(replace(Question(Recipe(online.card.id), image, form), **changes))


def test_gives_the_pixels_of_a_run(online, ran, scene):
    answer = ask(online, scene.read_bytes())
    with MemoryFile(answer.body) as memory, memory.open() as mine, rasterio.open(ran / "result.tif") as theirs:
        np.testing.assert_array_equal(mine.read(), theirs.read())
        assert (mine.crs, mine.transform, mine.nodata) == (theirs.crs, theirs.transform, theirs.nodata)
        assert mine.colormap(1)[1] == theirs.colormap(1)[1]
        assert mine.tags(1)["CLASS_1"] == "water"
        assert mine.colorinterp == theirs.colorinterp
    assert answer.pixels == 700 * 900
    assert answer.tiles > 100


def test_probabilities_are_those_of_a_run_to_a_millionth(online, ran, scene, card):
    """Stored scores are steps of 1/254, so a difference of 1e-6 shows in few of them, and by one step."""
    said = json.loads(ask(online, scene.read_bytes(), Form.JSON).body)
    with rasterio.open(ran / "score.tif") as file:
        score = file.read(1)
    assert said["mean_score"] == pytest.approx(score[score != 255].mean() / 254, abs=1e-4)


def test_summary_counts_what_the_result_shows(online, scene):
    said = json.loads(ask(online, scene.read_bytes(), Form.JSON).body)
    with MemoryFile(ask(online, scene.read_bytes()).body) as memory, memory.open() as file:
        counts = np.bincount(file.read(1).ravel(), minlength=256)
    assert [c["pixels"] for c in said["classes"]] == counts[:3].tolist()
    assert said["pixels"] == {"total": 630_000, "valid": int(counts[:255].sum())}
    assert sum(c["area_km2"] for c in said["classes"]) == pytest.approx(counts[:255].sum() * 100 / 1e6, rel=1e-3)


def test_picture_has_the_cards_colours(online, scene):
    with MemoryFile(ask(online, scene.read_bytes()).body) as memory, memory.open() as file:
        classes = file.read(1)
    seen = np.asarray(Image.open(io.BytesIO(ask(online, scene.read_bytes(), Form.PNG).body)))
    assert (seen[classes == 1] == (0x1F, 0x78, 0xB4, 255)).all()
    assert (seen[classes == 255][:, 3] == 0).all()


def test_threads_share_a_model(online, write_scene, tmp_path):
    images = [write_scene(tmp_path / f"{i}.tif", (200, 260), seed=i).read_bytes() for i in range(6)]
    alone = [ask(online, image).body for image in images]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda image: ask(online, image).body, images * 3))
    assert together == alone * 3


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"", ImageryError, "imagery.unreadable"),
        (b"PK\x03\x04 an archive", ImageryError, "imagery.unreadable"),
        (b'<VRTDataset rasterXSize="9" rasterYSize="9"/>', ImageryError, "imagery.unreadable"),
        (b"II*\0 torn", ImageryError, "imagery.unreadable"),
    ],
)
def test_what_is_no_image_is_refused_without_our_paths(online, body, kind, code):
    with pytest.raises(kind) as caught:
        ask(online, body)
    assert caught.value.problem.code == code
    assert caught.value.problem.field == "body"
    assert "the image" in caught.value.detail
    assert "swathe-image-" not in caught.value.detail + caught.value.hint


def test_an_image_without_a_place_is_refused(online):
    sink = io.BytesIO()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(sink, "PNG")
    with pytest.raises(GridError) as caught:
        ask(online, sink.getvalue())
    assert caught.value.problem.code == "grid.no_crs"


def test_too_many_pixels_are_refused_with_both_numbers(online, scene):
    with pytest.raises(LimitError, match=r"630000 pixels.*1000 at most"):
        ask(online, scene.read_bytes(), max_pixels=1000)


def test_too_many_seconds_are_refused_with_both_numbers(card, home, sensors, scene, tmp_path):
    """By the pace of runs as long as the model has none of its own; that one counts from then on."""
    online = Online(card, home, sensors, grounds=Grounds(tmp_path))
    name = f"{card.id} {online.card.runtime.engine} {card.runtime.precision}"
    (tmp_path / "pace.json").write_text(json.dumps({name: {"tile_s": 2.5, "runs": 3}}))
    image = scene.read_bytes()
    with pytest.raises(LimitError, match=r"about \d+ s; .* 10 s at most") as caught:
        ask(online, image, max_seconds=10)
    assert (caught.value.problem.code, caught.value.problem.field) == ("limit.seconds", "body")
    assert ask(online, image).tiles > 100
    assert ask(online, image, max_seconds=10).tiles > 100


def test_a_model_of_several_dates_says_what_it_wants(home, sensors, scene):
    cards = load_cards(default_folders())
    with pytest.raises(InputError) as caught:
        ask(Online(cards["burn-dnbr"], home, sensors), scene.read_bytes())
    assert caught.value.problem.code == "input.dates"


def test_a_threshold_is_found_in_the_image(home, sensors, scene, go, tmp_path):
    card = load_cards(default_folders())["water-ndwi-otsu"]
    go(tmp_path, Loop(), card=card)
    answer = ask(Online(card, home, sensors), scene.read_bytes())
    with MemoryFile(answer.body) as memory, memory.open() as mine, rasterio.open(tmp_path / "result.tif") as theirs:
        np.testing.assert_array_equal(mine.read(), theirs.read())


def test_an_index_gives_values(home, sensors, scene, go, tmp_path):
    card = load_cards(default_folders())["vegetation-ndvi"]
    go(tmp_path, Loop(), card=card)
    online = Online(card, home, sensors)
    with (
        MemoryFile(ask(online, scene.read_bytes()).body) as memory,
        memory.open() as mine,
        rasterio.open(tmp_path / "result.tif") as theirs,
    ):
        np.testing.assert_allclose(mine.read(), theirs.read(), atol=1e-6)
        said = json.loads(ask(online, scene.read_bytes(), Form.JSON).body)
        assert said["values"]["mean"] == pytest.approx(float(np.nanmean(theirs.read())), abs=1e-5)
    assert Image.open(io.BytesIO(ask(online, scene.read_bytes(), Form.PNG).body)).size == (900, 700)

"""Which layers a task is to have, before anything is planned: from wishes to what is pushed; colours of any form."""

from serve.dialects.geostudio.ids import uuid_of
from serve.dialects.geostudio.models import Models
from serve.dialects.geostudio.routes.inference import chosen_wish
from serve.dialects.geostudio.schema import InferenceCreate
from swathe.user import SCOPES_OF, Caller

RESULT = ("processed.tif", "result.tif")


def push_of(name="water", key="model_output_image", style=""):
    return {"workspace": "floods", "layer_name": name, "display_name": name, "file_suffix": "", "filepath_key": key,
            "geoserver_style": style}  # fmt: skip


def published(studio, pushes, **more):
    """What each task would push, where a map server is set."""
    body = {"model_display_name": "water-ndwi", "spatial_domain": {"urls": ["https://a.example/x.tif"]},
            "geoserver_push": pushes} | more  # fmt: skip
    desk, who = studio.house.desk, Caller(studio.person.user, SCOPES_OF[studio.person.user.role])
    wish = chosen_wish(desk, Models(desk, dict), who, InferenceCreate.model_validate(body))
    return [asking.publish for asking in wish.to_push(BATCH)]


BATCH = "b" + "0" * 26


def named(published):
    return [[(one.name.removeprefix(uuid_of(BATCH)), one.files) for one in task] for task in published]


def test_what_is_no_result_is_not_pushed_as_one(studio):
    others = [push_of(key, key) for key in ("original_input_image", "imputed_input_image", "imputed")]
    masked = push_of("masked", "model_output_image_masked")
    assert named(published(studio, [*others, push_of(), masked])) == [[("-water", RESULT)]]
    assert named(published(studio, others)) == [[("-pred", ())]]
    both = published(studio, [push_of(), masked], post_processing={"ocean_masking": True})
    assert named(both) == [[("-water", RESULT), ("-masked", ("masked.tif",))]]


def test_the_imagery_in_colours_is_pushed_as_it_is(studio):
    style = {"segmentation": [{"color": "#0000ff", "quantity": 1}]}
    pushes = [push_of("seen", "model_input_original_image_rgb", style), push_of(style=style)]
    ((picture, result),) = published(studio, pushes)
    assert (picture.files, picture.colours) == (("quicklook.tif",), ())
    assert (result.files, len(result.colours)) == (RESULT, 1)


def test_ready_made_layers_have_one_push_per_address(studio):
    wish = {"model_display_name": "add-layer-sandbox-model", "fine_tuning_id": "sandbox", "temporal_domain": [],
            "spatial_domain": {"urls": ["https://a.example/x.tif", "https://a.example/y.tif"]}}  # fmt: skip
    pushes = [push_of(name, "original_input_image") for name in ("before", "after")]
    paired, crossed = (named(published(studio, some, **wish)) for some in (pushes, pushes[:1]))
    assert paired == [[("-task_0-before", RESULT)], [("-task_1-after", RESULT)]]
    assert crossed == [[("-task_0-before", RESULT)], [("-task_1-before", RESULT)]]


def test_colours_of_any_form_are_taken_and_others_passed_over(studio):
    rows = [
        {"color": "#f00", "quantity": "1", "opacity": 100, "label": "x" * 500}, {"color": "red", "quantity": "2"},
        {"color": "#00ff0080", "quantity": 3, "opacity": "50", "label": None}, {"color": "#0000ff", "quantity": "many"},
        {"color": "#0000FF", "quantity": 4, "opacity": -1}, {"color": "#0000ff"}, {"quantity": "1e999"}, "nonsense",
    ]  # fmt: skip
    ((one,),) = published(studio, [push_of(style={"segmentation": rows})])
    assert [(c.value, c.colour, round(c.opacity, 3), len(c.label)) for c in one.colours] == [
        (1, "#ff0000", 1.0, 200), (3, "#00ff00", 0.251, 0), (4, "#0000ff", 0.0, 0)]  # fmt: skip
    many = [{"color": "#123456", "quantity": n} for n in range(1000)]
    ((one,),) = published(studio, [push_of(style={"regression": many})])
    assert (len(one.colours), one.kind) == (256, "ramp")
    for style in ({"segmentation": 5}, {"segmentation": {"a": 1}}, {"rgb": []}, {}, "a name"):
        assert published(studio, [push_of(style=style)])[0][0].colours == ()


def test_a_masked_layer_has_the_colours_of_its_codes(studio):
    style = {"segmentation": [{"color": "#0000ff", "quantity": 1}, {"color": "#ffffff", "quantity": 999}]}
    push = push_of("masked", "model_output_image_masked", style)
    ((one,),) = published(studio, [push], post_processing={"cloud_masking": True})
    assert [(c.value, c.colour) for c in one.colours] == [(1, "#0000ff"), (999, "#ffffff"), (997, "#4a90d9"),
                                                          (998, "#e6f4ff")]  # fmt: skip
    ((one,),) = published(studio, [push], post_processing={"mask_from_url": {"url": "https://a.example/m.geojson"}})
    assert (90, "#a05195") in [(c.value, c.colour) for c in one.colours]


def test_more_layers_than_a_task_can_have_are_refused(studio):
    url = "https://a.example/x.tif"
    refused = studio.infer(url, 422, geoserver_push=[push_of(f"n{n}") for n in range(17)])
    assert "16" in refused["detail"]["msg"]
    assert len(published(studio, [push_of(f"n{n}") for n in range(16)])[0]) == 16
    one_each = {"model_display_name": "add-layer-sandbox-model", "spatial_domain": {"urls": [url] * 17}}
    assert [len(task) for task in published(studio, [push_of(f"n{n}") for n in range(17)], **one_each)] == [1] * 17

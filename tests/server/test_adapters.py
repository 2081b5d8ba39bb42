"""What the adapters that ship do to the pictures of their workflows, on a real server."""

import numpy as np
import pytest
import torch
from comfyui_cascade.adapters.hints import canny_hint
from shipped_workflows import ROUNDING, changed, example, read
from torch.nn import functional

from development.workflow import find_node


@pytest.fixture(scope="module")
def both(draw):
    """The workflow lora as shipped: without it on the left, with it on the right."""
    drawn = draw(read("lora"))
    return drawn[:, :256], drawn[:, 256:]


def test_a_lora_leaves_the_picture_without_it_as_it_was(both, draw):
    assert np.array_equal(both[0], draw(read("text_to_image")))


def test_a_lora_of_strength_0_changes_not_a_bit(both, draw):
    drawn = draw(changed(read("lora"), "CascadeLoadLora", "strength_model", 0.0))
    assert np.array_equal(drawn[:, 256:], both[0])


def test_the_style_lora_takes_the_colours_and_leaves_blue(both):
    """Of a cyanotype each pixel is bluer than green and greener than red."""
    plain, printed = (
        float(((half[..., 2] >= half[..., 1]) & (half[..., 1] >= half[..., 0])).mean()) for half in both
    )
    assert printed > 0.9
    assert printed > plain + 0.2


def edges_shared(drawn, reference, within=3):
    """F1 of two pictures' edges, which may be a few pixels of 224 apart."""
    ours, theirs = (
        (canny_hint(torch.from_numpy(picture).movedim(-1, 0)[None]) > 0).float()
        for picture in (drawn, reference)
    )
    near = [functional.max_pool2d(edges, 2 * within + 1, 1, within) for edges in (ours, theirs)]
    right, found = (ours * near[1]).sum() / ours.sum(), (theirs * near[0]).sum() / theirs.sum()
    return float(2 * right * found / (right + found))


def with_strength(name, strength):
    return changed(read(name), "CascadeApplyControlNet", "strength", strength)


def test_the_canny_controlnet_makes_a_picture_follow_the_edges(draw):
    followed, free = (
        edges_shared(draw(with_strength("canny", strength)), example("boat")) for strength in (1.0, 0.0)
    )
    assert followed > free + 0.1


def test_inpainting_by_controlnet_keeps_every_pixel_outside_of_its_mask(draw):
    workflow = read("inpaint_controlnet")
    _, width, height = find_node(workflow, title="Size of the hole")["widgets_values"]
    left, top, _ = find_node(workflow, title="Place of the hole")["widgets_values"]
    hole = np.zeros((256, 256), dtype=bool)
    hole[top : top + height, left : left + width] = True
    change = np.abs(draw(changed(workflow, "SaveImage", "filename_prefix", "kept")) - example("house"))
    assert change[~hole].max() < ROUNDING
    assert change[hole].mean() > 0.02


def test_super_resolution_keeps_to_its_small_picture(draw):
    """Made small again, the result is nearer to it than what is drawn without the ControlNet."""

    def small(picture):
        return picture.reshape(32, 8, 32, 8, 3).mean(axis=(1, 3))

    steered, free = (
        np.square(small(draw(with_strength("super_resolution", strength))) - small(example("boat"))).mean()
        for strength in (1.0, 0.0)
    )
    assert steered < 0.75 * free


def test_the_image_adapter_draws_what_is_like_its_picture(draw, likeness):
    seen, unseen = (
        likeness(draw(changed(read("style_from_image"), "CascadeApplyImageAdapter", "scale", scale)))["boat"]
        for scale in (1.0, 0.0)
    )
    assert seen > unseen + 0.1

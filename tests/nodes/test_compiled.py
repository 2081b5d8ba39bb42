"""Stages whose blocks torch compiles: the same pictures, few graphs, and no run that ends for it."""

import shutil
import sys

import pytest
import torch
from random_weights import difference
from torch._dynamo.testing import CompileCounter

EXACT = 1e-5

STAGES = ["stage_c", "stage_b"]


@pytest.fixture
def compiled(tiny):
    """A MODEL with compiled blocks."""
    from comfyui_cascade.nodes import host

    return lambda stage, backend: host.compiled(getattr(tiny, stage), "blocks", backend)


@pytest.mark.parametrize("stage", STAGES)
def test_blocks_of_a_kind_share_a_graph_in_all_steps_and_runs(compiled, draw, stage):
    torch.compiler.reset()
    counter = CompileCounter()
    model = compiled(stage, counter)
    assert difference(draw(stage, model), draw(stage)) < EXACT
    network, graphs = model.model.diffusion_model, counter.frame_count
    assert 0 < graphs < sum(len(blocks) for blocks in (*network.down_blocks, *network.up_blocks))
    draw(stage, model, steps=3, seed=8)
    assert counter.frame_count == graphs


def test_patches_of_other_packs_take_effect_on_compiled_blocks(compiled, tiny, draw):
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    expected, found = (
        draw("stage_c", PerturbedAttentionGuidance.execute(model, 3.0)[0])
        for model in (tiny.stage_c, compiled("stage_c", "eager"))
    )
    assert difference(found, expected) < EXACT


def test_a_stage_that_cannot_be_compiled_runs_uncompiled_and_says_so_once(compiled, draw, said):
    def broken(graph, inputs):
        raise OSError("there is no compiler")

    model = compiled("stage_c", broken)
    assert difference(draw("stage_c", model), draw("stage_c")) < EXACT
    draw("stage_c", model)
    (message,) = (text for text in said if "could not compile" in text)
    assert "there is no compiler" in message
    assert "`off`" in message


def test_errors_of_others_are_not_taken_for_the_compilers(compiled, draw):
    def failing(*_):
        raise ValueError("mine")

    model = compiled("stage_c", "eager")
    model.set_model_unet_function_wrapper(failing)
    with pytest.raises(ValueError, match="mine"):
        draw("stage_c", model)


def test_off_is_the_model_itself(tiny):
    from comfyui_cascade.nodes import host

    assert host.compiled(tiny.stage_c, "off") is tiny.stage_c


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform == "win32" or not shutil.which("g++"), reason="torch.compile needs a C++ compiler here"
)
@pytest.mark.parametrize("stage", STAGES)
def test_compiled_code_draws_the_same(compiled, draw, stage):
    torch.compiler.reset()
    assert difference(draw(stage, compiled(stage, "inductor")), draw(stage)) < EXACT


def test_the_hosts_torch_compile_compiles_once_for_all_steps(tiny, draw):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model, counter = tiny.stage_c.clone(disable_dynamic=True), CompileCounter()
    set_torch_compile_wrapper(model=model, backend=counter)
    found = draw("stage_c", model, steps=3, cfg=1.0)
    assert difference(found, draw("stage_c", steps=3, cfg=1.0)) < EXACT
    once = counter.frame_count
    draw("stage_c", model, steps=4, cfg=1.0)
    assert 1 <= counter.frame_count == once

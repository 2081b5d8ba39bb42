"""LoRAs merged in plain torch: every kind that adds the same to any weight, and an error for the others."""

import pytest
import tiny_cascade
import torch
from comfyui_cascade.adapters.lora import fit, read_lora
from comfyui_cascade.adapters.lora_merge import merge
from comfyui_cascade.stage_c import StageC
from lora_files import DIALECTS, stage_c_shapes
from random_weights import randomise
from safetensors.torch import save_file


def fitted(folder, tensors):
    path = folder / "style.safetensors"
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, path)
    return fit(read_lora(path), stage_c_shapes(), None, "Stage C")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_merged_weights_are_those_of_the_formula(tmp_path, dialect):
    tensors, deltas = DIALECTS[dialect]()
    network = randomise(StageC(tiny_cascade.C))
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    merge(network, fitted(tmp_path, tensors), 0.5)
    deltas = {path if path in before else f"{path}.weight": delta for path, delta in deltas.items()}
    for name, weight in network.named_parameters():
        torch.testing.assert_close(weight, before[name] + 0.5 * deltas.get(name, 0), atol=1e-5, rtol=0)


def test_change_that_depends_on_the_weight_is_refused(tmp_path):
    tensors = {"lora_unet_clip_txt_mapper.oft_blocks": torch.zeros(4, 8, 8)}
    with pytest.raises(ValueError, match="depends on the weight; apply it with a MODEL"):
        merge(StageC(tiny_cascade.C), fitted(tmp_path, tensors))

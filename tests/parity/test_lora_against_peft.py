"""LoRAs that PEFT makes on the prior of diffusers and writes itself, read by us: the same outputs."""

import pytest
import torch
from comfyui_cascade.adapters.lora import fit, read_lora
from comfyui_cascade.adapters.lora_merge import merge
from comfyui_cascade.checkpoints.layout import shapes
from comfyui_cascade.stage_c import StageC, StageCConfig
from diffusers_networks import prior
from native import native
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from random_weights import difference, randomise
from trunk_sizes import STAGE_C, stage_c_inputs

TOLERANCE = 3e-5  # fp32, relative to the largest value; that of the networks themselves
SIZE = STAGE_C["released form"]
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]

CONFIGS = {
    "lora": LoraConfig(r=4, lora_alpha=6, target_modules=ATTENTION),
    "rank-stabilised": LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=ATTENTION),
    "patterns": LoraConfig(
        r=4, lora_alpha=4, target_modules=[*ATTENTION, "kv_mapper.1"],
        rank_pattern={"to_q": 2}, alpha_pattern={"to_q": 5},
    ),
    "loha": LoHaConfig(r=4, alpha=6, target_modules=ATTENTION),
    "lokr": LoKrConfig(r=2, alpha=6, target_modules=ATTENTION),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
def test_network_with_a_lora_of_peft_equals_ours_with_it_merged(tmp_path, kind):
    reference = randomise(prior(SIZE))
    ours = native(StageC, StageCConfig, reference, head_dim=SIZE["head_dim"])
    ours.load_state_dict({key: value.clone() for key, value in ours.state_dict().items()}, assign=True)
    inputs = stage_c_inputs(SIZE, 2, images=1)
    adapted = get_peft_model(reference, CONFIGS[kind])
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if any(part in name for part in ("lora_", "hada_", "lokr_")):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    adapted.save_pretrained(tmp_path)
    lora = fit(read_lora(tmp_path / "adapter_model.safetensors"), shapes(ours.state_dict()), None, "Stage C")
    assert lora.unmatched == ()

    def theirs():
        x, t, text, pooled, image = inputs
        return adapted(x, t, clip_text_pooled=pooled, clip_text=text, clip_img=image).sample

    with torch.inference_mode():
        x, t, *rest = inputs
        before = ours(x, t, ours.tokens(*rest))
        merge(ours, lora)
        after = ours(x, t, ours.tokens(*rest))
        assert difference(after, theirs()) < TOLERANCE
        assert difference(after, before) > 100 * TOLERANCE

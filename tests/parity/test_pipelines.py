"""Whole pipelines of diffusers against ours, from the folders that they save."""

from types import SimpleNamespace

import pytest
import torch
from comfy_host import comfy_tree
from comfyui_cascade.checkpoints.convert import convert
from comfyui_cascade.checkpoints.identify import Part
from comfyui_cascade.checkpoints.layout import Layout
from comfyui_cascade.checkpoints.open import load_part
from comfyui_cascade.conditioning.text import END_ID, LENGTH, encode
from comfyui_cascade.samplers.sample import sample
from comfyui_cascade.samplers.solvers import SOLVERS
from diffusers import DDPMWuerstchenScheduler, StableCascadeDecoderPipeline, StableCascadePriorPipeline
from diffusers.models.unets.unet_stable_cascade import StableCascadeUNet
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
from random_weights import difference, randomise
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

WIDTH, SCALE = 32, 0.43
PROMPT, NEGATIVE = "a red (cat), riding on a bicycle", "blurry"
TOLERANCE = 2e-4
"""Relative to the largest value; latents after all steps were below 5e-5, pictures below 1e-4."""

PLAIN = ("SDCascadeResBlock", "SDCascadeTimestepBlock")
HEADS = {"block_out_channels": (32, 32), "num_attention_heads": (2, 2)}


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


def unet(stage):
    """A small network of diffusers' with heads of 16 channels, which only its configuration says."""
    shared = {
        "timestep_ratio_embedding_dim": 64, "conditioning_dim": 48, "clip_text_pooled_in_channels": WIDTH,
    }  # fmt: skip
    if stage == "prior":
        return StableCascadeUNet(
            in_channels=16, out_channels=16, patch_size=1, clip_text_in_channels=WIDTH,
            clip_image_in_channels=24, switch_level=[False], timestep_conditioning_type=("sca", "crp"),
            down_num_layers_per_block=(1, 2), up_num_layers_per_block=(2, 1),
            down_blocks_repeat_mappers=(1, 1), up_blocks_repeat_mappers=(1, 1),
            block_types_per_layer=((*PLAIN, "SDCascadeAttnBlock"),) * 2,
            **HEADS, **shared,
        )  # fmt: skip
    return StableCascadeUNet(
        in_channels=4, out_channels=4, patch_size=2, effnet_in_channels=16, pixel_mapper_in_channels=3,
        switch_level=None, timestep_conditioning_type=("sca",), block_out_channels=(16, 32),
        num_attention_heads=(0, 2), down_num_layers_per_block=(1, 1), up_num_layers_per_block=(1, 1),
        down_blocks_repeat_mappers=(1, 1), up_blocks_repeat_mappers=(2, 1),
        block_types_per_layer=(PLAIN, (*PLAIN, "SDCascadeAttnBlock")), **shared,
    )  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders that diffusers wrote, and its pipelines loaded from them again."""
    root = tmp_path_factory.mktemp("pipelines")
    spelling = comfy_tree() / "comfy" / "sd1_tokenizer"
    tokenizer = CLIPTokenizer.from_pretrained(str(spelling), model_max_length=LENGTH)
    config = CLIPTextConfig(
        hidden_size=WIDTH, intermediate_size=64, projection_dim=WIDTH, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=LENGTH, vocab_size=49408, hidden_act="gelu",
        bos_token_id=49406, eos_token_id=END_ID,
    )  # fmt: skip
    shared = {
        "tokenizer": tokenizer,
        "text_encoder": randomise(CLIPTextModelWithProjection(config)),
        "scheduler": DDPMWuerstchenScheduler(),
    }
    vqgan = randomise(
        PaellaVQModel(bottleneck_blocks=1, embed_dim=16, num_vq_embeddings=16, scale_factor=SCALE)
    )
    pipelines = {
        "prior": StableCascadePriorPipeline(prior=randomise(unet("prior")), **shared),
        "decoder": StableCascadeDecoderPipeline(decoder=randomise(unet("decoder")), vqgan=vqgan, **shared),
    }
    for name, pipeline in pipelines.items():
        pipeline.save_pretrained(root / name)
    first = StableCascadePriorPipeline.from_pretrained(root / "prior", local_files_only=True)
    # The second is put together here, because diffusers no longer finds the class of its vqgan by name.
    second = StableCascadeDecoderPipeline(
        decoder=StableCascadeUNet.from_pretrained(root / "decoder" / "decoder", local_files_only=True),
        vqgan=PaellaVQModel.from_pretrained(root / "decoder" / "vqgan", local_files_only=True),
        tokenizer=first.tokenizer, text_encoder=first.text_encoder, scheduler=first.scheduler,
    )  # fmt: skip
    again = {"prior": first, "decoder": second}
    for pipeline in again.values():
        pipeline.set_progress_bar_config(disable=True)
    return SimpleNamespace(root=root, tokenizer=tokenizer, **again)


@pytest.fixture(scope="module")
def ours(saved):
    """The same parts in our networks, each from its folder."""
    folders = {
        Part.STAGE_C: "prior/prior", Part.STAGE_B: "decoder/decoder", Part.STAGE_A: "decoder/vqgan",
        Part.TEXT_ENCODER: "prior/text_encoder",
    }  # fmt: skip
    return {part: load_part(saved.root / folder, part) for part, folder in folders.items()}


def encoded(ours, saved, text):
    ids = saved.tokenizer(
        text, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
    ).input_ids
    return encode(ours[Part.TEXT_ENCODER], ids, END_ID)


def told(network):
    """diffusers tells its networks a time of 1 where Stability's schedule ends at 0.9936."""
    return lambda x, t: network(x, torch.where(t > 0.993, 1.0, t))


@pytest.mark.parametrize("text", [PROMPT, "", "word " * 100])
def test_text_is_encoded_as_the_pipeline_does(saved, ours, text):
    hidden, pooled, *_ = saved.prior.encode_prompt("cpu", 1, 1, False, prompt=text)
    for result, expected in zip(encoded(ours, saved, text), (hidden, pooled[:, 0]), strict=True):
        assert difference(result, expected) < 1e-5


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_prior_pipeline_draws_the_same_latents(saved, ours, cfg):
    expected = saved.prior(
        PROMPT, negative_prompt=NEGATIVE, height=256, width=384, num_inference_steps=6, guidance_scale=cfg,
        generator=torch.Generator().manual_seed(3),
    ).image_embeddings  # fmt: skip
    network = ours[Part.STAGE_C]
    bound = []
    for text in (PROMPT, NEGATIVE):
        hidden, pooled = encoded(ours, saved, text)
        tokens = network.tokens(hidden, pooled, torch.zeros(1, 1, 24))
        bound.append(told(lambda x, t, tokens=tokens: network(x, t, tokens)))
    generator = torch.Generator().manual_seed(3)
    drawn = sample(
        bound[0], torch.randn(expected.shape, generator=generator), generator=generator,
        unconditional=bound[1], steps=6, cfg=cfg, solver=SOLVERS["DDPM of diffusers"],
    )  # fmt: skip
    assert difference(drawn, expected) < TOLERANCE


@pytest.mark.parametrize("cfg", [1.0, 2.0])
def test_decoder_pipeline_draws_the_same_latents_and_picture(saved, ours, cfg):
    prior = torch.randn(1, 16, 6, 9, generator=torch.Generator().manual_seed(1))
    settings = {"num_inference_steps": 5, "guidance_scale": cfg, "negative_prompt": NEGATIVE}
    expected, picture = (
        saved.decoder(
            prior, PROMPT, output_type=kind, generator=torch.Generator().manual_seed(2), **settings
        ).images
        for kind in ("latent", "pt")
    )
    network = ours[Part.STAGE_B]
    bound = []
    for text, semantic in ((PROMPT, prior), (NEGATIVE, torch.zeros_like(prior))):
        tokens = network.tokens(encoded(ours, saved, text)[1])
        cells = network.semantic_map(semantic, *expected.shape[-2:])
        bound.append(told(lambda x, t, tokens=tokens, cells=cells: network(x, t, tokens, cells)))
    generator = torch.Generator().manual_seed(2)
    drawn = sample(
        bound[0], torch.randn(expected.shape, generator=generator), generator=generator,
        unconditional=bound[1], steps=5, cfg=cfg, solver=SOLVERS["DDPM of diffusers"],
    )  # fmt: skip
    assert difference(drawn, expected) < TOLERANCE
    decoded = ours[Part.STAGE_A].decode(SCALE * drawn).clamp(0, 1)
    assert difference(decoded, picture) < TOLERANCE


def inputs(stage, network):
    """Something to run a network of diffusers' on."""
    generator = torch.Generator().manual_seed(4)

    def unit(*shape):
        return torch.randn(shape, generator=generator)

    given = {"timestep_ratio": torch.tensor([0.4]), "clip_text_pooled": unit(1, 1, WIDTH)}
    if stage == "prior":
        return {
            "sample": unit(1, 16, 5, 7),
            "clip_text": unit(1, 6, WIDTH),
            "clip_img": unit(1, 1, 24),
            **given,
        }
    return {"sample": unit(1, 4, 16, 20), "effnet": unit(1, 16, 3, 4), **given}


@pytest.mark.parametrize("stage", ["prior", "decoder"])
def test_what_we_write_opens_in_diffusers(saved, tmp_path, stage):
    source = saved.root / stage / stage
    expected = getattr(getattr(saved, stage), stage)
    convert([source], tmp_path / "folder", layout=Layout.DIFFUSERS, dtype=None)
    convert([source], tmp_path / "file.safetensors", layout=Layout.STABILITY, dtype=None)
    opened = (
        StableCascadeUNet.from_pretrained(tmp_path / "folder", local_files_only=True),
        StableCascadeUNet.from_single_file(
            str(tmp_path / "file.safetensors"), config=str(source), local_files_only=True
        ),
    )
    given = inputs(stage, expected)
    for network in opened:
        assert difference(network(**given).sample, expected(**given).sample) < 1e-5


@pytest.mark.parametrize(("stage", "part"), [("prior", Part.STAGE_C), ("decoder", Part.STAGE_B)])
@pytest.mark.parametrize("layout", [*Layout, "folder"])
def test_every_layout_gives_what_diffusers_gives(saved, tmp_path, stage, part, layout):
    source = saved.root / stage / stage
    path = tmp_path / ("folder" if layout == "folder" else "file.safetensors")
    spelled = Layout.DIFFUSERS if layout == "folder" else layout
    convert([source], path, layout=spelled, dtype=None)
    network, expected = load_part(path, part), getattr(getattr(saved, stage), stage)
    given = inputs(stage, expected)
    x, t, pooled = given["sample"], given["timestep_ratio"], given["clip_text_pooled"]
    if part is Part.STAGE_C:
        result = network(x, t, network.tokens(given["clip_text"], pooled, given["clip_img"]))
    else:
        cells = network.semantic_map(given["effnet"], *x.shape[-2:])
        result = network(x, t, network.tokens(pooled), cells)
    assert difference(result, expected(**given).sample) < 3e-5

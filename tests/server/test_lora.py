"""LoRAs on a real server: the node between loaders and samplers, its words, its text and its errors."""

import lora_files
import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture
def put(tiny_server):
    """Puts a LoRA into the server's folder; its name."""

    def write(tensors, name):
        folder = tiny_server.models_dir / "loras"
        folder.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous().clone() for key, value in tensors.items()}, folder / name)
        return name

    return write


def with_lora(graph, cascade, file, strength=1.0, **more):
    return graph.add(
        "CascadeLoadLora", model=cascade.stage_c, clip=cascade.clip, file=file, strength_model=strength,
        strength_clip=strength, **more,
    )  # fmt: skip


def test_lora_of_stability_and_its_word_change_the_latents(graph, cascade, ksampler, run, put):
    learned = {"embeddings.embeddings": torch.ones(1, 32), "embeddings.indices": torch.tensor([49408])}
    file = put(lora_files.stability()[0] | learned, "stability.safetensors")
    lora = with_lora(graph, cascade, file, words="[fernando] = cat")
    off = with_lora(graph, cascade, file, strength=0.0, words="[fernando] = cat")
    word = graph.add("CLIPTextEncode", clip=lora[1], text="a red [fernando]")[0]
    plain, same, styled, named = run(
        *(
            ksampler(model, positive, cascade.negative, cascade.empty_c)
            for model, positive in (
                (cascade.stage_c, cascade.positive), (off[0], cascade.positive), (lora[0], cascade.positive),
                (lora[0], word),
            )
        )
    )  # fmt: skip
    assert torch.equal(plain, same)
    assert (styled - plain).abs().max() > 1e-3
    assert (named - styled).abs().max() > 1e-4


def test_node_shows_what_it_loaded_and_its_words(tiny_server, graph, cascade, put):
    tensors = lora_files.onetrainer()[0] | {"bundle_emb.sunny.clip_g": torch.ones(2, 32)}
    lora = with_lora(graph, cascade, put(tensors, "onetrainer.safetensors"))
    graph.add("PreviewAny", source=lora[2])
    outputs = tiny_server.queue(graph.prompt())["outputs"]
    assert outputs[lora.id]["text"] == ["OneTrainer LoRA, rank 4: 16 weights\nwords: sunny"]


def test_lora_of_another_size_is_refused_in_one_sentence(tiny_server, graph, cascade, ksampler, put):
    name = "lora_unet_down_blocks_0_2_attention_attn_to_q"
    wide = {f"{name}.lora_up.weight": torch.zeros(2048, 4), f"{name}.lora_down.weight": torch.zeros(4, 2048)}
    lora = with_lora(graph, cascade, put(wide, "wide.safetensors"))
    c = ksampler(lora[0], cascade.positive, cascade.negative, cascade.empty_c)
    graph.add("SaveLatent", samples=c, filename_prefix="latents/test")
    said = tiny_server.error(graph.prompt())
    assert "made for a Stage C 2048 wide (as the released one of 3.6 B parameters is)" in said
    assert "this Stage C is 32 wide" in said

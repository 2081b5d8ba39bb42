"""What a real server tells the page of a run: its steps, what was left out, and its end."""

from comfy_graph import sampler


def test_page_sees_progress_and_a_preview_of_each_step(graph, cascade, listener):
    both = sampler(graph, cascade, seed=77, steps_c=3, steps_b=2)
    graph.add("SaveLatent", samples=both[0], filename_prefix="latents/seen")
    events = listener.events(graph.prompt(), preview_method="latent2rgb")
    assert events[-1][0] == "execution_success"
    steps = [
        (data["value"], data["max"])
        for kind, data in events
        if kind == "progress" and data["node"] == both.id
    ]
    assert steps == [(1, 3), (2, 3), (3, 3), (1, 2), (2, 2)]
    assert sum(kind == "preview" for kind, _ in events) >= 2


def test_page_is_told_of_unknown_words_once(tiny_server, graph, cascade, listener):
    prompt = graph.add("CLIPTextEncode", clip=cascade.clip, text="a red zeppelin")
    both = sampler(graph, cascade, positive=prompt[0])
    graph.add("SaveLatent", samples=both[0], filename_prefix="latents/told")
    events = listener.events(graph.prompt())
    told = [data for kind, data in events if kind == "text"]
    assert told == ["This text encoder does not know, and left out: zeppelin"]
    assert tiny_server.log().count("left out: zeppelin") == 1


def test_interrupt_ends_between_steps_and_the_next_prompt_runs(tiny_server, graph, cascade, listener, run):
    both = sampler(graph, cascade, seed=5, steps_c=5000)
    graph.add("SaveLatent", samples=both[0], filename_prefix="latents/never")
    steps = []

    def stop(kind, data):
        if kind == "progress":
            steps.append(data["value"])
            if len(steps) == 1:
                listener.post("/interrupt", {})

    assert listener.events(graph.prompt(), on_event=stop)[-1][0] == "execution_interrupted"
    assert steps[-1] < 5000
    graph.nodes[both.id]["inputs"]["steps_c"] = 1
    assert run(both[0])[0].isfinite().all()

"""What `slobench plan` says of prompts: how many are unique, what they share, texts and images."""

import json

import pytest
import yaml

from slobench.config.load import load_workload
from slobench.errors import ConfigError
from slobench.plan import build_plan
from slobench.report.plan import describe, render, to_json
from slobench.workload.prompts import PromptMaker

CLASS = {
    "arrivals": {"process": "poisson", "rate": 20},
    "input_tokens": {"dist": "uniform", "low": 60, "high": 300},
    "output_tokens": {"dist": "constant", "value": 2},
}


def facts_of(folder, classes, requests=300, seed=1, token_ids=(100, 4000)):
    """The facts of a workload of these classes, its plan, and its prompts as they are sent."""
    path = folder / "w.yaml"
    path.write_text(yaml.safe_dump({"name": "w", "classes": classes, "requests": requests}, sort_keys=False))
    workload = load_workload(str(path)).value
    plan = build_plan(workload, seed)
    made = PromptMaker(
        seed=seed,
        nonce="0123456789abcdef",
        token_ids=token_ids,
        class_names=plan.class_names,
        shared_prefix_tokens={name: spec.shared_prefix_tokens for name, spec in workload.classes.items()},
    )
    parts = [()] * len(plan) if plan.contents is None else [plan.contents.row(row) for row in range(len(plan))]
    prompts = [
        json.loads(made.json(int(plan.index[row]), int(plan.class_code[row]), int(plan.input_tokens[row]), parts[row]))
        for row in range(len(plan))
    ]
    return describe(plan, workload, seed), plan, prompts


def found_again(prompts):
    """Tokens that an endless cache of 16-token blocks finds, prompt after prompt."""
    held, found = set(), 0
    for prompt in prompts:
        names = [tuple(prompt[:end]) for end in range(16, len(prompt) + 1, 16)]
        for name in names[: (len(prompt) - 1) // 16]:
            if name not in held:
                break
            found += 16
        held.update(names)
    return found


def recording(folder, rows, block=16):
    """A trace of prompts with these hashes and lengths."""
    lines = [
        {"timestamp": 10 * at, "input_length": length, "output_length": 2, "hash_ids": hashes}
        for at, (hashes, length) in enumerate(rows)
    ]
    (folder / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"recorded": {"file": "trace.jsonl", "scale_tokens": block / 512}}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"shared_prefix_tokens": 40},
        {"prefix": {"pool": 9, "zipf": 1, "hit_rate": 0.4}},
        {"prefix": {"tokens": {"dist": "uniform", "low": 10, "high": 90}, "pool": 4}},
        {
            "session": {"turns": {"dist": "constant", "value": 3}},
            "prefix": {"tokens": {"dist": "constant", "value": 50}},
        },
    ],
)
def test_every_prompt_is_another_one_and_the_hit_rate_is_theirs(tmp_path, more):
    """All prompts that would be sent differ, as the plan says, and share what it says."""
    facts, plan, prompts = facts_of(tmp_path, {"a": {**CLASS, **more}, "b": CLASS})
    assert len({tuple(prompt) for prompt in prompts}) == len(plan) == facts.unique_prompts
    assert facts.unique_share == 1.0
    assert facts.hit_rate_planned * plan.input_tokens.sum() == pytest.approx(found_again(prompts))
    mine = [prompt for prompt, code in zip(prompts, plan.class_code, strict=True) if code == 0]
    assert facts.classes["a"].content.hit_rate_planned == pytest.approx(found_again(mine) / sum(map(len, mine)))
    assert facts.classes["b"].content.hit_rate_planned == 0
    assert f"{len(plan)} of {len(plan)} unique (100%)" in render(facts)


def test_recorded_prompts_that_come_again_are_counted_once(tmp_path):
    """A prompt that was recorded twice is sent twice, and the plan says that it is not unique."""
    rows = [([1, 2, 3], 1400), ([1, 2, 3], 1400), ([1, 2], 1024), ([1, 2, 4], 1400), ([1, 2], 1024), ([5], 300)]
    facts, plan, prompts = facts_of(tmp_path, {"a": recording(tmp_path, rows)}, requests=6)
    assert len({tuple(prompt) for prompt in prompts}) == facts.unique_prompts == 4
    assert facts.unique_share == pytest.approx(4 / 6)
    assert facts.hit_rate_planned * plan.input_tokens.sum() == pytest.approx(found_again(prompts))
    assert "4 of 6 unique (66.67%)" in render(facts)


@pytest.mark.parametrize(
    "lengths",
    [
        {"dist": "constant", "value": 1},
        {"dist": "uniform", "low": 1, "high": 3},
        {"dist": "constant", "value": 2},
        {"dist": "uniform", "low": 1, "high": 12},
    ],
)
def test_prompts_too_short_to_be_unique_are_told(tmp_path, lengths):
    """Of 256 ids there are 256 prompts of one token: the plan says how many of its own differ."""
    classes = {"a": {**CLASS, "input_tokens": lengths}, "b": {**CLASS, "input_tokens": lengths}}
    facts, plan, prompts = facts_of(tmp_path, classes, requests=2000, token_ids=(0, 256))
    assert len({tuple(prompt) for prompt in prompts}) == facts.unique_prompts
    assert (facts.unique_prompts < len(plan)) == (lengths.get("low", lengths.get("value")) == 1)


def test_texts_and_images_are_told(tmp_path):
    """The text names pool, asked and planned hit rate, the file and its words, the images; within 80 columns."""
    (tmp_path / "a-text-with-a-rather-long-name-to-be-cut.txt").write_text("to be or not to be " * 40)
    classes = {
        "a": {**CLASS, "prefix": {"pool": 9, "zipf": 1, "hit_rate": 0.4}},
        "b": {**CLASS, "text": "a-text-with-a-rather-long-name-to-be-cut.txt"},
        "c": {**CLASS, "images": {"count": 2, "width": 640, "height": 480}},
    }
    facts, _, _ = facts_of(tmp_path, classes)
    text = render(facts)
    assert "9 beginnings of " in text
    assert "(asked 40.0%) of the input found again, blocks of 16" in text
    assert "240 words of rather-long-name-to-be-cut.txt, about" in text
    assert f"{2 * facts.classes['c'].requests} of 640 x 480 pixels" in text
    assert max(map(len, text.splitlines())) <= 80
    told = json.loads(to_json(facts))["classes"]
    assert told["a"]["content"]["prefix"]["pool"] == 9
    assert told["a"]["content"]["hit_rate_planned"] == pytest.approx(0.4, abs=0.04)
    assert told["c"]["content"]["images"] == 2 * facts.classes["c"].requests
    (tmp_path / "a-text-with-a-rather-long-name-to-be-cut.txt").write_text("")
    with pytest.raises(ConfigError, match="is empty"):
        facts_of(tmp_path, classes)

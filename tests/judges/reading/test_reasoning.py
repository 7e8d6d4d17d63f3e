"""Reasoning is told from the answer, in whole texts and in streams of any division."""

import random
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from judges import Answer, TokenLogprob, Usage
from judges.reading import ReasoningStream, separate_reasoning, split_reasoning

HARMONY = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>"

SPLITS = {
    "closed twice": ("<think>a\n</think>\n\n</think>\n51", "51", "a"),
    "closed twice without a beginning": ("a\n</think></think>51", "51", "a"),
    "closed twice and nothing else": ("<think>a</think>\n</think>", "", "a"),
    "a tag that the answer speaks of": ("<think>a</think></think> ends it.", "</think> ends it.", "a"),
    "a number in the beginning only": ("<think:6124c78e>a</think>51", "51", "a"),
    "no marker": ("Ana", "Ana", None),
    "deepseek": ('<think>{"name":"draft"}? No.</think>{"name":"Ana"}', '{"name":"Ana"}', '{"name":"draft"}? No.'),
    "qwen": ("<think>\nHm.\n</think>\n\nAna", "Ana", "Hm."),
    "empty thought": ("<think>\n\n</think>\n\nAna", "Ana", None),
    "thinking": ("<thinking>Hm.</thinking>Ana", "Ana", "Hm."),
    "gemini, exaone deep": ("<thought>\nHm.\n</thought>\n\nAna", "Ana", "Hm."),
    "reka": ("<reasoning> Hm. </reasoning> Ana", "Ana", "Hm."),
    "marco": ("<Thought>Hm.</Thought>\n<Output>Ana</Output>", "Ana", "Hm."),
    "seed": ("<seed:think>Hm.</seed:think>Ana", "Ana", "Hm."),
    "longcat": ("<longcat_think>\nHm.\n</longcat_think>\nAna", "Ana", "Hm."),
    "kimi": ("◁think▷Hm.◁/think▷Ana", "Ana", "Hm."),
    "minimax m3": ("<mm:think>Hm.</mm:think>Ana", "Ana", "Hm."),
    "minimax m3, opened by its template": ("Hm.</mm:think>Ana", "Ana", "Hm."),
    "k2 horizon": ("<ifm|think_fast>Hm.</ifm|think_fast>Ana", "Ana", "Hm."),
    "k2 think": ("<think_faster>\nHm.\n</think_faster>\nAna", "Ana", "Hm."),
    "kimi k3": (
        "<|open|>think<|sep|>Hm.<|close|>think<|sep|><|open|>response<|sep|>Ana<|close|>response<|sep|><|close|>message<|sep|>",
        "Ana", "Hm.",
    ),
    "kimi k3, opened by its template": (
        "Hm.<|close|>think<|sep|><|open|>response<|sep|>Ana<|close|>response<|sep|>", "Ana", "Hm.",
    ),
    "kimi k3, cut": ("<|open|>think<|sep|>Hm.", "", "Hm."),
    "apertus": ("<|inner_prefix|>Hm.<|inner_suffix|>Ana", "Ana", "Hm."),
    "apertus, opened by its template": ("Hm.<|inner_suffix|>Ana", "Ana", "Hm."),
    "step audio": ("<|THINK_START|>Hm.<|THINK_END|>Ana", "Ana", "Hm."),
    "pangu": ("[unused16]Hm.[unused17]Ana", "Ana", "Hm."),
    "glm, boxed": ("<think>Hm.</think><|begin_of_box|>Ana<|end_of_box|>", "Ana", "Hm."),
    "cohere, older": ("<|START_THINKING|>Hm.<|END_THINKING|><|START_TEXT|>Ana<|END_TEXT|>", "Ana", "Hm."),
    "gpt-oss, opened by its template": (
        "<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Ana<|return|>", "Ana", "Hm.",
    ),
    "magistral": ("[THINK]Hm.[/THINK]Ana", "Ana", "Hm."),
    "cohere": ("<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Ana<|END_RESPONSE|>", "Ana", "Hm."),
    "sky-t1": (
        "<|begin_of_thought|>\nHm.\n<|end_of_thought|>\n\n<|begin_of_solution|>\nAna\n<|end_of_solution|>", "Ana", "Hm.",
    ),
    "solar": ("<|think|>Hm.<|end|><|begin|>assistant<|content|>Ana<|end|>", "Ana", "Hm."),
    "gemma 4": ("<|channel>thought\nHm.\n<channel|>Ana", "Ana", "Hm."),
    "gpt-oss": (f"{HARMONY}Ana<|return|>", "Ana", "Hm."),
    "gpt-oss with its start": (f"<|start|>assistant{HARMONY}Ana", "Ana", "Hm."),
    "gpt-oss without an end": (
        "<|channel|>analysis<|message|>Hm.<|start|>assistant<|channel|>final<|message|>Ana", "Ana", "Hm.",
    ),
    "gpt-oss with two thoughts": (
        f"<|channel|>analysis<|message|>A.<|end|><|start|>assistant<|channel|>commentary<|message|>B.<|end|>"
        f"<|start|>assistant{HARMONY}Ana<|return|>", "Ana", "A.\n\nB.\n\nHm.",
    ),
    "gpt-oss with a format": ('<|channel|>final <|constrain|>JSON<|message|>{"a": 1}<|return|>', '{"a": 1}', None),
    "gpt-oss without special tokens": ("analysisWe need a name.assistantfinalAna", "Ana", "We need a name."),
    "gpt-oss cut in its analysis": ("<|channel|>analysis<|message|>Hm.", "", "Hm."),
    "granite": ("Here is my thought process:\nHm.\n\nHere is my response:\nAna", "Ana", "Hm."),
    "granite, short": ("Here's my thought process: Hm. Here's my response: Ana", "Ana", "Hm."),
    "apriel": (
        "Here are my reasoning steps:\nHm.\n[BEGIN FINAL RESPONSE]\nAna\n[END FINAL RESPONSE]", "Ana", "Hm.",
    ),
    "hunyuan": ("<think>\nHm.\n</think>\n<answer>\nAna\n</answer>", "Ana", "Hm."),
    "ernie": ("<think>\nHm.\n</think>\n\n<response>\nAna\n</response>\n", "Ana", "Hm."),
    "an answer cut in its wrapper": ("<think>Hm.</think><answer>An", "An", "Hm."),
    "only the end": ("Hm.\n</think>\n\nAna", "Ana", "Hm."),
    "only the end, in a line": ("Hm.</think>Ana", "Ana", "Hm."),
    "only the end, with spaces": ("So it is Ana. </think> Ana", "Ana", "So it is Ana."),
    "only the end of cohere's": ("Hm.<|END_THINKING|><|START_RESPONSE|>Ana<|END_RESPONSE|>", "Ana", "Hm."),
    "cut in the thought": ("<think>It may be Ana", "", "It may be Ana"),
    "repeated": ("<think>A.</think>\n<think>B.</think>\nAna", "Ana", "A.\n\nB."),
    "nested": ("<think>A<think>B</think>C</think>Ana", "Ana", "A<think>B</think>C"),
    "an opening in a thought": ("<think>Use <think>?</think>Ana", "Ana", "Use <think>?"),
    "a quoted end in a thought": ("<think>`</think>` ends it.</think>Ana", "Ana", "`</think>` ends it."),
    "an end in a code span": ("<think>Say `a </think> b`.</think>Ana", "Ana", "Say `a </think> b`."),
    "code that quotes": ("```\n<think>x</think>\n```", "```\n<think>x</think>\n```", None),
    "code that quotes an end": ("Like this:\n```\n</think>\n```\nDone", "Like this:\n```\n</think>\n```\nDone", None),
    "an end in a sentence": ("Use the </think> tag to end it.", "Use the </think> tag to end it.", None),
    "an end at a sentence's end": ("End it with </think>.", "End it with </think>.", None),
    "an end in quotes": ('It ends with "</think>"', 'It ends with "</think>"', None),
    "a pair in the middle": ("I say <think>Hm.</think> and Ana", "I say <think>Hm.</think> and Ana", None),
    "a thought after the answer": ("Ana\n<think>Right?</think>", "Ana\n<think>Right?</think>", None),
    "markers after a thought": ("<think>Hm.</think>Write </think> here", "Write </think> here", "Hm."),
    "an answer about analysis": ("analysis of variance", "analysis of variance", None),
    "plain words without an end": ("Here is my thought process: I add.", "Here is my thought process: I add.", None),
    "an answer in a tag of its own": ("<answer>Ana</answer>", "<answer>Ana</answer>", None),
    "hunyuan with the number of its checkpoint": ("<think:6124c78e>Hm.</think:6124c78e>Ana", "Ana", "Hm."),
    "hunyuan, opened by its template": ("Hm.\n</think:6124c78e>\nAna", "Ana", "Hm."),
    "hunyuan, another checkpoint": ("<think:opensource>\nHm.</think:opensource>Ana", "Ana", "Hm."),
    "hunyuan, cut": ("<think:6124c78e>Hm.", "", "Hm."),
    "hunyuan, quoted": ("Hunyuan ends with `</think:6124c78e>`.", "Hunyuan ends with `</think:6124c78e>`.", None),
    "hunyuan, in a sentence": ("It writes <think:1> and </think:1> too.", "It writes <think:1> and </think:1> too.", None),
    "attributes": ('<think duration="3">Hm.</think>Ana', "Ana", "Hm."),
    "no attributes": ("<think about it> Ana", "<think about it> Ana", None),
    "open webui": (
        '<details type="reasoning" done="true" duration="3">\n<summary>Thought for 3 seconds</summary>\n> Hm.\n</details>\n'
        "Ana",
        "Ana", "> Hm.",
    ),
    "open webui, open, with details inside": (
        "<details open type='reasoning'>Hm <details>x</details> so</details>Ana", "Ana", "Hm <details>x</details> so",
    ),
    "open webui, cut": ('<details type="reasoning" done="false">\n<summary>Thinking…</summary>\n> Hm.', "", "> Hm."),
    "details of the answer's own": (
        "<details><summary>A</summary>B</details>", "<details><summary>A</summary>B</details>", None,
    ),
    "librechat": (":::thinking\nHm.\n:::\nAna", "Ana", "Hm."),
    "s1": ("<|im_start|>think\nHm.\n<|im_start|>answer\nAna<|im_end|>", "Ana", "Hm."),
    "hyperclova x": ("/think\nHm.<|im_end|>\n<|im_start|>assistant\nAna<|im_end|>", "Ana", "Hm."),
    "solar open 2": ("<|think:start|>Hm.<|think:end|>Ana", "Ana", "Hm."),
    "solar open 2, opened by its template": ("Hm.<|think:end|>Ana", "Ana", "Hm."),
    "plamo 3": ("<|plamo:begin_think:plamo|>Hm.<|plamo:end_think:plamo|>Ana<|plamo:tag|>", "Ana", "Hm."),
    "muse": ("to=self<|message|>Hm.<|eom|><|start|>assistant to=user<|message|>Ana<|eot|>", "Ana", "Hm."),
    "inkling": (
        "<|message_model|><|content_thinking|>Hm.<|end_message|><|message_model|><|content_text|>Ana<|end_message|>"
        "<|content_model_end_sampling|>", "Ana", "Hm.",
    ),
    "gemma 4, opened by its template": ("thought\nHm.\n<channel|>Ana<turn|>", "Ana", "thought\nHm."),
    "hermes": ("<INNER_MONOLOGUE>Hm.</INNER_MONOLOGUE>Ana", "Ana", "Hm."),
    "an artifact's thought": ("<antThinking>Hm.</antThinking>Ana", "Ana", "Hm."),
    "tokens around a thought": ("<|im_start|>assistant\n<think>Hm.</think>\nAna<|im_end|>", "Ana", "Hm."),
    "tokens between thought and answer": (
        "<think>Hm.</think><|im_end|>\n<|im_start|>assistant\nAna<|im_end|>\n", "Ana", "Hm.",
    ),
    "tokens of llama 3": ("<|start_header_id|>assistant<|end_header_id|>\n\nAna<|eot_id|>", "Ana", None),
    "tokens of llama 2": ("<s>[/INST] Ana</s>", "Ana", None),
    "tokens of mistral": ("<s>[THINK]Hm.[/THINK]Ana</s>", "Ana", "Hm."),
    "tokens of gemma": ("<bos><start_of_turn>model\nAna<end_of_turn><eos>", "Ana", None),
    "tokens of deepseek": ("<｜Assistant｜><think>Hm.</think>Ana<｜end▁of▁sentence｜>", "Ana", "Hm."),
    "tokens of cohere": (
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Ana<|END_RESPONSE|>"
        "<|END_OF_TURN_TOKEN|>", "Ana", "Hm.",
    ),
    "tokens of granite": (
        "<|start_of_role|>assistant<|end_of_role|>Here is my thought process: Hm. Here is my response: Ana<|end_of_text|>",
        "Ana", "Hm.",
    ),
    "tokens of exaone": ("[|assistant|]<thought>Hm.</thought>Ana[|endofturn|]", "Ana", "Hm."),
    "tokens of kimi": ("<|im_assistant|>assistant<|im_middle|>◁think▷Hm.◁/think▷Ana<|im_end|>", "Ana", "Hm."),
    "tokens of seed": ("<seed:bos>assistant\n<seed:think>Hm.</seed:think>Ana<seed:eos>", "Ana", "Hm."),
    "tokens before a thought that its template opened": ("<|im_start|>assistant\nHm.</think>Ana<|im_end|>", "Ana", "Hm."),
    "gpt-oss's answer alone": ("<|start|>assistant<|message|>Ana<|return|>", "Ana", None),
    "an answer with its end": ("51</s>", "51", None),
    "an answer with ends": ("51 </s>\n<|im_end|>\n", "51 ", None),
    "an answer with many ends": ("51" + "<|endoftext|>" * 40, "51", None),
    "an answer in both ends": ("<s>Ana</s>", "Ana", None),
    "an answer in both ends, spaced": ("<s> Ana </s>", "Ana ", None),
    "an answer with its beginning": ("<s>Ana", "Ana", None),
    "nothing but an end": ("<|im_end|>", "", None),
    "text that is struck through": ("<s>20</s> 10", "<s>20</s> 10", None),
    "text that is struck through at the end": ("10, not <s>20</s>", "10, not <s>20</s>", None),
    "a thought that is cut, with an end": ("<think>Hm.<|im_end|>", "", "Hm."),
    "an answer about an end": ("Llama 2's end token is </s>", "Llama 2's end token is </s>", None),
    "an answer about ends": ("Use `<|im_end|>` or <|endoftext|>", "Use `<|im_end|>` or <|endoftext|>", None),
    "a conversation in tokens": (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>", None,
    ),
    "a token in code": ('eos = "</s>"', 'eos = "</s>"', None),
    "white space": (" \n", " \n", None),
    "nothing": ("", "", None),
    "a page": ("<thead><tr></tr></thead>", "<thead><tr></tr></thead>", None),
}  # fmt: skip
PIECES = st.lists(
    st.sampled_from([
        "<think>", "</think>", "<thi", "nk>", "</", "`", '"', "\n", " ", "a", "Hm.", "```\n", "<answer>", "</answer>",
        "<s>", "</s>", "<|im_end|>", "<|im_start|>assistant", "[/INST]", "<|endo", "ftext|>", "<think:1>",
        "</think:1>", "</think:", '<details type="reasoning">', "</details>", "<details", ">", "[THINK]", "token ",
        "<|eot_id|>", ":::thinking\n", "\n:::\n", "[/THINK]", "<|channel|>analysis", "<|message|>", "<|end|>",
        "<|start|>assistant", "<|channel|>final", "<|return|>", "analysis", "assistantfinal",
        "Here is my thought process:", "Here is my response:", "◁think▷", "◁/think▷", "İ", "’",
    ]),
    max_size=14,
).map("".join)  # fmt: skip


def streamed(text: str, cuts: list[int], *, hold: bool = False) -> tuple[str, str | None, int]:
    """The text that a reader of the stream is left with, the reasoning, and the retractions."""
    stream, text_shown, retracted = ReasoningStream(hold=hold), "", 0
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        piece = stream.add(text[start:end])
        if stream.retracted > retracted:
            text_shown, retracted = "", stream.retracted
        text_shown += piece
    rest, split = stream.end()
    if stream.retracted > retracted:
        text_shown = ""
    assert text_shown + rest == split.answer
    return split.answer, split.reasoning, stream.retracted


@pytest.mark.parametrize(("text", "answer", "reasoning"), SPLITS.values(), ids=SPLITS)
def test_split(text: str, answer: str, reasoning: str | None) -> None:
    """Each family's thought is taken out; what only looks like one stays."""
    assert split_reasoning(text)[:2] == (answer, reasoning)


@pytest.mark.parametrize("text", [text for text, _, _ in SPLITS.values()], ids=SPLITS)
def test_a_stream_of_characters(text: str) -> None:
    """Character by character the result is the same."""
    assert streamed(text, list(range(1, len(text))))[:2] == split_reasoning(text)[:2]


@given(PIECES, st.data())
@example("use `a </think>\nAnswer `b`", None)
def test_any_chunks_give_the_same(text: str, data: st.DataObject | None) -> None:
    """However a reply is divided, its parts are those of the whole."""
    some = st.lists(st.integers(0, len(text)), max_size=12)
    cuts = list(range(1, len(text))) if data is None else sorted(data.draw(some))
    hold = data is not None and data.draw(st.booleans())
    answer, reasoning, retracted = streamed(text, cuts, hold=hold)
    assert (answer, reasoning) == split_reasoning(text)[:2]
    assert not (hold and retracted)


@given(PIECES)
def test_an_answer_has_no_thought(text: str) -> None:
    """Reading an answer that was split changes no more than its thoughts did: nothing is lost but markers and space."""
    answer, reasoning, start = split_reasoning(text)
    assert text[start : start + len(answer)] == answer
    assert all(part in text for part in (reasoning or "").split("\n\n"))


@pytest.mark.parametrize(
    "text", [text for text, _, reasoning in SPLITS.values() if reasoning and text.startswith("<think>")]
)
def test_no_thought_is_shown(text: str) -> None:
    """Where the thought's beginning arrives, nothing of it is ever given out."""
    stream = ReasoningStream()
    text_shown = "".join(map(stream.add, text))
    rest, split = stream.end()
    assert text_shown + rest == split.answer
    assert stream.retracted == 0


def test_text_before_a_lone_end_is_taken_back_or_held() -> None:
    """It looked like the answer until the end arrived; a reader who knows the model waits."""
    assert streamed("Hm.\n</think>\nAna", [2, 6, 14]) == ("Ana", "Hm.", 1)
    assert streamed("Hm.\n</think>\nAna", [2, 6, 14], hold=True) == ("Ana", "Hm.", 0)


def test_an_answer_flows() -> None:
    """Text that can be nothing but the answer is given out at once."""
    stream = ReasoningStream()
    assert [stream.add(piece) for piece in ("An", "a is", " 30")] == ["An", "a is", " 30"]


def test_the_thought_s_tokens_leave() -> None:
    """Log-probabilities, alternatives and counts are those of the answer."""
    tokens = [
        TokenLogprob(t, p) for t, p in [("<think>", -0.1), ("Hm", -3.0), ("</think>", -0.2), ("A", -0.5), ("na", -0.25)]
    ]
    raw = Answer("<think>Hm</think>Ana", logprobs=tuple(tokens), first_token_top={"<think>": -0.1}, usage=Usage(3, 5))
    answer = separate_reasoning(raw, lambda i: {tokens[i].token: tokens[i].logprob})
    assert (answer.text, answer.reasoning) == ("Ana", "Hm")
    assert answer.logprobs == tuple(tokens[3:])
    assert answer.first_token_top == {"A": -0.5}
    assert answer.usage == Usage(3, 5, reasoning_tokens=3)


def test_tokens_of_reasoning_in_a_field() -> None:
    """Servers that put the reasoning into a field of its own still log its tokens."""
    tokens = tuple(TokenLogprob(t, -1.0) for t in ("Hm", ".", "</think>", "Ana"))
    assert separate_reasoning(Answer("Ana", reasoning="Hm.", logprobs=tokens)).logprobs == tokens[3:]
    foreign = (TokenLogprob("\\xe2", -1.0),)
    assert separate_reasoning(Answer("Ana", reasoning="Hm.", logprobs=foreign)).logprobs is None


def test_an_answer_without_reasoning_is_the_same_object() -> None:
    """Nothing is copied where there is nothing to do."""
    answer = Answer("Ana <b>30</b>")
    assert separate_reasoning(answer) is answer


def test_long_replies_take_linear_time() -> None:
    """Many markers and long thoughts do not stop a server."""
    rng = random.Random(1)
    hostile = [
        "<think>" * 50_000,
        "</think> x " * 40_000,
        "a " * 200_000,
        "`</think>" * 40_000,
        "<think>" + "x`</think>\n" * 30_000,
    ]
    for text in hostile:
        began = time.process_time()
        split_reasoning(text)
        stream = ReasoningStream()
        at = 0
        while at < len(text):
            size = rng.randrange(1, 60)
            stream.add(text[at : at + size])
            at += size
        stream.end()
        assert time.process_time() - began < 5


def test_medgemmas_marker() -> None:
    """Its thought is no part of the answer, and one that is cut leaves none."""
    split = split_reasoning("<unused94>thought\nHm, 50?<unused95>51")
    assert (split.answer, split.reasoning) == ("51", "Hm, 50?")
    assert split_reasoning("<unused94>thought\nHm").answer == ""

"""Keywords that are passed on as ``**options``: shown by name, refused where they do not exist."""

import inspect
from typing import Any

import pytest

import cascade
from cascade.util.keywords import check_keywords, keywords_of


def _form(prompt: str, *, policy: str = "default", on_event: object = None, schema: int = 0) -> tuple[str, str, int]:
    return prompt, policy, schema


@keywords_of(_form, without=("on_event",))
def _wrapper(prompt: str, *, schema: int = 0, policy_file: str = "", **options: Any) -> Any:
    return _form(prompt, schema=schema, **options)


def test_the_signature_shows_the_keywords_of_the_form_and_then_its_own() -> None:
    """With the defaults and types of the form, without those that are left out."""
    text = str(inspect.signature(_wrapper))
    assert text == "(prompt: str, *, policy: str = 'default', schema: int = 0, policy_file: str = '') -> Any"
    assert _wrapper("q", policy="careful") == ("q", "careful", 0)


def test_an_unknown_keyword_is_an_error_with_the_nearest_one() -> None:
    """A known one is not."""
    check_keywords("stream", ["policy"], ["policy", "tags"])
    with pytest.raises(TypeError, match=r"^stream\(\) got an unexpected keyword argument 'polcy'; did you mean 'policy'\?$"):
        check_keywords("stream", ["tags", "polcy"], ["policy", "tags"])


@pytest.mark.parametrize("name", ["stream", "astream"])
def test_a_stream_refuses_an_unknown_keyword_when_it_is_called(name: str) -> None:
    """Not only once its first event is requested; the same goes for ``on_event``, which streams do not take."""
    service = cascade.Cascade(
        cascade.Policy.model_validate({"tiers": [{"model": "m"}]}), models={"m": cascade.ScriptedModel("m", ["x"])}
    )
    for keyword in ("polcy", "on_event"):
        with pytest.raises(TypeError, match=f"{name}\\(\\) got an unexpected keyword argument '{keyword}'"):
            getattr(service, name)("q", **{keyword: None})

"""The public API: which names and modules belong to it, and that each is documented in one form."""

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import cascade
from cascade import Cascade

ROOT = Path(__file__).parents[1]
MODULES = [
    "cascade.costs.budget",
    "cascade.errors",
    "cascade.journal.journal",
    "cascade.models.protocol",
    "cascade.options",
    "cascade.policy.load",
    "cascade.policy.schema",
    "cascade.result",
    "cascade.telemetry",
    "evals.grade",
    "evals.recording",
]
FUNCTIONS = ["afeedback", "agate", "arun", "astream", "feedback", "gate", "run", "stream"]
METHODS = [name for name, _ in inspect.getmembers(Cascade, inspect.isfunction) if not name.startswith("_")]


def test_the_list_of_public_modules_is_one_list() -> None:
    """In the package's docstring, in the reference, and here."""
    assert sorted(re.findall(r"``((?:cascade|evals)\.[\w.]+)``", cascade.__doc__ or "")) == MODULES
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8").partition("## ")[0]
    assert sorted(re.findall(r"`((?:cascade|evals)\.[\w.]+)`", page)) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_public_modules_and_their_classes_have_docstrings(module: str) -> None:
    """Each class and function that is defined in it and has no leading underscore."""
    loaded = import_module(module)
    assert loaded.__doc__
    for name, value in vars(loaded).items():
        if not name.startswith("_") and getattr(value, "__module__", "") == module and inspect.isroutine(value):
            assert value.__doc__, f"{module}.{name}"


def documented(function: Any) -> str:
    """The docstring, which must say something of each parameter, itself or by the form that it stands in for."""
    text = inspect.getdoc(function) or ""
    parameters = [n for n in inspect.signature(function).parameters if n != "self"]
    if "same arguments" not in text and len(parameters) > 1:
        for name in parameters:
            assert re.search(rf"^    {name}: \S", text, re.MULTILINE), f"{function.__qualname__}: {name}"
    return text


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("where", [cascade, Cascade])
def test_each_form_is_documented_once_and_named_by_the_other(where: Any, name: str) -> None:
    """One of the two forms has Args, Raises and an Example; the other names it."""
    other = name[1:] if name.startswith("a") else f"a{name}"
    texts = [documented(getattr(where, n)) for n in (name, other)]
    assert any("Args:" in text and "Raises:" in text and "Example:" in text for text in texts) or "stream" in name
    assert any("same arguments" in text for text in texts)


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_documented(name: str) -> None:
    """Every public one."""
    assert documented(getattr(Cascade, name))


@pytest.mark.parametrize("name", ["run", "gate", "stream", "feedback"])
def test_both_forms_take_the_same_arguments(name: str) -> None:
    """The same names, kinds, defaults and types, in the same order; the module's take a policy file besides."""
    for where in (cascade, Cascade):
        one, other = (inspect.signature(getattr(where, n)).parameters for n in (name, f"a{name}"))
        assert list(one.values()) == list(other.values())
    module, method = (inspect.signature(getattr(where, name)).parameters for where in (cascade, Cascade))
    assert [p for p in module.values() if p.name != "policy_file"] == [p for p in method.values() if p.name != "self"]


def arguments(function: Any) -> dict[str, str]:
    """What a docstring says of each argument, in one line each."""
    section = re.search(r"Args:\n(.*?)\n\n", inspect.getdoc(function) or "", re.DOTALL)
    assert section is not None
    entries = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", section[1], re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


@pytest.mark.parametrize("names", [("run", "arun"), ("gate", "agate")])
def test_the_module_and_the_class_explain_arguments_in_the_same_words(names: tuple[str, str]) -> None:
    """Each in full, since an editor shows one of them; the module's form refers to the form that is not async."""
    module, method = arguments(getattr(cascade, names[0])), arguments(getattr(Cascade, names[1]))
    assert module.pop("policy_file")
    assert {name: text.replace("``stream``", "``astream``") for name, text in module.items() if name != "stream"} == {
        name: text for name, text in method.items() if name != "stream"
    }

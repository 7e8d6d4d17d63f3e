"""For `make docs`: shows the keywords behind ``**options``, as the decorator ``keywords_of`` does for ``help()``."""

from typing import Any

from griffe import Class, ExprCall, Extension, Function, Module, Parameter, ParameterKind, Parameters


class KeywordsExtension(Extension):
    """Gives each function decorated with ``keywords_of(form)`` the keywords of ``form`` in its signature."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Called once a package is loaded, before its docstrings are parsed."""
        _show_keywords(pkg, pkg)


def _show_keywords(within: Module | Class, package: Module) -> None:
    for member in within.members.values():
        if isinstance(member, Module | Class):
            _show_keywords(member, package)
        elif isinstance(member, Function) and any("keywords_of" in str(one.value) for one in member.decorators):
            positional = [p for p in member.parameters if p.kind is ParameterKind.positional_or_keyword]
            member.parameters = Parameters(*positional, *_keywords(member, package).values())


def _keywords(function: Function, package: Module) -> dict[str, Parameter]:
    """The keywords that a function names, and before them those of the function that it passes its keywords on to."""
    own = {p.name: p for p in function.parameters if p.kind is ParameterKind.keyword_only}
    for decorator in function.decorators:
        call = decorator.value
        if isinstance(call, ExprCall) and call.canonical_path.endswith(".keywords_of"):
            form, *without = map(str, call.arguments)
            passed_on = _keywords(_form(form, function, package), package)
            return {name: p for name, p in passed_on.items() if f"'{name}'" not in "".join(without)} | own
    return own


def _form(name: str, function: Function, package: Module) -> Function:
    """The function that ``keywords_of`` names: ``Cascade.arun`` in a module, ``arun`` in a class."""
    owner, _, method = name.rpartition(".")
    within = package[function.parent.resolve(owner).partition(".")[2]] if owner else function.parent
    return within.members[method]

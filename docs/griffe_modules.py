"""Griffe extension for the reference pages: Equinox modules are dataclasses without saying so.

Gives each module of the package, and each named tuple, its constructor: its fields with types and defaults.
"""

import griffe

BASES = {"equinox.Module", "typing.NamedTuple"}


def _path(expression: str | griffe.Expr) -> str:
    return expression if isinstance(expression, str) else expression.canonical_path


def _has_fields(cls: griffe.Class, package: griffe.Module) -> bool:
    for base in map(_path, cls.bases):
        if base in BASES:
            return True
        inside = base.removeprefix(package.path + ".") if base.startswith(package.path + ".") else None
        try:
            parent = package[inside] if inside else None
            parent = parent.final_target if isinstance(parent, griffe.Alias) else parent
        except (KeyError, griffe.AliasResolutionError, griffe.CyclicAliasError):
            parent = None
        if isinstance(parent, griffe.Class) and _has_fields(parent, package):
            return True
    return False


def _without_field(attribute: griffe.Attribute) -> None:
    """Replaces `eqx.field(static=True, default=d)` by `d`."""
    value = attribute.value
    if isinstance(value, griffe.ExprCall) and value.canonical_path == "equinox.field":
        named = {a.name: a.value for a in value.arguments if isinstance(a, griffe.ExprKeyword)}
        attribute.value = named.get("default")


class EquinoxModules(griffe.Extension):
    """Marks Equinox modules as dataclasses before griffe's own dataclass extension looks at them."""

    def on_package(self, *, pkg: griffe.Module, **kwargs) -> None:
        """Visits all classes of a loaded package."""
        todo: list[griffe.Object] = [pkg]
        while todo:
            here = todo.pop()
            members = [m for m in here.members.values() if not m.is_alias]
            todo += [m for m in members if m.is_module or m.is_class]
            if isinstance(here, griffe.Class) and "__init__" not in here.members and _has_fields(here, pkg):
                module = griffe.ExprName("dataclasses")
                mark = griffe.ExprAttribute([module, griffe.ExprName("dataclass", parent=module)])
                here.decorators.append(griffe.Decorator(mark, lineno=None, endlineno=None))
                for member in members:
                    if isinstance(member, griffe.Attribute):
                        _without_field(member)

"""Griffe extension for the reference pages: Equinox modules are dataclasses without saying so.

Gives each module of the package its constructor (fields as parameters, with types and defaults).
"""

import griffe


def _path(expression: str | griffe.Expr) -> str:
    return expression if isinstance(expression, str) else expression.canonical_path


def _is_equinox(cls: griffe.Class, package: griffe.Module) -> bool:
    for base in map(_path, cls.bases):
        if base == "equinox.Module":
            return True
        inside = base.removeprefix(package.path + ".") if base.startswith(package.path + ".") else None
        try:
            parent = package[inside] if inside else None
            parent = parent.final_target if isinstance(parent, griffe.Alias) else parent
        except (KeyError, griffe.AliasResolutionError, griffe.CyclicAliasError):
            parent = None
        if isinstance(parent, griffe.Class) and _is_equinox(parent, package):
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
            if isinstance(here, griffe.Class) and "__init__" not in here.members and _is_equinox(here, pkg):
                module = griffe.ExprName("dataclasses")
                mark = griffe.ExprAttribute([module, griffe.ExprName("dataclass", parent=module)])
                here.decorators.append(griffe.Decorator(mark, lineno=None, endlineno=None))
                for member in members:
                    if isinstance(member, griffe.Attribute):
                        _without_field(member)

"""Which programs Python code starts, read from its syntax trees; nothing of it runs.

A command's first element is followed through names, parameters and their callers, attributes, return values, sums and
choices. What cannot be followed is told as `?`, with the function that starts it, so that somebody declares it.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.support.shelltext import programs_of

UNKNOWN = "?"
_STARTS = {
    "subprocess": ("run", "Popen", "call", "check_call", "check_output"),
    "asyncio": ("create_subprocess_exec",),
    "os": (
        *(f"{way}{end}" for way in ("exec", "spawn") for end in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
        *("posix_spawn", "posix_spawnp"),
    ),
    "pty": ("spawn",),
}
_STARTS_SHELL = {
    "subprocess": ("getoutput", "getstatusoutput"),
    "asyncio": ("create_subprocess_shell",),
    "os": ("system", "popen"),
}
_SHELLS = ("sh", "bash")
_RUNS_ANOTHER = ("nice", "unshare", "setpriv", "env", "nohup", "sudo")
_PYTHON = "python3.11"
# Classes of ours whose objects are commands: the position and the name of the argument.
_COMMAND_OBJECTS = {"ProcessSpec": (1, "argv"), "Trial": (1, "command")}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Start:
    """One place that starts a program."""

    place: str
    """`path:function`."""
    line: int
    programs: frozenset[str]
    """Base names; `?` stands for one that could not be found out."""


@dataclass
class _Scope:
    path: str
    functions: tuple[Function, ...] = ()
    owner: str = ""
    """The class of the innermost function."""

    def inside(self, function: Function, owner: str) -> "_Scope":
        return _Scope(self.path, (*self.functions, function), owner)


@dataclass
class Code:
    """All the code that is looked at."""

    constants: dict[str, list[tuple[_Scope, ast.expr]]] = field(default_factory=lambda: defaultdict(list))
    functions: dict[str, list[tuple[_Scope, Function]]] = field(default_factory=lambda: defaultdict(list))
    attributes: dict[str, list[tuple[_Scope, ast.expr]]] = field(default_factory=lambda: defaultdict(list))
    fields: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    calls: dict[str, list[tuple[_Scope, ast.Call]]] = field(default_factory=lambda: defaultdict(list))
    aliases: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    @classmethod
    def read(cls, root: Path, files: Iterable[Path]) -> "Code":
        """Parse files, which are below `root`."""
        code = cls()
        for file in files:
            path = str(file.relative_to(root))
            code._collect(ast.parse(file.read_text(), path), _Scope(path))
        return code

    def starts(self) -> list[Start]:
        """Every place that starts a program, with the programs."""
        found = []
        for scope, call in [each for calls in self.calls.values() for each in calls]:
            argument, shell = self._command_of(scope, call)
            if argument is None:
                continue
            programs = self._shell(argument, scope) if shell else self._command(argument, scope, call)
            function = scope.functions[-1].name if scope.functions else "<module>"
            found.append(Start(f"{scope.path}:{function}", call.lineno, frozenset(programs)))
        return found

    # --- reading ---

    def _collect(self, node: ast.AST, scope: _Scope, owner: str = "") -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                self._import(child, scope)
            elif isinstance(child, ast.ClassDef):
                self._class(child, scope)
                self._collect(child, scope, child.name)
                continue
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions[child.name].append((scope, child))
                self._collect(child, scope.inside(child, owner))
                continue
            elif isinstance(child, ast.Call):
                self.calls[_name(child.func)].append((scope, child))
            if isinstance(child, ast.Assign | ast.AnnAssign) and child.value is not None:
                self._assignment(child, scope)
            self._collect(child, scope, owner)

    def _import(self, node: ast.Import | ast.ImportFrom, scope: _Scope) -> None:
        for alias in node.names:
            module = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
            self.aliases[scope.path][alias.asname or alias.name] = module

    def _class(self, node: ast.ClassDef, scope: _Scope) -> None:
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                self.fields[node.name].append(statement.target.id)
                if statement.value is not None:
                    self.attributes[f"{node.name}.{statement.target.id}"].append((scope, statement.value))

    def _assignment(self, node: ast.Assign | ast.AnnAssign, scope: _Scope) -> None:
        assert node.value is not None
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name) and not scope.functions:
                self.constants[target.id].append((scope, node.value))
            elif isinstance(target, ast.Attribute) and scope.owner and _name(target.value) == "self":
                self.attributes[f"{scope.owner}.{target.attr}"].append((scope, node.value))

    # --- what is started ---

    def _command_of(self, scope: _Scope, call: ast.Call) -> tuple[ast.expr | None, bool]:
        """The expression of the command, where the call starts one, and whether it is shell text."""
        name = _name(call.func)
        if name in _COMMAND_OBJECTS and isinstance(call.func, ast.Name):
            position, keyword = _COMMAND_OBJECTS[name]
            return _argument(call, position, keyword), False
        module, _, function = self._qualified(call.func, scope).rpartition(".")
        shell = function in _STARTS_SHELL.get(module, ())
        if not shell and function not in _STARTS.get(module, ()):
            return None, False
        position = 1 if module == "os" and function.startswith("spawn") else 0  # a mode comes first
        given = next((keyword.value for keyword in call.keywords if keyword.arg == "shell"), None)
        shell = shell or (isinstance(given, ast.Constant) and given.value is True)
        return _argument(call, position, "args"), shell

    def _qualified(self, function: ast.expr, scope: _Scope) -> str:
        if isinstance(function, ast.Attribute):
            base = _name(function.value)
            return f"{self.aliases[scope.path].get(base, base)}.{function.attr}"
        return self.aliases[scope.path].get(_name(function), _name(function))

    def _command(self, argument: ast.expr, scope: _Scope, call: ast.Call) -> set[str]:
        found = set()
        for program, rest, place in self._heads(argument, scope, set()):
            found.add(program)
            if program in _SHELLS:
                found |= self._shell_argument(rest, place)
            elif program in _RUNS_ANOTHER:
                found |= self._passed_on(rest, place)
        return found or {UNKNOWN}

    def _shell(self, text: ast.expr, scope: _Scope) -> set[str]:
        texts = self._texts(text, scope, set())
        return {program for one in texts for program in (programs_of(one) if one != UNKNOWN else {UNKNOWN})}

    def _shell_argument(self, rest: list[ast.expr], scope: _Scope) -> set[str]:
        if rest and isinstance(rest[0], ast.Constant) and rest[0].value == "-c" and len(rest) > 1:
            return self._shell(rest[1], scope)
        return set()  # a script of the repository, which is read as shell text by itself

    def _passed_on(self, rest: list[ast.expr], scope: _Scope) -> set[str]:
        """The program that nice, unshare and their like start: the first argument that is no option."""
        values = [one.value if isinstance(one, ast.Constant) else None for one in rest]
        start = values.index("--") + 1 if "--" in values else 0
        for value, one in list(zip(values, rest, strict=True))[start:]:
            if isinstance(one, ast.Starred):  # options, or a whole command
                heads = {head for head, *_ in self._heads(one.value, scope, set())}
                if not all(head.startswith("-") for head in heads):
                    return heads
            elif not (isinstance(value, str) and value.startswith("-")):
                return self._texts(one, scope, set(), program=True)
        return set()

    def _heads(self, node: ast.expr, scope: _Scope, seen: set[int]) -> Iterator[tuple[str, list[ast.expr], _Scope]]:
        """First elements of a command, each with the elements after it where they stand beside it."""
        if isinstance(node, ast.Starred):
            yield from self._heads(node.value, scope, seen)
        elif isinstance(node, ast.List | ast.Tuple) and node.elts:
            first, rest = node.elts[0], node.elts[1:]
            if isinstance(first, ast.Starred):
                for program, more, _ in self._heads(first.value, scope, seen):
                    yield program, [*more, *rest], scope
            else:
                yield from ((one, rest, scope) for one in self._texts(first, scope, seen, program=True))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            yield from self._heads(node.left, scope, seen)
        elif isinstance(node, ast.Call) and _name(node.func) in ("list", "tuple") and node.args:
            yield from self._heads(node.args[0], scope, seen)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield PurePosixPath(node.value).name, [], scope
        else:
            for value, place in self._behind(node, scope, seen):
                if value is None:
                    yield UNKNOWN, [], scope
                else:
                    yield from self._heads(value, place, seen)

    def _texts(self, node: ast.expr, scope: _Scope, seen: set[int], *, program: bool = False) -> set[str]:
        """The strings that an expression can be; of a program, its base name."""
        known = _plain_text(node) if not program else _program_name(node)
        if known is not None:
            return {known}
        if isinstance(node, ast.Call):
            function, inner = _name(node.func), node.args[0] if node.args else None
            if function in ("ensure", "which") and inner is not None:
                named = self._texts(inner, scope, seen)
                return (
                    {PurePosixPath(one).name for one in named} if named != {UNKNOWN} or function == "which" else set()
                )
            if function == "with_name" and inner is not None:
                return self._texts(inner, scope, seen, program=program)
            if function in ("str", "Path", "fsdecode", "resolve", "absolute") and inner is not None:
                return self._texts(inner, scope, seen, program=program)
            if function == "find" and isinstance(inner, ast.Subscript):
                return self._texts(inner.slice, scope, seen)
        found: set[str] = set()
        for value, place in self._behind(node, scope, seen):
            found |= {UNKNOWN} if value is None else self._texts(value, place, seen, program=program)
        return found

    # --- following names ---

    def _behind(self, node: ast.expr, scope: _Scope, seen: set[int]) -> Iterator[tuple[ast.expr | None, _Scope]]:
        """What an expression stands for, one step further; None where that cannot be found out."""
        values: list[tuple[ast.expr, _Scope]] = []
        if id(node) in seen:  # what it stands for is among the answers already
            return
        seen.add(id(node))
        if isinstance(node, ast.IfExp):
            values = [(node.body, scope), (node.orelse, scope)]
        elif isinstance(node, ast.BoolOp):
            values = [(one, scope) for one in node.values]
        elif isinstance(node, ast.Name):
            values = list(self._named(node.id, scope))
        elif isinstance(node, ast.Attribute):
            values = [(value, place) for place, value in self._attribute(node, scope)]
        elif isinstance(node, ast.Call):
            values = list(self._returned(node, scope))
        if not values:
            yield None, scope
        yield from values

    def _named(self, name: str, scope: _Scope) -> Iterator[tuple[ast.expr, _Scope]]:
        for depth in range(len(scope.functions), 0, -1):
            function = scope.functions[depth - 1]
            place = _Scope(scope.path, scope.functions[:depth], scope.owner)
            local = [(value, place) for value in _assigned(function, name)]
            if not local and name in _parameters(function):
                called = scope.owner if function.name == "__init__" else function.name
                local = list(self._passed(function, name, scope.path, called))
            if local:
                yield from local
                return
        here = [(value, place) for place, value in self.constants[name] if place.path == scope.path]
        yield from here or [(value, place) for place, value in self.constants[name]]

    def _passed(self, function: Function, name: str, path: str, called: str) -> Iterator[tuple[ast.expr, _Scope]]:
        """What callers give for a parameter; of a private function only those in its own file."""
        arguments = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
        positions = [each for each in arguments if each not in ("self", "cls")]
        keywords = [each.arg for each in function.args.kwonlyargs]
        for place, call in self.calls[called]:
            if called.startswith("_") and place.path != path:
                continue
            position = positions.index(name) if name in positions else len(call.args)
            given = None if name not in [*positions, *keywords] else _argument(call, position, name)
            if given is not None:
                yield given, place
        defaults = dict(zip(reversed(arguments), reversed(function.args.defaults), strict=False))
        if name in defaults:
            yield defaults[name], _Scope(path)

    def _attribute(self, node: ast.Attribute, scope: _Scope) -> list[tuple[_Scope, ast.expr]]:
        """Values of an attribute: of `self`, of a parameter's class, or of whatever class has a field of that name."""
        base = _name(node.value)
        owners = [scope.owner] if base == "self" and scope.owner else _annotated(scope, base) or list(self.fields)
        found = []
        for owner in owners:
            found += self.attributes[f"{owner}.{node.attr}"]
            if node.attr in self.fields[owner]:
                position = self.fields[owner].index(node.attr)
                given = ((place, _argument(call, position, node.attr)) for place, call in self.calls[owner])
                found += [(place, value) for place, value in given if value is not None]
        if not found and not (base == "self" and scope.owner):
            found = self.constants[node.attr]
        return found

    def _returned(self, call: ast.Call, scope: _Scope) -> Iterator[tuple[ast.expr, _Scope]]:
        module, _, name = self._qualified(call.func, scope).rpartition(".")
        known = self.functions[name]
        here = [(place, function) for place, function in known if place.path == scope.path]
        file = f"/{module.replace('.', '/')}.py"
        imported = [(place, function) for place, function in known if f"/{place.path}".endswith(file)]
        for place, function in imported or here or known:
            owner = next((owner for owner in [scope.owner] if here), "")
            for statement in ast.walk(function):
                if isinstance(statement, ast.Return | ast.Yield) and statement.value is not None:
                    yield statement.value, place.inside(function, owner)


def _name(node: ast.expr) -> str:
    """The last part of a dotted name; empty for anything else."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _argument(call: ast.Call, position: int, keyword: str) -> ast.expr | None:
    for given in call.keywords:
        if given.arg == keyword:
            return given.value
    return call.args[position] if position < len(call.args) else None


def _annotated(scope: _Scope, name: str) -> list[str]:
    """The class that the innermost function says its parameter is of."""
    function = scope.functions[-1].args if scope.functions else ast.arguments([], [], None, [], [], None, [])
    return [_name(each.annotation) for each in function.args if each.arg == name and each.annotation is not None]


def _parameters(function: Function) -> list[str]:
    given = function.args
    return [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]


def _assigned(function: Function, name: str) -> Iterator[ast.expr]:
    """Values given to a local name: by assignment, tuple or loop."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _matching(target, node.value, name)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            yield from _matching(node.target, node.value, name)
        elif isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple | ast.List):
            for element in node.iter.elts:
                yield from _matching(node.target, element, name)


def _matching(target: ast.expr, value: ast.expr, name: str) -> Iterator[ast.expr]:
    if isinstance(target, ast.Name) and target.id == name:
        yield value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for one, other in zip(target.elts, value.elts, strict=True):
            yield from _matching(one, other, name)


def _plain_text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _program_name(node: ast.expr) -> str | None:
    """The base name of a path whose end is written out; this Python itself."""
    if isinstance(node, ast.Attribute) and node.attr == "executable" and _name(node.value) == "sys":
        return _PYTHON
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return _program_name(node.right)
    if isinstance(node, ast.Subscript):  # programs["ip"]
        return _plain_text(node.slice)
    if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[-1], ast.Constant):
        end = str(node.values[-1].value)
        return PurePosixPath(end).name if "/" in end else None
    text = _plain_text(node)
    return None if text is None else PurePosixPath(text).name

"""Argo CD's way with a Lua script: the resource as the global `obj`, base and table libraries alone, a table back.

Lua 5.1 as gopher-lua, which Argo CD has inside. What Argo CD itself says of the scripts, `make e2e-promotion` asks it.
"""

from collections.abc import Mapping
from typing import Any

from lupa import lua51

_TAKEN_AWAY = ("string", "math", "io", "debug", "coroutine", "dofile", "loadfile", "python")


def run(script: str, obj: Mapping[str, Any], **parameters: str) -> Any:
    """What the script returns for a resource, as JSON-like data."""
    lua = lua51.LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    world = lua.globals()
    world["obj"] = _table(lua, obj)
    world["actionParams"] = _table(lua, parameters)
    for name in _TAKEN_AWAY:
        world[name] = None
    return _data(lua.execute(script))


def _table(lua: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        return lua.table_from({key: _table(lua, one) for key, one in value.items()})
    if isinstance(value, list | tuple):
        return lua.table_from([_table(lua, one) for one in value])
    return value


def _data(value: Any) -> Any:
    if lua51.lua_type(value) != "table":
        return value
    keys = list(value.keys())
    if keys == list(range(1, len(keys) + 1)):
        return [_data(one) for one in value.values()]
    return {key: _data(value[key]) for key in keys}

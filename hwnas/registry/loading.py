"""Turning a file or a module path into a Python object, with errors that name the culprit."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from hwnas.errors import PluginError

__all__ = ["import_attribute", "load_file", "split_file_spec"]

# Import names that ship as generic siblings; a folder of the user's can hide them.
_SIBLINGS = ("cost_models", "search_spaces", "devices")


def split_file_spec(spec: str) -> tuple[str, str | None] | None:
    """Split `./my.py:Name` into path and attribute; None where `spec` is not a file."""
    path, colon, attribute = spec.rpartition(":")
    if colon and path.endswith(".py"):
        return path, attribute
    return (spec, None) if spec.endswith(".py") else None


def load_file(path: str, kind: str) -> ModuleType:
    """Run a Python file as a module under a private name; the same content runs once a process."""
    file = Path(path).expanduser().resolve()
    try:
        source = file.read_bytes()
    except OSError as error:
        raise PluginError(f"cannot read the {kind} file {path}: {error.strerror}") from error
    digest = hashlib.sha256(str(file).encode() + source).hexdigest()[:16]
    name = f"_hwnas_file_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file, loader=_AsItIs(name, str(file)))
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file; a {kind} file ends in .py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickling look the module up by name while its body runs.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise PluginError(f"the {kind} file {path} fails while loading: {_cause(error)}") from error
    return module


class _AsItIs(SourceFileLoader):
    """Compiles the file as it is now.

    Cached bytecode goes by length and seconds, and would stand for a file that was edited at once.
    """

    def get_code(self, fullname: str) -> CodeType:
        """Return what the file says."""
        return self.source_to_code(self.get_data(self.path), self.path)


def import_attribute(target: str, kind: str, *, name: str | None = None) -> object:
    """Import `package.module:Name`.

    Raises:
        PluginError: the module does not import or has no such attribute; where a folder of the
            user's hides one of ours, the message says which.
    """
    module_name, _, attribute = target.partition(":")
    label = f"the {kind} {name or target!r}"
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise PluginError(
            f"{label} fails while importing {module_name}: {_cause(error)}{_hidden(module_name)}"
        ) from error
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise PluginError(f"{label}: {module_name} has no {attribute!r}{_hidden(module_name)}")
        found = getattr(found, part)
    return found


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _hidden(module_name: str) -> str:
    top = module_name.partition(".")[0]
    module = sys.modules.get(top)
    if top not in _SIBLINGS or module is None or module.__file__ is None:
        return ""
    return f" ({top!r} resolved to {Path(module.__file__).parent})"

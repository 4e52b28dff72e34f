"""Everything public is typed and documented, and the stubs match the native half."""

import ast
import inspect
from pathlib import Path

import etcbench
from etcbench import _native

PACKAGE = Path(etcbench.__file__).parent


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file() and (PACKAGE / "_native.pyi").is_file()


def test_stubs_name_what_there_is():
    tree = ast.parse((PACKAGE / "_native.pyi").read_text())
    named = {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    named_values = {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
    assert set(named) | named_values == {
        name for name in dir(_native) if not name.startswith("_") or name == "__version__"
    }
    for name, node in named.items():
        if isinstance(node, ast.FunctionDef):
            expected = [argument.arg for argument in node.args.args + node.args.kwonlyargs]
            assert list(inspect.signature(getattr(_native, name)).parameters) == expected, name
        else:
            methods = {inner.name for inner in node.body if isinstance(inner, ast.FunctionDef)}
            public = {key for key in vars(getattr(_native, name)) if not key.startswith("_")}
            assert public <= methods, name
            assert {key for key in methods if not key.startswith("__")} <= public, name


def test_every_public_name_is_documented_with_its_parameters():
    for name in etcbench.__all__:
        thing = getattr(etcbench, name)
        if not (inspect.isfunction(thing) or inspect.isclass(thing)):
            continue
        text = inspect.getdoc(thing)
        assert text, name
        if inspect.isfunction(thing) and name != "print_progress":
            section = text.split("Parameters\n----------")[1]
            for parameter in inspect.signature(thing).parameters:
                assert parameter in section, f"{name}: {parameter}"
                assert inspect.signature(thing).parameters[parameter].annotation is not inspect.Parameter.empty
        if inspect.isclass(thing):
            for method, function in inspect.getmembers(thing, inspect.isfunction):
                if not method.startswith("_"):
                    assert inspect.getdoc(function), f"{name}.{method}"

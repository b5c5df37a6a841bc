"""The grammar of the code: names, order of arguments, docstrings."""

import importlib
import inspect
import pkgutil

import pytest

import jaxgan
from jaxgan import losses
from jaxgan.losses import ADVERSARIAL

# Defaults before the `*`, each for a reason.
POSITIONAL_DEFAULTS = {
    "jaxgan.parallel.mesh.make_mesh": {"devices"},  # `make_mesh()` is all of them
    "jaxgan.parallel.compile.pmap_step": {"axis_name"},  # as jax.pmap has it
}
# A function that is handed the key comes before it, as in jax.vmap.
KEY_LATER = {"jaxgan.collectives.share"}
# `label` is optional and third in every network's call: its position is the signature.
CALL_SIGNATURE = {"label"}


def _modules():
    names = [m.name for m in pkgutil.walk_packages(jaxgan.__path__, "jaxgan.")]
    return [importlib.import_module(name) for name in ["jaxgan", *names]]


def _public(kind):
    """Public functions or classes by their full name, each where it was defined."""
    return {
        f"{module.__name__}.{name}": thing
        for module in _modules()
        for name, thing in vars(module).items()
        if kind(thing) and not name.startswith("_") and thing.__module__ == module.__name__
    }


def _unwrapped_function(thing):
    function = inspect.unwrap(thing) if callable(thing) else thing
    return inspect.isfunction(function)


def _is_function(thing):
    return (
        not inspect.isclass(thing) and hasattr(thing, "__module__") and _unwrapped_function(thing)
    )


FUNCTIONS = _public(_is_function)
CLASSES = _public(inspect.isclass)
METHODS = {
    f"{name}.{key}": method
    for name, cls in CLASSES.items()
    for key, method in vars(cls).items()
    if inspect.isfunction(method) and not key.startswith("_")
}


def _parameters(function):
    return list(inspect.signature(function).parameters.values())


def test_there_is_something_to_check():
    assert len(FUNCTIONS) > 60 and len(CLASSES) > 8
    assert "jaxgan.sample.apply" in FUNCTIONS  # compiled ones count


@pytest.mark.parametrize("name", sorted({**FUNCTIONS, **METHODS}))
def test_a_key_is_called_key_and_comes_first(name):
    parameters = _parameters({**FUNCTIONS, **METHODS}[name])
    assert "rng" not in [p.name for p in parameters]
    positional = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY and p.name != "self"]
    if "key" in positional and name not in KEY_LATER:
        assert positional[0] == "key"


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_options_are_keywords(name):
    allowed = POSITIONAL_DEFAULTS.get(name, set()) | CALL_SIGNATURE
    loose = {
        p.name
        for p in _parameters(FUNCTIONS[name])
        if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty
    }
    assert loose <= allowed, f"put a * before {loose - allowed}"


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_public_function_says_what_it_takes_and_returns(name):
    function = FUNCTIONS[name]
    text = inspect.getdoc(function) or ""
    summary = text.split("\n")[0]
    assert summary.endswith((".", ":")) and len(summary) <= 100, summary
    arguments = [p.name.lstrip("*") for p in _parameters(function)]
    if arguments:
        section = text.partition("Args:")[2].partition("\n\n")[0]
        listed = {line.split(":")[0].strip().lstrip("*") for line in section.splitlines()}
        missing = [n for n in arguments if n not in listed]
        assert missing == [], f"Args: lacks {missing}"
    annotation = inspect.signature(function).return_annotation
    if annotation not in (None, "None", inspect.Signature.empty):
        assert "Returns:" in text or "Yields:" in text


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_public_function_is_annotated(name):
    assert inspect.signature(FUNCTIONS[name]).return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_public_class_says_what_it_is(name):
    assert vars(CLASSES[name]).get("__doc__"), name


@pytest.mark.parametrize("name", sorted(ADVERSARIAL))
def test_every_loss_has_both_players(name):
    for player in ("disc", "gen"):
        assert callable(getattr(losses, f"{name}_{player}"))
        assert f"{name}_{player}" in losses.__all__


def test_every_pair_of_losses_is_in_the_table():
    names = {n.removesuffix("_disc") for n in losses.__all__ if n.endswith("_disc")}
    assert names == set(ADVERSARIAL)

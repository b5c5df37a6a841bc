"""Sums whose correctness can be checked, as text to learn from without any download."""

import functools
import itertools
import re

import numpy as np

OPERATORS = "+-*"
LARGEST = 99  # of a result, of either sign
NUM_TRAIN, NUM_TEST = 10_000, 1_000
_SENTENCE = re.compile(r"(?P<left>[0-9(][0-9()+*-]*)=(?P<right>0|-?[1-9][0-9]?)")
_PLAIN = r"[0-9][-+*][0-9]"
_LEFT = re.compile(rf"{_PLAIN}([-+*][0-9])?|\({_PLAIN}\)[-+*][0-9]|[0-9][-+*]\({_PLAIN}\)")


def sentences(*, seed: int = 0) -> tuple[list[str], list[str]]:
    """Draws sentences of the grammar, all different.

    A sentence is `EXPRESSION=RESULT`: two or three numbers of one digit joined by +, - or *, where
    there are three perhaps with brackets around two, and its value of at most two digits. The
    grammar has 26,243 of them: a model that has learnt it makes more that are new than not.

    Args:
      seed: of the choice.

    Returns:
      10,000 to train on and 1,000 others to test with, in random order.
    """
    every = _every()
    order = np.random.default_rng(seed).permutation(len(every))[: NUM_TRAIN + NUM_TEST]
    chosen = [every[number] for number in order]
    return chosen[:NUM_TRAIN], chosen[NUM_TRAIN:]


@functools.cache
def _every() -> tuple[str, ...]:
    """All sentences, in a fixed order."""
    digits = "0123456789"
    found = []
    for a, f, b in itertools.product(digits, OPERATORS, digits):
        found.append(f"{a}{f}{b}")
        for g, c in itertools.product(OPERATORS, digits):
            found += [f"{a}{f}{b}{g}{c}", f"({a}{f}{b}){g}{c}", f"{a}{f}({b}{g}{c})"]
    values = [(expression, _value(expression)) for expression in found]
    return tuple(f"{left}={value}" for left, value in values if abs(value) <= LARGEST)


def is_sentence(text: str) -> bool:
    """Says whether a text has the form of a sentence, true or not.

    Args:
      text: blanks in it do not count.

    Returns:
      Whether it is an expression of the grammar, `=` and a number of one or two digits.
    """
    parts = _SENTENCE.fullmatch(text.replace(" ", ""))
    return parts is not None and _LEFT.fullmatch(parts["left"]) is not None


def is_correct(text: str) -> bool:
    """Says whether a text is a sentence of the grammar: of its form, and true.

    Args:
      text: blanks in it do not count: `3+4*2=11`.

    Returns:
      Whether both sides are equal.
    """
    if not is_sentence(text):
        return False
    left, right = text.replace(" ", "").split("=")
    return _value(left) == int(right)


def _value(expression: str) -> int:
    """The value of an expression of the grammar: products before sums, brackets before both."""
    inner = re.search(r"\((.*)\)", expression)
    if inner:
        expression = expression.replace(inner[0], str(_value(inner[1])))
    total, sign, product = 0, 1, None
    # A minus is a sign where no number stands before it.
    for token in re.findall(r"(?<![0-9])-?[0-9]+|[-+*]", expression):
        if token == "*":
            continue
        if token in "+-":
            total, product = total + sign * (product or 0), None
            sign = 1 if token == "+" else -1
        else:
            product = int(token) if product is None else product * int(token)
    return total + sign * (product or 0)

"""Parsing is done again where another thread disturbed it, and only then."""

import pytest

from swathe.undisturbed import undisturbed


def disturbed(times, answer):
    """A parse that another thread disturbs so often; how often it was tried."""
    tried = []

    def parse():
        tried.append(1)
        if len(tried) <= times:
            raise SystemError("AST constructor recursion depth mismatch (before=57, after=54)")
        if isinstance(answer, Exception):
            raise answer
        return answer

    return parse, tried


@pytest.mark.parametrize("times", [0, 1, 7])
def test_it_is_done_again_until_it_is_done(times):
    parse, tried = disturbed(times, "tree")
    assert undisturbed(parse) == "tree"
    assert len(tried) == times + 1


def test_what_never_succeeds_is_said():
    parse, tried = disturbed(99, "tree")
    with pytest.raises(SystemError):
        undisturbed(parse)
    assert len(tried) == 8


def test_a_fault_of_the_text_is_said_at_once():
    parse, tried = disturbed(0, SyntaxError("no"))
    with pytest.raises(SyntaxError):
        undisturbed(parse)
    assert len(tried) == 1

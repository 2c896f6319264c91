"""What a library cannot enforce is left open, and remembered."""

from app.contract.requests import LarkGrammar, SchemaRule
from app.engine.grammars import loose_schemas
from app.engine.grammars.loose_schemas import LooseSchemas


def grammar(*schemas: str, strict: str = "") -> LarkGrammar:
    rules = {f"rule{number}": SchemaRule(schema, None, schema == strict) for number, schema in enumerate(schemas)}
    return LarkGrammar(rules="start: ", schemas=rules, param="tools")


def test_a_refused_schema_is_left_open_wherever_it_need_not_be_enforced() -> None:
    loose = LooseSchemas()
    loose.refuse("bad")
    assert loose.of(grammar("good", "bad")) == {"rule1"}
    assert loose.of(grammar("bad", strict="bad")) == set()


def test_the_largest_are_left_open_first_and_the_number_that_helped_is_remembered() -> None:
    loose = LooseSchemas()
    asked = grammar("a", "ccc", "dddd", "bb", "eeeee", strict="eeeee")
    tried = loose.fewer_together(asked)
    assert next(tried) == {"rule2"}
    assert next(tried) == {"rule2", "rule1"}
    assert loose.of(asked) == {"rule2", "rule1"}
    assert loose.of(grammar("a", "ccc", "dddd", "bb")) == set(), "another request has its own"
    assert list(tried)[-1] == {"rule0", "rule1", "rule2", "rule3"}
    assert list(loose.fewer_together(grammar("a", strict="a"))) == []


def test_what_is_not_asked_for_is_forgotten_first() -> None:
    loose = LooseSchemas()
    loose.refuse("used")
    for number in range(loose_schemas._MOST):
        loose.refuse(f"schema {number}")
        assert loose.of(grammar("used"))
    assert not loose.of(grammar("schema 0"))
    assert loose.of(grammar("schema 1"))

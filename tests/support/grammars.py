"""What becomes of a request's grammar: serving makes it, the engine compiles it."""

from app.contract.requests import GenerationRequest
from app.engine.grammars.compiler import Grammars
from app.engine.grammars.constraint import Constraint
from app.serving.constrained.dropped_keywords import DroppedKeywords
from app.serving.constrained.grammar import grammar_of


def constraint_of(request: GenerationRequest, grammars: Grammars) -> Constraint | None:
    """Raises what either of them refuses."""
    grammar = grammar_of(request, DroppedKeywords())
    return None if grammar is None else grammars.compile(grammar)

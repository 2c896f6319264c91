"""Values with which fields that this server does not have ask for nothing.

Clients and frameworks send all the fields that some server knows, many with the value that they would have anyway.
Those can be taken; any other value would change the answer, and is refused by the field's name.
"""

from collections.abc import Mapping
from typing import Any

NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    # OpenAI's
    "function_call": ("none", "auto"),  # without functions
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    # of vLLM, TGI and transformers
    "best_of": (1,),
    "include_reasoning": (True,),
    "thinking": ({"type": "disabled"},),
    "use_beam_search": (False,),
    "num_beams": (1,),
    "length_penalty": (1,),
    "typical_p": (1,),
    "priority": (0,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "add_generation_prompt": (True,),
    "add_special_tokens": (),
    "do_sample": (),
    # of llama.cpp's server and of programs built on it
    "cache_prompt": (True, False),
    "n_predict": (-1,),
    "repeat_last_n": (64,),  # of a penalty that is off
    "repeat_penalty": (1,),
    "mirostat": (0,),
    "tfs_z": (1,),
    "top_a": (0,),
    "dynatemp_range": (0,),
    "xtc_probability": (0,),
    "dry_multiplier": (0,),
    "n_probs": (0,),
}
"""By field. A flag that is false, or an empty text, list or object, asks for nothing in every other field, but for
_BY_BEING_THERE."""

_BY_BEING_THERE = frozenset({"web_search_options", "guided_json", "structured_outputs"})
"""An empty object turns the search on, and an empty schema is any JSON."""


def asks_for_nothing(field: str, value: Any) -> bool:
    """For a field that is not among a body's own."""
    if isinstance(value, str | list | dict) and not value:
        return field not in _BY_BEING_THERE
    if field not in NEUTRAL:
        return value is False
    return any(
        value == neutral and isinstance(value, bool) is isinstance(neutral, bool) for neutral in NEUTRAL[field]
    )

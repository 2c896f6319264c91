"""The models by name."""

import pytest
from transformers import AutoConfig

from app.models.catalogue import DEEPSEEK, look_up
from app.models.errors import UnknownModel


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match=DEEPSEEK.name):
        look_up("gpt")


def test_deepseeks_config_is_transformers_own_class_with_its_yarn_factor() -> None:
    config = AutoConfig.for_model(**DEEPSEEK.config())
    assert type(config).__name__ == "DeepseekV2Config"
    assert config.rope_parameters["rope_type"] == "yarn"
    assert config.rope_parameters["mscale_all_dim"] == 0.707
    assert config.max_position_embeddings == 163_840
    assert "auto_map" not in DEEPSEEK.config()

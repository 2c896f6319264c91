"""The field `model`, in every body of OpenAI's API."""

from pydantic import Field

from app.api.http.body_model import NullableBody
from app.contract.engine import ModelInfo
from app.contract.errors import ModelNotFound


class ForModel(NullableBody):
    model: str = Field(
        "",
        max_length=256,
        description="A name of the served model, in any letter case, with or without a provider before it. Absent or "
        "empty: the served model. Any other name is a 404.",
    )

    def refuse_other_models(self, served: ModelInfo) -> None:
        """Raises ModelNotFound. No name, or an empty one, means the served model."""
        if self.model and served.known_as(self.model) is None:
            raise no_such_model(served)


def no_such_model(served: ModelInfo) -> ModelNotFound:
    names = " or ".join((served.name, *served.other_names))
    return ModelNotFound(f"This model is not served here. The served model is {names}.", param="model")

"""The field that names the wanted model, in every body of OpenAI's API."""

from pydantic import Field

from app.api.http.body_model import NullableBody
from app.contract.engine import ModelInfo
from app.contract.errors import ModelNotFound


class ForModel(NullableBody):
    model: str = Field("", max_length=256)

    def refuse_other_models(self, served: ModelInfo) -> None:
        """Raises ModelNotFound. No name, or an empty one, means the served model."""
        if self.model not in ("", served.name):
            raise no_such_model(served)


def no_such_model(served: ModelInfo) -> ModelNotFound:
    return ModelNotFound(f"There is no such model here: this server has {served.name}.", param="model")

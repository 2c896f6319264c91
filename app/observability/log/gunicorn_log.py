"""gunicorn's own records (start, signals, dead workers) in our format.

Named in gunicorn's configuration: `logger_class = "app.observability.log.gunicorn_log.GunicornLogger"`.
"""

from gunicorn.config import Config
from gunicorn.glogging import Logger

from app.observability.log.logging import configure_logging
from app.settings import load_settings


class GunicornLogger(Logger):  # type: ignore[misc]  # gunicorn publishes no types
    def setup(self, cfg: Config) -> None:
        """Replaces the handlers that gunicorn sets."""
        super().setup(cfg)
        configure_logging(load_settings())

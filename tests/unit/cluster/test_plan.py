"""What Serve is asked for."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from app.cluster.plan import Shape, at_every_node, deployment_options, version_of
from app.settings import Settings, SettingsError

SHAPE = Shape(fewest=1, most=3, gpus=2, cpus=4, up_after=30, down_after=600)


def settings(**changes: object) -> Settings:
    return Settings(_env_file=None, **changes)  # type: ignore[arg-type]  # values as an environment has them


def test_paths_mean_the_same_in_every_process() -> None:
    everywhere = at_every_node(settings(models_dir="models", api_keys_file="keys.txt"))
    assert everywhere.models_dir == Path.cwd() / "models"
    assert everywhere.api_keys_file == Path.cwd() / "keys.txt"
    assert everywhere.cache_dir.is_absolute()
    assert everywhere.model == "auto"


def test_an_open_address_needs_keys_or_a_yes() -> None:
    with pytest.raises(SettingsError, match=r"APP_HOST=0\.0\.0\.0 is open"):
        at_every_node(settings(app_host="0.0.0.0"))
    assert at_every_node(settings(app_host="0.0.0.0", allow_anonymous="yes"))


def test_a_full_replica_refuses_by_itself() -> None:
    """Serve would keep in a queue what is beyond its own bound, without a word to the client."""
    options = deployment_options(settings(max_waiting=1000, max_sequences=512), SHAPE)
    assert options["max_ongoing_requests"] > 1512
    remote = settings(engine="remote", engine_url="http://a/v1,http://b/v1,http://c/v1,http://d/v1")
    asked = deployment_options(remote, SHAPE)
    assert asked["max_ongoing_requests"] > 4 * 256 + remote.max_waiting
    assert asked["autoscaling_config"]["target_ongoing_requests"] == 4 * 256


def test_no_answer_is_cut_by_the_end_of_its_replica() -> None:
    assert deployment_options(settings(request_timeout=900), SHAPE)["graceful_shutdown_timeout_s"] > 900


def test_a_replica_sees_its_own_gpus_or_none() -> None:
    assert deployment_options(settings(), SHAPE)["ray_actor_options"]["num_gpus"] == 2
    without = deployment_options(settings(), Shape(1, 1, 0, 1, 30, 600))["ray_actor_options"]
    assert without["runtime_env"]["env_vars"] == {"CUDA_VISIBLE_DEVICES": ""}


def test_replicas_restart_for_other_settings_and_for_nothing_else() -> None:
    def version(code: str = "one", **changes: object) -> str:
        return version_of(settings(**changes), code, Path("/targets"))

    assert version() == version()
    keys = [version(engine_api_key=SecretStr(key), engine="remote", engine_url="http://a/v1") for key in ("k1", "k2")]
    others = [version(), version("two"), version(max_waiting=1), version(log_hash_key=SecretStr("k" * 16)), *keys]
    assert len(set(others)) == len(others)

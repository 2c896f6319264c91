"""Settings: wrong ones stop the start with a message that helps, and `.env.example` is complete and right."""

import re
from pathlib import Path

import pytest
from dotenv import dotenv_values

from app.settings import STACK_VARIABLES, Settings, SettingsError, load_settings

EXAMPLE = Path(__file__).parent.parent.parent / ".env.example"
OWN = {name.upper() for name in Settings.model_fields}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OWN | set(STACK_VARIABLES):
        monkeypatch.delenv(name, raising=False)


def env(tmp_path: Path, text: str) -> Path:
    file = tmp_path / ".env"
    file.write_text(text, encoding="utf-8")
    return file


def entries(text: str) -> dict[str, str]:
    """Every `NAME=value` of the example, commented out or not."""
    return dict(re.findall(r"^#? ?([A-Z_]+)=(.*)$", text, re.MULTILINE))


class TestExample:
    text = EXAMPLE.read_text(encoding="utf-8")

    def test_it_lists_every_variable_and_no_other(self) -> None:
        assert set(entries(self.text)) == OWN | set(STACK_VARIABLES)

    @pytest.mark.parametrize("name", sorted(OWN))
    def test_each_value_is_the_default(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        default = Settings()
        monkeypatch.setenv(name, entries(self.text)[name])
        assert getattr(Settings(), name.lower()) == getattr(default, name.lower())
        if entries(self.text)[name] == "":  # an empty value is not read at all
            assert getattr(default, name.lower()) is None

    @pytest.mark.parametrize("name", sorted(OWN | set(STACK_VARIABLES)))
    def test_each_has_its_description_above(self, name: str) -> None:
        lines = self.text.splitlines()
        number = next(n for n, line in enumerate(lines) if re.match(rf"#? ?{name}=", line))
        described = Settings.model_fields[name.lower()].description if name in OWN else STACK_VARIABLES[name]
        assert lines[number - 1] == f"# {described}"

    def test_used_as_it_is_it_changes_nothing(self, tmp_path: Path) -> None:
        assert load_settings(env(tmp_path, self.text)) == Settings()
        assert all(value == "" for value in dotenv_values(EXAMPLE).values())  # nothing is set until it is uncommented


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("MAX_SEQUENCES", "-1", "greater than or equal to 0"),
        ("MAX_SEQUENCES", "many", "integer"),
        ("APP_PORT", "70000", "less than or equal to 65535"),
        ("LOG_CONTENT", "some", "'full', 'masked', 'hash', 'redacted' or 'off'"),
        ("CLEANUP", "always", "'idle', 'request' or 'off'"),
        ("REQUEST_TIMEOUT", "-1", "greater than 0"),
        ("SERVED_NAMES", "modèle", "match pattern"),
    ],
)
def test_a_wrong_value_names_the_variable_the_value_and_what_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    with pytest.raises(SettingsError) as from_file:
        load_settings(env(tmp_path, f"{name}={value}\n"))
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as from_environment:
        load_settings(None)
    for refusal in (str(from_file.value), str(from_environment.value)):
        assert name in refusal
        assert value in refusal
        assert allowed in refusal


def test_an_unknown_name_in_the_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"unknown MAX_SEQUENCE.*Known are: .*MAX_SEQUENCES"):
        load_settings(env(tmp_path, "MAX_SEQUENCE=4\n"))


def test_the_stacks_own_variables_may_stand_in_the_file(tmp_path: Path) -> None:
    text = "".join(f"{name}=1\n" for name in STACK_VARIABLES) + "MAX_WAITING=7\n"
    assert load_settings(env(tmp_path, text)).max_waiting == 7


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_WAITING", "9")
    assert load_settings(env(tmp_path, "MAX_WAITING=7\n")).max_waiting == 9


def test_names_are_separated_by_commas(tmp_path: Path) -> None:
    assert load_settings(env(tmp_path, "SERVED_NAMES=gpt-4o, org/Name ,\n")).served_names == ("gpt-4o", "org/Name")


def test_it_is_open_to_others_only_on_purpose(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"HTTP_HOST=0\.0\.0\.0.*API_KEYS_FILE.*ALLOW_ANONYMOUS"):
        load_settings(env(tmp_path, "HTTP_HOST=0.0.0.0\n"))
    assert load_settings(env(tmp_path, "HTTP_HOST=0.0.0.0\nALLOW_ANONYMOUS=yes\n")).allow_anonymous
    assert load_settings(env(tmp_path, "HTTP_HOST=0.0.0.0\nAPI_KEYS_FILE=keys\n")).api_keys_file == Path("keys")
    assert load_settings(env(tmp_path, "HTTP_HOST=::1\n")).http_host == "::1"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().max_waiting = 3  # type: ignore[misc]  # what mypy refuses is what is tested


def test_a_remote_engine_needs_its_servers_and_a_local_one_has_none(tmp_path: Path) -> None:
    text = "ENGINE=remote\nENGINE_URL=http://a:8000/v1, https://b/v1\nMAX_SEQUENCES=1000\n"
    assert load_settings(env(tmp_path, text)).engine_url == ("http://a:8000/v1", "https://b/v1")
    for wrong, said in (
        ("ENGINE=remote\n", "ENGINE=remote needs ENGINE_URL"),
        ("ENGINE_URL=http://a/v1\n", "ENGINE_URL is set, but ENGINE is local"),
        ("ENGINE=remote\nENGINE_URL=a:8000\n", "ENGINE_URL"),
        ("MAX_SEQUENCES=513\n", "MAX_SEQUENCES=513: at most 512"),
        ("KV_TOKENS=20\n", "KV_TOKENS=20: at least 32"),
    ):
        with pytest.raises(SettingsError, match=said):
            load_settings(env(tmp_path, wrong))

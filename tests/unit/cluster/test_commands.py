"""The commands, where Ray is not installed."""

import pytest

from app.cli import main
from app.cluster.commands import add_commands
from app.cluster.errors import ClusterError


def run(*arguments: str) -> int:
    return main(["cluster", *arguments], more=[add_commands], expected=(ClusterError,))


@pytest.mark.parametrize("command", ["up", "status", "down"])
def test_without_ray_the_commands_say_how_to_get_it(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command) == 1
    assert "`make cluster`" in capsys.readouterr().err


def test_the_most_replicas_are_not_fewer_than_the_fewest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("up", "--min", "3", "--max", "2") == 1
    assert "--max 2 is less than --min 3" in capsys.readouterr().err


def test_no_replicas_are_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("up", "--min", "0")
    assert "'0' is no number of replicas" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--gpus", "-1", "'-1' is no number of GPUs"),
        ("--cpus", "nan", "'nan' is no number above 0"),
        ("--up-after", "-5", "'-5' is no number above 0"),
        ("--down-after", "soon", "'soon' is no number above 0"),
    ],
)
def test_sizes_and_seconds_are_numbers(
    option: str, value: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run("up", f"{option}={value}")
    assert words in capsys.readouterr().err

"""Memory is what the machine has, or what the control groups around this process leave of it."""

from pathlib import Path

import psutil
import pytest

from app.models import memory
from app.models.memory import available_memory, total_memory
from app.models.units import GIB, MIB


@pytest.fixture
def cgroups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in place of /sys/fs/cgroup, on a machine with 64 GiB, 50 of them free."""
    machine = psutil.virtual_memory()._replace(total=64 * GIB, available=50 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "MEMBERSHIP", tmp_path / "membership")
    return tmp_path


def belong(cgroups: Path, *lines: str) -> None:
    (cgroups / "membership").write_text("".join(f"{line}\n" for line in lines))


def group(folder: Path, **files: object) -> None:
    """`memory_max=1` is the file memory.max with 1 in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{content}\n")


def test_without_limits_the_machines_memory_counts(cgroups: Path) -> None:
    assert (total_memory(), available_memory()) == (64 * GIB, 50 * GIB)  # not even a list of groups
    belong(cgroups, "0::/")
    group(cgroups, memory_max="max", memory_current=GIB)
    assert (total_memory(), available_memory()) == (64 * GIB, 50 * GIB)


def test_a_containers_limit_counts_and_what_it_uses_already(cgroups: Path) -> None:
    belong(cgroups, "0::/")
    group(cgroups, memory_max=4 * GIB, memory_current=GIB)
    assert (total_memory(), available_memory()) == (4 * GIB, 3 * GIB)
    group(cgroups, memory_current=5 * GIB)  # for a moment there may be more in use
    assert available_memory() == 0


def test_cached_files_can_be_had(cgroups: Path) -> None:
    belong(cgroups, "0::/")
    stat = f"anon {512 * MIB}\ninactive_file {256 * MIB}\nactive_file {256 * MIB}"
    group(cgroups, memory_max=4 * GIB, memory_current=GIB, memory_stat=stat)
    assert available_memory() == 4 * GIB - 512 * MIB


def test_the_smallest_limit_of_the_groups_around_counts(cgroups: Path) -> None:
    belong(cgroups, "0::/system.slice/serving.service")
    group(cgroups / "system.slice" / "serving.service", memory_max="max", memory_current=GIB)
    group(cgroups / "system.slice", memory_max=8 * GIB, memory_current=2 * GIB)
    group(cgroups / "user.slice", memory_max=GIB, memory_current=0)  # others' limits do not count
    assert (total_memory(), available_memory()) == (8 * GIB, 6 * GIB)


def test_version_1_has_a_tree_for_memory_and_other_names(cgroups: Path) -> None:
    belong(cgroups, "5:cpu,cpuacct:/other", "4:memory:/docker/abc", "0::/")
    stat = f"inactive_file 1\ntotal_inactive_file {256 * MIB}\ntotal_active_file 0"
    files = {"memory_limit_in_bytes": 4 * GIB, "memory_usage_in_bytes": GIB, "memory_stat": stat}
    group(cgroups / "memory", **files)  # the path is the host's, and a container sees only its own group
    assert (total_memory(), available_memory()) == (4 * GIB, 3 * GIB + 256 * MIB)
    group(cgroups / "memory", memory_limit_in_bytes=2**63 - 4096)  # version 1 says so when there is none
    assert (total_memory(), available_memory()) == (64 * GIB, 50 * GIB)


def test_this_machine_has_memory() -> None:
    assert 0 < available_memory() <= total_memory()

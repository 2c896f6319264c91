"""The preflight: what would end hours of work, asked within seconds: `make doctor`, and the start of `make up`."""

from __future__ import annotations

import os

from stack.config import Config
from stack.doctor.disk import check_disk
from stack.doctor.finding import Finding, Level, failed, passed, warning
from stack.doctor.graphics import check_gpus
from stack.doctor.machine import check_clock, check_memory, check_permissions
from stack.doctor.network import check_ports
from stack.doctor.settings import check_settings
from stack.doctor.software import check_software
from stack.doctor.upstreams import check_upstreams
from stack.host.gpus import look
from stack.mode import ModeChoice
from stack.protocol import StackError


def examine(config: Config, choice: ModeChoice, *, running: bool) -> list[Finding]:
    """One finding or more of each check. `running`: this stack runs, and holds memory and ports of its own."""
    findings = [_mode(choice)]
    if choice.problem:
        return findings  # what follows depends on the mode
    findings += check_settings()
    gpus = look(os.environ.get("CUDA_VISIBLE_DEVICES"))
    if choice.mode == "native":
        findings += check_software()
    findings += check_upstreams(config, choice.mode)
    findings += check_gpus(config, choice.mode, gpus)
    findings.append(check_memory(config, gpus, running=running))
    findings += check_disk(config, choice.mode, gpus)
    findings += check_ports(config, choice.mode)
    findings += check_permissions(config, choice.mode, gpus)
    findings.append(check_clock())
    return findings


def report(findings: list[Finding]) -> None:
    """Every check, one line each. Raises StackError when the stack cannot start."""
    for finding in findings:
        print(finding, flush=True)
    count = len(_failures(findings))
    if count:
        checks = "1 check" if count == 1 else f"{count} checks"
        raise StackError(f"The stack cannot start here: {checks} failed. The lines marked FAILED say what to do.")


def preflight(findings: list[Finding]) -> None:
    """Only what the operator should know, before anything is installed or fetched. Raises StackError."""
    for finding in findings:
        if finding.level is Level.WARNING:
            print(finding, flush=True)
    failures = _failures(findings)
    if failures:
        raise StackError("\n".join(["The stack cannot start here:", *map(str, failures)]))
    good = sum(finding.level is Level.OK for finding in findings)
    print(f"doctor: {good} checks passed", flush=True)


def _failures(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is Level.FAILED]


def _mode(choice: ModeChoice) -> Finding:
    what = {"docker": "containers", "native": "plain processes"}[choice.mode]
    if choice.problem:
        return failed("mode", choice.problem, choice.remedy)
    if choice.note:
        return warning("mode", f"{what}: {choice.why}", choice.note)
    return passed("mode", f"{what}: {choice.why}")

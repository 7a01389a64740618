"""For all tests: generated examples are the same on every run, and where DLQUEUE_FORBID_SKIPS is set, a skipped test
is a failed one."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# The published suites are assertions too, and shall say as much when one fails.
pytest.register_assert_rewrite("dlqueue.queue.testing", "dlqueue.sdk.testing")

# No deadline: how long an example takes says more about the machine than about the code. To look for new examples run
# with --hypothesis-profile=default; for hours of random lives of a queue, with --hypothesis-profile=nightly.
settings.register_profile("dlqueue", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "nightly",
    deadline=None,
    max_examples=5000,
    stateful_step_count=50,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("dlqueue")

# A shell starts what it puts into the background deaf to Ctrl-C, and programs pass that on to those they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_FORBIDDEN = os.environ.get("DLQUEUE_FORBID_SKIPS", "") not in ("", "0")


@pytest.fixture
def anyio_backend() -> str:
    """What the daemon runs on."""
    return "asyncio"


def _failed(report: pytest.CollectReport | pytest.TestReport) -> None:
    # xfail reports are "skipped" too, but say so: an expected failure was really run.
    if _FORBIDDEN and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = (
            f"{reason}\n(skipping is forbidden here: DLQUEUE_FORBID_SKIPS is set; see tests/install-needs)"
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # What hostile input left in the captured log must not stop the report on its way between processes.
    report.sections = [(title, text.encode(errors="backslashreplace").decode()) for title, text in report.sections]
    _failed(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _failed(report)
    return report

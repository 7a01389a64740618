"""`GET /metrics` of a real daemon."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.daemon.instance import DEADLINE, Instance

PLAIN = '[http]\nlisten = "127.0.0.1:0"\n'


def test_prometheus_reads_it_with_a_token_and_nobody_without(tmp_path: Path) -> None:
    with Instance(tmp_path, PLAIN) as instance:
        instance.start()
        made = instance.call("tokens.create", name="prometheus", role="read")
        url = f"{made['url'].rstrip('/')}/metrics"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url, timeout=DEADLINE)
        assert refused.value.code == 401
        refused.value.close()
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {made['token']}"})
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            families = {one.name: one for one in text_string_to_metric_families(answer.read().decode())}
        assert families["dlqueue_store_up"].samples[0].value == 1
        assert families["dlqueue_uptime_seconds"].samples[0].value > 0
        assert families["dlqueue_process_resident_memory_bytes"].samples[0].value > 10_000_000
        assert {one.labels["downloader"] for one in families["dlqueue_downloader_up"].samples} >= {"http"}
        assert families["dlqueue_disk_free_bytes"].samples
        instance.stop()

"""Where unfinished bytes go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dlqueue.config import Config
from dlqueue.downloads.delivery import STAGING
from dlqueue.downloads.request import DownloadParams


def staging_rule(config: Config) -> Callable[[DownloadParams], Path]:
    """Always on the file system of the destination, so that delivery is a rename."""

    def rule(params: DownloadParams) -> Path:
        if config.daemon.staging is not None:
            return config.daemon.staging
        return Path(params.root if config.places.staging == "root" else params.directory) / STAGING

    return rule

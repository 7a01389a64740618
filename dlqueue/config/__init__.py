"""The configuration: TOML files and the environment in, frozen dataclasses out, every problem at once."""

from dlqueue.config.loader import load
from dlqueue.config.problems import ConfigError, Problem
from dlqueue.config.sections import (
    Config,
    DaemonSection,
    DownloaderSection,
    PolicySection,
    QueueSection,
    StoreSection,
)

__all__ = [
    "Config",
    "ConfigError",
    "DaemonSection",
    "DownloaderSection",
    "PolicySection",
    "Problem",
    "QueueSection",
    "StoreSection",
    "load",
]

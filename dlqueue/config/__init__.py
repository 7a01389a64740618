"""The configuration: TOML files and the environment in, frozen dataclasses out, every problem at once."""

from dlqueue.config.difference import Changed, difference
from dlqueue.config.loader import config_places, load
from dlqueue.config.problems import ConfigError, Problem
from dlqueue.config.sections import (
    Config,
    DaemonSection,
    DownloaderSection,
    MatchSection,
    OwnerSection,
    PolicySection,
    QueueSection,
    SeedingSection,
    StoreSection,
)

__all__ = [
    "Changed",
    "Config",
    "ConfigError",
    "DaemonSection",
    "DownloaderSection",
    "MatchSection",
    "OwnerSection",
    "PolicySection",
    "Problem",
    "QueueSection",
    "SeedingSection",
    "StoreSection",
    "config_places",
    "difference",
    "load",
]

"""dlqueue: one durable queue in front of every downloader you run."""

__version__ = "0.1.0"

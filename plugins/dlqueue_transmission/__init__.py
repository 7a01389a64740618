"""Transmission: a transmission-daemon (or desktop) that runs already, over its RPC interface."""

from dlqueue_transmission.config import TransmissionConfig
from dlqueue_transmission.downloader import TransmissionDownloader

__all__ = ["TransmissionConfig", "TransmissionDownloader"]

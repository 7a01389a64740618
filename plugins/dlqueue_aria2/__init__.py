"""aria2: one that runs already, or an aria2c of our own."""

from dlqueue_aria2.config import Aria2Config
from dlqueue_aria2.downloader import Aria2Downloader

__all__ = ["Aria2Config", "Aria2Downloader"]

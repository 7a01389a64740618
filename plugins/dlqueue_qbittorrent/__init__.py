"""qBittorrent: one that runs already, driven over its Web API."""

from dlqueue_qbittorrent.config import QbittorrentConfig
from dlqueue_qbittorrent.downloader import QbittorrentDownloader

__all__ = ["QbittorrentConfig", "QbittorrentDownloader"]

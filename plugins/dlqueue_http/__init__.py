"""The built-in HTTP(S) engine: no program but this one is needed."""

from dlqueue_http.downloader import HttpConfig, HttpDownloader

__all__ = ["HttpConfig", "HttpDownloader"]

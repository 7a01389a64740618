"""yt-dlp, as a library in a process of its own for each transfer."""

import importlib.util

if importlib.util.find_spec("yt_dlp") is None:
    # Importing it takes half a second, and only the processes that use it do so.
    raise ModuleNotFoundError("No module named 'yt_dlp'", name="yt_dlp")

from dlqueue_ytdlp.downloader import YtdlpConfig, YtdlpDownloader

__all__ = ["YtdlpConfig", "YtdlpDownloader"]

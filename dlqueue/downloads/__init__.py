"""The domain: which downloader, how is it doing, when is it done. Knows nothing of sockets and commands."""

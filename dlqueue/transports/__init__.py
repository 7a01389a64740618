"""Bytes in, one service call, bytes out."""

"""The one object that owns the verbs of the program; every transport calls it."""

from dlqueue.service.service import Service

__all__ = ["Service"]

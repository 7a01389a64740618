"""The store in SQL: SQLAlchemy Core, synchronous, behind one writer thread with group commit."""

from dlqueue.queue.sql.store import SqlStore

__all__ = ["SqlStore"]

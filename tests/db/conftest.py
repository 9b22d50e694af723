"""Initial rows for tests of queries."""

from tests.support.rows import rows

__all__ = ["rows"]

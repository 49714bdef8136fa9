"""An Atlassian of our own, for demos, tests and benchmarks. Nothing in here imports Django.

It behaves as Atlassian's documentation and its users' measurements say; where nobody knows, there is a switch.
docs/sandbox.md tells how to use it.
"""

from providers.sandbox.server import serve

__all__ = ["serve"]

"""The JSON API for applications' back ends, at /api/v1; docs/api.md is its manual.

urls.py lists what there is, who may and what may be sent; door.py lets callers in; problems.py says what went wrong.
"""

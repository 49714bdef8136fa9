"""What can go wrong on this machine; every message says what happened and what to do."""


class LocalError(Exception):
    """The portal cannot run here as asked."""


class InUseError(LocalError):
    """Another living process holds what we need."""

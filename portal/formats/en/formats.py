"""Names that Django looks for. Whoever audits wants seconds, and to know whose clock it was."""

DATE_FORMAT = "Y-m-d"
DATETIME_FORMAT = r"Y-m-d H:i:s \U\T\C"

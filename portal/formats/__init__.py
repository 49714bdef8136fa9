"""How Django admin writes dates and times; the portal's own pages have words of their own (templatetags/words.py)."""

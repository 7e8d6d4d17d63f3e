"""The dashboard: live statistics, their event stream and the page."""

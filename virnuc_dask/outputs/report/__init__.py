"""``report.html``: a finished run as one self-contained page."""

"""The gateway: a cascade behind OpenAI's and Anthropic's HTTP interfaces, and figures about its traffic.

A request goes through ``app.py`` (routes), ``endpoint.py`` (limits, key, body, errors), then by what was asked ``chat.py``,
``messages.py`` or ``route.py`` (their fields <-> our words), and ``answering.py`` or ``streams.py`` (the run itself).
"""

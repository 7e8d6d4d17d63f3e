"""The gateway: a cascade behind OpenAI's and Anthropic's HTTP interfaces, and figures about its traffic.

A request goes through ``app.py`` (routes), ``endpoint.py`` (limits, key, body, errors), then the module of its interface
(``openai/chat.py``, ``openai/responses/request.py``, ``anthropic/request.py`` or ``routes/native_api.py``), which reads its
fields into a ``GatewayRequest``, and ``run_request.py`` or ``stream.py``, which run it.
"""

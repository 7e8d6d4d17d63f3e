"""OpenAI's Responses API: requests, responses, streams. It is stateless: the gateway keeps no conversation."""

"""OpenAI's Chat Completions API: requests, responses, streams."""
